"""Contexts of a session: batches of sequences that grow segment by segment, by what is given and by what the model makes.

`SessionContext` is the `ipt.imagination.base.Context` of real models. Contexts are immutable; an older one is a snapshot that
shares memory with those that grew from it. Everything appended, whoever made it, takes the same way.

Texts are laid out as in training. A text that the model writes keeps the cache that it was written with and is never tokenised
again. What a row draws depends on the seed, the row's name and how far it has grown, not on the rest of the batch.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.common.seeding import Name, derived_seed
from ipt.common.seeding import generator as stream
from ipt.flow.path import Advance
from ipt.inference.session import OpenText, Session, drawn
from ipt.inference.writing import Line, write
from ipt.model.cache import Context
from ipt.samples.sample import SampleImage
from ipt.sequence.batch import Grid
from ipt.sequence.pictures import Size, to_image
from ipt.sequence.segments import Codes, Kind, Segment, Slots, TokenIds
from ipt.sequence.spans import Role


@dataclass(frozen=True)
class Row:
    """One sequence: its name in random streams, the task of its sample, the segments in its cache, the text that it has not
    closed yet, and how many tokens of text the model has written in it. ``chances``: by the number of a text's segment, the
    log-probabilities of what the model wrote in it (`OpenText.chances`)."""

    name: tuple[Name, ...]
    task: str
    segments: tuple[Segment, ...] = ()
    text: OpenText | None = None
    text_tokens: int = 0
    chances: tuple[tuple[int, tuple[float, ...]], ...] = ()

    def wrote(self, text: OpenText, before: int) -> Row:
        """With its ``text`` as it is now, after the ``before`` tokens that it began with."""
        return replace(self, text=text, text_tokens=self.text_tokens + len(text.ids) - before)


@dataclass(frozen=True)
class SessionContext:
    """Rows at one moment, and where they stand in the cache; see `ipt.imagination.base.Context`."""

    session: Session
    rows: tuple[Row, ...]
    cached: Context

    @classmethod
    def start(cls, session: Session, names: Iterable[tuple[Name, ...]], tasks: Iterable[str]) -> SessionContext:
        """Empty rows. A row's name is that of its random streams: rows of equal names draw alike."""
        made = tuple(Row(name, task) for name, task in zip(names, tasks, strict=True))
        return cls(session, made, session.cache.empty(len(made)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Sequence[int]) -> SessionContext:
        """The chosen rows."""
        return SessionContext(self.session, tuple(self.rows[i] for i in which), self.cached[which])

    def updated(self, which: Sequence[int], part: SessionContext) -> SessionContext:
        """The rows ``which`` replaced by those of ``part``: where only some rows have gone on."""
        rows = list(self.rows)
        for i, row in zip(which, part.rows, strict=True):
            rows[i] = row
        return SessionContext(self.session, tuple(rows), self.cached.updated(which, part.cached))

    @property
    def tasks(self) -> Sequence[str]:
        return [row.task for row in self.rows]

    @property
    def is_open(self) -> list[bool]:
        """For each row, whether its last text may go on."""
        return [row.text is not None and not row.text.ended for row in self.rows]

    def repeat(self, times: int) -> SessionContext:
        copies = self[[i for i in range(len(self)) for _ in range(times)]]
        named = (replace(row, name=(*row.name, i % times)) for i, row in enumerate(copies.rows))
        return replace(copies, rows=tuple(named))

    def append(self, segments: Sequence[Sequence[Segment]]) -> SessionContext:
        if len(segments) != len(self):
            raise ValueError(f"{len(segments)} lists of segments cannot be appended to {len(self)} rows")
        closed = self.closed
        encoded = self.session.with_latents(segments)
        cached = self.session.prefill(closed.cached, encoded)
        pairs = zip(closed.rows, encoded, strict=True)
        return SessionContext(
            self.session, tuple(replace(row, segments=(*row.segments, *new)) for row, new in pairs), cached
        )

    def write_text(
        self, texts: Sequence[str], following: str, role: Role, blocked: frozenset[Role] = frozenset()
    ) -> SessionContext:
        """Begin a text with given words and leave it open, as if the model had written them. ``following`` is what stood after
        them in training: it decides how their end is cut into tokens."""
        closed, tokenizer, texts_of = self.closed, self.session.tokenizer, []
        for text in texts:
            ids = tokenizer.encode(text + following)
            ends = range(len(ids) + 1)
            enough = bisect_left(ends, True, key=lambda n: tokenizer.decode(ids[:n]).startswith(text))
            texts_of.append(OpenText(role, blocked, (self.session.special.bos, *ids[:enough]), tuple(ids[:enough])))
        return replace(closed, rows=tuple(replace(r, text=t) for r, t in zip(closed.rows, texts_of, strict=True)))

    @cached_property
    def settled(self) -> SessionContext:
        """With the texts that have ended in the cache whole."""
        return self._close([i for i, row in enumerate(self.rows) if row.text is not None and row.text.ended])

    @cached_property
    def closed(self) -> SessionContext:
        """With all texts in the cache whole; those that were open end here."""
        return self._close([i for i, row in enumerate(self.rows) if row.text is not None])

    def _close(self, which: Sequence[int]) -> SessionContext:
        if not which:
            return self
        return self._ended(which)[0]

    def _ended(self, which: Sequence[int]) -> tuple[SessionContext, dict[int, Tensor]]:
        """The rows ``which`` with their texts whole, and the last hidden state [D] of each."""
        cached, rows, eos = self.cached, list(self.rows), self.session.special.eos
        states: dict[int, Tensor] = {}
        texts = {i: text if text.ended else text.end(eos) for i in which if (text := rows[i].text) is not None}
        for role, blocked in dict.fromkeys((text.role, text.blocked) for text in texts.values()):
            same = [i for i, text in texts.items() if (text.role, text.blocked) == (role, blocked)]
            cached, (state_BD, _) = self.session.feed(cached, same, [texts[i].waiting for i in same], role, blocked)
            states |= zip(same, state_BD, strict=True)
        for i, text in texts.items():
            ids = TokenIds(torch.tensor(text.ids, dtype=torch.long))
            segment = Segment(Kind.TEXT, ids, text.role, blocked=text.blocked)
            chances = (*rows[i].chances, (len(rows[i].segments), text.chances))
            rows[i] = replace(rows[i], segments=(*rows[i].segments, segment), text=None, chances=chances)
        return SessionContext(self.session, tuple(rows), cached), states

    def generate_text(
        self, role: Role, seed: int, until: str = "", blocked: frozenset[Role] = frozenset()
    ) -> tuple[SessionContext, list[str]]:
        """A row stops at ``until``, at the end that the model sets, or after ``max_tokens``, which ends its text, too."""
        session, start, lines = self.session, self.settled, []
        for i, row in enumerate(start.rows):
            text = row.text or OpenText(role, blocked, (session.special.bos,))
            lines.append(Line.begin(session, row.name, text, start.cached[[i]], until, seed))
        as_, before = _shared([line.text for line in lines]), [len(line.text.ids) for line in lines]
        while active := [line for line in lines if line.going]:
            session.deadline.check()
            write(session, active, *as_)
        rows = tuple(row.wrote(line.text, old) for row, line, old in zip(start.rows, lines, before, strict=True))
        cached = sum((line.cached for line in lines[1:]), lines[0].cached)
        return SessionContext(session, rows, cached), [line.said(session) for line in lines]

    def score_options(
        self, options: Sequence[Sequence[str]], role: Role = Role.ANSWER, blocked: frozenset[Role] = frozenset()
    ) -> list[list[float]]:
        """Log-probabilities of each row's options as what it writes next: the continuation of its open text, or a text of its
        own. What all options of a row end in is left out of the sum. All rows and options are read in one pass, and runs of
        tokens that options share (all but the last token, for single letters) only once; nothing is appended.
        """
        start, bos = self.settled, self.session.special.bos
        runs: dict[tuple[int, tuple[int, ...]], int] = {}
        wanted: list[list[tuple[int, int, list[int]]]] = []
        for i, (row, ids) in enumerate(zip(start.rows, self.option_ids(options), strict=True)):
            lead = (bos,) if row.text is None else row.text.waiting
            keys = [(i, (*lead, *option[:-1])) for option in ids]
            numbers = [runs.setdefault(key, len(runs)) for key in keys]
            wanted.append([(number, len(lead) - 1, option) for number, option in zip(numbers, ids, strict=True)])
        as_ = _shared([row.text or OpenText(role, blocked, (bos,)) for row in start.rows])
        logits = self.session.read(start.cached[[i for i, _ in runs]], [run for _, run in runs], *as_)
        scores = torch.log_softmax(logits, dim=-1).cpu()
        starts = np.cumsum([0, *(len(run) for _, run in runs)])
        return [
            [
                sum(float(scores[starts[number] + lead + place, token]) for place, token in enumerate(option))
                for number, lead, option in each
            ]
            for each in wanted
        ]

    def option_ids(self, options: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """The tokens of each row's options that decide between them: what all of a row end in is left out."""
        return [_without_common_end([self.session.tokenizer.encode(text) for text in texts]) for texts in options]

    def generate_latents(self, rows: Sequence[int], count: int, role: Role, end: int | None = None) -> SessionContext:
        if without := [i for i in rows if self.rows[i].text is None]:
            raise ValueError(f"the rows {without} do not end in a text, which latent slots go on from")
        closed, states = self._ended(rows)
        cached, session, going = closed.cached, self.session, list(rows)
        vectors: dict[int, list[Tensor]] = {i: [] for i in rows}
        for _ in range(count):
            if not going:
                break
            session.deadline.check()
            fed_BD = torch.stack([states[i] for i in going])
            part, states_BD, logits_BV = session.feed_slots(cached[going], fed_BD, role)
            cached = cached.updated(going, part)
            for i, vector in zip(going, fed_BD, strict=True):
                vectors[i].append(vector)
            states = dict(zip(going, states_BD, strict=True))
            ended = [False] * len(going) if end is None else (logits_BV.argmax(dim=-1) == end).tolist()
            going = [i for i, over in zip(going, ended, strict=True) if not over]
        grown = list(closed.rows)
        for i, made in vectors.items():
            segment = Segment(Kind.LATENT, Slots(len(made), torch.stack(made).cpu()), role)
            grown[i] = replace(grown[i], segments=(*grown[i].segments, segment))
        return SessionContext(session, tuple(grown), cached)

    def generate_codes(
        self, rows: Sequence[int], size: Size, role: Role, seed: int
    ) -> tuple[SessionContext, list[SampleImage]]:
        session, closed = self.session, self.closed
        if session.codes is None:
            raise UserError("the model was trained without codes of pictures, it cannot write any")
        special, stride, first = session.special, session.geometry.code_stride, session.geometry.first_code
        shape = size[1] // stride, size[0] // stride
        named = [(*closed.rows[i].name, "codes", closed.cached.lengths[i]) for i in rows]
        heat, codes = session.sampling.temperature, torch.empty(len(rows), 0, dtype=torch.long)
        chances = [stream(seed, *name) if heat else None for name in named]
        cached, blocked = closed.cached, frozenset[Role]()
        runs = [[special.image_start] for _ in rows]
        for _ in range(math.prod(shape)):
            session.deadline.check()
            cached, (_, logits) = session.feed(cached, rows, runs, role, blocked)
            chosen = [code for code, _ in drawn(logits[:, first:], heat, chances)]
            runs = [[first + code] for code in chosen]
            codes = torch.cat([codes, torch.tensor(chosen)[:, None]], dim=1)
        cached, _ = session.feed(cached, rows, [[*run, special.image_end] for run in runs], role, blocked)
        grown = list(closed.rows)
        written = list(codes.unflatten(1, shape))
        for i, made in zip(rows, written, strict=True):
            grown[i] = replace(grown[i], segments=(*grown[i].segments, Segment(Kind.CODES, Codes(made), role)))
        return SessionContext(session, tuple(grown), cached), [shown(each) for each in session.codes.decode(written)]

    def generate_image(
        self, rows: Sequence[int], size: Size, seed: int, advance: Advance | None = None
    ) -> list[SampleImage]:
        """``advance``: how a step of the drawing is made instead of Euler's (`ipt.flow.path.euler`)."""
        chosen, stride = self.closed[rows], self.session.geometry.latent_stride
        grid = size[1] // stride, size[0] // stride
        noise_BLD = chosen._noise(grid, seed)
        drawn = self.session.draw(chosen.cached, [row.segments for row in chosen.rows], noise_BLD, grid, advance)
        return [shown(pixels) for pixels in drawn]

    def _noise(self, grid: Grid, seed: int) -> Tensor:
        """[B, L, D] each row's own."""
        shape = grid[0] * grid[1], self.session.geometry.latent_size
        named = zip(self.rows, self.cached.lengths, strict=True)
        seeds = [derived_seed(seed, *row.name, "image", length) for row, length in named]
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(own)) for own in seeds])


def shown(pixels: Tensor) -> SampleImage:
    """An image [3, H, W] in [-1, 1] that the model made."""
    return SampleImage(encode_image(np.asarray(to_image(pixels))), "imagination")


def _shared(texts: Sequence[OpenText]) -> tuple[Role, frozenset[Role]]:
    """Role and blocked roles of texts that are written together."""
    kinds = {(text.role, text.blocked) for text in texts}
    if len(kinds) != 1:
        raise ValueError(f"texts of different roles cannot be written in one batch: {sorted(map(str, kinds))}")
    return kinds.pop()


def _without_common_end(options: Sequence[Sequence[int]]) -> list[list[int]]:
    """The ids without the longest end that all have in common; those of a single option stay whole."""
    backwards = zip(*(reversed(ids) for ids in options), strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, backwards))
    cut = 0 if len(options) == 1 else same
    return [list(ids[: len(ids) - cut]) for ids in options]
