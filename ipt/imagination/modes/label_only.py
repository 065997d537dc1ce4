"""No imagination: the answer follows the prompt at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipt.imagination.base import Context, Imagination, Imagined, modes
from ipt.samples.prompts import Profile, answer_text
from ipt.samples.sample import SampleImage, SpatialSample

if TYPE_CHECKING:
    import numpy as np


@modes.register("label_only")
class LabelOnly(Imagination):
    """``<answer>B</answer>``."""

    name, end = "label_only", ""
    mediates = False
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. Reply at once with the letter of the right "
        "option between <answer> and </answer>; do not reason in words and do not draw.",
        "brief": "Answer.",
    }

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [answer_text(sample)]

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        rows = context.repeat(n)
        return Imagined.of(rows, [""] * len(rows))
