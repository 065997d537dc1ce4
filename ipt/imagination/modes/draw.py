"""Drawing alone: the picture that is asked for, and no answer.

What a model learns from pairs without a question (``python -m datagen task=drawing``), before it is asked anything. The picture
is announced as in the mode `ipt`, so that training in that mode goes on where this one ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipt.imagination.base import Imagination, modes
from ipt.samples.prompts import IMAGE_START, Profile, think
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    import numpy as np

    from ipt.sequence.segments import Segment


@modes.register("draw")
class Draw(Imagination):
    """``<think>`` thought ``</think><image_start>`` and the image."""

    name = "draw"
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
        return [
            *self.prompt(sample),
            self.renderer.text(str(announced), Role.IMAGINATION, trained=True),
            self.renderer.noised(sample, image),
        ]
