"""Rows that write texts side by side, one token at a time; which rows take part may change from token to token.

Every row draws from a stream of its own, so that its text does not depend on which other rows it is written beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipt.common.seeding import Name
from ipt.common.seeding import generator as stream
from ipt.inference.session import OpenText, Session, contains, drawn
from ipt.model.cache import Context
from ipt.sequence.spans import Role


@dataclass
class Line:
    """A row that writes ``text``: ``cached`` is the row's place in the cache, which the text's waiting tokens are not in yet. It
    is ``going`` until it has said ``until``, has ended, or holds as many tokens as a text may."""

    text: OpenText
    cached: Context
    until: str
    chance: np.random.Generator | None
    going: bool

    @classmethod
    def begin(
        cls, session: Session, name: Sequence[Name], text: OpenText, cached: Context, until: str, seed: int
    ) -> Line:
        """``name``: of the row, in random streams; with how far it has grown it names what is drawn here."""
        chance = stream(seed, *name, "text", cached.lengths[0]) if session.sampling.temperature else None
        going = not until or until not in session.tokenizer.decode(text.ids)
        return cls(text, cached, until, chance, going)

    def take(self, session: Session, token: int, chance: float) -> None:
        """The model wrote ``token``."""
        eos = session.special.eos
        self.text = self.text.write(token, chance, eos)
        said = bool(self.until) and contains(session.tokenizer, self.text.ids, self.until, 1)
        if not self.text.ended and not said and len(self.text.ids) >= session.sampling.max_tokens:
            self.text = self.text.end(eos)
        self.going = not self.text.ended and not said

    def said(self, session: Session) -> str:
        """The text up to and including ``until``: a token may hold more."""
        text = session.tokenizer.decode(self.text.ids)
        before, found, _ = text.partition(self.until) if self.until else (text, "", "")
        return before + found


def write(session: Session, lines: Sequence[Line], role: Role, blocked: frozenset[Role]) -> None:
    """One more token in each of ``lines``, texts of ``role`` that do not see what is ``blocked``."""
    cached = Context(
        *(tuple(getattr(line.cached, name)[0] for line in lines) for name in ("leases", "lengths", "positions"))
    )
    cached, (_, logits) = session.feed(cached, range(len(lines)), [line.text.waiting for line in lines], role, blocked)
    words = logits[:, : session.model.config.decoder.vocab]  # codes are no words
    tokens = drawn(words, session.sampling.temperature, [line.chance for line in lines])
    for number, (line, (token, chance)) in enumerate(zip(lines, tokens, strict=True)):
        line.cached = cached[[number]]
        line.take(session, token, chance)
