"""Floating-point operations of a forward pass, from the span table: only attended pairs are counted.

A multiply-add counts as two. A training step costs three times the forward pass (without recomputation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ipt.model.config import ModelConfig
from ipt.model.latents import TIME_FREQUENCIES
from ipt.sequence.batch import Grid
from ipt.sequence.spans import SpanTable
from ipt.sequence.visibility import attended_pairs


@dataclass(frozen=True)
class Flops:
    """Forward operations by part."""

    understanding: int
    generation: int
    attention: int
    vision: int
    latents: int
    lm_head: int

    @property
    def forward(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def training(self) -> int:
        """Forward and backward."""
        return 3 * self.forward


def expert_weights(config: ModelConfig) -> int:
    """Numbers in the linear layers of one expert, all layers together."""
    d = config.decoder
    attention = d.hidden * (2 * d.heads + 2 * d.kv_heads) * d.head_dim
    return d.layers * (attention + 3 * d.hidden * d.intermediate)


def forward_flops(config: ModelConfig, spans: SpanTable, patch_grids: tuple[Grid, ...]) -> Flops:
    """Cost of one packed sequence with ViT images of ``patch_grids``; logits at the trained text positions only."""
    d, v = config.decoder, config.vision
    latents = spans.num_tokens - spans.num_understanding
    images = int((spans.expert == 1).sum())
    patches = [math.prod(grid) for grid in patch_grids]
    tower = v.layers * (4 * v.hidden**2 + 2 * v.hidden * v.intermediate) + 3 * v.patch**2 * v.hidden
    connector = v.hidden * d.hidden + d.hidden**2
    vision = 2 * sum(patches) * (tower + connector) + 4 * v.layers * v.hidden * sum(n * n for n in patches)
    size = config.geometry.latent_size * d.hidden
    return Flops(
        understanding=2 * spans.num_understanding * expert_weights(config),
        generation=2 * latents * expert_weights(config),
        attention=4 * d.layers * d.heads * d.head_dim * attended_pairs(spans),
        vision=vision,
        latents=2
        * ((latents + len(spans.noised_positions)) * size + images * (TIME_FREQUENCIES + d.hidden) * d.hidden),
        lm_head=2 * len(spans.ce_positions) * d.hidden * d.vocab,
    )
