"""Reinforced runs of the toy that knows four samples by heart (`tests.inference.toy`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ipt.common.seeding import generator
from ipt.reinforcement.rollouts import Asked, Player
from ipt.reinforcement.settings import GrpoSettings
from ipt.sequence.batch import Origin
from ipt.training.build import make_trainer
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from ipt.training.trainer import Trainer
from tests.inference import toy

#: So that the modes and their settings can be made smaller in one place.
SMALL: dict[str, Any] = {"questions": 4, "imaginations": 2, "control_every": 1, "write_every": 1}
DRAW = {"timesteps": 5, "shift": 1.0}
STAGES: dict[str, dict[str, Any]] = {
    "closed": {"stage": "readout", **SMALL, "draw": DRAW},
    "sampled": {"stage": "readout", "mode": "text_cot", "text": {"max_tokens": 16}, **SMALL},
    "drawn": {"stage": "imagination", **SMALL, "draw": DRAW, "scale": "group", "clip": 0.001},
}
MODES = ("ipt", "text_cot", "label_only")


def saved(folder: Path) -> Path:
    """The toy as a run in ``folder/model``, its samples in ``folder/data``."""
    toy.save_run(folder / "run", *MODES)
    toy.save_data(folder / "data", toy.SAMPLES)
    return folder


def config(folder: Path, stage: str, output: str = "out", **changes: Any) -> TrainConfig:
    """A run of three steps in one of `STAGES`; ``changes`` by group."""
    values: dict[str, Any] = {
        "output_dir": str(folder / output),
        "model": {"preset": None, "init": str(folder / "run"), "codec": "init"},
        "task": {"names": ["pet"]},
        "data": {"train": str(folder / "data")},
        "trainer": {"steps": 3},
        "optim": {"lr": 1e-3, "warmup_steps": 0},
        "ema": {"decay": 0.0},
        "loader": {"packs_per_step": 2},
        "checkpoints": {"every": 1, "keep_last": 9},
        "grpo": STAGES[stage],
    }
    for group, change in changes.items():
        values[group] = {**values.get(group, {}), **change}
    return train_config(values)


def trainer(folder: Path, stage: str, output: str = "out", **changes: Any) -> Trainer:
    return make_trainer(config(folder, stage, output, **changes), World())[0]


def asked(count: int = 4) -> list[Asked]:
    return [Asked(each, Origin("part-0", each.id, n)) for n, each in enumerate(toy.SAMPLES[:count])]


def player(stage: str, **changes: Any) -> Player:
    from ipt.common.settings import typed

    settings = typed(GrpoSettings, {**STAGES[stage], **changes}, "grpo")
    return Player(toy.checkpoint(*MODES), settings)


__all__ = ["DRAW", "MODES", "SMALL", "STAGES", "asked", "config", "generator", "player", "replace", "saved", "trainer"]
