"""What the commands share that take a training run's configuration: ``train.py``, and those that look at it or prepare it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from omegaconf import OmegaConf

from ipt.common.errors import UserError
from ipt.common.hydra_command import Command, stop
from ipt.common.settings import text_fields, typed
from ipt.training.config import SEEDED, TrainConfig, train_config

T = TypeVar("T")
#: What was written before, and what is now.
FORMER = (
    (r"experiment=(pet|pt|mvc)_(\w+?)_bagel$", r"experiment=bagel task=\1 imagination=\2"),
    (r"experiment=(pet|pt|mvc)_(\w+)$", r"task=\1 imagination=\2"),
    (r"trainer\.(loss|optim|ema|checkpoints)\.", r"\1."),
    (r"distributed=deepspeed$", "distributed=fsdp2"),
    (r"imagination\.(permuted|self_made)=", r"imagination.ipt.\1="),
    (r"resolution=latent64_inputs1024$", "resolution=bagel_pet"),
)


def register(command: Command) -> None:
    """File the defaults of a run's dataclasses: the code is the one place where they are written."""
    defaults = asdict(TrainConfig())
    for group in SEEDED:
        defaults[group]["seed"] = "${seed}"
    command.register("train_defaults", defaults)


def run(name: str, own: type[T], work: Callable[[TrainConfig, T], str], arguments: Sequence[str] | None = None) -> None:
    """A command that trains nothing: print what ``work`` says about a run's configuration; the command's own keys are the fields
    of dataclass ``own``. A user's mistake ends with one line and exit code 2."""
    command = Command(name, former=FORMER)
    register(command)
    command.register(f"{name}_defaults", asdict(own()))  # type: ignore[call-overload]

    def show(composed: Any) -> None:
        values: Any = OmegaConf.to_container(composed, resolve=True)
        mine = {entry.name: values.pop(entry.name) for entry in fields(own)}  # type: ignore[arg-type]
        try:
            print(work(train_config({**values, "dry_run": True}), typed(own, mine, name)))
        except UserError as error:
            stop(str(error))

    command.run(show, arguments, text_fields(TrainConfig) | text_fields(own))
