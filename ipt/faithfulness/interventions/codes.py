"""What can be done to a picture in codes [rows, columns]: to the codes, which are written and read like words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipt.common.statistics import Floats
from ipt.faithfulness.interventions.base import Case, opposite, register
from ipt.imagination.base import Mediator


@dataclass(frozen=True)
class Shares:
    """How often each of ``codes`` codes is written in a mediator: [codes]."""

    codes: int

    def __call__(self, mediator: Mediator) -> Floats:
        assert mediator.numbers is not None
        return np.bincount(mediator.numbers.ravel(), minlength=self.codes) / mediator.numbers.size


def most_frequent(case: Case) -> int:
    """The code that other scenes have most of."""
    return int(case.elsewhere(Shares(case.others.codes)).argmax())


@register("code", "noise", "destroy")
def noise(case: Case) -> Mediator:
    """Any code that the model can write, with equal chances, at every place."""
    return case.holding(case.rng.integers(0, case.others.codes, case.numbers.shape))


@register("code", "constant", "destroy")
def constant(case: Case) -> Mediator:
    """The most frequent code of other scenes at every place."""
    return case.holding(np.full_like(case.numbers, most_frequent(case)))


@register("code", "shuffle", "destroy")
def shuffled(case: Case) -> Mediator:
    """The same codes without layout."""
    return case.holding(case.rng.permutation(case.numbers.ravel()).reshape(case.numbers.shape))


@register("code", "mirror", "direct", target=opposite)
def mirrored(case: Case) -> Mediator:
    """Left and right change places, code by code (what a code shows is not turned)."""
    return case.holding(case.numbers[:, ::-1])


@register("code", "drop", "dose", "0.25", "0.5", "0.75", "0.9")
def dropped(case: Case, share: str) -> Mediator:
    """A ``share`` of the places hold the most frequent code of other scenes."""
    kept = case.numbers.ravel().copy()
    kept[case.rng.permutation(kept.size)[: round(float(share) * kept.size)]] = most_frequent(case)
    return case.holding(kept.reshape(case.numbers.shape))
