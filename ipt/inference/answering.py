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

from ipt.imagination.base import Imagined
from ipt.inference.session import SessionContext
from ipt.inference.settings import ModeSettings
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END, IMAGE_END, IMAGE_START
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.spans import Role

STOP = ANSWER_END[:-1]


@dataclass(frozen=True)
class Outcome:
    """What one row came to. ``text``: what the answer was read from, empty where it was read from the options."""

    answer: int | None
    probabilities: tuple[float, ...]
    text: str
    thought: str
    image: SampleImage | None
    text_tokens: int

    @property
    def opened_image(self) -> bool:
        return IMAGE_START in self.thought or IMAGE_START in self.text


def read_answers(
    imagined: Imagined, samples: Sequence[SpatialSample], settings: ModeSettings, generator: torch.Generator
) -> list[Outcome]:
    """The outcome of every row; ``samples[i]`` is the question of row i."""
    context, blocked = imagined.context, imagined.blocked
    assert isinstance(context, SessionContext)
    drawn = [image is not None for image in imagined.images]
    over = [
        bool(text) and not image and not open_
        for text, image, open_ in zip(imagined.texts, drawn, context.is_open, strict=True)
    ]
    probabilities: list[tuple[float, ...]] = [()] * len(context)
    if settings.reads_options:
        options = [
            [left_to_write(text, f"{IMAGE_END * image}{ANSWER}{letter}{ANSWER_END}") for letter in sample.letters]
            for sample, text, image in zip(samples, open_texts(imagined), drawn, strict=True)
        ]
        probabilities = [normalised(scores) for scores in context.score_options(options, Role.ANSWER, blocked)]
    if settings.answer == "options":
        texts, tokens = [""] * len(context), [row.written for row in context.rows]
        answers: list[int | None] = [best(each) for each in probabilities]
    else:
        texts, tokens = _written(context, imagined, over, generator)
        answers = [parse_answer(text, sample.choices) for text, sample in zip(texts, samples, strict=True)]
    columns = (answers, probabilities, texts, imagined.texts, imagined.images, tokens)
    return [Outcome(*values) for values in zip(*columns, strict=True)]


def _written(
    context: SessionContext, imagined: Imagined, over: Sequence[bool], generator: torch.Generator
) -> tuple[list[str], list[int]]:
    """The text that each row's answer is read from, and the tokens that the model wrote in the row in all."""
    texts, tokens = list(imagined.texts), [row.written for row in context.rows]
    going = [i for i, done in enumerate(over) if not done]
    if going:
        final, said = context[going].generate_text(Role.ANSWER, generator, until=STOP, blocked=imagined.blocked)
        for i, row, text in zip(going, final.rows, said, strict=True):
            texts[i], tokens[i] = text, row.written
    return texts, tokens


def open_texts(imagined: Imagined) -> list[str]:
    """The text that each row goes on with; empty where it begins one."""
    context = imagined.context
    assert isinstance(context, SessionContext)
    decode = context.session.tokenizer.decode
    return [decode(row.text.ids) if row.text is not None and not row.text.ended else "" for row in context.rows]


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
    then the first), or the one with the highest mean probability."""
    means = mean(outcomes)
    if combine == "mean":
        return best(means)
    votes = Counter(outcome.answer for outcome in outcomes if outcome.answer is not None)
    if not votes:
        return None
    return max(votes, key=lambda answer: (votes[answer], means[answer] if means else 0.0, -answer))
