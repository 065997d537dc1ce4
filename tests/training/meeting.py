"""A sweep whose jobs wait for each other: they only end if they run side by side. Arguments are those of ``train.py``."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

import train
from ipt.common.files import write_json
from tests.waiting import until


def meet(composed: DictConfig) -> float:
    folder, own = Path(composed.output_dir), int(composed.trainer.seed)
    write_json(folder / f"met-{own}.json", {"process": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")})
    until((folder / f"met-{1 - own}.json").exists, "the start of the other job")
    return 0.0


if __name__ == "__main__":
    train.train = meet
    train.main()
