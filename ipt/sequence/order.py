"""Which sample comes when: a pure function of (seed, position), for one dataset or a mixture.

Positions count samples over all epochs, across all ranks and workers. In every epoch each part of the mixture has exactly its
number of rows, in a fresh global shuffle. A part goes through all its rows, in a new order each time, before any row comes
again, also where an epoch holds only some of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.common.seeding import Name, generator


@dataclass(frozen=True)
class Place:
    """What stands at a position of the order: ``row`` of part number ``part``, on the part's ``turn``-th way through its rows."""

    part: int
    row: int
    turn: int


def largest_remainders(weights: Sequence[float], total: int) -> NDArray[np.int64]:
    """``total`` divided by weight: each share rounded down, what is left to the largest remainders."""
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights) * total
    counts: NDArray[np.int64] = np.floor(shares + 1e-9).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: total - counts.sum()]] += 1
    return counts


def exact_counts(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """`largest_remainders` of ``total`` rows, checked.

    Raises ``ValueError`` for a weight that is not positive, or so small that its part would get no row.
    """
    if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise UserError(f"mixture weights must be positive numbers, got {list(weights)}")
    counts = largest_remainders(weights, total)
    if not counts.all():
        raise UserError(f"an epoch of {total} rows with weights {list(weights)} leaves a part without rows: {counts}")
    return tuple(counts.tolist())


class MixtureOrder:
    """The endless order of a mixture. ``names``, ``sizes`` and ``weights`` describe its parts; ``epoch_rows`` is the length
    of an epoch (by default the sum of the sizes).

    Raises ``ValueError`` for empty or equally named parts, or weights that `exact_counts` refuses.
    """

    def __init__(
        self,
        seed: int,
        names: Sequence[str],
        sizes: Sequence[int],
        weights: Sequence[float],
        epoch_rows: int | None = None,
    ) -> None:
        if len(set(names)) != len(names):
            raise UserError(f"the parts of a mixture need different names, got {list(names)}")
        if empty := [name for name, size in zip(names, sizes, strict=True) if size < 1]:
            raise UserError(f"parts without samples: {', '.join(empty)}")
        self.seed, self.names, self.sizes = seed, tuple(names), tuple(sizes)
        self.epoch_rows = sum(sizes) if epoch_rows is None else epoch_rows
        self.counts = exact_counts(weights, self.epoch_rows)
        self._ends = np.cumsum(self.counts)

    def __getitem__(self, position: int) -> Place:
        epoch, offset = divmod(position, self.epoch_rows)
        slot = int(shuffled(self.seed, self.epoch_rows, "epoch", epoch)[offset])
        part = int(np.searchsorted(self._ends, slot, side="right"))
        slot_in_part = slot - int(self._ends[part]) + self.counts[part]
        turn, place = divmod(epoch * self.counts[part] + slot_in_part, self.sizes[part])
        order = shuffled(self.seed, self.sizes[part], "part", self.names[part], turn)
        return Place(part, int(order[place]), turn)


@lru_cache(maxsize=32)
def shuffled(seed: int, size: int, *names: Name) -> NDArray[np.int64]:
    """The numbers below ``size`` in the order of the stream ``names`` under ``seed``; recent ones are kept."""
    return generator(seed, "order", *names).permutation(size)
