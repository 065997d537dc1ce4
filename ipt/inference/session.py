"""A session: a model at work on rows of its KV cache, by what is given (segments) and by what it makes (tokens, images).

Which token comes next is decided here, too.

What the rows hold, and how the model writes in them, is the business of `ipt.inference.context.SessionContext`.

Shape suffixes: B rows, X tokens of all rows, V vocabulary, L tokens of an image, D numbers per token.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ipt.common.errors import UserError
from ipt.flow.guidance import Guidance
from ipt.flow.path import Advance, schedule
from ipt.imagination.recipe import Sampling
from ipt.model.cache import Context, KVCache, extend
from ipt.model.codec import LatentCodec
from ipt.model.codes import CodeCodec
from ipt.model.decoding import TokenSteps
from ipt.model.sampling import sample_latents
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import Grid, PackedBatch, lay_out, slot_tokens, token_runs
from ipt.sequence.pictures import Picture, normalised, unpatchify
from ipt.sequence.segments import Kind, Segment, TokenIds, images, num_tokens, with_latents
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import SEQUENTIAL, Mode, Role
from ipt.sequence.tokenizer import Tokenizer

#: What is shown the pictures of a drawing that goes on.
Watch = Callable[[int, list[Tensor]], None]


class TimeLimit(RuntimeError):
    """An answer took longer than it may."""


class Deadline:
    """``seconds`` from now (None: never)."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._seconds = seconds

    def check(self) -> None:
        """Raise `TimeLimit` once it has passed."""
        if self._end is not None and time.monotonic() > self._end:
            raise TimeLimit(f"no answer within {self._seconds:g} seconds")


@dataclass(frozen=True)
class OpenText:
    """A text that may go on: its ``ids`` so far, without markers, and the ids ``waiting`` to be fed to the model (at the start
    the opening marker, later what was written last). ``chances``: the log-probability of each token that the model wrote, the
    end among them where it set that; what was given to it came first."""

    role: Role
    blocked: frozenset[Role]
    waiting: tuple[int, ...]
    ids: tuple[int, ...] = ()
    ended: bool = False
    chances: tuple[float, ...] = ()

    def write(self, token: int, chance: float, eos: int) -> OpenText:
        """With one more token, which had the log-probability ``chance``; ``eos`` ends it."""
        chances = (*self.chances, chance)
        if token == eos:
            return replace(self, waiting=(eos,), ended=True, chances=chances)
        return replace(self, waiting=(token,), ids=(*self.ids, token), chances=chances)

    def end(self, eos: int) -> OpenText:
        """Ended here, though the model might have gone on."""
        return replace(self, waiting=(*self.waiting, eos), ended=True)


def contains(tokenizer: Tokenizer, ids: Sequence[int], wanted: str, fresh: int) -> bool:
    """Whether the text of ``ids`` contains ``wanted``, where it did not before the last ``fresh`` tokens. Every token is at
    least a byte, so only the end has to be decoded."""
    window = len(wanted.encode()) + fresh
    return wanted in tokenizer.decode(ids[-window:])


def drawn(
    logits_BV: Tensor, temperature: float, chances: Sequence[np.random.Generator | None]
) -> list[tuple[int, float]]:
    """The next token of each row, and the log-probability with which it was drawn: the likeliest at ``temperature`` 0, else one
    by the row's own chance."""
    if not temperature:
        return [(token, 0.0) for token in logits_BV.argmax(dim=-1).tolist()]
    shares_BV = torch.softmax(logits_BV.double() / temperature, dim=-1)
    drawn_B1 = shares_BV.new_tensor([[chance.random()] for chance in chances if chance is not None])
    chosen = torch.searchsorted(shares_BV.cumsum(dim=-1), drawn_B1, right=True).squeeze(-1)
    chosen = chosen.clamp(max=logits_BV.shape[-1] - 1)
    found = shares_BV.gather(-1, chosen[:, None]).log().squeeze(-1)
    return list(zip(chosen.tolist(), found.tolist(), strict=True))


class Read(NamedTuple):
    """Last hidden states [X, D] and float32 logits [X, V] of new tokens."""

    hidden: Tensor
    logits: Tensor


