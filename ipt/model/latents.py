"""Positions and times as vectors: the 2-D sin-cos tables, the timestep embedding, and noising the latents of a batch.

Shape suffixes: I images, L tokens, D hidden size, F noised latent tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ipt.flow.path import interpolate, velocity_target
from ipt.sequence.batch import Grid, NoisedImages, PackedBatch

TIME_FREQUENCIES = 256


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

    With ``interpolate_positions`` a grid is stretched over the whole table. Raises ``ValueError`` for a grid that is larger
    than the table; ``what`` names it.
    """
    rows = [np.empty(0, dtype=np.int64)]
    for number, (height, width) in enumerate(grids):
        if max(height, width) > side and not interpolate_positions:
            raise ValueError(
                f"{what} {number} has {height} x {width} tokens but the position table has {side} x {side}; use a "
                "smaller image, or rebuild a latent table (from_pretrained(..., latent_side=...))"
            )
        row, column = np.arange(height), np.arange(width)
        if interpolate_positions:
            row, column = row * side // height, column * side // width
        rows.append((row[:, None] * side + column).ravel())
    return torch.from_numpy(np.concatenate(rows))


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


def time_sinusoid(timesteps_I: Tensor) -> Tensor:
    """[I, 256] float32: cos then sin of t * 10000^(-j / 128); t in [0, 1], unscaled."""
    half = TIME_FREQUENCIES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps_I.device) / half
    angles = timesteps_I.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Timestep t in [0, 1] to a hidden vector: sinusoid in float32, then two linear layers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, timesteps_I: Tensor) -> Tensor:
        first = cast(nn.Linear, self.mlp[0])
        vectors: Tensor = self.mlp(time_sinusoid(timesteps_I).to(first.weight.dtype))
        return vectors


def add_noise(batch: PackedBatch, timesteps: Tensor, noise_FD: Tensor) -> tuple[NoisedImages, Tensor]:
    """x_t of a batch's noised images at ``timesteps`` (one per noised image), and the velocity target [F, D], both float32."""
    sizes = [math.prod(batch.latent_grids[image]) for image in batch.spans.noised_images]
    per_token = timesteps.repeat_interleave(torch.tensor(sizes, device=timesteps.device, dtype=torch.long))
    x0_FD = batch.noised_latents()
    return NoisedImages(interpolate(x0_FD, noise_FD, per_token), timesteps), velocity_target(x0_FD, noise_FD)
