"""First-fit packing: samples into sequences of at most a budget of tokens, deterministically and with little state.

A few packs stay open. A sample goes into the first open pack that it fits into; where it fits into none, the fullest pack is
closed once there are as many as allowed, and the sample opens another. What a pack holds so depends only on the lengths and the
order of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ipt.common.errors import UserError

T = TypeVar("T")


@dataclass
class Pack(Generic[T]):
    """Items that share one sequence, in order of arrival, and the tokens they take together."""

    items: list[T] = field(default_factory=list)
    tokens: int = 0


class FirstFit(Generic[T]):
    """At most ``open_packs`` packs of at most ``budget`` tokens and ``max_items`` items. ``open`` lists them, oldest first: the
    whole state."""

    def __init__(self, budget: int, open_packs: int, max_items: int | None = None) -> None:
        if budget < 1 or open_packs < 1:
            raise UserError(f"packing needs a positive budget and number of open packs, got {budget} and {open_packs}")
        self.budget, self.open_packs, self.max_items = budget, open_packs, max_items
        self.open: list[Pack[T]] = []

    def add(self, item: T, tokens: int) -> Pack[T] | None:
        """Place an item; returns the pack that had to be closed for it, if any.

        Raises ``ValueError`` for an item of no tokens or beyond the budget.
        """
        if not 0 < tokens <= self.budget:
            raise UserError(f"a sample of {tokens:,} tokens does not fit into packs of {self.budget:,} tokens")
        closed = None
        pack = next((pack for pack in self.open if self._has_room(pack, tokens)), None)
        if pack is None:
            if len(self.open) == self.open_packs:
                closed = max(self.open, key=lambda pack: pack.tokens)
                self.open.remove(closed)
            pack = Pack()
            self.open.append(pack)
        pack.items.append(item)
        pack.tokens += tokens
        return closed

    def _has_room(self, pack: Pack[T], tokens: int) -> bool:
        return pack.tokens + tokens <= self.budget and (self.max_items is None or len(pack.items) < self.max_items)

    def close_oldest(self) -> Pack[T] | None:
        """The oldest open pack, closed; for the end of the data."""
        return self.open.pop(0) if self.open else None
