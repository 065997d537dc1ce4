"""Losses and answers on a validation split during training: the same packs with the same noise every time, under the averaged
weights where there are any. They decide which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from ipt.sequence.batch import PackedBatch
from ipt.training.losses import TERMS, token_counts

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer


class Validation:
    """``packs``: this rank's validation packs, which its first use would find wanting too late. ``evaluate``: answers questions,
    and names the shares that it found."""

    def __init__(
        self, packs: Sequence[PackedBatch], evaluate: Callable[[Trainer], dict[str, float]] | None = None
    ) -> None:
        self.packs, self._evaluate = packs, evaluate

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
        counts = trainer.world.sum(
            np.sum([token_counts(pack, trainer.config.loss) for pack in self.packs], axis=0).tolist()
        )
        sums = np.zeros(len(TERMS))
        for pack in self.packs:
            shares, _ = trainer.losses(pack, counts)
            sums += [share.item() for share in shares]
        return dict(zip(TERMS, trainer.world.sum(sums.tolist()), strict=True))