class Session:
    """A model with its codec and tokenizer (and the codec of its ``codes``), the cache that it fills, how it writes and which
    contexts guidance compares with (``sampling``), and how it draws: ``guidance``, its branches ``together`` in one pass or not,
    ``times``, and steps to ``skip`` (`ipt.flow.path`). ``graphs``: steps of both are captured and replayed (`ipt.model.graphs`).
    ``deadline`` is checked at every step of both. ``watch`` is shown the pictures [3, H, W] of all rows after every step of
    drawing, with the step's number from 0 on.
    """

    def __init__(
        self,
        model: UnifiedModel,
        codec: LatentCodec | None,
        tokenizer: Tokenizer,
        sampling: Sampling,
        guidance: Guidance | None = None,
        times: Tensor | None = None,
        codes: CodeCodec | None = None,
        together: bool = True,
        skip: int = 0,
        graphs: bool = False,
    ) -> None:
        self.model, self.codec, self.tokenizer, self.codes = model, codec, tokenizer, codes
        self.sampling, self.guidance = sampling, guidance
        self.times, self.together, self.skip = schedule(25) if times is None else times, together, skip
        self.geometry, self.special = model.config.geometry, tokenizer.special
        self.like = model.decoder.embed_tokens.weight.detach()[:0]
        self.cache, self.graphs = KVCache(model.config.decoder, self.like), graphs
        self.steps = TokenSteps(model, self.cache, graphs)
        self.deadline = Deadline()
        self.watch: Watch | None = None

    def prefill(self, context: Context, samples: Sequence[Sequence[Segment]]) -> Context:
        """Append ``samples[i]`` to row i, where it has any token."""
        which = [i for i, segments in enumerate(samples) if any(not s.dropped for s in segments)]
        if not which:
            return context
        part = context[which]
        batch = lay_out([samples[i] for i in which], self.special, self.geometry, part.positions).to(self.like.device)
        _, part = extend(self.model, batch, self.cache, part, logits=False)
        return context.updated(which, part)

    def feed(
        self,
        context: Context,
        which: Sequence[int],
        runs: Sequence[Sequence[int]],
        role: Role,
        blocked: frozenset[Role],
    ) -> tuple[Context, Read]:
        """Append a run of text tokens to each of the rows ``which``; the hidden states [B, D] and logits [B, V] at their ends."""
        if all(len(run) == 1 for run in runs):
            part, *read_at = self.steps(context[which], [run[0] for run in runs], role, blocked)
            return context.updated(which, part), Read(*read_at)
        read, part = self._run(context[which], self._texts(context[which], runs, role, blocked), append=True)
        ends = np.cumsum([len(run) for run in runs]) - 1
        return context.updated(which, part), Read(read.hidden[ends], read.logits[ends])

    def feed_slots(self, context: Context, vectors_BD: Tensor, role: Role) -> tuple[Context, Tensor, Tensor]:
        """Append a latent slot to each row; the hidden states [B, D] there, and the logits [B, V] after it."""
        batch = slot_tokens(vectors_BD, context.positions, self.geometry, role)
        output, context = self._run(context, batch, append=True)
        return context, output.hidden, output.logits

    def read(self, context: Context, runs: Sequence[Sequence[int]], role: Role, blocked: frozenset[Role]) -> Tensor:
        """Logits [X, V] after each token of one run per row, which are not appended; rows may be snapshots and repeat."""
        return self._run(context, self._texts(context, runs, role, blocked), append=False)[0].logits

    def _texts(
        self, context: Context, runs: Sequence[Sequence[int]], role: Role, blocked: frozenset[Role]
    ) -> PackedBatch:
        ids_X = torch.tensor([token for run in runs for token in run], device=self.like.device)
        return token_runs(ids_X, [len(run) for run in runs], context.positions, self.geometry, role, blocked)

    def _run(self, context: Context, batch: PackedBatch, append: bool) -> tuple[Read, Context]:
        output, context = extend(self.model, batch, self.cache, context, append)
        assert output.logits_CV is not None
        return Read(output.ce_hidden_CD, output.logits_CV.float()), context

    def with_latents(self, samples: Sequence[Sequence[Segment]]) -> list[list[Segment]]:
        """The same segments, the pictures of both codecs encoded; each picture once."""
        latents, codes = (
            self._encoded(kind, codec, samples) for kind, codec in ((Kind.VAE, self.codec), (Kind.CODES, self.codes))
        )
        return [with_latents(segments, latents.get, codes.get) for segments in samples]

    def _encoded(
        self, kind: Kind, codec: LatentCodec | CodeCodec | None, samples: Sequence[Sequence[Segment]]
    ) -> dict[Picture, Tensor]:
        found = (s.payload for segments in samples for s in images(segments) if s.kind is kind)
        pictures = list(dict.fromkeys(payload for payload in found if isinstance(payload, Picture)))
        if not pictures:
            return {}
        if codec is None:
            raise UserError("the model was trained without a codec, it cannot see images through one")
        encoded = codec.encode([normalised(picture.pixels()) for picture in pictures])
        return {picture: each.cpu() for picture, each in zip(pictures, encoded, strict=True)}

    def draw(
        self,
        context: Context,
        segments: Sequence[Sequence[Segment]],
        noise_BLD: Tensor,
        grid: Grid,
        advance: Advance | None = None,
    ) -> list[Tensor]:
        """An image [3, H, W] after each row, which holds ``segments[i]``; nothing is appended. What guidance compares with is
        decided by `Sampling.contexts`: these segments without the prompt's texts or without images, dropped as in training, or
        BAGEL's, of which the one without the last text is a snapshot of the row itself. Equal ones are run once.
        ``advance``: how a step is made instead (`ipt.flow.path.euler`)."""
        if self.codec is None:
            raise UserError("the model was trained without a codec, it cannot draw")
        guidance = self.guidance
        published, without_text, without_images = self.sampling.contexts == "published", None, None
        if guidance and guidance.uses_text:
            without_text = (
                self._before_last_text(context, segments) if published else self._branch(segments, _is_prompt_text)
            )
        if guidance and guidance.uses_image:
            texts = [[s for s in prompt_of(row) if s.kind is Kind.TEXT] for row in segments] if published else segments
            without_images = self._branch(texts, _is_image)
        tokens_BLD = sample_latents(
            self.model,
            self.cache,
            context,
            noise_BLD.to(self.like.device),
            grid,
            self.times,
            self.special,
            guidance,
            without_text,
            without_images,
            observe=partial(self._observe, grid),
            together=self.together,
            skip=self.skip if advance is None else 0,
            advance=advance,
            graphs=self.graphs,
        )
        return self._decoded(tokens_BLD, grid)

    def _observe(self, grid: Grid, step: int, velocity: Tensor, tokens_BLD: Tensor) -> None:
        self.deadline.check()
        if self.watch is not None:
            self.watch(step, self._decoded(tokens_BLD, grid))

    def _decoded(self, tokens_BLD: Tensor, grid: Grid) -> list[Tensor]:
        assert self.codec is not None
        return self.codec.decode(list(unpatchify(tokens_BLD, grid, self.geometry.latent_patch).cpu()))

    def _before_last_text(self, context: Context, rows: Sequence[Sequence[Segment]]) -> Context:
        """The rows as they were before the last text of their prompts, or at the end of these where an image is last."""
        kept = []
        for segments in rows:
            prompt = prompt_of(segments)
            kept.append(prompt[:-1] if prompt and prompt[-1].kind is Kind.TEXT else prompt)
        lengths = tuple(num_tokens(segments, self.geometry) for segments in kept)
        return Context(
            context.leases, lengths, tuple(sum(_advance(s, self.geometry) for s in segments) for segments in kept)
        )

    def _branch(self, rows: Sequence[Sequence[Segment]], is_dropped: Callable[[Segment], bool]) -> Context:
        numbers: dict[tuple[object, ...], int] = {}
        branches: list[list[Segment]] = []
        of_row = []
        for segments in rows:
            branch = [replace(s, dropped=True) if is_dropped(s) else s for s in segments]
            key = tuple(map(_content, branch))
            if key not in numbers:
                numbers[key] = len(branches)
                branches.append(branch)
            of_row.append(numbers[key])
        context = self.prefill(self.cache.empty(len(branches)), branches)
        ends = tuple(
            sum(_advance(s, self.geometry) for s in branch) for branch in branches
        )  # a dropped image counts, also at the end
        return replace(context, positions=ends)[of_row]


def prompt_of(segments: Sequence[Segment]) -> list[Segment]:
    """The segments before whatever the model has written or drawn, or was given as if it had."""
    given = (Role.SYSTEM, Role.OBSERVATION, Role.QUESTION)
    return list(itertools.takewhile(lambda segment: segment.role in given, segments))


def _is_prompt_text(segment: Segment) -> bool:
    return segment.kind is Kind.TEXT and segment.role in (Role.SYSTEM, Role.QUESTION)


def _is_image(segment: Segment) -> bool:
    return segment.kind.mode not in SEQUENTIAL


def _advance(segment: Segment, geometry: Geometry) -> int:
    """How far a segment moves the rope id."""
    if segment.kind.mode in SEQUENTIAL:
        return segment.num_tokens(geometry)
    return int(segment.kind.mode is Mode.FULL)


def _content(segment: Segment) -> object:
    """Equal for texts of the same ids, and for the same image, or the same latent slots, in memory."""
    payload = segment.payload
    same: object = id(getattr(payload, "values", payload))
    if isinstance(payload, TokenIds):
        same = tuple(payload.ids.tolist())
    return segment.kind, segment.role, segment.blocked, segment.dropped, same
