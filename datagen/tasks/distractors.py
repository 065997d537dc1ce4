"""Wrong options that cannot be told from right ones by what they are, alone or together.

If distractors are drawn from the distribution of the right answers, then among four options each is right one time in
four, whatever its noun. A noun can be a distractor only where it is not in view, which is rarer for curtains than for
bathtubs; so nouns get weights under which each is expected as a distractor three times as often as it is the answer.

Pairs tell, too: what stands beside the answer is in view and never a distractor, so two options that always stand side
by side would both be wrong. Distractors therefore keep the company with each other that the answer keeps with them:
the chance of a set is a product over all its pairs, the same whichever of its nouns is asked for.

The weights follow from how often each noun *could* be asked for, not from which was drawn, and the draws are
independent: balancing what was drawn would leave the opposite trace, a noun that was often right in one half of the
questions being rarely right in the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.tasks.vocabulary import shares_head
from ipt.common.errors import UserError

Floats = NDArray[np.float64]

ROUNDS = 60
UNUSED_WEIGHT = 1e-3  # for nouns that are never the answer: taken only where nothing else is left
MAX_WEIGHT = 1e3
PREFER_OPPOSITE = 4.0
PRIOR_QUESTIONS = 4.0  # imagined questions with the common preference: steadies pairs that were rarely met


@dataclass(frozen=True, slots=True)
class QuestionNouns:
    """One question: its answer; how likely the scene was to have each noun asked for (adds up to 1); nouns in view
    (which cannot be distractors), of the opposite side, and of the scene.
    """

    answer: str
    chances: Mapping[str, float]
    in_view: frozenset[str]
    opposite: frozenset[str]
    in_scene: frozenset[str]


def draw_distractors(
    asked: Sequence[QuestionNouns],
    history: Sequence[QuestionNouns],
    kept: Mapping[str, float],
    count: int,
    rng: np.random.Generator,
) -> list[list[str]]:
    """``count`` distractors for each question of ``asked``; ``history`` (earlier questions) helps to fit the weights.

    ``kept`` is the share of the tries with a noun that became questions (1 where absent): what the filters do to it.
    Nouns of the opposite side are preferred. ``ValueError`` where the vocabulary is too small for a question.
    """
    everything = [*history, *asked]
    nouns = sorted({noun for one in everything for noun in (one.answer, *one.chances, *one.in_scene)})
    allowed = np.array([[preference(one, noun) for noun in nouns] for one in everything])
    for one, row in zip(asked, allowed[len(history) :], strict=True):
        if np.count_nonzero(row) < count:
            raise UserError(
                f"only {np.count_nonzero(row)} nouns can be distractors for '{one.answer}', {count} are needed: "
                f"ask for more samples or use scenes with more kinds of objects"
            )
    share = np.array([kept.get(noun, 1.0) * sum(one.chances.get(noun, 0.0) for one in everything) for noun in nouns])
    share *= len(everything) / max(share.sum(), 1e-12)
    company = companions(allowed, [nouns.index(one.answer) for one in everything])
    weights = fitted_weights(allowed, company, share, count, rng)
    picks = draw(allowed[len(history) :] * weights, company, count, rng)
    return [[nouns[index] for index in row] for row in picks]


def preference(one: QuestionNouns, noun: str) -> float:
    """How welcome a noun is as a distractor: 0 where something in view may be taken for it."""
    if any(shares_head(thing, noun) for thing in (one.answer, *one.in_view)):
        return 0.0
    return PREFER_OPPOSITE if noun in one.opposite else 1.0


def companions(allowed: Floats, answers: Sequence[int]) -> Floats:
    """How welcome two nouns are together, (v, v), symmetric: the mean preference for one where the other is asked for.

    ``allowed`` (n, v) holds each question's preferences, ``answers`` (n,) the index of its answer.
    """
    size = allowed.shape[1]
    total, met = np.zeros((size, size)), np.zeros((size, 1))
    np.add.at(total, np.asarray(answers), allowed)
    np.add.at(met, np.asarray(answers), 1.0)
    common = allowed.mean(axis=0, keepdims=True)
    mean = (total + total.T + PRIOR_QUESTIONS * np.sqrt(common * common.T)) / (met + met.T + PRIOR_QUESTIONS)
    return np.maximum(mean, 1e-6)


def draw(odds: Floats, company: Floats, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """``count`` different items per row of ``odds`` (n, v), each draw weighted by its company with the earlier ones."""
    with np.errstate(divide="ignore"):
        logits, friends = np.log(odds), np.log(company)
    picks = np.empty((len(odds), count), dtype=np.intp)
    for place in range(count):
        picks[:, place] = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
        logits = logits + friends[picks[:, place]]
        logits[np.arange(len(odds)), picks[:, place]] = -np.inf
    return picks


def fitted_weights(allowed: Floats, company: Floats, share: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Weights (v,) under which the number of draws of each noun is about ``count * share`` (stochastic scaling).

    ``share`` (v,) is how often each noun is expected to be the answer.
    """
    used = share > 0
    logs = np.log(np.maximum(share / max(share.max(), 1e-12), UNUSED_WEIGHT))
    total, averaged = np.zeros_like(logs), 0
    for step in range(ROUNDS):
        drawn = np.bincount(draw(allowed * np.exp(logs), company, count, rng).ravel(), minlength=len(logs))
        update = np.log((count * share + 1) / (drawn + 1)) / (1 + step / 10)
        logs = np.where(used, np.clip(logs + 0.7 * update, np.log(UNUSED_WEIGHT), np.log(MAX_WEIGHT)), logs)
        if step >= ROUNDS // 2:
            total, averaged = total + logs, averaged + 1
    return np.exp(total / averaged)
