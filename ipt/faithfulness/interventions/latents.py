"""What can be done to latents: to the vectors [k, D] that the slots are fed, whoever made them.

CapImagine (arXiv 2602.22766) sets all of them to one constant, to noise, to zeros, and adds noise; Ablate-to-Validate
(2605.21642) matches their distribution and repeats the first; 2606.01287 leaves the markers alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ipt.common.images import decode_image, encode_image
from ipt.common.statistics import Floats
from ipt.faithfulness.interventions.base import Case, opposite, register
from ipt.imagination.base import Mediator


def mean_vector(mediator: Mediator) -> Floats:
    """[D] the mean of the slots."""
    assert mediator.numbers is not None
    return mediator.numbers.mean(0, dtype=np.float64)


def drawn_noise(case: Case) -> Floats:
    """[k, D] independent normal numbers with the mean and deviation of each slot."""
    slots = case.numbers.astype(np.float64)
    return case.rng.normal(slots.mean(1, keepdims=True), slots.std(1, keepdims=True), slots.shape)


@register("latent", "constant", "destroy")
def constant(case: Case) -> Mediator:
    """One vector in every slot and for every question: the mean of those of other scenes."""
    return case.holding(np.broadcast_to(case.elsewhere(mean_vector), case.numbers.shape))


@register("latent", "noise", "destroy")
def noise(case: Case) -> Mediator:
    return case.holding(drawn_noise(case))


@register("latent", "zeros", "destroy")
def zeros(case: Case) -> Mediator:
    return case.holding(np.zeros_like(case.numbers))


@register("latent", "permute", "destroy")
def permuted(case: Case) -> Mediator | None:
    """The slots in another order; None where there is none."""
    count = len(case.numbers)
    if count < 2:
        return None
    order = np.arange(count)
    while (order == np.arange(count)).all():
        order = case.rng.permutation(count)
    return case.holding(case.numbers[order])


@register("latent", "repeat", "destroy")
def repeated(case: Case) -> Mediator | None:
    """The first vector in every slot; None where there is one slot."""
    return None if len(case.numbers) < 2 else case.holding(np.broadcast_to(case.numbers[:1], case.numbers.shape))


@register("latent", "jitter", "dose", "0.5", "1", "2", "4")
def jittered(case: Case, times: str) -> Mediator:
    """Normal numbers of ``times`` the deviation of each slot added to it."""
    slots = case.numbers.astype(np.float64)
    return case.holding(slots + float(times) * (drawn_noise(case) - slots.mean(1, keepdims=True)))


@register("latent", "drop", "dose", "0.25", "0.5", "0.75", "1")
def dropped(case: Case, share: str) -> Mediator:
    """A ``share`` of the slots hold the constant."""
    count = len(case.numbers)
    lost = case.rng.permutation(count)[: round(float(share) * count)]
    kept = np.array(case.numbers)
    kept[lost] = case.elsewhere(mean_vector)
    return case.holding(kept)


@register("latent", "mirror", "truth", target=opposite)
def mirrored(case: Case) -> Mediator | None:
    """The latents of the true picture with left and right exchanged; those of the model's own have no sides: None."""
    if not case.is_true:
        return None
    picture = case.sample.imagination
    turned = encode_image(decode_image(picture.data)[:, ::-1])
    return case.mediator.announcing(case.others.showing(case.sample, replace(picture, data=turned)))
