"""Losses and answers on a validation split during training: the same packs with the same noise every time, under the averaged
weights where there are any. They decide which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from ipt.sequence.loader import Loader
from ipt.training.losses import TERMS, token_counts

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
            losses = self._losses(trainer)
            shares = {} if self._evaluate is None else self._evaluate(trainer)
        trainer.weights.publish()
        trainer.objective.train()
        return {"loss": trainer.config.loss.total(losses.values()), **losses, **shares}

    def _losses(self, trainer: Trainer) -> dict[str, float]:
        loader = self._make_loader()
        batches = iter(loader)
        packs = [next(batches) for _ in loader.lanes]
        counts = trainer.world.sum(np.sum([token_counts(pack, trainer.config.loss) for pack in packs], axis=0).tolist())
        sums = np.zeros(len(TERMS))
        for pack in packs:
            shares, _ = trainer.losses(pack, counts)
            sums += [share.item() for share in shares]
        return dict(zip(TERMS, trainer.world.sum(sums.tolist()), strict=True))
