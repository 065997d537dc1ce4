"""A context that records what inference appends; a script stands in for the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ipt.imagination.base import Imagination, Imagined
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.pictures import Size
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Kind, Segment, Slots, TokenIds
from ipt.sequence.spans import Loss, Role

COLUMNS = ("tasks", "texts", "rows", "open", "held")


@dataclass(frozen=True)
class Recording:
    """Rows of segments. ``texts[row]``: the texts that the model writes, in order; ``draw(row, size)``: the images;
    ``held[row]()``: the latent slots, or the codes."""

    renderer: Renderer
    tasks: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    draw: Callable[[int, Size], SampleImage]
    rows: tuple[tuple[Segment, ...], ...]
    open: tuple[bool, ...]
    held: tuple[Callable[[], Segment], ...]

    @classmethod
    def of(
        cls,
        mode: Imagination,
        samples: Sequence[SpatialSample],
        texts: Sequence[Sequence[str]],
        draw: Callable[[int, Size], SampleImage],
    ) -> Recording:
        """One row per sample, with its prompt."""
        rows = tuple(tuple(mode.prompt(sample)) for sample in samples)
        tasks = tuple(sample.task for sample in samples)
        held = tuple(functools.partial(trained_mediator, mode, sample) for sample in samples)
        return cls(mode.renderer, tasks, tuple(map(tuple, texts)), draw, rows, (False,) * len(rows), held)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Sequence[int]) -> Recording:
        columns = {name: tuple(getattr(self, name)[i] for i in rows) for name in COLUMNS}
        return replace(self, **columns)

    def updated(self, rows: Sequence[int], new: Recording) -> Recording:
        columns = {name: list(getattr(self, name)) for name in COLUMNS}
        for name, values in columns.items():
            for i, value in zip(rows, getattr(new, name), strict=True):
                values[i] = value
        return replace(self, **{name: tuple(values) for name, values in columns.items()})

    def repeat(self, times: int) -> Recording:
        def each(column: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(item for item in column for _ in range(times))

        return replace(self, **{name: each(getattr(self, name)) for name in COLUMNS})

    def append(self, segments: Sequence[Sequence[Segment]]) -> Recording:
        assert len(segments) == len(self) and not any(self.open)
        return replace(self, rows=tuple((*row, *new) for row, new in zip(self.rows, segments, strict=True)))

    def write_text(
        self, texts: Sequence[str], following: str, role: Role, blocked: frozenset[Role] = frozenset()
    ) -> Recording:
        written = [self.renderer.text(text, role, blocked=blocked) for text in texts]
        rows = tuple((*row, text) for row, text in zip(self.rows, written, strict=True))
        return replace(self, rows=rows, open=(True,) * len(self))

    def generate_text(
        self, role: Role, seed: int, until: str = "", blocked: frozenset[Role] = frozenset()
    ) -> tuple[Recording, list[str]]:
        said = [texts[0] for texts in self.texts]
        stopped = [bool(until) and until in text for text in said]
        heads = [
            text[: text.index(until) + len(until)] if stop else text for text, stop in zip(said, stopped, strict=True)
        ]
        rows = [
            (*(row[:-1] if was_open else row), self.renderer.text(text, role, blocked=blocked))
            for row, was_open, text in zip(self.rows, self.open, heads, strict=True)
        ]
        rest = [texts if stop else texts[1:] for texts, stop in zip(self.texts, stopped, strict=True)]
        return replace(self, rows=tuple(rows), texts=tuple(rest), open=tuple(stopped)), heads

    def generate_latents(self, rows: Sequence[int], count: int, role: Role, end: int | None = None) -> Recording:
        grown = list(self.rows)
        for i in rows:
            slots = self.held[i]()
            assert isinstance(slots.payload, Slots) and slots.payload.count == count and slots.role is role
            grown[i] = (*grown[i], replace(slots, loss=Loss.NONE))
        return replace(self, rows=tuple(grown))

    def generate_codes(
        self, rows: Sequence[int], size: Size, role: Role, seed: int
    ) -> tuple[Recording, list[SampleImage]]:
        grown = list(self.rows)
        for i in rows:
            codes = self.held[i]()
            assert codes.payload.size == size and codes.role is role  # type: ignore[union-attr]
            grown[i] = (*grown[i], replace(codes, loss=Loss.NONE))
        return replace(self, rows=tuple(grown)), self.generate_image(rows, size, seed)

    def generate_image(self, rows: Sequence[int], size: Size, seed: int) -> list[SampleImage]:
        assert len(set(rows)) == len(rows)
        return [self.draw(row, size) for row in rows]


def at_inference(
    mode: Imagination, samples: Sequence[SpatialSample], draw: Callable[[int, Size], SampleImage], n: int = 1
) -> tuple[list[list[Segment]], Imagined]:
    """What inference has in its contexts at the end, where the model writes what it was trained to write."""
    scripts = [trained_texts(mode, sample) for sample in samples]
    imagined = mode.imagine(Recording.of(mode, samples, scripts, draw), n, 0)
    final, _ = imagined.context.generate_text(Role.ANSWER, 0, blocked=imagined.blocked)
    assert isinstance(final, Recording)
    return [list(row) for row in final.rows], imagined


def trained_mediator(mode: Imagination, sample: SpatialSample) -> Segment:
    """The latent slots or codes of a training sample."""
    return next(segment for segment in mode.segments(sample, 0) if segment.kind in (Kind.LATENT, Kind.CODES))


def trained_texts(mode: Imagination, sample: SpatialSample, epoch: int = 0) -> list[str]:
    """The texts of a training sample that have a loss."""
    segments = mode.segments(sample, epoch)
    tokenizer = mode.renderer.tokenizer
    payloads = [segment.payload for segment in segments if segment.loss is Loss.CE]
    return [tokenizer.decode(payload.ids.tolist()) for payload in payloads if isinstance(payload, TokenIds)]


def same(ours: Sequence[Segment], theirs: Sequence[Segment]) -> bool:
    """Equal segments, whatever their losses."""
    return list(map(signature, ours)) == list(map(signature, theirs))


def signature(segment: Segment) -> tuple[Any, ...]:
    payload = segment.payload
    content: Any = payload.count if isinstance(payload, Slots) else None
    if isinstance(payload, TokenIds):
        content = tuple(payload.ids.tolist())
    elif content is None:
        content = (payload.data, payload.sizes)  # type: ignore[union-attr]
    return segment.kind, segment.role, segment.blocked, content
