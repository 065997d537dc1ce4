"""A model of a few thousand parameters and random samples for it: small enough for equivalences by the dozen."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.unified import UnifiedModel, add_noise
from ipt.sequence.batch import NoisedImages, PackedBatch, lay_out
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, Slots, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss, Role

TOKENS = SpecialTokens(60, 61, 62, 63)
CONFIG = ModelConfig(
    "toy",
    DecoderConfig(hidden=32, intermediate=48, layers=2, heads=4, kv_heads=2, vocab=64, grid_rope=True),
    VisionConfig(hidden=24, intermediate=32, layers=2, heads=2, patch=4, side=5),
    LatentConfig(channels=3, patch=2, side=4, downsample=2),
)


#: The same with the conventions of BAGEL's layout, which knows no rope over rows and columns.
AS_BAGEL = replace(CONFIG, decoder=replace(CONFIG.decoder, grid_rope=False))


def random_model(seed: int = 0, config: ModelConfig = CONFIG) -> UnifiedModel:
    """All weights random, the velocity head's and the norms' too."""
    generator = torch.Generator().manual_seed(seed)
    model = UnifiedModel(config)
    model.initialise(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


@functools.cache
def model() -> UnifiedModel:
    return random_model().requires_grad_(False).eval()


@dataclass(frozen=True)
class Inputs:
    """What a model is called with: ``model()(*inputs)``; a batch to everybody else."""

    batch: PackedBatch
    noised: NoisedImages | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.batch, self.noised))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batch, name)


class Maker:
    """Random segments."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def text(self, count: int = 5, **options: object) -> Segment:
        return Segment(Kind.TEXT, TokenIds(torch.randint(0, 60, (count,), generator=self.generator)), **options)

    def vit(self, rows: int = 2, columns: int = 3, **options: object) -> Segment:
        return Segment(Kind.VIT, Pixels(self.random(3, rows * 4, columns * 4)), **options)

    def slots(self, count: int = 3, content: Segment | Tensor | None = None, **options: object) -> Segment:
        return Segment(Kind.LATENT, Slots(count, content), Role.IMAGINATION, **options)

    def vae(self, rows: int = 2, columns: int = 2, **options: object) -> Segment:
        return Segment(Kind.VAE, Latents(self.random(3, rows * 2, columns * 2)), **options)

    def noised(self, rows: int = 2, columns: int = 2, **options: object) -> Segment:
        return Segment(Kind.VAE_NOISED, Latents(self.random(3, rows * 2, columns * 2)), loss=Loss.FLOW, **options)

    def imagining(self) -> list[Segment]:
        """Observation, question, thought, imagined image with its copies, answer."""
        imagination = {"role": Role.IMAGINATION}
        return [
            self.vae(1, 2),
            self.vit(),
            self.text(6, role=Role.QUESTION),
            self.text(3, role=Role.ANSWER, loss=Loss.CE),
            self.noised(2, 3, **imagination),
            self.vae(2, 3, **imagination),
            self.vit(2, 2, **imagination),
            self.text(4, role=Role.ANSWER, loss=Loss.CE),
        ]

    def batch(self, samples: list[list[Segment]], positions: list[int] | None = None) -> Inputs:
        """Laid out and, where there are noised images, noised at random times."""
        batch = lay_out(samples, TOKENS, CONFIG.geometry, positions)
        images = len(batch.spans.noised_images)
        if not images:
            return Inputs(batch, None)
        times = torch.rand(images, generator=self.generator)
        return Inputs(batch, add_noise(batch, times, self.random(int(batch.spans.is_noised.sum()), 12))[0])
