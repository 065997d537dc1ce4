"""A sample as data: an ordered list of typed segments, before anything is laid out in one sequence.

A segment carries one of a few payloads, each a type of its own. Images wait: a `Picture` stands for pixels or latents that
nobody has made yet. `batch.lay_out` decodes pictures for the ViT, and leaves those for the codec to `PackedBatch.encoded`,
which the trainer calls on its device; a loader with a latent cache replaces them before (`with_latents`), and then no codec
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from torch import Tensor

from ipt.common.errors import UserError
from ipt.samples.sample import SpatialSample
from ipt.sequence.pictures import Picture, Size, grid_of_size
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import WITH_END, Expert, Loss, Mode, Role


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the four marker tokens, taken from the tokenizer (``<|im_start|>``, ``<|im_end|>``, ``<|vision_start|>``,
    ``<|vision_end|>`` in Qwen2.5)."""

    bos: int
    eos: int
    image_start: int
    image_end: int


@dataclass(frozen=True, eq=False)
class TokenIds:
    """A text: int64 ids [n], without markers."""

    ids: Tensor


@dataclass(frozen=True, eq=False)
class ImageTensor:
    """An image [channels, rows, columns] that needs no more decoding."""

    values: Tensor

    @property
    def size(self) -> Size:
        """(width, height), in pixels or in latent cells."""
        return self.values.shape[-1], self.values.shape[-2]


class Pixels(ImageTensor):
    """An image for the vision tower: float32 [3, H, W], normalised to [-1, 1]."""


class Latents(ImageTensor):
    """An image as the codec encodes it: float32 clean latents [C, h, w]."""


@dataclass(frozen=True, eq=False)
class Slots:
    """``count`` latent slots, fed with vectors in the place of tokens. ``content``: the vectors themselves, float [count, D], or
    an image whose features are pooled into them (`ipt.model.slots`), by ``pool`` (``raster`` or ``grid``); without it the model
    feeds itself."""

    count: int
    content: Segment | Tensor | None = None
    pool: str = "raster"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"there must be at least 1 latent slot, got {self.count}")
        if isinstance(self.content, Tensor) and len(self.content) != self.count:
            raise ValueError(f"{self.count} slots cannot hold {len(self.content)} vectors")


Payload = TokenIds | Picture | Pixels | Latents | Slots


class Kind(Enum):
    """What a segment holds: (attention mode, expert)."""

    TEXT = (Mode.CAUSAL, Expert.UNDERSTANDING)
    VIT = (Mode.FULL, Expert.UNDERSTANDING)
    VAE = (Mode.FULL, Expert.GENERATION)
    VAE_NOISED = (Mode.NOISED, Expert.GENERATION)
    LATENT = (Mode.SLOTS, Expert.UNDERSTANDING)

    @property
    def mode(self) -> Mode:
        return self.value[0]

    @property
    def expert(self) -> Expert:
        return self.value[1]

    @property
    def payloads(self) -> tuple[type[Payload], ...]:
        """The payloads that it can carry."""
        if self in (Kind.TEXT, Kind.LATENT):
            return (TokenIds,) if self is Kind.TEXT else (Slots,)
        return (Picture, Latents if self.expert is Expert.GENERATION else Pixels)


#: What each kind can be trained on.
LOSSES = {
    Kind.TEXT: (Loss.CE, Loss.CE_WITH_END),
    Kind.VAE_NOISED: (Loss.FLOW,),
    Kind.LATENT: (Loss.COSINE, Loss.COSINE_WITH_END, Loss.END),
}


