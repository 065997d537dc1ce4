"""What a run of ``infer.py`` is: typed settings, and the checks that need neither torch nor data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import check_seed
from ipt.common.settings import typed, within
from ipt.imagination.recipe import Sampling
from ipt.inference.prediction import MODES
from ipt.samples.sample import TASKS

COMBINE = ("vote", "mean")
BRANCHES = ("together", "apart")
READOUTS = ("text", "options")


@dataclass(frozen=True)
class TextSettings:
    """``max_tokens`` of one text. ``temperature``: 0 takes the likeliest token (the paper samples at 0.3). None: as in the
    model's recipe (`ipt.imagination.recipe.Sampling`)."""

    max_tokens: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        Sampling().but(self)  # raises what is wrong


@dataclass(frozen=True)
class DrawSettings:
    """How an image is drawn: ``timesteps`` points of the schedule (one more than steps) and its ``shift``; guidance scales and
    where they hold (`ipt.flow.guidance`), and the ``contexts`` that it compares with. None: as in the model's recipe
    (`ipt.imagination.recipe.Sampling`), and a scale that is not in there, either, is the paper's (text 4, image 2) where
    the model was trained without what that guidance leaves out now and then, else 1: off. ``side``: latent tokens per side
    of the image, else as trained. ``branches`` of guidance go through the model ``together``, or ``apart``, which takes less
    memory and is no slower where one image keeps the device busy. ``skip``: after each step that the model computes, so many
    follow the line through its last two velocities, for speed (`ipt.flow.path.Forecast`)."""

    timesteps: int | None = None
    shift: float = 3.0
    text_scale: float | None = None
    image_scale: float | None = None
    start: float = 0.0
    end: float = 1.0
    renorm: str = "text_channel"
    renorm_min: float = 0.0
    side: int | None = None
    contexts: str | None = None
    branches: str = "together"
    skip: int = 0

    def __post_init__(self) -> None:
        Sampling().but(self)  # raises what is wrong
        if self.skip < 0:
            raise UserError(f"mode.draw.skip must be at least 0, got {self.skip}")
        if self.side is not None and self.side < 1:
            raise UserError(f"mode.draw.side must be at least 1, got {self.side}")
        if self.branches not in BRANCHES:
            raise UnknownName(unknown_name("mode.draw.branches", self.branches, BRANCHES))
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise UserError(f"draw.shift must be positive, got {self.shift}")
        for name, scale in (("text_scale", self.text_scale), ("image_scale", self.image_scale)):
            if scale is not None and not (math.isfinite(scale) and scale >= 0):
                raise UserError(f"draw.{name} must be at least 0 (1: no guidance), got {scale}")
        if not 0 <= self.start <= self.end <= 1:
            raise UserError(f"draw.start and draw.end need 0 <= start <= end <= 1, got {self.start} and {self.end}")
        if not 0 <= self.renorm_min <= 1:
            raise UserError(f"draw.renorm_min must lie in [0, 1], got {self.renorm_min}")


@dataclass(frozen=True)
class ModeSettings:
    """A decode plan: ``name`` is its column in tables (`ipt.inference.prediction.MODES`).

    ``mediator``: the imagination mode to use where a checkpoint knows several. ``n``: imaginations per question, whose answers
    are combined by ``vote`` (ties: mean probability) or by ``mean`` probability. ``answer``: read from the ``text`` that the
    model writes, or from the probabilities of the ``options``, without writing. ``probabilities``: compute those in any case.
    ``threshold``: selective imagines where without an imagination no option is that probable; ``fit``: instead, two runs of a
    validation set (answer_only, imagination) whose best threshold it is. ``max_images``: images that a free answer may draw.
    ``max_seconds`` per answer (None: no limit).
    """

    name: str = "answer_only"
    mediator: str | None = None
    n: int = 1
    combine: str = "vote"
    answer: str = "text"
    probabilities: bool = True
    threshold: float = 0.9
    fit: tuple[str, ...] = ()
    max_images: int = 3
    max_seconds: float | None = None
    text: TextSettings = field(default_factory=TextSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)

    def __post_init__(self) -> None:
        for what, value, valid in (
            ("mode", self.name, MODES),
            ("mode.combine", self.combine, COMBINE),
            ("mode.answer", self.answer, READOUTS),
        ):
            if value not in valid:
                raise UnknownName(unknown_name(what, value, valid))
        if self.n < 1 or self.max_images < 1:
            raise UserError(f"mode.n and mode.max_images must be at least 1, got {self.n} and {self.max_images}")
        if self.n > 1 and self.name in ("answer_only", "gt_imagination", "wrong_imagination"):
            raise UserError(f"mode.n={self.n} imaginations are for modes that imagine, not for {self.name}")
        if self.name == "selective" and not self.reads_options:
            raise UserError("mode=selective needs mode.probabilities=true, which say where it is unsure")
        if self.fit and self.name != "selective":
            raise UserError(f"mode.fit is for mode=selective, not for {self.name}")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise UserError(f"mode.max_seconds must be positive, got {self.max_seconds}")

    @property
    def reads_options(self) -> bool:
        """Whether the probabilities of the options are computed."""
        return self.probabilities or self.answer == "options" or self.combine == "mean"


DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class InferConfig:
    """``checkpoint``: a run of train.py, or a folder that it exported. ``data``: a folder of samples, of which the first
    ``limit`` are answered; or ``image``, one's own pictures, with ``question``, ``choices`` and the ``task`` that it is like.

    ``recipe`` and ``weights``: for weights that were not trained here (`ipt.inference.checkpoint`). ``latent_side``: latent
    tokens per side of the largest image, where not the checkpoint's. ``device``: ``auto`` is a GPU where there is one. ``dtype``:
    of the weights and what is computed with them, float32 or bfloat16. ``graphs``: the steps of writing and of drawing are
    captured once and replayed: on CUDA as graphs of kernels, without Python between these; on a CPU for tests
    (`ipt.model.graphs`).
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
    latent_side: int | None = None
    graphs: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownName(unknown_name("dtype", self.dtype, DTYPES))
        if self.task is not None and self.task not in TASKS:
            raise UnknownName(unknown_name("task", self.task, TASKS))
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1) or self.seed < 0:
            raise UserError("batch_size and limit must be at least 1, and seed at least 0")
        if self.latent_side is not None:
            within(self, latent_side=1024)
        check_seed(self.seed)


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
