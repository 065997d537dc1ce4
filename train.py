"""``python train.py task=pet imagination=ipt data.train=FOLDER``: train a model, or continue to.

Settings are Hydra groups: ``conf/train.yaml`` lists them, ``--help`` every key. ``dry_run=true`` prints the plan. The same
command continues an interrupted run, ``-m`` sweeps.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ipt.common.errors import UserError
from ipt.common.hydra_command import Command, stop
from ipt.common.settings import text_fields
from ipt.training import command
from ipt.training.config import TrainConfig, train_config
from ipt.training.launch import is_launched, launch
from ipt.training.sweep import DONE, PLANNED, STOPPED, SUMMARY, Job, run_job, summarise

SWEEP_FOLDER = "hydra.sweep.dir="
TEXTS = text_fields(TrainConfig)
COMMAND = Command("train", former=command.FORMER)


def register() -> None:
    """File the defaults of the settings; ``conf/train.yaml`` and the groups override them."""
    command.register(COMMAND)


def train(composed: DictConfig) -> float | None:
    """One run. Returns what sweepers minimise: its score in validation, or the loss of its last step."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.MULTIRUN:
        job = Job(hydra.job.num, tuple(hydra.overrides.task), str(values["output_dir"]))
        status, loss = run_job(job, Path(hydra.sweep.dir), lambda: _run(values))
        if status == STOPPED and hydra.runtime.choices["hydra/launcher"] == "basic":
            sys.exit(0)  # the signal was for the sweep, whose jobs this very process runs
        return loss
    try:
        return _run(values)[1]
    except UserError as error:
        stop(str(error))


def _run(values: dict[str, Any]) -> tuple[str, float | None]:
    """What became of the run, and its outcome."""
    if "plan" in values:
        return _study(values)
    if "stages" in values:
        return _stages(values)
    config = train_config(values)
    # torch takes seconds to import; by now the settings are known to go together
    if config.dry_run:
        from ipt.training.plan import plan

        print(plan(config))
        return PLANNED, None
    if config.launch.gpus > 1 and not is_launched():
        loss = launch(config)
    else:
        from ipt.training.build import run

        loss = run(config)
    return (STOPPED if loss is None else DONE), loss


def _stages(values: dict[str, Any]) -> tuple[str, float | None]:
    """Runs one after the other, each from the weights of the one before; what is done of them is not done again. What the command
    line says holds for all of them."""
    folder, given = Path(values["output_dir"]), list(HydraConfig.get().overrides.task)
    codec = [] if values["model"]["codec"] == "none" else ["model.codec=init"]
    outcome: tuple[str, float | None] = (DONE, None)
    init: Path | None = None
    for name, own in values["stages"].items():
        start = [] if init is None or not init.is_dir() else [f"model.init={init}", "model.weights=null", *codec]
        stage = _composed([*own, *given, *start, f"output_dir={folder / name}"], "stages")
        origin = "" if init is None else f", from the weights in {init}"
        print(f"stage {name} in {folder / name}{origin}", file=sys.stderr)
        outcome = _run(stage)
        if outcome[0] == STOPPED:
            break
        init = folder / name / "model"
    return outcome


def _composed(overrides: Sequence[str], without: str) -> dict[str, Any]:
    """The values that train.py would have with these overrides."""
    GlobalHydra.instance().clear()
    composed: Any = OmegaConf.to_container(COMMAND.compose(overrides), resolve=True)
    return {key: value for key, value in composed.items() if key != without}


def _study(values: dict[str, Any]) -> tuple[str, float | None]:
    """A configuration with a plan is a study of many runs."""
    from ipt.study.run import run_study

    def compose(overrides: Sequence[str]) -> dict[str, Any]:
        return _composed(overrides, "plan")  # a run has a process of its own, a copy of one inside of Hydra

    common = list(HydraConfig.get().overrides.task)
    return DONE if run_study(values["plan"], Path(values["output_dir"]), common, compose) else STOPPED, None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A user's mistake ends with one line and exit code 2; a sweep ends with a table of its jobs, and with
    exit code 1 where one of them failed."""
    register()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not {"-m", "--multirun"} & set(given):
        COMMAND.run(train, given, TEXTS)
        return
    folders = [item.partition("=")[2] for item in given if item.startswith(SWEEP_FOLDER)]
    folder = Path(folders[-1] if folders else time.strftime("outputs/sweeps/%Y-%m-%d_%H-%M-%S"))
    try:
        COMMAND.run(train, given if folders else [*given, f"{SWEEP_FOLDER}{folder}"], TEXTS)
    finally:
        text, failed = summarise(folder)
        if text:
            print(f"\n{text}\n{folder / SUMMARY}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
