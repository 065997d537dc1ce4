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

from ipt.common.images import encode_image
from ipt.imagination.base import Imagination, Imagined
from ipt.imagination.ipt import Ipt
from ipt.imagination.mixture import make_mode
from ipt.imagination.recipe import Recipe
from ipt.imagination.text_cot import TextCot
from ipt.inference.session import SessionContext
from ipt.inference.settings import ModeSettings
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.spans import Role

Other = Callable[[SpatialSample], SpatialSample]


class Plan(Protocol):
    """``mode``: whose prompt is asked with. ``draws``: whether images in its contexts are the model's own."""

    mode: Imagination
    draws: bool

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Imagined: ...


@dataclass(frozen=True)
class Imagine:
    """The mode's own: what the model makes, ``n`` times."""

    mode: Imagination
    n: int = 1
    draws: bool = True

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Imagined:
        return self.mode.imagine(context, self.n, generator)


@dataclass(frozen=True)
class Given:
    """What training shows as the mediator of ``source(sample)``: the truth, or that of another sample. The words that announce
    an image are the sample's own."""

    mode: Imagination
    source: Other
    draws: bool = False

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Imagined:
        sources = [self.source(sample) for sample in samples]
        if isinstance(self.mode, Ipt):
            renderer = self.mode.renderer
            thoughts = [
                renderer.profile.thought_of(sample, renderer.config.stream("thought", sample, 0)) for sample in samples
            ]
            return self.mode.given(context, thoughts, [source.imagination for source in sources])
        assert isinstance(self.mode, TextCot)
        return self.mode.given(context, [self.mode.mediator(source) for source in sources])


@dataclass(frozen=True)
class Unseeing:
    """For models that were never trained to answer at once, but to answer from an imagination that they now and then could not
    see (``reveal`` below 1): everything stands as it did then, around a blank picture that the answer may not attend to."""

    mode: Imagination
    draws: bool = False

    def __call__(
        self, context: SessionContext, samples: Sequence[SpatialSample], generator: torch.Generator
    ) -> Imagined:
        assert isinstance(self.mode, Ipt)
        profile = self.mode.renderer.profile
        blanks = [blank(*self.mode.renderer.imagination_size(sample.task)) for sample in samples]
        imagined = self.mode.given(context, [profile.thoughts_of(sample.task)[0] for sample in samples], blanks)
        return replace(imagined, blocked=imagined.blocked | {Role.IMAGINATION})


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
            raise ValueError("wrong_imagination takes imaginations from a dataset, there is none")
        return Given(mode, other)
    return Imagine(mode, settings.n)


def mediator(settings: ModeSettings, recipe: Recipe) -> str:
    """The imagination mode that stands between question and answer: the one asked for, else the first that was trained."""
    trained = recipe.mediators
    if not trained:
        raise ValueError(
            f"mode={settings.name} needs a model that was trained to imagine; this one was trained on "
            f"{', '.join(recipe.imagination.modes)}: use mode=answer_only"
        )
    if settings.mediator is None:
        return trained[0]
    if settings.mediator not in trained:
        raise ValueError(f"mode.mediator={settings.mediator}: the model was trained on {', '.join(trained)}")
    return settings.mediator
