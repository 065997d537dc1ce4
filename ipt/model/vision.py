"""SigLIP2 as a NaViT: images of any aspect ratio as one run of linear patches, full attention inside each image.

Equal to transformers' ``SiglipVisionModel`` without its pooling head on one square image (tests/model/test_vision.py); its
modules are fixed to a grid and a padded batch, which would also make the number of layer calls depend on the images at hand.

Positions are rows of 2-D sin-cos tables, in latents, too.

Shape suffixes: I images, L tokens, V patches of all images, D vision hidden size, N heads, H numbers per head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipt.common.errors import UserError
from ipt.model.attention import Attention, packed_attention
from ipt.model.config import VisionConfig
from ipt.model.mot import LayerRunner, run_directly
from ipt.sequence.batch import Grid
from ipt.sequence.spans import Expert, Mode, Span, SpanTable


def sincos_table(side: int, size: int) -> Tensor:
    """[side^2, size] float32: row r * side + c holds sin and cos of the column in its first half, of the row in its second
    (omega_j = 10000^(-4j / size)); float64 inside. Source: ``get_2d_sincos_pos_embed`` of the BAGEL reference."""
    omega = 1.0 / 10000 ** (np.arange(size // 4, dtype=np.float64) / (size / 4))
    angles = np.arange(side, dtype=np.float64)[:, None] * omega
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns, rows = np.tile(axis, (side, 1)), np.repeat(axis, side, axis=0)
    return torch.from_numpy(np.concatenate([columns, rows], axis=1).astype(np.float32))


def grid_rows(grids: Sequence[Grid], side: int, what: str, interpolate_positions: bool = False) -> Tensor:
    """[L] int64 table rows r * side + c of all cells of all grids (rows, columns).

    With ``interpolate_positions`` a grid is stretched over the whole table (`stretched`). Raises ``ValueError`` for a grid that
    is larger than the table; ``what`` names it.
    """
    rows = [np.empty(0, dtype=np.int64)]
    for number, (height, width) in enumerate(grids):
        if max(height, width) > side and not interpolate_positions:
            raise UserError(
                f"{what} {number} has {height} x {width} tokens but the position table has {side} x {side}; use a "
                "smaller image, or for latents a larger table, which is computed: latent_side=N (train.py: model.latent_side=N)"
            )
        row, column = (stretched(n, side) if interpolate_positions else np.arange(n) for n in (height, width))
        rows.append((row[:, None] * side + column).ravel())
    return torch.from_numpy(np.concatenate(rows))


def stretched(count: int, side: int) -> np.ndarray:
    """[count] rows of a table of ``side`` that ``count`` places stretch over: the buckets of ``i / count`` in float32, which at
    some counts (25, 49, 50, 55 of 70) differ from those of exact fractions. Source:
    ``get_flattened_position_ids_interpolate`` of the BAGEL reference."""
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    return torch.bucketize(torch.arange(0, 1 - 1e-6, 1 / count), boundaries, right=True).numpy()


class PositionTable(nn.Module):
    """A fixed 2-D sin-cos table, a function of its sizes and so not part of a state dict. ``what``: its images, in errors."""

    def __init__(self, side: int, size: int, what: str, interpolate_positions: bool = False) -> None:
        super().__init__()
        self.side, self.size, self.what, self.interpolate_positions = side, size, what, interpolate_positions
        self.table: Tensor
        self.register_buffer("table", torch.empty(side**2, size), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the table (not on the meta device)."""
        if not self.table.is_meta:
            self.table.copy_(sincos_table(self.side, self.size))

    def forward(self, grids: Sequence[Grid]) -> Tensor:
        """[L, D] the rows of all cells of ``grids``."""
        rows = grid_rows(grids, self.side, self.what, self.interpolate_positions)
        return self.table[rows.to(self.table.device)]


class GeluMlp(nn.Module):
    """Linear, tanh-GELU, linear: the MLP of the tower and the connector to the decoder."""

    def __init__(self, size: int, intermediate: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, intermediate)
        self.fc2 = nn.Linear(intermediate, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionAttention(nn.Module):
    """Multi-head self-attention with biases everywhere."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.hidden, config.hidden)
        self.k_proj = nn.Linear(config.hidden, config.hidden)
        self.v_proj = nn.Linear(config.hidden, config.hidden)
        self.out_proj = nn.Linear(config.hidden, config.hidden)

    def forward(self, index: int, x_VD: Tensor, attention: Attention) -> Tensor:
        q, k, v = (proj(x_VD).unflatten(-1, (self.heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(index, q, k, v).flatten(1))


class VisionLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: VisionConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.layer_norm1 = nn.LayerNorm(config.hidden, eps=config.norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden, eps=config.norm_eps)
        self.mlp = GeluMlp(config.hidden, config.intermediate, config.hidden)

    def forward(self, x_VD: Tensor, attention: Attention) -> Tensor:
        x_VD = x_VD + self.self_attn(self.index, self.layer_norm1(x_VD), attention)
        return x_VD + self.mlp(self.layer_norm2(x_VD))


class VisionTower(nn.Module):
    """Patches to features. ``run_layer`` is the hook for activation checkpointing."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Linear(3 * config.patch**2, config.hidden)
        self.position_embedding = nn.Embedding(config.side**2, config.hidden)
        self.layers = nn.ModuleList(VisionLayer(config, index) for index in range(config.layers))
        self.post_layernorm = nn.LayerNorm(config.hidden, eps=config.norm_eps)
        self.run_layer: LayerRunner = run_directly

    def forward(self, patches_VP: Tensor, grids: Sequence[Grid], backend: str) -> Tensor:
        """[V, D] features after the final norm, from float patches [V, 3 * patch^2] of images with ``grids``."""
        config = self.config
        rows = grid_rows(grids, config.side, "image", config.interpolate_positions).to(patches_VP.device)
        x_VD = self.patch_embedding(patches_VP.to(self.patch_embedding.weight.dtype)) + self.position_embedding(rows)
        images = (
            Span(number, math.prod(grid), Mode.FULL, Expert.UNDERSTANDING, 0) for number, grid in enumerate(grids)
        )
        attention = packed_attention(backend, SpanTable.from_spans(images), x_VD)
        for layer in self.layers:
            x_VD = self.run_layer(layer, x_VD, attention)
        features: Tensor = self.post_layernorm(x_VD)
        return features
