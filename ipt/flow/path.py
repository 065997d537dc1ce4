"""The straight path between data and noise, its velocity and its timestep law (rectified flow, BAGEL's conventions).

t = 0 is data, t = 1 is pure noise: ``x_t = (1 - t) x0 + t noise``, velocity ``noise - x0``. All of it in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t in float32. ``timesteps`` broadcasts against the leading dimensions of ``x0`` and ``noise`` [..., D]."""
    t = timesteps.float()[..., None]
    return (1 - t) * x0.float() + t * noise.float()


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """What the model predicts: d x_t / d t, float32."""
    return noise.float() - x0.float()


def shift_timesteps(timesteps: Tensor, shift: float) -> Tensor:
    """``s t / (1 + (s - 1) t)``: moves time towards noise for s > 1. 0 and 1 stay. Raises ``ValueError`` for s <= 0."""
    if shift <= 0:
        raise ValueError(f"the timestep shift must be positive, got {shift}")
    return shift * timesteps / (1 + (shift - 1) * timesteps)


def sigmoid_normal_timesteps(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """[count] training times in (0, 1): ``t = sigmoid(n)``, n standard normal, then shifted. One per image."""
    normal = torch.randn(count, generator=generator, device=generator.device, dtype=torch.float32)
    return shift_timesteps(torch.sigmoid(normal), shift)
