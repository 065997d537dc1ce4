"""No imagination: the answer follows the prompt at once."""

from __future__ import annotations

import torch

from ipt.imagination.base import Context, Imagined, modes
from ipt.samples.prompts import answer_text
from ipt.samples.sample import SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role


@modes.register("label_only")
class LabelOnly:
    """``<answer>B</answer>``."""

    name = "label_only"

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        return [*self.prompt(sample), self.renderer.text(answer_text(sample), Role.ANSWER, trained=True)]

    def prompt(self, sample: SpatialSample) -> list[Segment]:
        return self.renderer.prompt(sample, self.name)

    def imagine(self, context: Context, n: int, generator: torch.Generator) -> Imagined:
        rows = context.repeat(n)
        return Imagined(rows, ("",) * len(rows), (None,) * len(rows))
