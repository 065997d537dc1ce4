"""Rows of a KV cache for contexts that come and go: handed out, shared by snapshots, copied only when two of them go on.

A `Lease` is a row of the storage; it is free again when no context holds it. Appending through `Rows.writable` goes in place
where a context is the only one to go on, and to a copy of its row where the row has grown since, or stands there twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ipt.model.cache import Context, KVCache
from ipt.model.config import DecoderConfig

STEP = 128


class Lease:
    """A row in use, for as long as this object lives."""

    __slots__ = ("_free", "row")

    def __init__(self, row: int, free: list[int]) -> None:
        self.row, self._free = row, free

    def __del__(self) -> None:
        heapq.heappush(self._free, self.row)


@dataclass(frozen=True)
class Held:
    """A context of the cache and the leases of its rows."""

    context: Context
    leases: tuple[Lease, ...]

    def __len__(self) -> int:
        return len(self.leases)

    def __getitem__(self, which: Sequence[int]) -> Held:
        """The chosen rows; a row may be chosen several times."""
        return Held(self.context[which], tuple(self.leases[i] for i in which))

    def updated(self, which: Sequence[int], part: Held) -> Held:
        """With the rows ``which`` replaced by those of ``part``."""
        leases = list(self.leases)
        for i, lease in zip(which, part.leases, strict=True):
            leases[i] = lease
        return Held(self.context.updated(which, part.context), tuple(leases))


class Rows:
    """The cache of a session. It grows as needed: by rows, and by `STEP` tokens and half of what there is."""

    def __init__(self, config: DecoderConfig, like: Tensor) -> None:
        self.cache = KVCache(config, 0, 0, like)
        self._free: list[int] = []

    def empty(self, count: int) -> Held:
        """``count`` empty contexts."""
        leases = self._take(count)
        return Held(self.cache.empty([lease.row for lease in leases]), leases)

    def _take(self, count: int) -> tuple[Lease, ...]:
        if (missing := count - len(self._free)) > 0:
            old = len(self.cache.used)
            self.cache.grow(old + missing, self.cache.capacity)
            for row in range(old, old + missing):
                heapq.heappush(self._free, row)
        return tuple(Lease(heapq.heappop(self._free), self._free) for _ in range(count))

    def writable(self, held: Held, lengths: Sequence[int]) -> Held:
        """The same contexts in rows to which ``lengths[i]`` tokens can be appended."""
        context = held.context
        longest = max(old + new for old, new in zip(context.lengths, lengths, strict=True))
        if longest > self.cache.capacity:
            self.cache.grow(len(self.cache.used), max(longest + STEP, self.cache.capacity * 3 // 2))
        seen: set[int] = set()
        copied = []
        for i, (row, length) in enumerate(zip(context.rows, context.lengths, strict=True)):
            if row in seen or self.cache.used[row] != length:
                copied.append(i)
            seen.add(row)
        if not copied:
            return held
        leases = self._take(len(copied))
        fork = self.cache.fork(context[copied], [lease.row for lease in leases])
        return held.updated(copied, Held(fork, leases))
