"""Runs of a toy model on a small stored dataset, for tests of the loop."""

from __future__ import annotations

import functools
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ipt.common.seeding import generator
from ipt.model.codec import PatchPca
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.unified import UnifiedModel
from ipt.sequence.loader import Loader
from ipt.training.settings import CheckpointConfig, EmaConfig, OptimConfig, TrainerConfig
from ipt.training.source import Supervised
from ipt.training.trainer import Trainer
from tests.sequence.loading import GEOMETRY, Words, make_loader, stored

ROOT = Path(__file__).parents[2]
TOY = ModelConfig(
    "toy",
    DecoderConfig(hidden=16, intermediate=24, layers=2, heads=2, kv_heads=1, vocab=64),
    VisionConfig(hidden=16, intermediate=24, layers=1, heads=2, patch=8, side=4),
    LatentConfig(channels=48, patch=1, side=4, downsample=8),
)
assert TOY.geometry == GEOMETRY
OPTIM = OptimConfig(lr=3e-3, warmup_steps=2)
CONFIG = TrainerConfig(steps=6, optim=OPTIM, ema=EmaConfig(0.9), checkpoints=CheckpointConfig(every=2))


def toy_model(seed: int = 0) -> UnifiedModel:
    model = UnifiedModel(TOY)
    model.initialise(torch.Generator().manual_seed(seed))
    return model


@functools.cache
def toy_codec() -> PatchPca:
    images = torch.from_numpy(generator(0, "codec").uniform(-1, 1, (8, 3, 16, 16))).float()
    return PatchPca.fit(list(images), patch=8, channels=48)


@dataclass(frozen=True)
class Run:
    """A training run in ``folder``, on the dataset in ``data``."""

    data: Path
    folder: Path
    config: TrainerConfig = CONFIG
    loader: tuple[tuple[str, Any], ...] = (("packs_per_step", 2),)
    draws: int = 1

    def with_(self, **changes: Any) -> Run:
        return replace(self, config=replace(self.config, **changes))

    def make_loader(self) -> Loader:
        return make_loader(stored(self.data), Words(latents=True, draws=self.draws), **dict(self.loader))

    def trainer(self) -> Trainer:
        source = Supervised(self.make_loader(), self.config.loss)
        return Trainer(toy_model(), source, self.config, self.folder, toy_codec().encode)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor of a run by a flat name."""
    flat = {f"model {name}": tensor.detach().clone() for name, tensor in trainer.weights.named.items()}
    for name, entries in trainer._tensors()["optimizer"].items():
        flat |= {f"{key} {name}": tensor.clone() for key, tensor in entries.items()}
    if trainer.ema is not None:
        flat |= {f"ema {name}": tensor.clone() for name, tensor in trainer.ema.values.items()}
    return flat


def assert_same_state(first: Trainer, second: Trainer) -> None:
    ours, theirs = state(first), state(second)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ: {different[:4]}"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write files beyond ``size`` bytes, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
