"""Floating-point operations of a forward pass, from the span table: only attended pairs are counted.

A multiply-add counts as two. A training step costs three times the forward pass (without recomputation).

MFU is the share of the hardware's peak that goes into necessary arithmetic: ``3 x forward FLOPs / (seconds x peak)``, where the
forward pass counts the linear layers at the tokens that use them, and attention at the pairs that attend (`forward_flops`);
recomputation does not count. ``mfu_bagel`` is the definition behind BAGEL's published figures, which charges
embeddings and language head to every token, and attention to every pair of a sample: ``(6 N T + 12 L H d sum(n^2)) / (seconds x
peak)``, N the parameters that one token passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from ipt.model.config import ModelConfig
from ipt.model.unified import TIME_FREQUENCIES
from ipt.sequence.batch import Grid, PackedBatch
from ipt.sequence.spans import Expert, SpanTable
from ipt.sequence.visibility import attended_pairs

#: Published dense bfloat16 peaks in TFLOP/s, by a word of the device's name.
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}


@dataclass(frozen=True)
class Flops:
    """Forward operations by part. ``rounds``: how often the decoder runs before that to fill latent slots, and how many of these
    passes have gradients."""

    understanding: int
    generation: int
    attention: int
    vision: int
    latents: int
    lm_head: int
    rounds: tuple[int, int] = (0, 0)

    @property
    def decoder(self) -> int:
        """One pass of it."""
        return self.understanding + self.generation + self.attention

    @property
    def parts(self) -> dict[str, int]:
        """Of one pass of everything."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "rounds"}

    @property
    def forward(self) -> int:
        return sum(self.parts.values()) + self.rounds[0] * self.decoder

    @property
    def training(self) -> int:
        """Forward and backward."""
        return 3 * sum(self.parts.values()) + (self.rounds[0] + 2 * self.rounds[1]) * self.decoder


def expert_weights(config: ModelConfig) -> int:
    """Numbers in the linear layers of one expert, all layers together."""
    d = config.decoder
    attention = d.hidden * (2 * d.heads + 2 * d.kv_heads) * d.head_dim
    return d.layers * (attention + 3 * d.hidden * d.intermediate)


def forward_flops(
    config: ModelConfig, spans: SpanTable, patch_grids: tuple[Grid, ...], rounds: tuple[int, int] = (0, 0)
) -> Flops:
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
        rounds=rounds,
    )


def step_flops(
    config: ModelConfig, batches: Iterable[PackedBatch], rounds: tuple[int, int] = (0, 0)
) -> tuple[float, float]:
    """Training operations of packs: those that are necessary, and those that BAGEL's formula counts."""
    d = config.decoder
    per_token = expert_weights(config) + 2 * d.vocab * d.hidden
    necessary = counted = 0.0
    for batch in batches:
        necessary += forward_flops(config, batch.spans, batch.patch_grids, rounds).training
        pairs = int(np.square(batch.spans.sample_lengths).sum())
        counted += 6 * per_token * batch.spans.num_tokens + 12 * d.layers * d.heads * d.head_dim * pairs
    return necessary, counted


def peak_flops(device_name: str, given_tflops: float | None) -> float | None:
    """Operations per second of one device: as given, else as published, else unknown."""
    if given_tflops is not None:
        return given_tflops * 1e12
    return next((tflops * 1e12 for word, tflops in PEAK_TFLOPS.items() if word in device_name), None)


def token_kinds(spans: SpanTable) -> dict[str, int]:
    """Tokens of a pack by kind, and the trained ones."""
    bodies = spans.is_body
    generation = spans.expert[spans.span_of] == Expert.GENERATION
    noised = len(spans.noised_positions)
    return {
        "all": spans.num_tokens,
        "text": int((~bodies).sum()) - len(spans.slot_positions),
        "vit": int((bodies & ~generation).sum()),
        "latent": int((bodies & generation).sum()) - noised,
        "noised": noised,
        "slot": len(spans.slot_positions),
        "trained_text": len(spans.ce_positions),
        "trained_latent": int(spans.is_flow_trained.sum()),
    }
