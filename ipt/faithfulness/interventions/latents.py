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


def moments(mediator: Mediator) -> Floats:
    """[2, D] the mean of the slots, and that of their squares."""
    assert mediator.numbers is not None
    slots = mediator.numbers.astype(np.float64)
    return np.stack([slots.mean(0), (slots**2).mean(0)])


def spread(case: Case) -> tuple[Floats, Floats]:
    """Mean and deviation of each number [D] over the slots of other scenes."""
    mean, square = case.elsewhere(moments)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


@register("latent", "constant", "destroy")
def constant(case: Case) -> Mediator:
    """One vector in every slot and for every question: the mean of those of other scenes."""
    return case.holding(np.broadcast_to(spread(case)[0], case.numbers.shape))


@register("latent", "noise", "destroy")
def noise(case: Case) -> Mediator:
    """Independent normal numbers, each with the mean and deviation that it has in other scenes."""
    return case.holding(case.rng.normal(*spread(case), case.numbers.shape))


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
    """Noise of ``times`` the deviation that each number has in other scenes added to it."""
    return case.holding(case.numbers + float(times) * case.rng.normal(0, spread(case)[1], case.numbers.shape))


@register("latent", "drop", "dose", "0.25", "0.5", "0.75", "1")
def dropped(case: Case, share: str) -> Mediator:
    """A ``share`` of the slots hold the constant."""
    count = len(case.numbers)
    lost = case.rng.permutation(count)[: round(float(share) * count)]
    kept = np.array(case.numbers)
    kept[lost] = spread(case)[0]
    return case.holding(kept)


@register("latent", "mirror", "truth", target=opposite)
def mirrored(case: Case) -> Mediator | None:
    """The latents of the true picture with left and right exchanged; those of the model's own have no sides: None."""
    if not case.is_true:
        return None
    picture = case.sample.imagination
    turned = encode_image(decode_image(picture.data)[:, ::-1])
    return case.mediator.announcing(case.others.showing(case.sample, replace(picture, data=turned)))
