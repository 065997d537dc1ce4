"""The times at which an image is sampled: one function, used by sampling, benchmarks and cost estimates alike."""

from __future__ import annotations

import torch
from torch import Tensor

from ipt.common.errors import UserError
from ipt.flow.path import shift_timesteps


def schedule(num_timesteps: int, shift: float = 3.0) -> Tensor:
    """[num_timesteps] float32 times from 1 (noise) to 0 (data), shifted.

    As in BAGEL, ``num_timesteps`` counts the points: there are ``num_timesteps - 1`` Euler steps and model evaluations.
    Raises ``ValueError`` for fewer than two points.
    """
    if num_timesteps < 2:
        raise UserError(f"a schedule needs at least 2 timesteps (one step), got {num_timesteps}")
    return shift_timesteps(torch.linspace(1, 0, num_timesteps), shift)
