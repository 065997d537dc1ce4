"""VLMEvalKit runs our checkpoints once they are registered, in a script beside its ``run.py``:

from ipt.evaluation.adapters.vlmevalkit import register
register("ipt", checkpoint="runs/pet_ipt", mode="imagination")
import runpy; runpy.run_path("run.py", run_name="__main__")    # --model ipt --data ...
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vlmeval.vlm.base import BaseModel

from ipt.evaluation.adapters.harness import Harness


class Ipt(BaseModel):
    """``checkpoint``: a run of train.py. Other arguments: those of `Harness`."""

    INSTALL_REQ = False
    INTERLEAVE = True

    def __init__(self, checkpoint: str, **settings: Any) -> None:
        super().__init__()
        self._harness = Harness(Path(checkpoint), **settings)

    def generate_inner(self, message: Sequence[dict[str, str]], dataset: str | None = None) -> str:
        """The answer to one message: texts, and pictures by their paths."""
        parts = [part["value"] if part["type"] == "text" else Path(part["value"]).read_bytes() for part in message]
        (answer,) = self._harness.answer([parts])
        return answer


def register(name: str = "ipt", **settings: Any) -> None:
    """Make ``--model NAME`` known to VLMEvalKit; ``settings`` are those of `Ipt`."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = partial(Ipt, **settings)
