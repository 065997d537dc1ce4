"""Wrong options that cannot be told from right ones by what they are.

If distractors are drawn from the distribution of the right answers, then among four options each is right one time in
four, whatever its noun. A noun can be a distractor only where it is not in view, which is rarer for curtains than for
bathtubs; so nouns get weights under which each is expected as a distractor three times as often as it is the answer.
The weights follow from how often each noun *could* be asked for, not from which was drawn, and the draws are
independent: balancing what was drawn would leave the opposite trace, a noun that was often right in one half of the
questions being rarely right in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 60
UNUSED_WEIGHT = 1e-3  # for nouns that are never the answer: taken only where nothing else is left
MAX_WEIGHT = 1e3
PREFER_OPPOSITE = 4.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: its answer; how likely the scene was to have each noun asked for (adds up to 1); nouns in view
    (which cannot be distractors), of the opposite side, and of the scene.
    """

    answer: str
    chances: Mapping[str, float]
    in_view: frozenset[str]
    opposite: frozenset[str]
    in_scene: frozenset[str]


def draw_distractors(
    asked: Sequence[Asked],
    history: Sequence[Asked],
    kept: Mapping[str, float],
    count: int,
    rng: np.random.Generator,
) -> list[list[str]]:
    """``count`` distractors for each question of ``asked``; ``history`` (earlier questions) helps to fit the weights.

    ``kept`` is the share of the tries with a noun that became questions (1 where absent): what the filters do to it.
    Nouns of the opposite side are preferred. ``ValueError`` where the vocabulary is too small for a question.
    """
    everything = [*history, *asked]
    nouns = sorted({noun for one in everything for noun in (*one.chances, *one.in_scene)})
    allowed = np.array([[preference(one, noun) for noun in nouns] for one in everything])
    share = np.array([kept.get(noun, 1.0) * sum(one.chances.get(noun, 0.0) for one in everything) for noun in nouns])
    share *= len(everything) / max(share.sum(), 1e-12)
    weights = fitted_weights(allowed, share, count)
    chosen = []
    for one, row in zip(asked, allowed[len(history) :], strict=True):
        odds = row * weights
        if np.count_nonzero(odds) < count:
            raise ValueError(
                f"only {np.count_nonzero(odds)} nouns can be distractors for '{one.answer}', {count} are needed: "
                f"ask for more samples or use scenes with more kinds of objects"
            )
        picks = rng.choice(len(nouns), size=count, replace=False, p=odds / odds.sum())
        chosen.append([nouns[index] for index in picks])
    return chosen


def preference(one: Asked, noun: str) -> float:
    """How welcome a noun is as a distractor: 0 where it is in view."""
    if noun == one.answer or noun in one.in_view:
        return 0.0
    return PREFER_OPPOSITE if noun in one.opposite else 1.0


def fitted_weights(allowed: NDArray[np.float64], share: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Weights (v,) under which the expected number of draws of each noun is ``count * share`` (iterative scaling).

    ``allowed`` (n, v) holds each question's preferences, ``share`` (v,) how often each noun is the answer.
    """
    weights = np.maximum(share, UNUSED_WEIGHT)
    used = share > 0
    for _ in range(ROUNDS):
        odds = allowed * weights
        total = np.maximum(odds.sum(axis=1, keepdims=True), 1e-12)
        expected = inclusion(odds / total, count).sum(axis=0)
        scale = np.where(used & (expected > 0), count * share / np.maximum(expected, 1e-12), 1.0)
        weights = np.clip(weights * scale, UNUSED_WEIGHT, None)
        weights = np.minimum(weights / weights[used].mean(), MAX_WEIGHT) if used.any() else weights
    return weights


def inclusion(probability: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Chance that each item is among ``count`` draws without replacement, approximated by 1 - exp(-rate p).

    The rate of each row makes its chances add up to ``count`` (exponential-clock view of successive sampling).
    """
    rate = np.full((len(probability), 1), float(count))
    for _ in range(12):
        chance = 1 - np.exp(-rate * probability)
        rate = rate * count / np.maximum(chance.sum(axis=1, keepdims=True), 1e-9)
    return 1 - np.exp(-rate * probability)
