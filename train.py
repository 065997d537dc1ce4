"""``python train.py experiment=pet_ipt data.train=FOLDER``: train a model, or continue to.

Settings are Hydra groups (``conf/``): model, task, imagination, resolution, optim, tuning, tracker and whole experiments;
``--help`` lists every key. ``dry_run=true`` prints the plan. The same command continues an interrupted run, ``-m`` sweeps.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ipt.common.hydra_command import SILENT, Command, plain, stop
from ipt.training.config import TrainConfig, train_config

GROUPS = {
    "model": "tiny",
    "task": "pet",
    "imagination": "ipt",
    "resolution": "tiny",
    "trainer": "default",
    "optim": "default",
    "tuning": "full",
    "distributed": "single",
    "experiment": None,
    "study": None,
}
COMMAND = Command("train", Path(__file__).resolve().parent / "conf", tuple(GROUPS))


def register() -> None:
    """File the defaults of the dataclasses: the code is the one place where they are written. Groups override them."""
    keys: Any = OmegaConf.to_container(OmegaConf.create(plain(asdict(TrainConfig()))))
    keys["output_dir"] = "outputs/${name}"
    groups = [{f"optional {name}" if choice is None else name: choice} for name, choice in GROUPS.items()]
    COMMAND.register({"defaults": ["_self_", *groups, *SILENT], **keys})


def train(composed: DictConfig) -> float | None:
    """One run. Returns the loss of its last step, for sweepers."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        config = train_config(values)
        return _run(config)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            stop(str(error))
        print(f"error: {error}", file=sys.stderr)  # one failed job must not end the sweep
        return math.nan


def _run(config: TrainConfig) -> float | None:
    # torch takes seconds to import; by now the settings are known to go together
    from ipt.training.build import run
    from ipt.training.launch import is_launched, launch
    from ipt.training.plan import plan

    if config.dry_run:
        print(plan(config))
        return None
    return launch(config) if config.launch.gpus > 1 and not is_launched() else run(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    COMMAND.run(train, arguments)


if __name__ == "__main__":
    main()
