"""Decode plans: what comes between a question and its answer in each mode of inference.

Each plan hands on contexts that wait for the answer, ``n`` per sample. What is given instead of imagined (the truth, or that of
another scene) is appended by the same code as what the model makes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
import torch

from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.imagination.base import Imagination, Imagined
from ipt.imagination.ipt import Ipt
from ipt.imagination.mixture import make_mode
from ipt.imagination.recipe import Recipe
from ipt.imagination.text_cot import TextCot
from ipt.inference.session import SessionContext
from ipt.inference.settings import ModeSettings
from ipt.samples.prompts import ANSWER_END, IMAGE_START
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.spans import Role

#: An answer is over here; what follows it costs time and says nothing.
STOP = ANSWER_END[:-1]
Other = Callable[[SpatialSample], SpatialSample]


@dataclass(frozen=True)
class Mediated:
    """Contexts that wait for the answer. Of each row: what was ``written`` before it, the ``images`` that the answer sees, and
    the roles that it may not attend to (``blocked``, the same for all)."""

    context: SessionContext
    written: tuple[tuple[str, ...], ...]
    images: tuple[tuple[SampleImage, ...], ...]
    blocked: frozenset[Role]

    @classmethod
    def of(cls, imagined: Imagined) -> Mediated:
        assert isinstance(imagined.context, SessionContext)
        written = tuple((text,) if text else () for text in imagined.texts)
        images = tuple(() if image is None else (image,) for image in imagined.images)
        return cls(imagined.context, written, images, imagined.blocked)

    def extended(self, which: Sequence[int], more: Mediated) -> Mediated:
        """The rows ``which`` continued by those of ``more``."""
        written, images = list(self.written), list(self.images)
        for i, texts, drawn in zip(which, more.written, more.images, strict=True):
            written[i], images[i] = (*written[i], *texts), (*images[i], *drawn)
        return Mediated(self.context.updated(which, more.context), tuple(written), tuple(images), self.blocked)

    @property
    def is_over(self) -> list[bool]:
        """Rows in which the model has said all it had to say: it ended its text without announcing an image."""
        return [
            bool(texts) and not images and not is_open
            for texts, images, is_open in zip(self.written, self.images, self.context.is_open, strict=True)
        ]


class Plan(Protocol):
    """``mode``: whose prompt is asked with. ``draws``: whether images in its contexts are the model's own."""

    @property
    def mode(self) -> Imagination: ...

    @property
    def draws(self) -> bool: ...

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Mediated: ...


@dataclass(frozen=True)
class Imagine:
    """The mode's own: what the model makes, ``n`` times."""

    mode: Imagination
    n: int = 1
    draws: bool = True

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Mediated:
        return Mediated.of(self.mode.imagine(context, self.n, generator))


@dataclass(frozen=True)
class Free:
    """As the mode, but the model goes on as it likes: instead of answering it may announce a further image, up to
    ``max_images`` in all."""

    mode: Imagination
    n: int
    max_images: int
    draws: bool = True

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Mediated:
        found = Mediated.of(self.mode.imagine(context, self.n, generator))
        if not isinstance(self.mode, Ipt):
            return found
        going = [row for row, images in enumerate(found.images) if images]
        for _ in range(self.max_images - 1):
            if not going:
                break
            waiting = found.context[going]
            said, texts = waiting.generate_text(Role.ANSWER, generator, until=STOP, blocked=found.blocked)
            again = [i for i, text in enumerate(texts) if IMAGE_START in text and not said.is_open[i]]
            going = [going[i] for i in again]
            if going:
                drawn = self.mode.drawn(said[again], [texts[i] for i in again], generator)
                found = found.extended(going, Mediated.of(drawn))
        return found


@dataclass(frozen=True)
class Given:
    """What training shows as the mediator of ``source(sample)``: the truth, or that of another sample. The words that announce
    an image are the sample's own."""

    mode: Imagination
    source: Other
    draws: bool = False

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Mediated:
        sources = [self.source(sample) for sample in samples]
        if isinstance(self.mode, Ipt):
            renderer = self.mode.renderer
            thoughts = [
                renderer.profile.thought_of(sample, renderer.config.stream("thought", sample, 0)) for sample in samples
            ]
            return Mediated.of(self.mode.given(context, thoughts, [source.imagination for source in sources]))
        assert isinstance(self.mode, TextCot)
        return Mediated.of(self.mode.given(context, [self.mode.mediator(source) for source in sources]))


@dataclass(frozen=True)
class Unseeing:
    """For models that were never trained to answer at once, but to answer from an imagination that they now and then could not
    see (``reveal`` below 1): everything stands as it did then, around a blank picture that the answer may not attend to."""

    mode: Imagination
    draws: bool = False

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Mediated:
        assert isinstance(self.mode, Ipt)
        profile = self.mode.renderer.profile
        blanks = [blank(*self.mode.renderer.imagination_size(sample.task)) for sample in samples]
        imagined = self.mode.given(context, [profile.thoughts_of(sample.task)[0] for sample in samples], blanks)
        return Mediated.of(replace(imagined, blocked=imagined.blocked | {Role.IMAGINATION}))


@cache
def blank(width: int, height: int) -> SampleImage:
    """A grey picture."""
    return SampleImage(encode_image(np.full((height, width, 3), 128, dtype=np.uint8)), "imagination")


def answers_unseeing(recipe: Recipe) -> bool:
    """Whether a model answers without imagination in the way of `Unseeing`."""
    modes = recipe.imagination.modes
    return not modes.get("label_only") and bool(modes.get("ipt")) and recipe.imagination.ipt.reveal < 1


def make_plan(settings: ModeSettings, recipe: Recipe, renderer: Renderer, other: Other | None = None) -> Plan:
    """The plan of a mode for a model that was trained by ``recipe``. ``other``: finds the sample with the wrong imagination.

    Raises ``ValueError`` where the model was not trained for the mode.
    """
    if settings.name == "answer_only":
        if answers_unseeing(recipe):
            return Unseeing(make_mode("ipt", renderer, recipe.inference_imagination))
        return Imagine(make_mode("label_only", renderer, recipe.inference_imagination))
    mode = make_mode(mediator(settings, recipe), renderer, recipe.inference_imagination)
    if settings.name == "gt_imagination":
        return Given(mode, lambda sample: sample)
    if settings.name == "wrong_imagination":
        if other is None:
            raise UserError("wrong_imagination takes imaginations from a dataset, there is none")
        return Given(mode, other)
    if settings.name == "free":
        return Free(mode, settings.n, settings.max_images)
    return Imagine(mode, settings.n)


def mediator(settings: ModeSettings, recipe: Recipe) -> str:
    """The imagination mode that stands between question and answer: the one asked for, else the first that was trained."""
    trained = recipe.mediators
    if not trained:
        raise UserError(
            f"mode={settings.name} needs a model that was trained to imagine; this one was trained on "
            f"{', '.join(recipe.imagination.modes)}: use mode=answer_only"
        )
    if settings.mediator is None:
        return trained[0]
    if settings.mediator not in trained:
        raise UserError(f"mode.mediator={settings.mediator}: the model was trained on {', '.join(trained)}")
    return settings.mediator
