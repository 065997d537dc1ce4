"""Lessons in reading: questions about a picture that is looked at, with their options.

A model that draws what it does not see still has to read what it drew. These questions teach that and nothing else: what they ask
is seen, so nothing has to be imagined, and none is a question of one of the three tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from datagen.balance import ordered
from datagen.language import spelled, with_article

WHICH, SIDE, NEARER = "Which is there?", "Is the {object} left or right?", "Which is nearer?"
OPTIONS = 4
SIDE_MARGIN = 0.1  # of the picture's width, off its centre line (ours)
NEARER_M = 0.5  # by which one thing is nearer than another, as in Perspective Taking
Lesson = dict[str, Any]


def lesson(
    layout: Sequence[Sequence[Any]], from_above: bool, nouns: Collection[str], rng: np.random.Generator
) -> Lesson | None:
    """One question of those that a picture allows: ``question``, ``choices`` and the right ``answer`` among them; None where
    it allows none.

    ``layout``: [noun, place across from the left in shares, distance in metres, or from the top where ``from_above``] of
    what is shown. ``nouns``: what other pictures show, from which wrong options are drawn.
    """
    named = Counter(str(noun) for noun, *_ in layout)
    single = {str(noun): (float(across), float(far)) for noun, across, far in layout if named[str(noun)] == 1}
    asks = (which(named, nouns, rng), side(single, rng), None if from_above else nearer(single, rng))
    found = [ask for ask in asks if ask is not None]
    return found[int(rng.integers(len(found)))] if found else None


def which(shown: Collection[str], nouns: Collection[str], rng: np.random.Generator) -> Lesson | None:
    """One thing that is shown among some that are not."""
    absent = sorted({*nouns} - {*shown})
    if not absent or not shown:
        return None
    right = sorted(shown)[int(rng.integers(len(shown)))]
    wrong = [absent[place] for place in rng.permutation(len(absent))[: OPTIONS - 1]]
    return asked(WHICH, with_article(right), [with_article(noun) for noun in wrong], rng)


def side(single: Mapping[str, tuple[float, float]], rng: np.random.Generator) -> Lesson | None:
    """On which side something is."""
    clear = sorted(noun for noun, (across, _) in single.items() if abs(across - 0.5) >= SIDE_MARGIN)
    if not clear:
        return None
    noun = clear[int(rng.integers(len(clear)))]
    right, wrong = ("Left", "Right") if single[noun][0] < 0.5 else ("Right", "Left")
    return asked(SIDE.format(object=spelled(noun)), right, [wrong], rng)


def nearer(single: Mapping[str, tuple[float, float]], rng: np.random.Generator) -> Lesson | None:
    """Which of two things is nearer."""
    pairs = [(a, b) for a in sorted(single) for b in sorted(single) if single[b][1] - single[a][1] >= NEARER_M]
    if not pairs:
        return None
    near, far = pairs[int(rng.integers(len(pairs)))]
    return asked(NEARER, with_article(near), [with_article(far)], rng)


def asked(question: str, right: str, wrong: Sequence[str], rng: np.random.Generator) -> Lesson:
    """A question with its options in random order."""
    choices = ordered(right, wrong, int(rng.integers(len(wrong) + 1)), rng)
    return {"question": question, "choices": list(choices), "answer": right}
