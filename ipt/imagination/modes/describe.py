"""Describing alone: the picture that is asked for in words, and no answer; the counterpart of the mode `draw`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipt.imagination.base import Imagination, modes
from ipt.samples.prompts import Profile, describe, written
from ipt.samples.sample import SampleImage, SpatialSample

if TYPE_CHECKING:
    import numpy as np


@modes.register("describe")
class Describe(Imagination):
    """``<think_image>`` caption ``</think_image>``."""

    name = "describe"
    mediates, answers = False, False
    prompts = {  # noqa: RUF012
        "default": "Look at the images and describe the picture that is asked for between <think_image> and </think_image>.",
        "brief": "Describe.",
    }

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [describe(written(sample, "caption"))]
