"""What a loss is: an entry of a table (`ipt.training.losses.TERMS`, `ipt.training.policy.TABLES`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ipt.model.unified import ModelOutput
from ipt.sequence.batch import PackedBatch
from ipt.sequence.spans import Ints
from ipt.training.settings import LossConfig

if TYPE_CHECKING:
    from ipt.training.losses import Objective

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LossTerm:
    """One loss. ``rows``: [R] the packed positions that it has; ``weights``: [R] what each counts; ``values``: [R] the losses
    themselves, from the model's output, the batch and what they are measured by: the velocity targets [F, D], or in a rollout
    what the weights make of its choices. ``count``: what a pack adds to the number that the step's sum is divided by, where
    that is not the sum of the weights."""

    rows: Callable[[PackedBatch], Ints]
    weights: Callable[[PackedBatch, LossConfig], Floats]
    values: Callable[[Objective, ModelOutput, PackedBatch, Tensor], Tensor]
    count: Callable[[PackedBatch], float] | None = None
