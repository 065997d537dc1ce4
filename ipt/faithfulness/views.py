"""A sample as it is asked in other ways: without its inputs, with those of a minimal pair, for something else in its view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ipt.common.images import encode_image, image_size
from ipt.faithfulness.interventions.pictures import GREY
from ipt.samples.questions import word, wordings
from ipt.samples.sample import SampleImage, SpatialSample

View = Callable[[SpatialSample], SpatialSample]


def as_it_is(sample: SpatialSample) -> SpatialSample:
    return sample


def blank_inputs(sample: SpatialSample) -> SpatialSample:
    """The sample with grey pictures of the same sizes as inputs."""

    def grey(image: SampleImage) -> SampleImage:
        width, height = image_size(image.data, image.role)
        return SampleImage(encode_image(np.full((height, width, 3), GREY, np.uint8)), image.role)

    return replace(sample, images=tuple(grey(image) for image in sample.images))


def other_inputs(sample: SpatialSample, role: str) -> SpatialSample | None:
    """The sample with the inputs of its minimal pair ``role``; None where it has none."""
    prefix = f"{role}/"
    found = [image for image in sample.counterfactuals if image.role.startswith(prefix)]
    if len(found) != len(sample.images):
        return None
    return replace(sample, images=tuple(replace(image, role=image.role.removeprefix(prefix)) for image in found))


def derived_question(sample: SpatialSample) -> SpatialSample | None:
    """Another question about the same unseen view, in the words of training: where the object is, for how far it is, and the
    other way round (as in CapImagine, arXiv 2602.22766, which asks for another attribute). None where facts do not tell, or
    hardly."""
    facts = sample.facts
    needed = ("kind", "template", "arrow", "turn", "object", "position_after", "distance_before_m", "distance_after_m")
    if sample.task != "pet" or any(facts.get(name) is None for name in needed):
        return None
    asks_side = facts["kind"] == "distance"
    shift = facts["position_after"][0] - 0.5 if asks_side else facts["distance_after_m"] - facts["distance_before_m"]
    choices = ("Left", "Right") if asks_side else ("Closer", "Further")
    if abs(shift) < (0.1 if asks_side else 0.3):
        return None
    name = f"pet_{'position' if asks_side else 'distance'}{'_arrow' if facts['arrow'] else ''}"
    template = wordings(plain=str(facts["template"]).startswith("plain"))[name][0]
    return replace(
        sample,
        question=word(template, object=facts["object"]["name"], turn=facts["turn"]),
        question_type="derived",
        choices=choices,
        answer="AB"[shift > 0],
    )
