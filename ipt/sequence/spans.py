"""The single truth about a packed sequence: one row per span, from which everything else derives.

A span is what one segment becomes: ``bos ids eos`` for text, ``image_start tokens image_end`` for an image, the slots alone for
latent slots. Attention masks
(`visibility`), rope ids, expert routing, loss positions and FLOP counts are all functions of this table.

Rules (the BAGEL reference, ``data/dataset_base.py``, ``pack_sequence``):

- rope ids: a text of n tokens, or n latent slots, take n consecutive ids; all tokens of an image share one id, and the next
  span continues one later, or at the same id after a noised image (its clean copy stands at the same place);
- experts: only the tokens between the two markers of a latent image belong to the generation expert.

Shape suffixes: P spans, S packed tokens, U / G tokens of the understanding / generation expert, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Mode(IntEnum):
    """How the tokens of a span attend: causally, to all of the span, or to all of it while hidden from other spans. ``SLOTS``
    attend causally, too; what is fed to them are vectors in the place of tokens."""

    CAUSAL = 0
    FULL = 1
    NOISED = 2
    SLOTS = 3


#: The modes of spans whose tokens follow each other.
SEQUENTIAL = (Mode.CAUSAL, Mode.SLOTS)


class Expert(IntEnum):
    """Which expert processes the tokens of a span (for images: the tokens between the markers)."""

    UNDERSTANDING = 0
    GENERATION = 1


class Role(IntEnum):
    """What a span is for in the sample; visibility can be withheld by role."""

    SYSTEM = 0
    OBSERVATION = 1
    QUESTION = 2
    IMAGINATION = 3
    ANSWER = 4


class Loss(IntEnum):
    """Which tokens of a span are trained. ``CE``: every token but the last predicts its successor; ``CE_WITH_END``: the
    last one, too, predicts a label given by the segment; ``FLOW``: velocity at the latent tokens of a noised image; ``COSINE``:
    the token before each slot points to the slot's vector; ``END``: the last slot predicts a label given by the segment."""

    NONE = 0
    CE = 1
    CE_WITH_END = 2
    FLOW = 3
    COSINE = 4
    COSINE_WITH_END = 5
    END = 6


#: The losses with a label that the segment gives.
WITH_END = (Loss.CE_WITH_END, Loss.COSINE_WITH_END, Loss.END)
#: The losses of latent slots.
OF_SLOTS = (Loss.COSINE, Loss.COSINE_WITH_END, Loss.END)


@dataclass(frozen=True)
class Span:
    """One row of a `SpanTable`. ``position``: rope id of the first token; ``blocked``: roles it may not attend to."""

    sample: int
    length: int
    mode: Mode
    expert: Expert
    position: int
    role: Role = Role.OBSERVATION
    blocked: frozenset[Role] = frozenset()
    loss: Loss = Loss.NONE

    @property
    def next_position(self) -> int:
        """The rope id at which the following span starts."""
        return self.position + (self.length if self.mode in SEQUENTIAL else int(self.mode is Mode.FULL))


