"""Reasoning in words: the rationale of the sample, then the answer, in one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipt.imagination.base import Context, Imagination, Imagined, Mediator, modes
from ipt.samples.prompts import ANSWER, THINK_END, Profile, answer_text, think, written
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@modes.register("text_cot")
class TextCot(Imagination):
    """``<think>`` rationale ``</think><answer>B</answer>``."""

    name, kind = "text_cot", "text"
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. First reason in words between <think> and "
        "</think>, then give the letter of the right option between <answer> and </answer>.",
        "brief": "Reason, answer.",
    }
    end = THINK_END

    @classmethod
    def mediator(cls, sample: SpatialSample) -> str:
        """The words before the answer; ``BadSample`` where the sample has none."""
        return think(written(sample, "rationale"))

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [cls.mediator(sample) + answer_text(sample)]

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.ANSWER, seed, until=self.end)
        return Imagined.of(rows, texts)

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]] = ()
    ) -> Mediator | None:
        return Mediator(texts[0]) if texts and texts[0].endswith(self.end) else None

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        return Mediator(self.mediator(sample))

    def placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        texts = [mediator.text for mediator in mediators]
        return Imagined.of(context.write_text(texts, ANSWER, Role.ANSWER), texts)
