"""Dealing letters, templates and quotas evenly, from explicit generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Deck(Generic[T]):
    """Deals items in shuffled rounds: after any number of deals their counts differ by at most one."""

    def __init__(self, items: Sequence[T], rng: np.random.Generator) -> None:
        self._items = list(items)
        self._rng = rng
        self._round: list[T] = []

    def deal(self) -> T:
        if not self._round:
            self._round = [self._items[index] for index in self._rng.permutation(len(self._items))]
        return self._round.pop()


def quotas(count: int, names: Sequence[str], rng: np.random.Generator) -> dict[str, int]:
    """``count`` split over ``names`` as evenly as possible; who gets the remainder is drawn."""
    share, rest = divmod(count, len(names))
    lucky = set(rng.permutation(len(names))[:rest].tolist())
    return {name: share + (index in lucky) for index, name in enumerate(names)}


def ordered(right: str, wrong: Sequence[str], position: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Options with the right one at ``position`` and the others shuffled around it."""
    others = [wrong[index] for index in rng.permutation(len(wrong))]
    return (*others[:position], right, *others[position:])
