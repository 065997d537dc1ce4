"""What the published evaluation code draws while it loads its data: which rows, and the wrong options of counting questions.

Draws are those of Python's ``random`` module under the published seed, because they must give the published questions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

SEED = 42
MOST = 8


def drawn(rows: int, count: int) -> list[int]:
    """The numbers of the ``count`` rows drawn from ``rows``, in the order of the draw."""
    return random.Random(SEED).sample(range(rows), min(count, rows))


def drawn_by_stratum(strata: Sequence[str], count: int) -> list[int]:
    """``count`` rows, from each stratum in proportion to its size (rounded down), the rest from all that are left."""
    rng = random.Random(SEED)
    rows: dict[str, list[int]] = {name: [] for name in strata}
    for row, name in enumerate(strata):
        rows[name].append(row)
    chosen: list[int] = []
    for members in rows.values():
        chosen += rng.sample(members, min(len(members), max(1, int(len(members) / len(strata) * count))))
    taken = set(chosen)
    left = [row for members in rows.values() for row in members if row not in taken]
    if len(chosen) < count and left:
        chosen += rng.sample(left, min(count - len(chosen), len(left)))
    return chosen[:count]


def count_options(count: int, row: int) -> tuple[str, ...]:
    """Four options for a question whose answer is ``count``: it and three numbers within 3 of it, from 1 to 8, shuffled."""
    rng = random.Random(SEED + row)
    near = [other for other in range(max(1, count - 3), min(MOST, count + 3) + 1) if other != count]
    if len(near) < 3:
        near = [other for other in range(1, MOST + 1) if other != count]
    options = [*rng.sample(near, 3), count]
    rng.shuffle(options)
    return tuple(map(str, options))
