"""Which token comes next, and when a text is over. Every row draws from a stream of its own, so that its text does not depend
on which other rows share its batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ipt.common.seeding import Name
from ipt.common.seeding import generator as stream
from ipt.sequence.spans import Role
from ipt.sequence.tokenizer import Tokenizer


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
    the opening marker, later what was written last)."""

    role: Role
    blocked: frozenset[Role]
    waiting: tuple[int, ...]
    ids: tuple[int, ...] = ()
    ended: bool = False

    def write(self, token: int, eos: int) -> OpenText:
        """With one more token; ``eos`` ends it."""
        if token == eos:
            return replace(self, waiting=(eos,), ended=True)
        return replace(self, waiting=(token,), ids=(*self.ids, token))

    def end(self, eos: int) -> OpenText:
        """Ended here, though the model might have gone on."""
        return replace(self, waiting=(*self.waiting, eos), ended=True)


def contains(tokenizer: Tokenizer, ids: Sequence[int], wanted: str, fresh: int) -> bool:
    """Whether the text of ``ids`` contains ``wanted``, where it did not before the last ``fresh`` tokens. Every token is at
    least a byte, so only the end has to be decoded."""
    window = len(wanted.encode()) + fresh
    return wanted in tokenizer.decode(ids[-window:])


class Sampler:
    """The likeliest token at ``temperature`` 0, else one drawn; row i from the stream ``names[i]`` under ``seed``."""

    def __init__(self, temperature: float, seed: int, names: Sequence[Sequence[Name]]) -> None:
        self.temperature = temperature
        self._streams: list[np.random.Generator] = [stream(seed, *name) for name in names] if temperature else []

    def __call__(self, logits_BV: Tensor, rows: Sequence[int]) -> list[int]:
        """The next token of each of ``rows``."""
        if not self.temperature:
            return logits_BV.argmax(dim=-1).tolist()
        chances_BV = torch.softmax(logits_BV.double() / self.temperature, dim=-1)
        drawn_B1 = chances_BV.new_tensor([[self._streams[row].random()] for row in rows])
        chosen = torch.searchsorted(chances_BV.cumsum(dim=-1), drawn_B1, right=True).squeeze(-1)
        return chosen.clamp(max=logits_BV.shape[-1] - 1).tolist()
