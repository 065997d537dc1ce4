"""Drawing with a window of steps that are left to chance, and what is kept of these for their replay.

Shape suffixes: B pictures, L tokens of a picture, D numbers per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipt.common.seeding import Name, derived_seed, generator
from ipt.flow.stochastic import log_probability, stochastic_step


@dataclass(frozen=True)
class Walked:
    """A step of a drawing that was left to chance: from ``state_LD`` at ``time`` to ``next_LD``, float32 on the CPU, and its
    log-probability ``told``."""

    number: int
    state_LD: Tensor
    next_LD: Tensor
    time: float
    next_time: float
    cap: float
    noise: float
    told: float


def first_step(steps: int, window: int, first: float, last: float, seed: int, *names: Name) -> int:
    """Where a window begins in a drawing of so many ``steps``: drawn such that all of it lies between the shares ``first`` and
    ``last`` of these, as far as there is room."""
    lowest = min(int(first * steps), max(steps - window, 0))
    highest = max(int(last * steps) - window, lowest)
    return int(generator(seed, *names, "window").integers(lowest, highest + 1))


class Walk:
    """The steps of one batch of drawings (`ipt.flow.path.Advance`): picture i takes ``window`` stochastic steps from number
    ``first_B[i]`` on, with random numbers of its own under ``names[i]``, and Euler's steps otherwise. ``walked_B`` keeps the
    former."""

    def __init__(
        self,
        times: Tensor,
        noise: float,
        window: int,
        first_B: Sequence[int],
        seed: int,
        names: Sequence[Sequence[Name]],
    ) -> None:
        self.times, self.noise, self.window, self.first_B = times, noise, window, first_B
        self.walked_B: list[list[Walked]] = [[] for _ in first_B]
        self._streams = [torch.Generator().manual_seed(derived_seed(seed, *name, "chance")) for name in names]

    def __call__(self, step: int, x_BLD: Tensor, v_BLD: Tensor) -> Tensor:
        t, after, cap = (self.times[number].to(x_BLD) for number in (step, step + 1, 1))
        moved_BLD = x_BLD - v_BLD * (t - after)
        rows = [i for i, first in enumerate(self.first_B) if first <= step < first + self.window]
        if not rows:
            return moved_BLD
        noise = torch.tensor(self.noise, device=x_BLD.device)
        mean, deviation = stochastic_step(x_BLD[rows], v_BLD[rows], t, after, cap, noise)
        shape = x_BLD.shape[1:]
        drawn = torch.stack([torch.randn(shape, generator=self._streams[i]) for i in rows]).to(x_BLD)
        chosen = mean + deviation * drawn
        told = log_probability(chosen, mean, deviation).mean((1, 2))
        moved_BLD[rows] = chosen
        for place, i in enumerate(rows):
            state, following = x_BLD[i].float().cpu(), chosen[place].cpu()
            about = float(t), float(after), float(cap), self.noise, float(told[place])
            self.walked_B[i].append(Walked(step, state, following, *about))
        return moved_BLD
