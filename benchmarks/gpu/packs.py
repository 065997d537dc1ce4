"""Packs as training sees them, with random content: samples that imagine, a question without imagination, and text up to the last
token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ipt.model.config import ModelConfig, presets
from ipt.sequence.batch import Origin, PackedBatch, lay_out
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss, Role

TOKENS = SpecialTokens(0, 1, 2, 3)


@dataclass(frozen=True)
class Sizes:
    """A preset and its packs: tokens in all, input ``images`` per sample, and tokens per side of inputs and imaginations as the
    codec (``latent``, ``imagined``) and the vision tower (``vit``, ``imagined_vit``) give them."""

    preset: str
    tokens: int
    images: int
    latent: int
    vit: int
    imagined: int
    imagined_vit: int

    @property
    def shape(self) -> ModelConfig:
        return presets[self.preset]


#: Inputs of 512 pixels, imaginations of 512 (paper) or 256 (small), as `ipt.sequence.settings.Resolution` has them.
PAPER = Sizes("bagel_7b_mot", 24576, images=3, latent=32, vit=37, imagined=32, imagined_vit=37)
SMALL = Sizes("small", 8192, images=1, latent=32, vit=37, imagined=16, imagined_vit=18)
TINY = Sizes("tiny", 1024, images=3, latent=4, vit=4, imagined=4, imagined_vit=4)


class Maker:
    """Random segments of a model's geometry."""

    def __init__(self, sizes: Sizes, seed: int = 0) -> None:
        self.sizes, self.geometry = sizes, sizes.shape.geometry
        self.generator = torch.Generator().manual_seed(seed)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def text(self, count: int, role: Role, trained: bool = False) -> Segment:
        ids = torch.randint(4, 1000, (count,), generator=self.generator)
        return Segment(Kind.TEXT, TokenIds(ids), role, Loss.CE if trained else Loss.NONE)

    def vit(self, side: int, role: Role = Role.OBSERVATION) -> Segment:
        pixels = side * self.geometry.vit_patch
        return Segment(Kind.VIT, Pixels(self.random(3, pixels, pixels)), role)

    def latent(self, side: int, kind: Kind = Kind.VAE, role: Role = Role.OBSERVATION) -> Segment:
        cells = side * self.geometry.latent_patch
        loss = Loss.FLOW if kind is Kind.VAE_NOISED else Loss.NONE
        return Segment(kind, Latents(self.random(self.geometry.latent_channels, cells, cells)), role, loss)

    def observations(self, images: int) -> list[Segment]:
        """Input images, each as latents and as patches."""
        return [part for _ in range(images) for part in (self.latent(self.sizes.latent), self.vit(self.sizes.vit))]

    def question(self, images: int) -> list[Segment]:
        """System prompt, input images, question."""
        return [self.text(60, Role.SYSTEM), *self.observations(images), self.text(90, Role.QUESTION)]

    def imagining(self) -> list[Segment]:
        """A whole sample: question, announcement, the noised imagination and its two clean copies, answer."""
        sizes, role = self.sizes, Role.IMAGINATION
        return [
            *self.question(sizes.images),
            self.text(40, role, trained=True),
            self.latent(sizes.imagined, Kind.VAE_NOISED, role),
            self.latent(sizes.imagined, role=role),
            self.vit(sizes.imagined_vit, role),
            self.text(12, Role.ANSWER, trained=True),
        ]

    def pack(self, tokens: int | None = None) -> PackedBatch:
        """As many imagining samples as fit beside a short one, and a text that fills the rest: exactly ``tokens``."""
        budget = self.sizes.tokens if tokens is None else tokens
        samples = [[*self.question(1), self.text(12, Role.ANSWER, trained=True)]]
        room = budget - self._tokens(samples[0]) - 3
        while room >= self._tokens(sample := self.imagining()):
            samples.insert(0, sample)
            room -= self._tokens(sample)
        samples.append([self.text(room + 1, Role.SYSTEM)])
        batch = lay_out(samples, TOKENS, self.geometry)
        return replace(batch, origins=tuple(Origin("part-0", f"s{i}", i) for i in range(len(samples))))

    def _tokens(self, sample: list[Segment]) -> int:
        return sum(segment.num_tokens(self.geometry) for segment in sample)
