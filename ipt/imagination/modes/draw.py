"""Drawing alone: the picture that is asked for, and no answer.

What a model learns from pairs without a question (``python -m datagen task=drawing``), before it is asked anything. The picture
is announced as in the mode `ipt`, so that training in that mode goes on where this one ended; where it is also shown, as there,
and described or asked about, the model learns to read what it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipt.common.errors import UserError
from ipt.imagination.base import Imagination, ImaginationSettings, modes
from ipt.samples.prompts import (
    IMAGE_END,
    IMAGE_START,
    Profile,
    answer_text,
    describe,
    question_text,
    think,
    written,
)
from ipt.samples.sample import BadSample, SampleImage, SpatialSample
from ipt.sequence.settings import check_encoders
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    import numpy as np

    from ipt.sequence.segments import Segment


@dataclass(frozen=True)
class DrawSettings(ImaginationSettings):
    """``described``: probability that the picture is then shown, through the encoders of ``condition``, and put into words.
    ``asked``: probability that it is shown and the pair's question about it, where it has one (fact ``asked``), is answered."""

    described: float = 0.0
    asked: float = 0.0
    condition: Sequence[str] = ("vae", "vit")

    def __post_init__(self) -> None:
        check_encoders("condition", self.condition)
        for name in ("described", "asked"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"imagination.draw.{name} is a probability, got {getattr(self, name)}")


@modes.register("draw")
class Draw(Imagination):
    """``<think>`` thought ``</think><image_start>`` and the image; where it is looked at, ``<image_end>`` and its caption follow,
    or a question about it and the answer, or both."""

    name = "draw"
    Settings = DrawSettings
    settings: DrawSettings
    mediates, answers, draws = False, False, True
    prompts = {  # noqa: RUF012
        "default": "Look at the images and draw the picture that is asked for: say between <think> and </think> which one it is, "
        "then draw it after <image_start>.",
        "brief": "Draw.",
    }

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [think(profile.thought_of(sample, rng)) + IMAGE_START, sample.imagination]

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        announced, image = self.turns(
            sample, self.renderer.profile, self.renderer.config.stream("thought", sample, epoch)
        )
        assert isinstance(image, SampleImage)
        drawn = [
            *self.prompt(sample),
            self.renderer.text(str(announced), Role.IMAGINATION, trained=True),
            self.renderer.noised(sample, image),
        ]
        happens, settings = self.renderer.config.happens, self.settings
        told = describe(written(sample, "caption")) if happens("described", settings.described, sample, epoch) else ""
        lesson = asked_about(sample) if happens("asked", settings.asked, sample, epoch) else None
        if not told and lesson is None:
            return drawn
        shown = [*drawn, *self.renderer.imagined(sample.task, image, self.settings.condition)]
        if told:
            shown.append(self.renderer.text(IMAGE_END + told, Role.ANSWER, trained=True))
        if lesson is not None:
            question = question_text(lesson, self.renderer.profile.layout(lesson.task))
            shown.append(self.renderer.text(question if told else IMAGE_END + question, Role.QUESTION))
            shown.append(self.renderer.text(answer_text(lesson), Role.ANSWER, trained=True))
        return shown


def asked_about(sample: SpatialSample) -> SpatialSample | None:
    """A pair with the question about its picture in place of its request; None where the picture allows none, ``BadSample`` for
    pairs that were made without such questions."""
    if "asked" not in sample.facts:
        raise BadSample(
            f"sample '{sample.id}', facts: has no 'asked'; pairs with a question about their picture are made by "
            "python -m datagen task=drawing task.asked=true, and imagination.draw.asked=0 does without"
        )
    lesson = sample.facts["asked"]
    if lesson is None:
        return None
    return replace(sample, question=lesson["question"]).with_choices(lesson["choices"], lesson["answer"])
