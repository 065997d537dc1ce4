"""Drawing by chance: the stochastic steps whose pictures are distributed as those of the deterministic ones (Flow-GRPO,
arXiv 2505.05470), so that a drawing has a probability which training can raise or lower.

With t from 1 (noise) to 0 (data), dt < 0, v = noise - x0 and sigma = eta sqrt(t / (1 - t)), where time 1 is capped at the
schedule's second point:

    mean = x (1 + sigma^2 dt / 2t) + v (1 + sigma^2 (1 - t) / 2t) dt        deviation = sigma sqrt(-dt)

The log-probability of a step is the mean over its numbers, without the constant: its ratios do not grow with the size of a
picture.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stochastic_step(
    x: Tensor, v: Tensor, t: Tensor, after: Tensor, cap: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean, and deviation, of the state at time ``after`` in float32, from ``x`` with the velocity ``v`` at time ``t``; ``noise``
    is eta. All broadcast against each other."""
    sigma2 = noise.square() * t / (1 - torch.where(t >= 1, cap, t))
    dt = after - t
    mean = x.float() * (1 + sigma2 * dt / (2 * t)) + v.float() * (1 + sigma2 * (1 - t) / (2 * t)) * dt
    return mean, (sigma2 * -dt).sqrt()


def log_probability(found: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """[..., D] of every number, without the constant, which is the same in every replay of the step."""
    return -((found - mean) / deviation).square() / 2
