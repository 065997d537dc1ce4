"""The unseen view in words (CapImagine, arXiv 2602.22766): a caption made from scene facts, then the answer, in one text."""

from __future__ import annotations

from ipt.imagination.base import modes
from ipt.imagination.modes.text_cot import TextCot
from ipt.samples.prompts import DESCRIBE_END, describe, written
from ipt.samples.sample import SpatialSample


@modes.register("caption")
class Caption(TextCot):
    """``<think_image>`` caption ``</think_image><answer>B</answer>``."""

    name = "caption"
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. First describe the view that is not shown "
        "between <think_image> and </think_image>, then give the letter of the right option between <answer> and </answer>.",
        "brief": "Describe, answer.",
    }
    end = DESCRIBE_END

    @classmethod
    def mediator(cls, sample: SpatialSample) -> str:
        return describe(written(sample, "caption"))
