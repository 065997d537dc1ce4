"""What a run of ``python -m ipt.faithfulness`` is: typed settings, and the checks that need neither torch nor data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.endpoint import EndpointSettings
from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import typed
from ipt.inference.settings import DTYPES, ModeSettings

PRESETS = ("full", "quick", "capimagine")
TREATMENTS = ("blank", "other", "none")


@dataclass(frozen=True, kw_only=True)
class Rewriter(EndpointSettings):
    """The model that rewrites texts (`ipt.common.endpoint.EndpointSettings`); none where it has no name."""

    model: str = ""


@dataclass(frozen=True)
class FaithfulnessConfig:
    """``checkpoint``: runs of train.py, or folders that they exported, that imagine; ``baseline``: one that answers at once,
    for the telescope. ``data``: a folder of samples, of which the first ``limit`` are asked.

    ``preset``: which arms, ``full``, ``quick`` or ``capimagine`` (arXiv 2602.22766); ``arms``: these instead, such as
    ``[noise,blur:2,gt.mirror]``. ``imaginations``: of the model's own per question (two at least are its own noise floor);
    ``seeds``: how many of them every arm is applied to. ``treatment``: what stands in for the inputs in mediation: ``blank``
    pictures, those of an ``other`` scene, or ``none`` to leave it out. ``pairs``: whether the model also imagines from inputs
    that differ in one fact (default: where the data has them). ``reader``: a run folder in which another model answers the same
    questions from true pictures. ``rewriter``: a model behind an OpenAI-compatible endpoint that rewrites texts so that they
    lead to a wrong answer (arm ``rewrite``); its replies are kept in ``output_dir/rewrites``. ``hidden``: whether hidden states
    are kept for probes.

    ``replicates`` of the bootstrap; ``margin``: differences of accuracy below it count as no effect. ``gallery``: questions
    whose pictures are shown. ``dry_run``: print the plan and the smallest effects that it can show.
    """

    checkpoint: tuple[str, ...] = ()
    baseline: str | None = None
    data: str | None = None
    output_dir: str = "outputs/faithfulness"
    preset: str = "full"
    arms: tuple[str, ...] = ()
    imaginations: int = 4
    seeds: int = 1
    treatment: str = "blank"
    pairs: bool | None = None
    reader: str | None = None
    rewriter: Rewriter = field(default_factory=Rewriter)
    hidden: bool = True
    mode: ModeSettings = field(default_factory=lambda: ModeSettings("imagination"))
    limit: int | None = None
    batch_size: int = 32
    seed: int = 0
    replicates: int = 10_000
    margin: float = 0.02
    gallery: int = 6
    dry_run: bool = False
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for what, value, valid in (
            ("preset", self.preset, PRESETS),
            ("treatment", self.treatment, TREATMENTS),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in valid:
                raise UnknownName(unknown_name(what, value, valid))
        if self.mode.name != "imagination" or self.mode.n != 1:
            raise UserError("mode.name is imagination and mode.n is 1 here; set imaginations for more of them")
        if not self.mode.reads_options:
            raise UserError("mode.probabilities=true is needed: effects are read from the probabilities of the options")
        if not 1 <= self.seeds <= self.imaginations:
            raise UserError(f"seeds must be 1 to imaginations={self.imaginations}, got {self.seeds}")
        if self.batch_size < 1 or self.replicates < 100 or self.gallery < 0 or self.seed < 0:
            raise UserError("batch_size must be at least 1, replicates 100, gallery and seed 0")
        if not 0 < self.margin < 1 or (self.limit is not None and self.limit < 2):
            raise UserError("margin lies between 0 and 1, and limit is at least 2")


def faithfulness_config(values: Mapping[str, Any]) -> FaithfulnessConfig:
    """A checked run from nested mappings. ``UserError`` names an unknown key, a wrong value, or what is missing."""
    given = dict(values)
    if isinstance(given.get("checkpoint"), str):
        given["checkpoint"] = [given["checkpoint"]]
    config = typed(FaithfulnessConfig, given, "faithfulness")
    if not config.checkpoint:
        raise UserError("there is no model: set checkpoint=FOLDER (a run of train.py that imagines)")
    if len(set(config.checkpoint)) != len(config.checkpoint):
        raise UserError(f"a checkpoint is named twice: {', '.join(config.checkpoint)}")
    if config.data is None or not Path(config.data).exists():
        raise UserError(f"the dataset {config.data} does not exist: set data=FOLDER (python -m datagen makes one)")
    return config
