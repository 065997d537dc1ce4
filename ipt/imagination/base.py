"""What an imagination mode is: the training segments of a sample, and the same mediator made at inference.

A mode owns both directions, so that what it is trained on and what it does cannot drift apart. New modes are one file: a
class under `modes.register`, built from the renderer and its own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from ipt.common.registry import Registry
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.pictures import Size
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role

C = TypeVar("C", bound="Context")


class Context(Protocol):
    """A batch of growing sequences in an inference session; rows are independent of each other.

    Methods return the grown context and leave this one as it was. Segments keep their meaning: roles, blocked roles and rope
    ids follow the rules of training, and guidance branches are kept by role (without the prompt's texts, without images).
    """

    def __len__(self) -> int:
        """Rows."""
        ...

    @property
    def tasks(self) -> Sequence[str]:
        """The task of each row's sample: it decides sizes."""
        ...

    def repeat(self: C, times: int) -> C:
        """Row i becomes the rows i * times ... (i + 1) * times - 1, which grow independently."""
        ...

    def append(self: C, segments: Sequence[Sequence[Segment]]) -> C:
        """Append to each row its segments, possibly none: texts, and images given as pictures."""
        ...

    def write_text(
        self: C, texts: Sequence[str], following: str, role: Role, blocked: frozenset[Role] = frozenset()
    ) -> C:
        """Begin a text per row with given words and leave it open, as `generate_text` with ``until`` does with words of the
        model. ``following``: what comes next in training, which decides how the end of the words is cut into tokens."""
        ...

    def generate_text(
        self: C, role: Role, generator: torch.Generator, until: str = "", blocked: frozenset[Role] = frozenset()
    ) -> tuple[C, list[str]]:
        """Decode one text per row and append it, markers included, as training lays it out.

        With ``until``, a row stops as soon as its text contains it, and its text stays open: the next call continues it
        instead of starting a new one. Returns the whole text of the segment so far.
        """
        ...

    def generate_image(self, rows: Sequence[int], size: Size, generator: torch.Generator) -> list[SampleImage]:
        """Draw one image of (width, height) pixels after each of these rows, without appending it."""
        ...


@dataclass(frozen=True)
class Imagined:
    """Contexts that hold an imagination and wait for the answer (`Context.generate_text` with `Role.ANSWER`).

    ``texts``: what was written of the mediator, and in a row without an image possibly all that the model had to say;
    ``images``: what was drawn, ``None`` where the model chose not to; ``blocked``: roles that the answer may not attend to.
    """

    context: Context
    texts: tuple[str, ...]
    images: tuple[SampleImage | None, ...]
    blocked: frozenset[Role] = frozenset()


class Imagination(Protocol):
    """An imagination mode."""

    name: str
    renderer: Renderer

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        """The training sample: prompt, mediator and answer. A pure function of its arguments."""
        ...

    def prompt(self, sample: SpatialSample) -> list[Segment]:
        """What inference puts into a context before `imagine`."""
        ...

    def imagine(self, context: Context, n: int, generator: torch.Generator) -> Imagined:
        """Draw ``n`` mediators after each row of a context that holds this mode's prompts."""
        ...


modes: Registry[Callable[..., Imagination]] = Registry("imagination mode")
