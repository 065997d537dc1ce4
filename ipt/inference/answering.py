"""From contexts that wait for an answer to predictions: the text that the model writes, the probabilities of the options, votes.

The probability of an option is that of its answer text (``<answer>B``, what all options end in left out) as what the model
writes next, normalised over the options. Where the model ended its text itself, an answer of its own would follow it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ipt.inference.plans import STOP, Mediated
from ipt.inference.settings import ModeSettings
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END, IMAGE_END, IMAGE_START
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.spans import Role


@dataclass(frozen=True)
class Outcome:
    """What one row came to. ``text``: what the answer was read from, empty where it was read from the options; ``written``: the
    texts before it."""

    answer: int | None
    probabilities: tuple[float, ...]
    text: str
    written: tuple[str, ...]
    images: tuple[SampleImage, ...]
    text_tokens: int

    def opened_image(self, own: bool) -> bool:
        """Whether the model announced an image. ``own``: what stands before the answer is the model's own, not given to it."""
        texts = (*self.written, self.text) if own else (self.text.removeprefix("".join(self.written)),)
        return any(IMAGE_START in text for text in texts)


def read_answers(
    mediated: Mediated, samples: Sequence[SpatialSample], settings: ModeSettings, generator: torch.Generator
) -> list[Outcome]:
    """The outcome of every row; ``samples[i]`` is the question of row i."""
    context = mediated.context
    probabilities: list[tuple[float, ...]] = [()] * len(context)
    if settings.reads_options:
        options = _options(mediated, samples)
        scores = context.score_options(options, Role.ANSWER, mediated.blocked)
        probabilities = [normalised(each) for each in scores]
    texts, tokens = [""] * len(context), [row.text_tokens for row in context.rows]
    if settings.answer == "options":
        answers: list[int | None] = [best(each) for each in probabilities]
    else:
        texts, tokens = _written(mediated, generator)
        answers = [parse_answer(text, sample.choices) for text, sample in zip(texts, samples, strict=True)]
    columns = (answers, probabilities, texts, mediated.written, mediated.images, tokens)
    return [Outcome(*values) for values in zip(*columns, strict=True)]


def _options(mediated: Mediated, samples: Sequence[SpatialSample]) -> list[list[str]]:
    """What each row would have to write for each of its options."""
    decode, options = mediated.context.session.tokenizer.decode, []
    for sample, row, images in zip(samples, mediated.context.rows, mediated.images, strict=True):
        begun = decode(row.text.ids) if row.text is not None and not row.text.ended else ""
        lead = IMAGE_END if images else ""
        options.append([left_to_write(begun, f"{lead}{ANSWER}{letter}{ANSWER_END}") for letter in sample.letters])
    return options


def _written(mediated: Mediated, generator: torch.Generator) -> tuple[list[str], list[int]]:
    """The text that each row's answer is read from, and the tokens that the model wrote in the row in all."""
    context, over = mediated.context, mediated.is_over
    texts = [written[-1] if written else "" for written in mediated.written]
    tokens = [row.text_tokens for row in context.rows]
    going = [i for i, done in enumerate(over) if not done]
    if going:
        final, said = context[going].generate_text(Role.ANSWER, generator, until=STOP, blocked=mediated.blocked)
        for i, row, text in zip(going, final.rows, said, strict=True):
            texts[i], tokens[i] = text, row.text_tokens
    return texts, tokens


def left_to_write(text: str, wanted: str) -> str:
    """What of ``wanted`` is missing behind ``text``, the end of which may be its beginning."""
    overlap = next(n for n in range(min(len(text), len(wanted)), -1, -1) if text.endswith(wanted[:n]))
    return wanted[overlap:]


def normalised(scores: Sequence[float]) -> tuple[float, ...]:
    """Probabilities of sum 1 from log-probabilities."""
    highest = max(scores)
    shares = [math.exp(score - highest) for score in scores]
    return tuple(share / sum(shares) for share in shares)


def best(probabilities: Sequence[float]) -> int:
    """The index of the largest; the first of equal ones."""
    return max(range(len(probabilities)), key=lambda i: probabilities[i])


def mean(outcomes: Sequence[Outcome]) -> tuple[float, ...]:
    """The mean probabilities of several imaginations."""
    columns = zip(*(outcome.probabilities for outcome in outcomes), strict=True)
    return tuple(sum(column) / len(outcomes) for column in columns)


def combined(outcomes: Sequence[Outcome], combine: str) -> int | None:
    """The answer of several imaginations: the most frequent one (of equally frequent ones that with the highest mean probability,
    then the first), or the one with the highest mean probability. That of a single one is its own."""
    if len(outcomes) == 1:
        return outcomes[0].answer
    means = mean(outcomes)
    if combine == "mean":
        return best(means)
    votes = Counter(outcome.answer for outcome in outcomes if outcome.answer is not None)
    if not votes:
        return None
    return max(votes, key=lambda answer: (votes[answer], means[answer] if means else 0.0, -answer))
