"""Decode plans: what comes between a question and its answer in each mode of inference.

Each plan hands on contexts that wait for the answer, ``n`` per sample. What is given instead of imagined (the truth, or that of
another scene) is appended by the same code as what the model makes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ipt.common.errors import UserError
from ipt.imagination.base import Imagination, Imagined
from ipt.imagination.mixture import ImaginationConfig, make_mode
from ipt.imagination.modes import modes
from ipt.imagination.recipe import Recipe
from ipt.inference.context import SessionContext
from ipt.inference.settings import ModeSettings
from ipt.samples.prompts import ANSWER_END
from ipt.samples.sample import SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.spans import Role

#: An answer is over here; what follows it costs time and says nothing.
STOP = ANSWER_END[:-1]
Other = Callable[[SpatialSample], SpatialSample]


class Plan(Protocol):
    """``mode``: whose prompt is asked with. ``draws``: whether images in its contexts are the model's own."""

    @property
    def mode(self) -> Imagination: ...

    @property
    def draws(self) -> bool: ...

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined: ...


@dataclass(frozen=True)
class Imagine:
    """The mode's own: what the model makes, ``n`` times."""

    mode: Imagination
    n: int = 1
    draws: bool = True

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined:
        return self.mode.imagine(context, self.n, seed)


@dataclass(frozen=True)
class Free:
    """As the mode, but the model goes on as it likes: instead of answering it may announce a further image, up to
    ``max_images`` in all."""

    mode: Imagination
    n: int
    max_images: int
    draws: bool = True

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined:
        found = self.mode.imagine(context, self.n, seed)
        assert isinstance(found.context, SessionContext)
        answering = zip(found.leads, found.context.is_open, strict=True)
        going = [row for row, (lead, is_open) in enumerate(answering) if lead or is_open]
        for _ in range(self.max_images - 1):
            if not going:
                break
            assert isinstance(found.context, SessionContext)
            said, texts = found.context[going].generate_text(Role.ANSWER, seed, until=STOP, blocked=found.blocked)
            again = [i for i, text in enumerate(texts) if self.mode.announces(text) and not said.is_open[i]]
            going = [going[i] for i in again]
            if going:
                more = self.mode.announced(said[again], [texts[i] for i in again], seed)
                found = continued(found, going, more)
        return found


def continued(imagined: Imagined, which: Sequence[int], more: Imagined) -> Imagined:
    """The rows ``which`` continued by those of ``more``."""
    assert isinstance(imagined.context, SessionContext) and isinstance(more.context, SessionContext)
    texts, images, leads = list(imagined.texts), list(imagined.images), list(imagined.leads)
    for i, said, drawn, lead in zip(which, more.texts, more.images, more.leads, strict=True):
        texts[i], images[i], leads[i] = (*texts[i], *said), (*images[i], *drawn), lead
    context = imagined.context.updated(which, more.context)
    return Imagined(context, tuple(texts), tuple(images), tuple(leads), imagined.blocked)


@dataclass(frozen=True)
class Given:
    """What training shows as the mediator of ``source(sample)``: the truth, or that of another sample. The words that announce
    it are the sample's own."""

    mode: Imagination
    source: Other
    draws: bool = False

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined:
        return self.mode.given(context, samples, [self.source(sample) for sample in samples])


@dataclass(frozen=True)
class Unseen:
    """For models that were never trained to answer at once, but to answer from an imagination that they now and then could not
    see: everything stands as it did then (`Imagination.unseen`)."""

    mode: Imagination
    draws: bool = False

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined:
        return self.mode.unseen(context, samples)


def answers_unseen(imagination: ImaginationConfig) -> str | None:
    """The mode in whose way a model answers without imagination (`Unseen`); ``None`` where it is trained to answer at once."""
    if set(imagination.answering) != set(imagination.mediators):
        return None
    return next((name for name in imagination.answering if imagination.of(name).answers_unseen), None)


def make_plan(settings: ModeSettings, recipe: Recipe, renderer: Renderer, other: Other | None = None) -> Plan:
    """The plan of a mode for a model that was trained by ``recipe``. ``other``: finds the sample with the wrong imagination.

    Raises ``ValueError`` where the model was not trained for the mode.
    """
    imagination = recipe.imagination.at_inference
    if settings.name == "answer_only":
        unseen = answers_unseen(recipe.imagination)
        at_once = next(name for name in modes if modes[name].answers and not modes[name].mediates)
        mode = make_mode(unseen or at_once, renderer, imagination)
        return Unseen(mode) if unseen else Imagine(mode)
    mode = make_mode(mediator(settings, recipe), renderer, imagination)
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
    trained = recipe.imagination.mediators
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
