"""Which sample comes when, and into which pack: pure functions of the seed and of lengths, for one dataset or a mixture.

Positions count samples over all epochs, across all ranks and workers. In every epoch each part of the mixture has exactly its
number of rows, in a fresh global shuffle. A part goes through all its rows, in a new order each time, before any row comes
again, also where an epoch holds only some of them.

Packing is first-fit. A few packs stay open. A sample goes into the first open pack that it fits into; where it fits into none,
the fullest pack is closed once there are as many as allowed, and the sample opens another. With a target, a pack that
reaches it is closed at once, as in BAGEL's ``PackedDataset``. What a pack holds so depends only on the lengths and the
order of the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

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


T = TypeVar("T")


@dataclass
class Pack(Generic[T]):
    """Items that share one sequence, in order of arrival, and the tokens they take together."""

    items: list[T] = field(default_factory=list)
    tokens: int = 0


class FirstFit(Generic[T]):
    """At most ``open_packs`` packs of at most ``budget`` tokens and ``max_items`` items; one of ``target`` tokens is full.
    ``open`` lists them, oldest first: the whole state."""

    def __init__(self, budget: int, open_packs: int, max_items: int | None = None, target: int | None = None) -> None:
        if budget < 1 or open_packs < 1:
            raise UserError(f"packing needs a positive budget and number of open packs, got {budget} and {open_packs}")
        self.budget, self.open_packs, self.max_items, self.target = budget, open_packs, max_items, target
        self.open: list[Pack[T]] = []

    def add(self, item: T, tokens: int) -> Pack[T] | None:
        """Place an item; returns the pack that it filled, or that had to be closed for it, if any.

        Raises ``ValueError`` for an item of no tokens or beyond the budget.
        """
        if not 0 < tokens <= self.budget:
            raise UserError(f"a sample of {tokens:,} tokens does not fit into packs of {self.budget:,} tokens")
        pack, closed = next((pack for pack in self.open if self._has_room(pack, tokens)), None), None
        if pack is None:
            if self.target is not None and tokens >= self.target:
                return Pack([item], tokens)
            if len(self.open) == self.open_packs:
                closed = max(self.open, key=lambda pack: pack.tokens)
                self.open.remove(closed)
            pack = Pack()
            self.open.append(pack)
        pack.items.append(item)
        pack.tokens += tokens
        if self.target is not None and pack.tokens >= self.target:
            self.open.remove(pack)
            return pack
        return closed

    def _has_room(self, pack: Pack[T], tokens: int) -> bool:
        return pack.tokens + tokens <= self.budget and (self.max_items is None or len(pack.items) < self.max_items)

    def close_oldest(self) -> Pack[T] | None:
        """The oldest open pack, closed; for the end of the data."""
        return self.open.pop(0) if self.open else None
