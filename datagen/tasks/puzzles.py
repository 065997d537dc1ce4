"""What a Path Tracing question may ask in a scene, and four such puzzles any of which could be the one that is asked.

Options give nothing away if, whatever four nouns are offered, each was equally likely to be the answer. So a set of four
puzzles is chosen first, in which none of the nouns is in view of another puzzle's side, and in which all four have passed
every filter; then one is drawn to be asked, with the nouns of the others as its distractors. It does not matter how the
sets were chosen or what the filters prefer: given its options, each question is a fair draw of one in four.

The sets are a scene's own, and the draws independent. Options that are shared out among the questions of a dataset, so
that a noun is right exactly one time in four, give something away: a noun that was wrong too often in what a model has
seen has to be right more often in the rest (measured: 20 to 23% instead of 25%, which a model may turn around).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from datagen.tasks.paths import BINS, Sight, Walk

PREFER_OPPOSITE = 3.0  # how much more welcome a noun is in a set for each puzzle that has it on the opposite side


@dataclass(frozen=True, slots=True, eq=False)
class Puzzle:
    """A side of a walk's midpoint, the noun asked for there, and nouns of the opposite side that this side lacks."""

    sight: Sight
    noun: str
    opposite: frozenset[str]


class PuzzleSets:
    """Draws sets of ``size`` puzzles, none of whose sides shows the noun of another."""

    def __init__(self, puzzles: Sequence[Puzzle], size: int) -> None:
        self.puzzles, self._size = puzzles, size
        names = {noun for puzzle in puzzles for noun in puzzle.sight.any}
        self._number = {noun: number for number, noun in enumerate(sorted(names))}
        shows, faces = (np.zeros((len(puzzles), len(names)), dtype=bool) for _ in range(2))
        for row, puzzle in enumerate(puzzles):
            shows[row, [self._number[noun] for noun in puzzle.sight.any]] = True
            faces[row, [self._number[noun] for noun in puzzle.opposite]] = True
        self._nouns = np.array([self._number[puzzle.noun] for puzzle in puzzles], dtype=np.intp)
        clear = ~shows[:, self._nouns]
        self._apart = clear & clear.T
        self._weight = PREFER_OPPOSITE ** (faces[:, self._nouns].astype(float) + faces[:, self._nouns].T)

    def draw(self, find: Callable[[Puzzle], Collection[str] | None], rng: np.random.Generator) -> list[Puzzle] | None:
        """A set that passes, shuffled: the first is to be asked. None if none was found.

        ``find`` says for a puzzle which nouns its side view shows besides what is in view at M1, None where it has none; a
        set passes if all its puzzles have side views and none shows the noun of another.
        """
        while (chosen := self.candidate(rng)) is not None:
            for index in chosen:
                nouns = find(self.puzzles[index])
                if nouns is None:
                    self._apart[index] = self._apart[:, index] = False
                    break
                shown = np.isin(self._nouns, [self._number[noun] for noun in nouns if noun in self._number])
                self._apart[index, shown] = self._apart[shown, index] = False
            if all(self._apart[a, b] for a, b in combinations(chosen, 2)):
                return [self.puzzles[chosen[place]] for place in rng.permutation(self._size).tolist()]
        return None

    def drop(self, walk: Walk) -> None:
        """Use no puzzle of a walk any more."""
        theirs = [index for index, puzzle in enumerate(self.puzzles) if puzzle.sight.walk is walk]
        self._apart[theirs] = self._apart[:, theirs] = False

    def candidate(self, rng: np.random.Generator) -> list[int] | None:
        """Indices of a set that may pass, grown from a random puzzle, opposite sides preferred; None if none grew."""
        for first in rng.permutation(np.flatnonzero(self._apart.any(axis=1))).tolist():
            chosen, pool = [first], self._apart[first].copy()
            while len(chosen) < self._size and pool.any():
                odds = pool * self._weight[chosen].prod(axis=0)
                chosen.append(int(rng.choice(len(odds), p=odds / odds.sum())))
                pool &= self._apart[chosen[-1]]
            if len(chosen) == self._size:
                return chosen
        return None


def all_puzzles(pairs: Iterable[tuple[Sight, Sight]]) -> list[Puzzle]:
    """Everything that could be asked on these walks."""
    return [
        Puzzle(sight, noun, frozenset(across.clear) - sight.any)
        for pair in pairs
        for sight, across in (pair, pair[::-1])
        for noun in sorted(sight.clear)
    ]


def draw_puzzles(pairs: Sequence[tuple[Sight, Sight]], rng: np.random.Generator) -> list[Puzzle]:
    """One puzzle per walk in the order to try them, distance bins by turns; its noun is drawn from what is clear."""
    by_bin: dict[str, list[Puzzle]] = {name: [] for name in BINS}
    for pair in shuffled(pairs, rng):
        sides = [(one, other) for one, other in (pair, pair[::-1]) if one.clear]
        if not sides:
            continue
        sight, across = sides[int(rng.integers(len(sides)))]
        nouns = sorted(sight.clear)
        noun = nouns[int(rng.integers(len(nouns)))]
        by_bin[sight.walk.bin].append(Puzzle(sight, noun, frozenset(across.clear) - sight.any))
    rounds = zip_longest(*(by_bin[name] for name in shuffled(BINS, rng)))
    return [puzzle for round_ in rounds for puzzle in round_ if puzzle is not None]


def ask_chances(pairs: Sequence[tuple[Sight, Sight]]) -> dict[str, float]:
    """How likely :func:`draw_puzzles` is to ask for each noun with these walks; adds up to 1."""
    chances: Counter[str] = Counter()
    for pair in pairs:
        sides = [sorted(sight.clear) for sight in pair if sight.clear]
        for nouns in sides:
            chances.update(dict.fromkeys(nouns, 1 / len(nouns) / len(sides)))
    return {noun: round(chance / sum(chances.values()), 5) for noun, chance in sorted(chances.items())}


def shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[index] for index in rng.permutation(len(items))]
