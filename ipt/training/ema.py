"""An exponential moving average of the trained weights, with a warm-up.

At 0.9999 the average needs ten thousand steps to forget the weights it started from, and short runs are judged by weights that
they never trained (``spec/ipt.md`` section 4: "EMA .9999 lags ~6k steps"). The decay therefore grows with the updates made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ipt.training.settings import EmaConfig


class Ema:
    """The average of those of ``parameters`` that are trained, float32, sharded as they are."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], config: EmaConfig) -> None:
        self.config, self.updates = config, 0
        self._parameters = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        self.averages = {name: p.detach().float().clone() for name, p in self._parameters.items()}

    def decay(self, update: int) -> float:
        """The decay of update number ``update``, from 1."""
        return min(self.config.decay, (1 + update) / (10 + update)) if self.config.warmup else self.config.decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights: ``a <- d a + (1 - d) p``."""
        self.updates += 1
        share = 1 - self.decay(self.updates)
        for name, average in self.averages.items():
            average.lerp_(self._parameters[name].detach().float(), share)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model computes with the average for as long as the block runs."""
        kept: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._parameters.items()}
        try:
            self._write(self.averages)
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
