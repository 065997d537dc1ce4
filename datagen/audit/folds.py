"""Cross-validation folds of whole scenes that are fair to balanced sets.

Where a generator holds answers exactly even, random folds make every prior look *worse* than chance: the answer that is
over-represented in a fold is under-represented in the rest, on which the model was fitted (measured on 2,000 made-up
questions: -2.2 points). Where answers are independent draws, folds stratified by answer make it look *better* than
chance, because they spread the sample's accidents evenly (+1.0 to +1.5 points). So folds are random unless the answers
are more even than independent draws would be, and only then are they evened out.

Within one set that a generator fills without replacement (a count that was asked is not asked again until others were) even
that leaves a trace: the rest of the set tells what is due, to a model that could see it. Two splits are filled apart. Where a
dataset has several, the question is the user's: what a model fitted on ``train`` guesses in ``val``, and one fitted on both in
``test``. No pair of samples counts in both directions then, as it does in cross-validation, whose intervals are too narrow
for that (of made-up fair sets of 1,000 questions they miss chance in 15 to 20%).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.audit.items import Item
from ipt.common.errors import UserError
from ipt.samples.sample import SPLITS

FOLDS = 5
NULL_DRAWS = 200
SWAPS_PER_SCENE = 100
KINDS = ("text", "letter", "rank")

Floats = NDArray[np.float64]


def validations(items: Sequence[Item], rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
    """Rows to fit on and rows to answer: each split after all earlier ones, or five folds of a single split."""
    split = np.array([SPLITS.index(item.split) for item in items])
    if len(present := np.unique(split)) > 1:
        masks = [(split < later, split == later) for later in present[1:]]
    else:
        fold = assign_folds(items, rng)
        masks = [(fold != held_out, fold == held_out) for held_out in range(FOLDS)]
    return [(np.flatnonzero(fitted).tolist(), np.flatnonzero(answered).tolist()) for fitted, answered in masks]


def assign_folds(items: Sequence[Item], rng: np.random.Generator) -> NDArray[np.intp]:
    """The fold (0 to 4) of each item, (n,); scenes stay together and folds are about equally large."""
    scenes, members = np.unique([item.scene for item in items], return_inverse=True)
    if len(scenes) < FOLDS:
        raise UserError(f"blind baselines need at least {FOLDS} scenes to hold some out, got {len(scenes)}")
    sizes = np.bincount(members)
    order = rng.permutation(len(scenes))
    fold = np.empty(len(scenes), dtype=np.intp)
    load = np.zeros(FOLDS)
    for scene in order:
        fold[scene] = np.argmin(load)
        load[fold[scene]] += sizes[scene]
    surplus = [sizes[:, None] / sizes.mean()]
    for margins in (Margins(items, kind) for kind in KINDS):
        if margins.more_even_than_chance(rng):
            by_scene = np.zeros((len(scenes), margins.expected.shape[1]))
            np.add.at(by_scene, members, margins.surplus(margins.answers))
            surplus.append(by_scene)
    if len(surplus) > 1:
        even_out(np.hstack(surplus), fold, rng)
    return fold[members]


class Margins:
    """One kind of thing that generators hold even: an option's ``text``, its ``letter``, or its ``rank`` among numbers.

    ``indicators`` (n, choices, margins) says which margins an option belongs to, ``expected`` (n, margins) what a guess
    would add to each, ``deviation`` (margins,) the standard deviation of such guesses over the whole set.
    """

    def __init__(self, items: Sequence[Item], kind: str) -> None:
        names: dict[str, int] = {}
        cells = []
        for row, item in enumerate(items):
            ranks = number_ranks(item.choices)
            for option, choice in enumerate(item.choices):
                held = {"text": choice, "letter": str(option), "rank": ranks and str(ranks[option])}[kind]
                if held:
                    name = held if kind == "text" else f"{held} of {len(item.choices)}"
                    cells.append((row, option, names.setdefault(name, len(names))))
        self.counts = np.array([len(item.choices) for item in items])
        self.answers = np.array([item.answer for item in items])
        self.indicators = np.zeros((len(items), self.counts.max(), len(names)))
        if cells:
            self.indicators[tuple(np.transpose(cells))] = 1
        self.expected = self.indicators.sum(axis=1) / self.counts[:, None]
        self.deviation = np.sqrt((self.expected * (1 - 1 / self.counts[:, None])).sum(axis=0))

    def surplus(self, answers: NDArray[np.intp]) -> Floats:
        """For each item, margins of its answer minus what a guess would give, in standard deviations, (n, margins)."""
        chosen = self.indicators[np.arange(len(answers)), answers]
        return (chosen - self.expected) / self.deviation

    def more_even_than_chance(self, rng: np.random.Generator) -> bool:
        """Whether the summed squared surplus is below the 10% quantile of answers drawn uniformly among the choices."""
        answers = [self.answers, *(rng.integers(0, self.counts) for _ in range(NULL_DRAWS))]
        found, *drawn = [np.square(self.surplus(guess).sum(axis=0)).sum() for guess in answers]
        return bool(found < np.quantile(drawn, 0.1))


def number_ranks(choices: Sequence[str]) -> list[int] | None:
    """The rank of each choice by value, or None where not all are whole numbers."""
    if not all(choice.isdigit() for choice in choices):
        return None
    ordered = sorted(int(choice) for choice in choices)
    return [ordered.index(int(choice)) for choice in choices]


def even_out(surplus: Floats, fold: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Swap scenes between folds, in place, while that lowers the summed squared surplus (scenes, margins) of the folds."""
    totals = np.zeros((FOLDS, surplus.shape[1]))
    np.add.at(totals, fold, surplus)
    for first, second in rng.integers(0, len(fold), (SWAPS_PER_SCENE * len(fold), 2)):
        here, there = fold[first], fold[second]
        change = surplus[second] - surplus[first]
        if here != there and change @ (totals[here] - totals[there] + change) < 0:
            totals[here] += change
            totals[there] -= change
            fold[first], fold[second] = there, here
