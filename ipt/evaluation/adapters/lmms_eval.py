"""lmms-eval runs our checkpoints as model ``ipt``, which the package registers by an entry point:

    python -m lmms_eval --model ipt --model_args pretrained=runs/pet_ipt,mode=imagination --tasks ...

One process; multiple-choice tasks of kind ``generate_until``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms

from ipt.common.errors import UserError
from ipt.common.images import encode_image, flatten
from ipt.common.progress import tracked
from ipt.evaluation.adapters.harness import Content, Harness

NAME = "ipt"


class Ipt(lmms):
    """``pretrained``: a run of train.py. Other arguments: those of `Harness`."""

    is_simple = True

    def __init__(
        self, pretrained: str, batch_size: int | str = 1, max_batch_size: int | None = None, **settings: Any
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("model ipt runs in one process; start lmms-eval without a launcher")
        self._harness = Harness(Path(pretrained), batch_size=int(max_batch_size or batch_size), **settings)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer per request (context, generation settings, document to pictures, document's number, task, split)."""
        answers: list[str] = []
        starts = range(0, len(requests), self._harness.batch_size)
        for start in tracked(starts, "answering", len(starts)):
            batch = requests[start : start + self._harness.batch_size]
            answers += self._harness.answer([self._content(*request.args) for request in batch])
        return answers

    def _content(self, context: str, settings: Any, pictures_of: Any, number: Any, task: str, split: str) -> Content:
        pictures = pictures_of(self.task_dict[task][split][number]) or ()
        return [*(encode_image(np.asarray(flatten(picture))) for picture in pictures), context]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: such tasks score texts of their own, which our answers' format does not fit."""
        raise NotImplementedError("model ipt answers tasks of kind generate_until only")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: the models answer one question."""
        raise NotImplementedError("model ipt answers tasks of kind generate_until only")


def manifest() -> Any:
    """What the entry point of group ``lmms_eval.models`` gives to lmms-eval."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=NAME, simple_class_path=f"{__name__}.{Ipt.__name__}")
