"""A sweep whose jobs wait for each other: they only end if they run side by side. Arguments are those of ``train.py``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from omegaconf import DictConfig

import train
from ipt.common.files import write_json


def meet(composed: DictConfig) -> float:
    folder, own = Path(composed.output_dir), int(composed.trainer.seed)
    write_json(folder / f"met-{own}.json", {"process": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")})
    limit = time.monotonic() + 60
    while not (folder / f"met-{1 - own}.json").exists():
        if time.monotonic() > limit:
            raise TimeoutError("the other job has not begun")
        time.sleep(0.05)
    return 0.0


if __name__ == "__main__":
    train.train = meet
    train.main()
