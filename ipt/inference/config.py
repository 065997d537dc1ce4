"""What a run of ``infer.py`` is: typed settings, and the checks that need neither torch nor data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import typed
from ipt.inference.settings import ModeSettings
from ipt.samples.sample import TASKS

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class InferConfig:
    """``checkpoint``: a run of train.py, or a folder that it exported. ``data``: a folder of samples, of which the first
    ``limit`` are answered; or ``image``, one's own pictures, with ``question``, ``choices`` and the ``task`` that it is like.

    ``recipe`` and ``weights``: for weights that were not trained here (`ipt.inference.checkpoint`). ``device``: ``auto`` is a GPU
    where there is one. ``dtype``: of the weights and what is computed with them, float32 or bfloat16.
    """

    checkpoint: str | None = None
    data: str | None = None
    output_dir: str = "outputs/infer"
    mode: ModeSettings = field(default_factory=ModeSettings)
    image: tuple[str, ...] = ()
    question: str | None = None
    choices: tuple[str, ...] = ()
    task: str | None = None
    limit: int | None = None
    batch_size: int = 32
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    recipe: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownName(unknown_name("dtype", self.dtype, DTYPES))
        if self.task is not None and self.task not in TASKS:
            raise UnknownName(unknown_name("task", self.task, TASKS))
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1) or self.seed < 0:
            raise UserError("batch_size and limit must be at least 1, and seed at least 0")


def infer_config(values: Mapping[str, Any]) -> InferConfig:
    """A checked run from nested mappings. ``ValueError`` names an unknown key, a wrong value, or what is missing."""
    given = dict(values)
    if isinstance(given.get("image"), str):
        given["image"] = [given["image"]]
    config = typed(InferConfig, given, "infer")
    if found := conflicts(config):
        raise UserError("; ".join(found))
    return config


def conflicts(config: InferConfig) -> list[str]:
    """What is missing or contradicts each other, each with what would be right."""
    found = []
    if config.checkpoint is None:
        found.append("there is no model: set checkpoint=FOLDER (a run of train.py)")
    if (config.data is None) == (not config.image):
        found.append("set data=FOLDER, or image=FILE with a question of your own; one of them")
    if config.data is not None and not Path(config.data).exists():
        found.append(f"the dataset {config.data} does not exist (python -m datagen makes one)")
    if config.image and (config.question is None or len(config.choices) < 2):
        found.append('a picture of your own needs question="..." and at least two choices="[...]"')
    if not config.image and (config.question is not None or config.choices):
        found.append("question and choices are for pictures of your own: set image=FILE")
    return found
