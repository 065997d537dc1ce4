"""Drawing alone: the picture that is asked for, and no answer.

What a model learns from pairs without a question (``python -m datagen task=drawing``), before it is asked anything. The picture
is announced as in the mode `ipt`, so that training in that mode goes on where this one ended; where it is also shown and
described, as there, the model learns to read what it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipt.common.errors import UserError
from ipt.imagination.base import Imagination, ImaginationSettings, modes
from ipt.samples.prompts import IMAGE_END, IMAGE_START, Profile, describe, think, written
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.settings import check_encoders
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    import numpy as np

    from ipt.sequence.segments import Segment


@dataclass(frozen=True)
class DrawSettings(ImaginationSettings):
    """``described``: probability that the picture is then shown, through the encoders of ``condition``, and put into words."""

    described: float = 0.0
    condition: Sequence[str] = ("vae", "vit")

    def __post_init__(self) -> None:
        check_encoders("condition", self.condition)
        if not 0 <= self.described <= 1:
            raise UserError(f"imagination.draw.described is a probability, got {self.described}")


@modes.register("draw")
class Draw(Imagination):
    """``<think>`` thought ``</think><image_start>`` and the image; where described, ``<image_end>`` and a caption follow."""

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
        if self.renderer.config.stream("described", sample, epoch).random() >= self.settings.described:
            return drawn
        return [
            *drawn,
            *self.renderer.imagined(sample.task, image, self.settings.condition),
            self.renderer.text(IMAGE_END + describe(written(sample, "caption")), Role.ANSWER, trained=True),
        ]
