"""Latent slots: how a picture's features become the vectors of k slots, and what the decoder is fed for a vector.

Mirage (arXiv 2506.17218) cuts the n features of a picture, in raster order, into k runs of equal length and averages each; the
n mod k features at the end are dropped. A ``grid`` averages over squares of the picture instead.

Shape suffixes: L features of a picture, K slots of a picture, Z slots, D numbers per vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from ipt.model.weights import is_divided, own_numbers, own_part
from ipt.sequence.batch import Grid
from ipt.sequence.settings import check_pool

EPSILON = 1e-6


def pooled(features_LD: Tensor, grid: Grid, count: int, pool: str) -> Tensor:
    """[K, D] the features of a picture with ``grid`` in ``count`` means. Raises ``UserError`` where the count does not fit."""
    check_pool(grid, count, pool)
    if pool == "raster":
        run = len(features_LD) // count
        return features_LD[: run * count].unflatten(0, (count, run)).mean(dim=1)
    side = math.isqrt(count)
    squares = rearrange(features_LD, "(a h b w) d -> (a b) (h w) d", a=side, b=side, h=grid[0] // side)
    return squares.mean(dim=1)


def pooled_all(features_LD: Tensor, grids: Sequence[Grid], pools: Sequence[tuple[int, str]]) -> Tensor:
    """[Z, D] of several pictures, one after the other."""
    pictures = features_LD.split([rows * columns for rows, columns in grids])
    found = [pooled(each, grid, *pool) for each, grid, pool in zip(pictures, grids, pools, strict=True)]
    return torch.cat(found) if found else features_LD[:0]


class SlotInput(nn.Module):
    """What the decoder is fed for a vector, whether of a picture or its own last state: the vector (``none``), the vector at root
    mean square 1 (``rms``: features and states differ in length, which the cosine does not see), or a learned linear map of it
    that starts as the identity (``linear``)."""

    def __init__(self, hidden: int, phi: str) -> None:
        super().__init__()
        self.phi = phi
        if phi == "linear":
            self.map = nn.Linear(hidden, hidden, bias=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The identity."""
        if self.phi == "linear":
            weight = self.map.weight
            identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
            own_numbers(weight).copy_(identity[own_part(weight)] if is_divided(weight) else identity)

    def forward(self, vectors_ZD: Tensor) -> Tensor:
        if self.phi == "rms":
            scale = vectors_ZD.float().square().mean(-1, keepdim=True).clamp(min=EPSILON).rsqrt()
            return (vectors_ZD * scale).to(vectors_ZD.dtype)
        return self.map(vectors_ZD) if self.phi == "linear" else vectors_ZD