@dataclass(frozen=True)
class SpanTable:
    """Columns of int64 [P] in packed order; spans lie back to back, samples are consecutive and increasing.

    ``blocked`` is a bit mask over `Role` (1 << role). Raises ``ValueError`` for a table that breaks the rules above.
    """

    sample: Ints
    length: Ints
    mode: Ints
    expert: Ints
    position: Ints
    role: Ints
    blocked: Ints
    loss: Ints

    @classmethod
    def from_spans(cls, spans: Iterable[Span]) -> SpanTable:
        rows = [
            (s.sample, s.length, s.mode, s.expert, s.position, s.role, sum(1 << r for r in s.blocked), s.loss)
            for s in spans
        ]
        columns = np.array(rows, dtype=np.int64).reshape(-1, 8).T
        return cls(*columns)

    def __post_init__(self) -> None:
        framed, shapes = ~self.is_sequential, {getattr(self, field.name).shape for field in fields(self)}
        if len(shapes) != 1:
            raise ValueError(f"the columns of a SpanTable must have one length, got shapes {sorted(shapes)}")
        self._require(self.length >= 1, "has no tokens")
        latent = self.expert == Expert.GENERATION
        self._require(~latent | (self.length >= 3), "is a latent image without tokens between its two markers")
        self._require(framed | ~latent, "is causal but routed to the generation expert")
        self._require((self.mode != Mode.NOISED) | latent, "is noised but not a latent image")
        self._require((self.loss != Loss.FLOW) | (self.mode == Mode.NOISED), "has a flow loss but is not noised")
        self._require(
            ~np.isin(self.loss, (Loss.CE, Loss.CE_WITH_END)) | (self.mode == Mode.CAUSAL),
            "has a text loss but is no text",
        )
        self._require(
            ~np.isin(self.loss, OF_SLOTS) | (self.mode == Mode.SLOTS), "has a loss of latent slots but is none"
        )
        first = np.diff(self.sample, prepend=-1) != 0
        cosine = np.isin(self.loss, (Loss.COSINE, Loss.COSINE_WITH_END))
        self._require(~cosine | ~first, "has a cosine loss but nothing of its sample before it")
        self._require(np.diff(self.sample, prepend=0) >= 0, "belongs to an earlier sample than the span before it")

    @cached_property
    def is_sequential(self) -> Bools:
        """[P] the spans whose tokens follow each other: texts and latent slots."""
        return np.isin(self.mode, SEQUENTIAL)

    def _require(self, ok: Bools, what: str) -> None:
        if not ok.all():
            row = int(np.argmin(ok))
            raise ValueError(f"span {row} (sample {self.sample[row]}, length {self.length[row]}) {what}")

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def num_tokens(self) -> int:
        return int(self.length.sum())

    @cached_property
    def num_samples(self) -> int:
        """N: one more than the largest sample number (a sample may have no span)."""
        return int(self.sample[-1]) + 1 if len(self) else 0

    @cached_property
    def start(self) -> Ints:
        """[P] first packed position of each span."""
        return np.cumsum(self.length) - self.length

    @cached_property
    def span_of(self) -> Ints:
        """[S] the span of each token."""
        return np.repeat(np.arange(len(self)), self.length)

    @cached_property
    def offset(self) -> Ints:
        """[S] the place of each token in its span."""
        return np.arange(self.num_tokens) - self.start[self.span_of]

    @cached_property
    def sample_lengths(self) -> Ints:
        """[N] tokens per sample."""
        return np.bincount(self.sample, weights=self.length, minlength=self.num_samples).astype(np.int64)

    @cached_property
    def position_ids(self) -> Ints:
        """[S] rope ids."""
        return self.position[self.span_of] + np.where(self.is_sequential[self.span_of], self.offset, 0)

    @cached_property
    def is_body(self) -> Bools:
        """[S] tokens of an image between its markers: ViT patches and latents."""
        last = self.length[self.span_of] - 1
        return ~self.is_sequential[self.span_of] & (self.offset > 0) & (self.offset < last)

    @cached_property
    def is_generation(self) -> Bools:
        """[S] tokens of the generation expert."""
        return self.is_body & (self.expert[self.span_of] == Expert.GENERATION)

    @cached_property
    def num_understanding(self) -> int:
        """U: tokens of the understanding expert; they come first in `order`."""
        return int((~self.is_generation).sum())

    @cached_property
    def order(self) -> Ints:
        """[S] the grouped order: packed positions of the U understanding tokens, then of the G generation tokens."""
        return np.argsort(self.is_generation, kind="stable")

    @cached_property
    def rank(self) -> Ints:
        """[S] the inverse of `order`: where each packed token stands in the grouped order."""
        return np.argsort(self.order, kind="stable")

    @cached_property
    def ce_positions(self) -> Ints:
        """[C] packed positions whose next token is trained."""
        loss = self.loss[self.span_of]
        last = self.offset == self.length[self.span_of] - 1
        whole = np.isin(loss, (Loss.CE, Loss.CE_WITH_END)) & ~last
        return np.flatnonzero(whole | (np.isin(loss, WITH_END) & last))

    @cached_property
    def slot_positions(self) -> Ints:
        """[Z] packed positions of the latent slots."""
        return np.flatnonzero(self.mode[self.span_of] == Mode.SLOTS)

    @cached_property
    def is_cosine_trained(self) -> Bools:
        """[Z] which slots carry the cosine loss."""
        return np.isin(self.loss[self.span_of[self.slot_positions]], (Loss.COSINE, Loss.COSINE_WITH_END))

    @cached_property
    def ce_weights(self) -> NDArray[np.float32]:
        """[C] BAGEL's reweighting: (n + 1)^-0.5 for each token of an n-id text, 1 for a trained end marker."""
        length = self.length[self.span_of[self.ce_positions]]
        at_end = self.offset[self.ce_positions] == length - 1
        return np.where(at_end, 1.0, np.maximum(length - 1.0, 1.0) ** -0.5).astype(np.float32)

    @cached_property
    def is_noised(self) -> Bools:
        """[G] which generation tokens, in order, belong to noised images."""
        return self.mode[self.span_of[self.is_generation]] == Mode.NOISED

    @cached_property
    def noised_positions(self) -> Ints:
        """[F] packed positions of noised latent tokens: where a velocity is predicted."""
        return np.flatnonzero(self.is_generation & (self.mode[self.span_of] == Mode.NOISED))

    @cached_property
    def is_flow_trained(self) -> Bools:
        """[F] which noised tokens carry the flow loss."""
        return self.loss[self.span_of[self.noised_positions]] == Loss.FLOW

    @cached_property
    def noised_images(self) -> Ints:
        """Numbers, among the latent images in packed order, of the noised ones."""
        return np.flatnonzero(self.mode[self.expert == Expert.GENERATION] == Mode.NOISED)

    @cached_property
    def next_positions(self) -> Ints:
        """[N] the rope id at which each sample would continue (0 for a sample without spans)."""
        advance = np.where(self.is_sequential, self.length, (self.mode == Mode.FULL).astype(np.int64))
        following = np.zeros(self.num_samples, dtype=np.int64)
        following[self.sample] = self.position + advance
        return following