@dataclass(frozen=True)
class Segment:
    """One part of a sample.

    ``payload``: what the kind can carry (`Kind.payloads`). ``end_label``: what the closing marker of a trained text, or the last
    latent slot, predicts. ``blocked``: roles that this segment may not attend to. ``dropped``: removed by guidance dropout; a
    dropped image still advances the rope id.
    Raises ``ValueError`` for a payload or a loss that the kind cannot carry.
    """

    kind: Kind
    payload: Payload
    role: Role = Role.OBSERVATION
    loss: Loss = Loss.NONE
    end_label: int | None = None
    blocked: frozenset[Role] = frozenset()
    dropped: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.payload, self.kind.payloads):
            valid = " or ".join(payload.__name__ for payload in self.kind.payloads)
            raise ValueError(f"a {self.kind.name} segment carries {valid}, not {type(self.payload).__name__}")
        allowed = LOSSES.get(self.kind, ())
        if self.loss is not Loss.NONE and self.loss not in allowed:
            raise ValueError(f"a {self.kind.name} segment cannot carry the loss {self.loss.name}")
        if (self.loss in WITH_END) != (self.end_label is not None):
            raise ValueError(
                f"end_label is for the losses {', '.join(loss.name for loss in WITH_END)} and only for them"
            )
        if self.dropped and self.loss is not Loss.NONE:
            raise ValueError(f"a {self.kind.name} segment with the loss {self.loss.name} cannot be dropped")

    def grid(self, geometry: Geometry) -> tuple[int, int]:
        """(rows, columns) of tokens of an image. Raises ``ValueError`` for an image that cannot be cut into patches."""
        if isinstance(self.payload, TokenIds | Slots):
            raise ValueError(f"a {self.kind.name} segment has no grid")
        width, height = self.payload.size
        if self.kind is Kind.VIT:
            return grid_of_size(height, width, geometry.vit_patch)
        cells = isinstance(self.payload, Latents)
        return grid_of_size(height, width, geometry.latent_patch if cells else geometry.latent_stride)

    def num_tokens(self, geometry: Geometry) -> int:
        """Tokens in the sequence, markers included; 0 where dropped."""
        if self.dropped:
            return 0
        if isinstance(self.payload, TokenIds):
            return len(self.payload.ids) + 2
        if isinstance(self.payload, Slots):
            return self.payload.count
        rows, columns = self.grid(geometry)
        return rows * columns + 2


Segmenter = Callable[[SpatialSample, int, int], list[Segment]]
"""``segmenter(sample, epoch, row)``: the segments of the sample in that epoch, a pure function of its arguments.

``row`` is the place of the sample in the dataset (0 ... rows - 1, independent of shuffling); mixtures assign modes by it.
Raises `RejectedSample` for a sample that is not to be used, which the caller counts and reports, and ``BadSample`` or
``BadImage`` for one that is wrong.
"""


class RejectedSample(UserError):
    """A valid sample that a stated policy leaves out, for example for its length: ``sample_id`` and ``reason``."""

    def __init__(self, sample_id: str, reason: str) -> None:
        super().__init__(f"sample '{sample_id}': {reason}")
        self.sample_id, self.reason = sample_id, reason

    def __reduce__(self) -> tuple[type[RejectedSample], tuple[str, str]]:
        return type(self), (self.sample_id, self.reason)


def num_tokens(segments: Iterable[Segment], geometry: Geometry) -> int:
    """Tokens of a sample in the sequence."""
    return sum(segment.num_tokens(geometry) for segment in segments)


def with_draws(segments: Iterable[Segment], draws: int) -> list[Segment]:
    """The same segments, every image with a flow loss ``draws`` times in a row.

    Noised images are hidden from every other span and share a rope id, so that each copy sees what it would see alone; it has
    a time and noise of its own, as every noised image (`ipt.training.losses.noised`). The context is computed once.
    """
    return [copy for segment in segments for copy in [segment] * (draws if segment.loss is Loss.FLOW else 1)]


def images(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The images among segments, and those that latent slots are made of."""
    for segment in segments:
        inner = segment.payload.content if isinstance(segment.payload, Slots) else segment
        if isinstance(inner, Segment) and inner.kind is not Kind.TEXT:
            yield inner


def with_latents(segments: Iterable[Segment], find: Callable[[Picture], Tensor | None]) -> list[Segment]:
    """The same segments, the codec's pictures replaced by latents [C, h, w] where ``find`` knows them."""

    def of(segment: Segment) -> Segment:
        payload = segment.payload
        if isinstance(payload, Slots) and isinstance(payload.content, Segment):
            return replace(segment, payload=replace(payload, content=of(payload.content)))
        if segment.kind.expert is Expert.GENERATION and isinstance(payload, Picture):
            latents = find(payload)
            return segment if latents is None else replace(segment, payload=Latents(latents))
        return segment

    return [of(segment) for segment in segments]
