"""The unseen view in words (CapImagine, arXiv 2602.22766): a caption made from scene facts, then the answer, in one text."""

from __future__ import annotations

from ipt.imagination.base import modes
from ipt.imagination.text_cot import TextCot
from ipt.samples.prompts import DESCRIBE_END, describe, written
from ipt.samples.sample import SpatialSample


@modes.register("caption")
class Caption(TextCot):
    """``<think_image>`` caption ``</think_image><answer>B</answer>``."""

    name = "caption"
    end = DESCRIBE_END

    def mediator(self, sample: SpatialSample) -> str:
        return describe(written(sample, "caption"))
