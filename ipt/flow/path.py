"""The straight path between data and noise, its velocity, times and integration (rectified flow, BAGEL's conventions).

t = 0 is data, t = 1 is pure noise: ``x_t = (1 - t) x0 + t noise``, velocity ``noise - x0``. All of it in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ipt.common.errors import UserError


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


def schedule(num_timesteps: int, shift: float = 3.0) -> Tensor:
    """[num_timesteps] float32 times from 1 (noise) to 0 (data), shifted.

    As in BAGEL, ``num_timesteps`` counts the points: there are ``num_timesteps - 1`` Euler steps and model evaluations.
    Raises ``ValueError`` for fewer than two points.
    """
    if num_timesteps < 2:
        raise UserError(f"a schedule needs at least 2 timesteps (one step), got {num_timesteps}")
    return shift_timesteps(torch.linspace(1, 0, num_timesteps), shift)


VelocityField = Callable[[Tensor, float], Tensor]
Advance = Callable[[int, Tensor, Tensor], Tensor]


class Forecast:
    """A field for one integration that asks ``velocity`` once in ``skip`` + 1 steps, and in between follows the line through the
    last two answers: a first-order forecast, as TaylorSeer (arXiv 2503.06923) makes of features. ``phase(t)`` tells stretches of
    time apart (guided or not) whose velocities are not mixed: each begins with two steps that are asked for.
    """

    def __init__(self, velocity: VelocityField, skip: int, phase: Callable[[float], object] = lambda t: None) -> None:
        self.velocity, self.skip, self.phase = velocity, skip, phase
        self._known: list[tuple[float, object, Tensor]] = []
        self._left = 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        phase = self.phase(t)
        known = [(at, v) for at, its, v in self._known[-2:] if its == phase]
        if self._left and len(known) == 2:
            self._left -= 1
            (t0, v0), (t1, v1) = known
            return v1 + (v1 - v0) * ((t - t1) / (t1 - t0))
        self._left = self.skip
        v = self.velocity(x, t).float()
        self._known = [*self._known[-1:], (t, phase, v)]
        return v


def euler(
    velocity: VelocityField,
    noise: Tensor,
    times: Tensor,
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
    advance: Advance | None = None,
) -> Tensor:
    """Integrate ``x <- x - v(x, t_k) (t_k - t_{k+1})`` along ``times`` (`ipt.flow.path`), in float32.

    ``noise``: x at ``times[0]``, any shape. ``observe(step, velocity, x)`` sees every step, for previews and traces.
    ``advance(step, x, v)``: makes the next x instead.
    """
    x = noise.float()
    points = times.tolist()
    deltas = (times[:-1] - times[1:]).tolist()
    for step, (t, delta) in enumerate(zip(points[:-1], deltas, strict=True)):
        v = velocity(x, t).float()
        x = x - v * delta if advance is None else advance(step, x, v)
        if observe is not None:
            observe(step, v, x)
    return x
