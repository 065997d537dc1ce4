"""Losses and answers on a validation split during training: the same packs with the same noise every time, under the averaged
weights where there are any. They decide which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from ipt.sequence.loader import Loader
from ipt.training.losses import TokenCounts

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer


class Validation:
    """``make_loader``: a fresh loader of this rank's validation packs, of which one per lane is used. ``evaluate``: answers
    questions, and names the shares that it found."""

    def __init__(
        self, make_loader: Callable[[], Loader], evaluate: Callable[[Trainer], dict[str, float]] | None = None
    ) -> None:
        self._make_loader, self._evaluate = make_loader, evaluate

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """The losses, the total weighed as in training, and the shares. All ranks call this together; nothing of the training
        changes."""
        trainer.objective.eval()
        with torch.no_grad(), nullcontext() if trainer.ema is None else trainer.ema.swapped_in():
            trainer.weights.publish()
            ce, flow = self._losses(trainer)
            shares = {} if self._evaluate is None else self._evaluate(trainer)
        trainer.weights.publish()
        trainer.objective.train()
        weights = trainer.config.loss
        return {"loss": weights.ce_weight * ce + weights.flow_weight * flow, "ce": ce, "flow": flow, **shares}

    def _losses(self, trainer: Trainer) -> tuple[float, float]:
        loader = self._make_loader()
        batches = iter(loader)
        packs = [next(batches) for _ in loader.lanes]
        own = sum((TokenCounts.of(pack, trainer.config.loss) for pack in packs), TokenCounts())
        counts, sums = TokenCounts(*trainer.world.sum(own)), np.zeros(2)
        for pack in packs:
            ce, flow, _ = trainer.losses(pack, counts)
            sums += (ce.item(), flow.item())
        ce_mean, flow_mean = trainer.world.sum(sums.tolist())
        return ce_mean, flow_mean
