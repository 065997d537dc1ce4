"""What can be done to texts. The first word repeated and words in random order as in Ablate-to-Validate (arXiv 2605.21642)."""

from __future__ import annotations

import re

from ipt.faithfulness.interventions.base import OPPOSITES, Case, Others, exchanged, opposite, register
from ipt.imagination.base import Mediator
from ipt.inference.prediction import Prediction


@register("text", "empty", "destroy")
def no_text(case: Case) -> Mediator:
    return case.said("")


@register("text", "shuffle", "destroy")
def shuffled_words(case: Case) -> Mediator:
    """The same words in random order."""
    words = case.parts[1].split()
    return case.said(" ".join(words[place] for place in case.rng.permutation(len(words))))


@register("text", "repeat", "destroy")
def repeated_word(case: Case) -> Mediator:
    """The first word as often as there are words (arXiv 2605.21642)."""
    words = case.parts[1].split()
    return case.said(" ".join(words[:1] * len(words)))


@register("text", "drop", "dose", "0.25", "0.5", "0.75", "0.9")
def dropped_words(case: Case, share: str) -> Mediator:
    words = case.parts[1].split()
    kept = sorted(case.rng.permutation(len(words))[round(float(share) * len(words)) :])
    return case.said(" ".join(words[place] for place in kept))


def all_opposites(prediction: Prediction, others: Others) -> int | None:
    return opposite(prediction, others, OPPOSITES)


@register("text", "mirror", "direct", target=all_opposites)
def contradicted(case: Case) -> Mediator | None:
    """Left says right, closer says further, and the other way round; None where it says neither."""
    words = case.parts[1]
    turned = exchanged(words, OPPOSITES)
    return None if turned == words else case.said(turned)


def next_number(prediction: Prediction, others: Others, step: str) -> int | None:
    right = prediction.choices[prediction.expected]
    wanted = str(int(right) + int(step)) if right.isdigit() else ""
    return prediction.choices.index(wanted) if wanted in prediction.choices else None


@register("text", "count", "direct", "+1", "-1", target=next_number)
def other_number(case: Case, step: str) -> Mediator | None:
    """The fact ``count`` of the sample replaced by its neighbour wherever the text says it in digits; None where it does
    not."""
    words, count = case.parts[1], case.sample.facts.get("count")
    turned = re.sub(rf"\b{count}\b", str(int(count) + int(step)), words) if isinstance(count, int) else words
    return None if turned == words else case.said(turned)
