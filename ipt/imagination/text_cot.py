"""Reasoning in words: the rationale of the sample, then the answer, in one text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ipt.imagination.base import Context, Imagined, modes
from ipt.samples.prompts import ANSWER, THINK_END, answer_text, think, written
from ipt.samples.sample import SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role


@modes.register("text_cot")
class TextCot:
    """``<think>`` rationale ``</think><answer>B</answer>``."""

    name = "text_cot"
    end = THINK_END

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def mediator(self, sample: SpatialSample) -> str:
        """The words before the answer; ``BadSample`` where the sample has none."""
        return think(written(sample, "rationale"))

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        return [
            *self.prompt(sample),
            self.renderer.text(self.mediator(sample) + answer_text(sample), Role.ANSWER, trained=True),
        ]

    def prompt(self, sample: SpatialSample) -> list[Segment]:
        return self.renderer.prompt(sample, self.name)

    def imagine(self, context: Context, n: int, generator: torch.Generator) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.ANSWER, generator, until=self.end)
        return Imagined(rows, tuple(texts), (None,) * len(rows))

    def given(self, context: Context, texts: Sequence[str]) -> Imagined:
        """Mediators (`mediator`) that are not written by the model but given, one per row."""
        rows = context.write_text(texts, ANSWER, Role.ANSWER)
        return Imagined(rows, tuple(texts), (None,) * len(rows))
