"""Euler integration of the velocity field from noise to data, as a pure function."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

VelocityField = Callable[[Tensor, float], Tensor]


def euler(
    velocity: VelocityField,
    noise: Tensor,
    times: Tensor,
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Integrate ``x <- x - v(x, t_k) (t_k - t_{k+1})`` along ``times`` (`ipt.flow.schedule`), in float32.

    ``noise``: x at ``times[0]``, any shape. ``observe(step, velocity, x)`` sees every step, for previews and traces.
    """
    x = noise.float()
    points = times.tolist()
    deltas = (times[:-1] - times[1:]).tolist()
    for step, (t, delta) in enumerate(zip(points[:-1], deltas, strict=True)):
        v = velocity(x, t).float()
        x = x - v * delta
        if observe is not None:
            observe(step, v, x)
    return x
