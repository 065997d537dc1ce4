"""Losses on a validation split during training: the same packs with the same noise every time, under the averaged weights where
there are any. The lowest total decides which checkpoint is the best."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ipt.common.files import write_bytes
from ipt.sequence.loader import Loader
from ipt.training.losses import TokenCounts
from ipt.training.records import read_records

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer


class Validation:
    """``make_loader``: a fresh loader of this rank's validation packs, of which one per lane is used. Records go to
    ``validation.jsonl`` in the run's folder."""

    def __init__(self, make_loader: Callable[[], Loader]) -> None:
        self._make_loader = make_loader

    def __call__(self, trainer: Trainer) -> float:
        """The total loss, weighed as in training. All ranks call this together; nothing of the training changes."""
        trainer.objective.eval()
        with torch.no_grad(), nullcontext() if trainer.ema is None else trainer.ema.swapped_in():
            trainer.weights.publish()
            ce, flow = self._losses(trainer)
        trainer.weights.publish()
        trainer.objective.train()
        weights = trainer.config.loss
        total = weights.ce_weight * ce + weights.flow_weight * flow
        if trainer.world.is_main:
            self._record(
                trainer.folder / "validation.jsonl", {"step": trainer.step, "loss": total, "ce": ce, "flow": flow}
            )
        return total

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

    @staticmethod
    def _record(path: Path, record: dict[str, float]) -> None:
        kept = [each for each in read_records(path) if each["step"] < record["step"]]
        write_bytes(path, "".join(json.dumps(each) + "\n" for each in [*kept, record]).encode())
