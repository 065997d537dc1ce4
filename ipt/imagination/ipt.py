"""Imaginative Perception Tokens: announce the view, draw it by flow matching, look at it, answer (arXiv 2606.03988).

In training the drawn image stands three times: noised, with the flow loss and hidden from everything else, then as the clean
VAE and ViT copies that the answer sees. At inference the copies are appended once it is drawn; `IptSettings.condition` decides
in both which of them there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ipt.common.errors import UserError
from ipt.imagination.base import Context, Imagined, modes
from ipt.imagination.settings import IptSettings
from ipt.imagination.sources import ImageSource, ground_truth
from ipt.samples.prompts import IMAGE_END, IMAGE_START, answer_text, think
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Kind, Segment
from ipt.sequence.spans import Role


@modes.register("ipt")
class Ipt:
    """``<think>`` thought ``</think><image_start>``, the image, ``<image_end><answer>B</answer>``."""

    name = "ipt"

    def __init__(
        self,
        renderer: Renderer,
        settings: IptSettings | None = None,
        truth: ImageSource = ground_truth,
        self_made: ImageSource | None = None,
    ) -> None:
        self.renderer, self.settings = renderer, settings or IptSettings()
        self.truth, self.self_made = truth, self_made
        if self.settings.self_share and self_made is None:
            raise UserError("source 'self' needs a cache of self-made imaginations")

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        def chance(name: str, probability: float) -> bool:
            return probability > 0 and bool(self.renderer.config.stream(name, sample, epoch).random() < probability)

        target = self.truth(sample)
        seen, what = target, f"sample '{sample.id}', field 'imagination'"
        if self.self_made is not None and chance("source", self.settings.self_share):
            seen, what = self.self_made(sample), f"sample '{sample.id}', self-made imagination"
        thought = self.renderer.profile.thought_of(sample, self.renderer.config.stream("thought", sample, epoch))
        hidden = frozenset() if chance("reveal", self.settings.reveal) else frozenset({Role.IMAGINATION})
        segments = [
            *self.renderer.prompt(sample, self.name),
            self.announcement(thought, trained=True),
            self.renderer.noised(sample, target, self.settings.train_flow),
            *self.shown(sample.task, seen, what),
            self.renderer.text(IMAGE_END + answer_text(sample), Role.ANSWER, trained=True, blocked=hidden),
        ]
        return narrowed(segments) if chance("bottleneck", self.settings.bottleneck) else segments

    def announcement(self, thought: str, trained: bool = False) -> Segment:
        """What is said before an image is drawn."""
        return self.renderer.text(think(thought) + IMAGE_START, Role.IMAGINATION, trained)

    def shown(self, task: str, image: SampleImage, what: str = "imagination") -> list[Segment]:
        """What the answer sees of an imagination, whoever made it."""
        return self.renderer.imagined(task, image, self.settings.condition, what)

    def prompt(self, sample: SpatialSample) -> list[Segment]:
        """The prompt as inference appends it."""
        return self._at_inference(self.renderer.prompt(sample, self.name))

    def imagine(self, context: Context, n: int, generator: torch.Generator) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.IMAGINATION, generator, blocked=self._narrow)
        return self.drawn(rows, texts, generator)

    def drawn(self, rows: Context, texts: Sequence[str], generator: torch.Generator) -> Imagined:
        """Draw and look at an image in each row whose last text, ``texts[row]``, announces one."""
        sizes = {
            row: self.renderer.imagination_size(rows.tasks[row])
            for row, text in enumerate(texts)
            if IMAGE_START in text
        }
        images: dict[int, SampleImage] = {}
        for size in sorted(set(sizes.values())):
            drawing = [row for row in sizes if sizes[row] == size]
            images |= zip(drawing, rows.generate_image(drawing, size, generator), strict=True)
        return self._look(rows, texts, [images.get(row) for row in range(len(rows))])

    def given(self, context: Context, thoughts: Sequence[str], images: Sequence[SampleImage]) -> Imagined:
        """Imaginations that are not drawn but given, one per row: ground truth, self-made or altered ones."""
        said = [self._at_inference([self.announcement(thought)]) for thought in thoughts]
        return self._look(context.append(said), [think(thought) + IMAGE_START for thought in thoughts], images)

    def _look(self, rows: Context, texts: Sequence[str], images: Sequence[SampleImage | None]) -> Imagined:
        seen = [[] if image is None else self.shown(rows.tasks[row], image) for row, image in enumerate(images)]
        grown = rows.append([self._at_inference(segments) for segments in seen])
        hidden = frozenset() if self.settings.reveal else frozenset({Role.IMAGINATION})
        return Imagined(grown, tuple(texts), tuple(images), hidden | self._narrow)

    @property
    def _narrow(self) -> frozenset[Role]:
        return frozenset({Role.OBSERVATION}) if self.settings.bottleneck == 1 else frozenset()

    def _at_inference(self, segments: list[Segment]) -> list[Segment]:
        return narrowed(segments) if self._narrow else segments


def narrowed(segments: Sequence[Segment]) -> list[Segment]:
    """The same segments, with observation images visible only to themselves and to the image being drawn.

    The question and the clean copies must not see them either: they would carry them on to the answer.
    """
    return [
        segment
        if segment.kind is Kind.VAE_NOISED or segment.role is Role.OBSERVATION
        else replace(segment, blocked=segment.blocked | {Role.OBSERVATION})
        for segment in segments
    ]
