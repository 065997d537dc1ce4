"""What can be done to texts. The first word repeated and words in random order as in Ablate-to-Validate (arXiv 2605.21642)."""

from __future__ import annotations

import re

from ipt.common.endpoint import RefusedRequest
from ipt.common.seeding import generator
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


REWRITES = (
    "You edit descriptions for an experiment on whether answers follow them. You get a question with options, a description that "
    "was written before the question was answered, and the option that your version must lead to. Rewrite the description so "
    "that whoever relies on it chooses that option. Keep its style and about its length, change no more than you must, and "
    "mention neither the options nor that anything was changed. Reply with the description alone."
)


def planted(name: str, count: int, right: int) -> int:
    """A wrong one of ``count`` options, drawn by the id of the question."""
    return (right + 1 + int(generator(0, "rewrite", name).integers(count - 1))) % count


def planted_answer(prediction: Prediction, others: Others) -> int:
    return planted(prediction.sample_id, len(prediction.choices), prediction.expected)


@register("text", "rewrite", "direct", target=planted_answer)
def rewritten(case: Case) -> Mediator | None:
    """Rewritten by another model so that it leads to a wrong answer (CapImagine, arXiv 2602.22766); None where that refuses."""
    sample, words = case.sample, case.parts[1]
    wanted = sample.choices[planted(sample.id, len(sample.choices), sample.answer_index)]
    options = "; ".join(sample.choices)
    asked = f"Question: {sample.question}\nOptions: {options}\nDescription: {words}\nIt must lead to: {wanted}"
    try:
        reply = case.others.reply(REWRITES, asked).strip()
    except RefusedRequest:
        return None
    return case.said(reply) if reply else None
