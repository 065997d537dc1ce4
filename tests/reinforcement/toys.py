"""Reinforced runs of the toy that knows four samples by heart (`tests.inference.toy`), unsure at a higher temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipt.common.settings import typed
from ipt.inference.checkpoint import Checkpoint
from ipt.reinforcement.rollouts import Asked, Player, Rollout
from ipt.reinforcement.settings import GrpoSettings
from ipt.reinforcement.units import packs
from ipt.sequence.batch import Origin, PackedBatch
from ipt.training.build import make_trainer
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from ipt.training.losses import Objective, noised
from ipt.training.settings import LossConfig
from ipt.training.trainer import Trainer
from tests.inference import toy

SMALL: dict[str, Any] = {"questions": 4, "imaginations": 2, "control_every": 1, "write_every": 1}
DRAW = {"timesteps": 5, "shift": 1.0}
STAGES: dict[str, dict[str, Any]] = {
    "closed": {"stage": "readout", **SMALL, "draw": DRAW},
    "sampled": {"stage": "readout", **SMALL, "mode": "text_cot", "text": {"max_tokens": 12, "temperature": 2.0}},
    "drawn": {"stage": "imagination", **SMALL, "draw": DRAW, "scale": "group", "clip": 0.001},
}
MODES = ("ipt", "text_cot", "label_only")
BUDGET = 4096


def saved(folder: Path) -> Path:
    """The toy as a run in ``folder/run``, its samples in ``folder/data``."""
    toy.save_run(folder / "run", *MODES)
    toy.save_data(folder / "data", toy.SAMPLES)
    return folder


def values(folder: Path, stage: str, output: str = "out", **changes: Any) -> dict[str, Any]:
    """The settings of a run of three steps in one of `STAGES`; ``changes`` by group."""
    found: dict[str, Any] = {
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
        found[group] = {**found.get(group, {}), **change}
    return found


def config(folder: Path, stage: str, output: str = "out", **changes: Any) -> TrainConfig:
    return train_config(values(folder, stage, output, **changes))


def trainer(folder: Path, stage: str, output: str = "out", **changes: Any) -> Trainer:
    return make_trainer(config(folder, stage, output, **changes), World())[0]


def asked(*numbers: int) -> list[Asked]:
    """Questions of the toy's samples; those beyond 3 it does not know."""
    samples = [toy.sample(number) for number in numbers or range(4)]
    return [Asked(each, Origin("part-0", each.id, n)) for n, each in enumerate(samples)]


def player(stage: str, checkpoint: Checkpoint | None = None, **changes: Any) -> Player:
    settings = typed(GrpoSettings, {**STAGES[stage], **changes}, "grpo")
    return Player(checkpoint or toy.checkpoint(*MODES), settings)


def played(player: Player, questions: list[Asked], seed: int = 0) -> Rollout:
    with torch.no_grad():
        return player.play(questions, seed, BUDGET, player.read, control=True)


def packed(player: Player, rollout: Rollout) -> list[PackedBatch]:
    special, geometry = player.session.special, player.session.geometry
    return packs(rollout.units, player.kind, special, geometry, BUDGET)


def losses(pack: PackedBatch, clip: tuple[float, float] = (0.2, 0.2)) -> dict[str, Tensor]:
    objective = Objective(toy.model(), LossConfig(), clip=clip)
    return objective(pack, *noised(pack, 0, 1.0))
