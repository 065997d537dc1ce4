"""From contexts that wait for an answer to predictions: the text that the model writes, the probabilities of the options, votes.

The probability of an option is that of its answer text (``<answer>B``, what all options end in left out) as what the model
writes next, normalised over the options. Where the model ended its text itself, an answer of its own would follow it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray
from torch import Tensor

from ipt.imagination.base import Imagined
from ipt.inference.context import Row, SessionContext
from ipt.inference.plans import STOP
from ipt.inference.prediction import Prediction, image_name
from ipt.inference.settings import ModeSettings
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END, IMAGE_START
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.segments import Codes, Segment, Slots
from ipt.sequence.spans import Role


class Answered(NamedTuple):
    """A prediction, the encoded images that it names, and the ``numbers`` of its latent slots (float32 [k, D]) or codes (int64
    [rows, columns])."""

    prediction: Prediction
    images: tuple[SampleImage, ...] = ()
    numbers: tuple[NDArray[Any], ...] = ()


def read_answers(
    imagined: Imagined, asked: Sequence[Prediction], samples: Sequence[SpatialSample], settings: ModeSettings, seed: int
) -> list[Answered]:
    """The answer of every row; ``asked[i]`` is what its prediction repeats of ``samples[i]``, the question of row i. Images are
    those that the answer sees, whoever made them, and have no names yet."""
    context = imagined.context
    assert isinstance(context, SessionContext)
    probabilities, texts = scored(imagined, samples, settings), [""] * len(context)
    if settings.answer == "text":
        context, texts = written(context, imagined, seed)
    return assembled(imagined, context.rows, texts, probabilities, asked, samples, settings)


def scored(imagined: Imagined, samples: Sequence[SpatialSample], settings: ModeSettings) -> list[tuple[float, ...]]:
    """The probabilities of each row's options, none where they are not asked for."""
    context = imagined.context
    assert isinstance(context, SessionContext)
    if not settings.reads_options:
        return [()] * len(context)
    options = option_texts(context, imagined, samples)
    return [normalised(each) for each in context.score_options(options, Role.ANSWER, imagined.blocked)]


def assembled(
    imagined: Imagined,
    rows: Sequence[Row],
    texts: Sequence[str],
    probabilities: Sequence[tuple[float, ...]],
    asked: Sequence[Prediction],
    samples: Sequence[SpatialSample],
    settings: ModeSettings,
) -> list[Answered]:
    """The answer of every one of ``rows``, as they are once ``texts`` have been written in them (`read_answers`)."""
    if settings.answer == "options":
        answers: list[int | None] = [best(each) for each in probabilities]
    else:
        answers = [parse_answer(text, sample.choices) for text, sample in zip(texts, samples, strict=True)]
    return [
        Answered(
            replace(
                about,
                answer=answers[i],
                probabilities=probabilities[i],
                text=texts[i],
                thoughts=imagined.texts[i],
                text_tokens=rows[i].text_tokens,
            ),
            imagined.images[i],
            numbers_of(rows[i].segments),
        )
        for i, about in enumerate(asked)
    ]


def numbers_of(segments: Sequence[Segment]) -> tuple[NDArray[Any], ...]:
    """What latent slots and codes hold, of those that hold no picture which is still to be encoded."""
    held = (s.payload.content if isinstance(s.payload, Slots) else s.payload for s in segments)
    tensors = (each.values if isinstance(each, Codes) else each for each in held)
    return tuple(
        (each.float() if each.is_floating_point() else each).cpu().numpy()
        for each in tensors
        if isinstance(each, Tensor)
    )


def option_texts(context: SessionContext, imagined: Imagined, samples: Sequence[SpatialSample]) -> list[list[str]]:
    """What each row would have to write for each of its options."""
    decode, options = context.session.tokenizer.decode, []
    for sample, row, lead in zip(samples, context.rows, imagined.leads, strict=True):
        begun = decode(row.text.ids) if row.text is not None and not row.text.ended else ""
        options.append([left_to_write(begun, f"{lead}{ANSWER}{letter}{ANSWER_END}") for letter in sample.letters])
    return options


def written(context: SessionContext, imagined: Imagined, seed: int) -> tuple[SessionContext, list[str]]:
    """The rows with the text that each one's answer is read from, and that text. A row is over where the model ended its text
    without announcing an imagination: it has said all it had to say."""
    texts = [said[-1] if said else "" for said in imagined.texts]
    over = [
        bool(said) and not lead and not is_open
        for said, lead, is_open in zip(imagined.texts, imagined.leads, context.is_open, strict=True)
    ]
    going = [i for i, done in enumerate(over) if not done]
    if going:
        final, said = context[going].generate_text(Role.ANSWER, seed, until=STOP, blocked=imagined.blocked)
        context = context.updated(going, final)
        for i, text in zip(going, said, strict=True):
            texts[i] = text
    return context, texts


def opened_image(prediction: Prediction, own: bool) -> bool:
    """Whether the model announced an image. ``own``: what stands before the answer is the model's own, not given to it."""
    thoughts, text = prediction.thoughts, prediction.text
    return any(IMAGE_START in each for each in ((*thoughts, text) if own else (text.removeprefix("".join(thoughts)),)))


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


def mean(answers: Sequence[Prediction]) -> tuple[float, ...]:
    """The mean probabilities of several imaginations."""
    columns = zip(*(answer.probabilities for answer in answers), strict=True)
    return tuple(sum(column) / len(answers) for column in columns)


def chosen(answers: Sequence[Prediction], combine: str) -> int | None:
    """The answer of several imaginations: the most frequent one (of equally frequent ones that with the highest mean probability,
    then the first), or the one with the highest mean probability. That of a single one is its own."""
    if len(answers) == 1:
        return answers[0].answer
    means = mean(answers)
    if combine == "mean":
        return best(means)
    votes = Counter(each.answer for each in answers if each.answer is not None)
    if not votes:
        return None
    return max(votes, key=lambda answer: (votes[answer], means[answer] if means else 0.0, -answer))


def combined(rows: Sequence[Answered], combine: str, own: bool) -> Answered:
    """The rows of a question, one per imagination, as one answer. ``own``: the imaginations are the model's, and kept."""
    answers = [row.prediction for row in rows]
    first = answers[0]
    prediction = replace(
        first,
        answer=chosen(answers, combine),
        probabilities=mean(answers),
        thoughts=tuple(text for each in answers for text in each.thoughts),
        images=image_names(first.sample_id, [len(row.images) for row in rows]) if own else (),
        opened_image=any(opened_image(each, own) for each in answers),
        text_tokens=sum(each.text_tokens for each in answers),
        votes=tuple(each.answer for each in answers) if len(answers) > 1 else (),
    )
    if not own:
        return Answered(prediction)
    images, numbers = (image for row in rows for image in row.images), (each for row in rows for each in row.numbers)
    return Answered(prediction, tuple(images), tuple(numbers))


def image_names(sample_id: str, drawn: Sequence[int]) -> tuple[str, ...]:
    """Files of the images of a sample, ``drawn[k]`` in the k-th imagination: numbered by imagination where there are several of
    these, by image where one imagination has several."""
    by_imagination, by_image = len(drawn) > 1, max(drawn, default=0) > 1
    return tuple(
        image_name(sample_id, *(k,) * by_imagination, *(i,) * by_image)
        for k, count in enumerate(drawn)
        for i in range(count)
    )
