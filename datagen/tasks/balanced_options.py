"""Options that do not give the answer away: not by what they are, not by where they stand on the map.

Nothing is to be gained from features of the options (which nouns they are and beside which others; who of them is nearest
to M1, nearest to the path, largest, most frequent) if a logistic regression on these features does no better than chance.
Its gradient at chance is the sum over questions and options of ``feature * (is the answer - 1/4)``. So of the questions
that a view allows, each an answer that it shows and a set of distractors, one is drawn, with weights under which the
expected sum is zero for every feature, and which are as even as that allows: weights ``exp(theta . g)``, where ``g`` is what
a question adds to the sums. They are fitted by minimising the convex dual, the mean over views of ``log sum exp(theta . g)``.
A view for which nothing fits, because its nouns are hardly ever out of view or its objects are always the nearest, tends to
the weight of asking nothing: it is refused. Cost: 2 CPU-s per 512 questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

Floats = NDArray[np.float64]
Feature = tuple[str, *tuple[str | int, ...]]  # its kind, and which one of the kind
MEASURES = ("from_m1_m", "from_path_m", "size_m2", "count")  # of a noun on the map, see `datagen.tasks.paths.OnMap`

MAX_SETS = 96  # of the questions of one view that are weighed against each other (ours)
REFUSE = 1e-5  # how welcome it is to ask nothing, against all questions of a view together (ours)
#: One over the variance that is expected of a feature's weight (ours). What stands on the opposite side is seen together, so that
#: it is seldom right together: a guesser that learns which nouns go together was right in 26.2 (+- 1.0) % of the questions of 876
#: homes with these, and 37 % of the views were refused; in 28.7 % with 1.0 for pairs, and 42 % refused, REFUSE being 0.05; in
#: 32.1 % where each view had one answer, and 50 % refused.
RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class OptionPool:
    """The nouns that can stand beside an answer: at least ``min_opposite`` of a set are ``opposite``, the others may be
    ``elsewhere``. ``on_map``: the measures (see ``MEASURES``) of each of these nouns and of the answer."""

    answer: str
    opposite: tuple[str, ...]
    elsewhere: tuple[str, ...]
    on_map: Mapping[str, Sequence[float]]
    min_opposite: int

    def sets(self, count: int) -> list[tuple[str, ...]]:
        """Every set of ``count`` distractors."""
        return [
            (*beside, *others)
            for near in range(self.min_opposite, count + 1)
            for beside in combinations(self.opposite, near)
            for others in combinations(self.elsewhere, count - near)
        ]


@dataclass(frozen=True, slots=True)
class Choice:
    """A question: the pool of its answer, and the distractors."""

    pool: OptionPool
    wrong: tuple[str, ...]


@dataclass
class SetBalancer:
    """Draws what to ask of views, and with which distractors, block by block; earlier blocks help to fit the weights."""

    count: int
    history_blocks: int = 4
    _numbers: dict[Feature, int] = field(default_factory=dict)
    _history: list[tuple[csr_array, Floats, NDArray[np.intp]]] = field(default_factory=list)

    def draw(self, views: Sequence[Sequence[OptionPool]], rng: np.random.Generator) -> list[Choice | None]:
        """One of the answers of each view and ``count`` distractors, None where nothing is better asked."""
        choices = [self._some(pools, rng) for pools in views]
        block = self._rows(choices)
        self._history = [*self._history, block][-self.history_blocks :]
        theta = self._fitted()
        matrix, base, starts = block
        logits = base + matrix @ np.pad(theta, (0, matrix.shape[1] - len(theta)))
        logits += rng.gumbel(size=len(logits))
        ends = [*starts[1:], len(logits)]
        picks = [int(np.argmax(logits[start:end])) for start, end in zip(starts, ends, strict=True)]
        return [own[pick] if pick < len(own) else None for own, pick in zip(choices, picks, strict=True)]

    def _some(self, pools: Sequence[OptionPool], rng: np.random.Generator) -> list[Choice]:
        found = [Choice(pool, wrong) for pool in pools for wrong in pool.sets(self.count)]
        return [found[index] for index in rng.permutation(len(found))[:MAX_SETS]]

    def _rows(self, choices: Sequence[Sequence[Choice]]) -> tuple[csr_array, Floats, NDArray[np.intp]]:
        """What each choice adds to the sums, (rows, features); its weight before fitting, as a logarithm, (rows,); and the
        first row of each view. The last row of a view is that of asking nothing."""
        values, columns, ends, base, starts = list[float](), list[int](), [0], list[float](), list[int]()
        for own in choices:
            starts.append(len(base))
            for choice in own:
                for feature, value in gradient(choice.pool, choice.wrong).items():
                    columns.append(self._numbers.setdefault(feature, len(self._numbers)))
                    values.append(value)
                ends.append(len(columns))
                base.append(0.0)
            ends.append(len(columns))
            base.append(float(np.log(REFUSE * max(len(own), 1))))
        shape = (len(base), len(self._numbers))
        return csr_array((values, columns, ends), shape=shape), np.array(base), np.array(starts)

    def _fitted(self) -> Floats:
        """The weights of all features, (features,)."""
        from scipy.optimize import minimize  # it takes half a second

        size = len(self._numbers)
        for matrix, _, _ in self._history:
            matrix.resize((matrix.shape[0], size))
        matrix = vstack([rows for rows, _, _ in self._history]).tocsr()
        base = np.concatenate([one for _, one, _ in self._history])
        offsets = np.cumsum([0, *(len(one) for _, one, _ in self._history)])
        starts = np.concatenate([one + offset for (_, _, one), offset in zip(self._history, offsets[:-1], strict=True)])
        lengths = np.diff([*starts, len(base)])

        def dual(theta: Floats) -> tuple[float, Floats]:
            logits = base + matrix @ theta
            top = np.maximum.reduceat(logits, starts)
            odds = np.exp(logits - np.repeat(top, lengths))
            total = np.add.reduceat(odds, starts)
            slope = matrix.T @ (odds / np.repeat(total, lengths)) + RIDGE * theta
            return float((np.log(total) + top).sum() + RIDGE * (theta @ theta) / 2), slope

        found: Floats = minimize(dual, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
        return found


def gradient(pool: OptionPool, wrong: Sequence[str]) -> dict[Feature, float]:
    """``feature * (is the answer - 1 / options)``, summed over the options of one question."""
    options = (pool.answer, *wrong)
    share = 1 / len(options)
    sums: dict[Feature, float] = {}
    for option in options:
        surplus = (option == pool.answer) - share
        sums["noun", option] = surplus
        for other in options:
            if other != option:
                sums["beside", option, other] = surplus
    for number, measure in enumerate(MEASURES):
        for place, ranks in enumerate(shared_ranks([pool.on_map[option][number] for option in options])):
            surplus = (place == 0) - share
            for rank, part in enumerate(ranks):
                if part:
                    sums[measure, rank] = sums.get((measure, rank), 0.0) + part * surplus
    return sums


def shared_ranks(values: Sequence[float]) -> Floats:
    """How much of each rank, from the smallest value, belongs to each value, (n, n): equal values share theirs."""
    ordered = np.array(values)
    below = (ordered[None] < ordered[:, None]).sum(axis=1)
    equal = (ordered[None] == ordered[:, None]).sum(axis=1)
    ranks = np.arange(len(ordered))
    return ((ranks >= below[:, None]) & (ranks < (below + equal)[:, None])) / equal[:, None]
