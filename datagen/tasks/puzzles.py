"""What a Path Tracing question may ask in a scene, and what can stand beside the answer."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datagen.tasks.path_settings import OPTIONS
from datagen.tasks.paths import BINS, OnMap, Sight, Walk
from datagen.tasks.vocabulary import out_of_view

#: For each noun of a side that can be asked for: how many of the distractors may be nearer to M1 than it.
Askable = Callable[[Sight, Sight], Mapping[str, Collection[int]]]
ANY_NUMBER = frozenset(range(OPTIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Puzzle:
    """A side of a walk's midpoint, the noun asked for there, and nouns of the opposite side that this side lacks."""

    sight: Sight
    noun: str
    opposite: frozenset[str]


def everything_clear(sight: Sight, across: Sight) -> dict[str, Collection[int]]:
    """The nouns of a side that can be asked for where distractors come from anywhere."""
    return dict.fromkeys(sorted(sight.clear), ANY_NUMBER)


def with_distractors(min_opposite: int) -> Askable:
    """The nouns of a side that can be asked for with distractors of the map, at least ``min_opposite`` of them opposite."""

    def askable(sight: Sight, across: Sight) -> dict[str, Collection[int]]:
        nouns, wrong = sorted(sight.clear), out_of_view(sight.on_map, sight.any)
        found = {noun: numbers_nearer(noun, wrong, across.clear, sight.on_map, min_opposite) for noun in nouns}
        return {noun: numbers for noun, numbers in found.items() if numbers}

    return askable


def numbers_nearer(
    noun: str, wrong: Sequence[str], opposite: Collection[str], on_map: Mapping[str, OnMap], min_opposite: int
) -> list[int]:
    """How many of three distractors can be nearer to M1 than ``noun``, with ``min_opposite`` opposite."""
    if noun not in on_map:
        return []
    count: Counter[tuple[bool, bool]] = Counter(
        (on_map[other].from_m1_m < on_map[noun].from_m1_m, other in opposite) for other in wrong
    )
    return [
        nearer
        for nearer in range(OPTIONS)
        if nearer <= count[True, True] + count[True, False]
        and OPTIONS - 1 - nearer <= count[False, True] + count[False, False]
        and min(nearer, count[True, True]) + min(OPTIONS - 1 - nearer, count[False, True]) >= min_opposite
    ]


def draw_puzzles(
    walks: Sequence[Walk],
    look: Callable[[Walk], tuple[Sight, Sight]],
    full: Collection[str],
    rng: np.random.Generator,
    askable: Askable = everything_clear,
) -> Iterator[Puzzle]:
    """One puzzle per walk, distance bins by turns, but for bins that are ``full`` by then; nobody looks around on a walk before
    its turn."""
    mixed = shuffled(walks, rng)
    waiting = {name: deque(walk for walk in mixed if walk.bin == name) for name in shuffled(BINS, rng)}
    while any(waiting.values()):
        for name, queue in waiting.items():
            while queue and name not in full:
                puzzle = draw_puzzle(look(queue.popleft()), rng, askable)
                if puzzle is not None:
                    yield puzzle
                    break
            else:
                queue.clear()


def draw_puzzle(pair: tuple[Sight, Sight], rng: np.random.Generator, askable: Askable) -> Puzzle | None:
    """What to ask on a walk.

    How many distractors shall be nearer than the answer is drawn first: else most answers would be nearest of all, for what
    is far is hardly ever out of view on the other side. Then the side, then its noun.
    """
    sides = [(*both, askable(*both)) for both in (pair, pair[::-1])]
    for nearer in rng.permutation(OPTIONS).tolist():
        fitting = [
            (sight, across, nouns)
            for sight, across, numbers in sides
            if (nouns := [noun for noun, possible in numbers.items() if nearer in possible])
        ]
        if fitting:
            sight, across, nouns = fitting[int(rng.integers(len(fitting)))]
            noun = nouns[int(rng.integers(len(nouns)))]
            return Puzzle(sight, noun, frozenset(across.clear) - sight.any)
    return None


def ask_chances(pairs: Sequence[tuple[Sight, Sight]]) -> dict[str, float]:
    """How likely :func:`draw_puzzle` is to ask for each noun with these walks, wherever distractors come from; adds up to 1."""
    chances: Counter[str] = Counter()
    for pair in pairs:
        sides = [sorted(sight.clear) for sight in pair if sight.clear]
        for nouns in sides:
            chances.update(dict.fromkeys(nouns, 1 / len(nouns) / len(sides)))
    return {noun: round(chance / sum(chances.values()), 5) for noun, chance in sorted(chances.items())}


def shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[index] for index in rng.permutation(len(items))]
