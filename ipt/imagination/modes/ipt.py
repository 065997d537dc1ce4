"""Imaginative Perception Tokens: announce the view, draw it by flow matching, look at it, answer (arXiv 2606.03988).

In training the drawn image stands three times: noised, with the flow loss and hidden from everything else, then as the clean
VAE and ViT copies that the answer sees. At inference the copies are appended once it is drawn; `IptSettings.condition` decides
in both which of them there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.images import BadImage, encode_image
from ipt.imagination.base import C, Context, Imagination, ImaginationSettings, Imagined, Mediator, modes
from ipt.samples.prompts import (
    DESCRIBE,
    DESCRIBE_END,
    IMAGE_END,
    IMAGE_START,
    Profile,
    answer_text,
    describe,
    think,
    written,
)
from ipt.samples.sample import SampleImage, SpatialSample, picture_path
from ipt.samples.views import Permuted
from ipt.sequence.settings import check_encoders
from ipt.sequence.spans import Mode, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ipt.samples.store import SampleReader
    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segment


ImageSource = Callable[[SpatialSample], SampleImage]


def ground_truth(sample: SpatialSample) -> SampleImage:
    """The rendered imagination of the sample."""
    return sample.imagination


@dataclass(frozen=True)
class SelfMade:
    """Imaginations that a model drew for the samples, one PNG per sample in ``folder``; written by `write`."""

    folder: Path

    def path(self, sample_id: str) -> Path:
        return picture_path(self.folder, sample_id)

    def write(self, sample_id: str, image: SampleImage) -> None:
        """Keep an imagination for training, atomically."""
        write_bytes(self.path(sample_id), image.data)

    def __call__(self, sample: SpatialSample) -> SampleImage:
        """The cached imagination; ``BadImage`` names the sample that has none."""
        path = self.path(sample.id)
        if not path.is_file():
            raise BadImage(f"sample '{sample.id}': no self-made imagination at {path}; let the model imagine it first")
        return SampleImage(path.read_bytes(), sample.imagination.role)


@dataclass(frozen=True)
class IptSettings(ImaginationSettings):
    """``condition``: the encoders through which the answer sees an imagination. ``source``: weights of ``ground_truth`` and
    ``self`` (the model's own, from the folder ``self_made``) as what the answer is trained on; the flow target is always the
    truth. ``permuted``: a control that gives every sample the imagination of another one.

    ``reveal``: probability that the answer may attend to the imagination; 0 makes it an auxiliary target. ``bottleneck``:
    probability that observation images reach the answer through the imagination alone: only the image being drawn may attend
    to them. At inference reveal 0 and bottleneck 1 hold, too; probabilities between are for training. ``described``: where the
    answer sees the imagination, it begins with what that shows, in words (the sample's caption). ``train_flow=False`` takes the
    loss off the drawn image and leaves everything else as it is.
    """

    condition: tuple[str, ...] = ("vae", "vit")
    source: dict[str, float] = field(default_factory=lambda: {"ground_truth": 1.0, "self": 0.0})
    reveal: float = 1.0
    bottleneck: float = 0.0
    described: bool = False
    train_flow: bool = True
    self_made: Path | None = None
    permuted: bool = False

    def __post_init__(self) -> None:
        check_encoders("condition", self.condition)
        weights = self.source.values()
        if not set(self.source) <= {"ground_truth", "self"} or min(weights, default=-1) < 0 or not sum(weights):
            raise UserError(f"source takes weights of ground_truth and self, got {self.source}")
        if self.self_made is not None and not self.self_share:
            raise UserError("imagination.ipt.self_made has no effect without a share of self in imagination.ipt.source")
        for name in ("reveal", "bottleneck"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a probability, got {getattr(self, name)}")

    @property
    def self_share(self) -> float:
        """The probability of a self-made imagination."""
        return self.source.get("self", 0.0) / sum(self.source.values())

    @property
    def at_inference(self) -> IptSettings:
        return replace(self, source={"ground_truth": 1.0}, self_made=None, permuted=False)

    @property
    def answers_unseen(self) -> bool:
        return self.reveal < 1


@modes.register("ipt")
class Ipt(Imagination):
    """``<think>`` thought ``</think><image_start>``, the image, ``<image_end><answer>B</answer>``; where described,
    ``<image_end><think_image>`` caption ``</think_image><answer>B</answer>``."""

    name, kind = "ipt", "picture"
    draws = True
    Settings = IptSettings
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. First say between <think> and </think> which "
        "view you need, draw it between <image_start> and <image_end>, then give the letter of the right option between <answer> "
        "and </answer>.",
        "brief": "Draw, answer.",
    }
    settings: IptSettings

    def __init__(
        self,
        renderer: Renderer,
        settings: IptSettings | None = None,
        truth: ImageSource = ground_truth,
        self_made: ImageSource | None = None,
    ) -> None:
        super().__init__(renderer, settings)
        self.truth, self.self_made = truth, self_made
        if self.settings.self_share and self_made is None:
            raise UserError("source 'self' needs a cache of self-made imaginations")

    @classmethod
    def make(cls, renderer: Renderer, settings: IptSettings, reader: SampleReader | None = None) -> Ipt:
        if settings.permuted and reader is None:
            raise UserError("permuted imaginations come from a dataset: its reader is needed")
        truth = Permuted(reader, renderer.config.seed) if settings.permuted and reader is not None else ground_truth
        return cls(renderer, settings, truth, None if settings.self_made is None else SelfMade(settings.self_made))

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        thought = profile.thought_of(sample, rng)
        return [think(thought) + IMAGE_START, sample.imagination, IMAGE_END + answer_text(sample)]

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        def chance(name: str, probability: float) -> bool:
            return self.renderer.config.happens(name, probability, sample, epoch)

        target = self.truth(sample)
        seen, what = target, f"sample '{sample.id}', field 'imagination'"
        if self.self_made is not None and chance("source", self.settings.self_share):
            seen, what = self.self_made(sample), f"sample '{sample.id}', self-made imagination"
        thought = self.renderer.profile.thought_of(sample, self.renderer.config.stream("thought", sample, epoch))
        hidden = frozenset() if chance("reveal", self.settings.reveal) else frozenset({Role.IMAGINATION})
        told = describe(written(sample, "caption")) if self.settings.described and not hidden else ""
        segments = [
            *self.renderer.prompt(sample, self.name),
            self.announcement(thought, trained=True),
            self.renderer.noised(sample, target, self.settings.train_flow),
            *self.shown(sample.task, seen, what),
            self.renderer.text(IMAGE_END + told + answer_text(sample), Role.ANSWER, trained=True, blocked=hidden),
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

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.IMAGINATION, seed, blocked=self._narrow)
        return self.announced(rows, texts, seed)

    def announces(self, text: str) -> bool:
        return IMAGE_START in text

    def announced(self, rows: Context, texts: Sequence[str], seed: int) -> Imagined:
        sizes = {
            row: self.renderer.imagination_size(rows.tasks[row])
            for row, text in enumerate(texts)
            if self.announces(text)
        }
        images: dict[int, SampleImage] = {}
        for size in sorted(set(sizes.values())):
            drawing = [row for row in sizes if sizes[row] == size]
            images |= zip(drawing, rows.generate_image(drawing, size, seed), strict=True)
        return self._tell(self._look(rows, texts, [images.get(row) for row in range(len(rows))]), seed)

    def given(self, context: Context, samples: Sequence[SpatialSample], sources: Sequence[SpatialSample]) -> Imagined:
        pairs = zip(samples, sources, strict=True)
        return self.placed(
            context, [replace(self.true_mediator(sample), image=source.imagination) for sample, source in pairs]
        )

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]] = ()
    ) -> Mediator | None:
        return Mediator(texts[0], images[0]) if images else None

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        thought = self.renderer.profile.thought_of(sample, self.renderer.config.stream("thought", sample, 0))
        return Mediator(think(thought) + IMAGE_START, sample.imagination)

    def unseen(self, context: Context, samples: Sequence[SpatialSample]) -> Imagined:
        """A blank picture that the answer may not attend to."""
        blanks = [blank(*self.renderer.imagination_size(sample.task)) for sample in samples]
        thoughts = [self.renderer.profile.thoughts_of(sample.task)[0] for sample in samples]
        said = [think(thought) + IMAGE_START for thought in thoughts]
        imagined = self._placed(context, [Mediator(*pair) for pair in zip(said, blanks, strict=True)])
        return replace(imagined, blocked=imagined.blocked | {Role.IMAGINATION})

    def placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        """Without an image, what announces it is followed by its end. Where described, the model says what it sees."""
        return self._tell(self._placed(context, mediators), 0)

    def _placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        texts = [mediator.text for mediator in mediators]
        imagined = self._look(self.announce(context, texts), texts, [mediator.image for mediator in mediators])
        return replace(imagined, leads=(IMAGE_END,) * len(texts))

    def announce(self, context: C, texts: Sequence[str]) -> C:
        return context.append([self._at_inference([self.renderer.text(text, Role.IMAGINATION)]) for text in texts])

    def _look(self, rows: Context, texts: Sequence[str], images: Sequence[SampleImage | None]) -> Imagined:
        seen = [[] if image is None else self.shown(rows.tasks[row], image) for row, image in enumerate(images)]
        grown = rows.append([self._at_inference(segments) for segments in seen])
        hidden = frozenset() if self.settings.reveal else frozenset({Role.IMAGINATION})
        leads = ["" if image is None else IMAGE_END for image in images]
        return Imagined.of(grown, texts, images, hidden | self._narrow, leads)

    def _tell(self, imagined: Imagined, seed: int) -> Imagined:
        """Where described, the answer of every row whose mediator has ended, begun with what the model says that it shows."""
        going = [row for row, lead in enumerate(imagined.leads) if lead]
        if not (self.settings.described and self.settings.reveal and going):
            return imagined
        begun = imagined.context[going].write_text([IMAGE_END] * len(going), DESCRIBE, Role.ANSWER, imagined.blocked)
        rows, said = begun.generate_text(Role.ANSWER, seed, until=DESCRIBE_END, blocked=imagined.blocked)
        texts, leads = list(imagined.texts), list(imagined.leads)
        for row, text in zip(going, said, strict=True):
            texts[row], leads[row] = (*texts[row], text), ""
        return replace(imagined, context=imagined.context.updated(going, rows), texts=tuple(texts), leads=tuple(leads))

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
        if segment.kind.mode is Mode.NOISED or segment.role is Role.OBSERVATION
        else replace(segment, blocked=segment.blocked | {Role.OBSERVATION})
        for segment in segments
    ]


@cache
def blank(width: int, height: int) -> SampleImage:
    """A grey picture."""
    return SampleImage(encode_image(np.full((height, width, 3), 128, dtype=np.uint8)), "imagination")
