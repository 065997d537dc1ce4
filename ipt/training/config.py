"""What a training run is: typed settings, read from plain mappings, and the checks that need neither torch nor data."""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import check_seed
from ipt.common.settings import MAX_PROCESSES, typed
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes import modes
from ipt.imagination.recipe import RECIPE, Sampling, read_recipe
from ipt.model.config import ModelConfig, model_path, presets
from ipt.model.parts import TuningSettings
from ipt.reinforcement.settings import GrpoSettings
from ipt.samples.sample import TASKS
from ipt.sequence.settings import LoaderConfig, Resolution, SequenceConfig
from ipt.training import reinforced
from ipt.training.settings import (
    CheckpointConfig,
    DistributedConfig,
    EmaConfig,
    EvaluationSettings,
    LossConfig,
    OptimConfig,
    TrainerConfig,
    TrainerSettings,
)

#: Groups whose ``seed`` is that of the run unless it is set alone.
SEEDED = ("trainer", "loader", "sequence")
TRACKERS = ("tensorboard", "wandb")
ATTENTION = ("sdpa", "flex", "flash")
FLASH = "pip install flash-attn --no-build-isolation"
#: Codecs that are not folders: the one in ``model.init``, one fitted on the images of the dataset, or none.
CODECS = ("init", "patch_pca", "none")


@dataclass(frozen=True)
class ModelSettings:
    """``preset``: the shape of the model. ``init``: a folder of weights to start from, or ``base`` for those that ship, of that
    shape (or of any, with ``preset=null``); ``weights`` names its file where there are several. ``latent_side``: latent tokens
    per side of the largest image, where not the preset's; the table is computed, so any weights can be started from.
    ``grid_rope``: rows and columns in rope, where not as in the preset (`DecoderConfig`); only for fresh weights. ``codec``:
    ``init``, ``patch_pca``, ``none`` or a folder. ``attention``: the back-end, sdpa, flex or flash. ``pad_packs``: with flex,
    attention is padded to the next multiple of so many tokens: every length takes seconds to compile for."""

    preset: str | None = "tiny"
    init: str | None = None
    weights: str | None = None
    latent_side: int | None = None
    grid_rope: bool | None = None
    codec: str = "patch_pca"
    attention: str = "sdpa"
    pad_packs: int = 4096

    def __post_init__(self) -> None:
        if self.pad_packs < 1:
            raise UserError(f"model.pad_packs must be positive, got {self.pad_packs}")
        if self.latent_side is not None and self.latent_side < 1:
            raise UserError(f"model.latent_side must be positive, got {self.latent_side}")
        if self.grid_rope is not None and self.init is not None:
            raise UserError(
                "model.grid_rope is for fresh weights: those of model.init know the rope that they were trained with"
            )
        if self.preset is None and self.init is None:
            raise UserError("model.preset=null takes the shape of model.init, which is not set")
        if self.preset is not None and self.preset not in presets:
            raise UnknownName(unknown_name("model preset", self.preset, presets))
        if self.attention not in ATTENTION:
            raise UnknownName(unknown_name("attention", self.attention, ATTENTION))

    @property
    def shape(self) -> ModelConfig:
        """The shape of a model trained from scratch."""
        shape = self.sized(presets[str(self.preset)])
        if self.grid_rope is None:
            return shape
        return replace(shape, decoder=replace(shape.decoder, grid_rope=self.grid_rope))

    def sized(self, shape: ModelConfig) -> ModelConfig:
        """``shape`` with the latent table that the settings ask for."""
        side = self.latent_side
        return shape if side is None else replace(shape, latents=replace(shape.latents, side=side))


@dataclass(frozen=True)
class TaskSettings:
    """The tasks that the dataset may hold."""

    names: tuple[str, ...] = ("pet",)

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in TASKS:
                raise UnknownName(unknown_name("task", name, TASKS))


@dataclass(frozen=True)
class DataSettings:
    """``train``: a folder of samples; or ``parts``: several, with their weights in rows. ``cache``: a folder of latents.
    ``in_memory``: read the samples once, into memory.

    ``validation``: a folder of samples whose losses are computed, on ``validation_packs`` packs, with every checkpoint.
    ``profile``: default, brief, or release with the ``prompts.json`` at ``prompts``. ``limit``: use only so many rows.
    """

    train: str | None = None
    parts: dict[str, float] = field(default_factory=dict)
    validation: str | None = None
    validation_packs: int = 8
    cache: str | None = None
    profile: str = "default"
    prompts: str | None = None
    limit: int | None = None
    in_memory: bool = False

    @property
    def weights(self) -> dict[str, float]:
        """Row weights by folder."""
        return self.parts if self.train is None else {self.train: 1.0}


@dataclass(frozen=True)
class LaunchSettings:
    """``gpus``: processes to start on this machine, one per GPU (or on the CPU where there is none)."""

    gpus: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.gpus <= MAX_PROCESSES:
            raise UserError(f"launch.gpus must lie between 1 and {MAX_PROCESSES} on this machine, got {self.gpus}")


@dataclass(frozen=True)
class TrainConfig:
    """One run of ``train.py``. ``ema.decay=0`` keeps no average. ``dry_run`` prints the plan and ends.

    ``sampling``: how the trained model writes and draws unless it is asked otherwise; it goes into the recipe.

    ``grpo``: reinforcement learning on a trained model, which is asked as it was trained.

    ``seed``: of all that is drawn, each by its name; the order of the data (``loader.seed``), the modes, thoughts and dropout of
    samples (``sequence.seed``) and weights and noise (``trainer.seed``) may have their own.
    """

    name: str = "run"
    seed: int = 0
    output_dir: str = "outputs/run"
    dry_run: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    data: DataSettings = field(default_factory=DataSettings)
    imagination: ImaginationConfig = field(default_factory=lambda: ImaginationConfig({}))
    resolution: Resolution = field(default_factory=Resolution)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    sampling: Sampling = field(default_factory=Sampling)
    tuning: TuningSettings = field(default_factory=TuningSettings)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    launch: LaunchSettings = field(default_factory=LaunchSettings)
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    tracker: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seeds = {"seed": self.seed, **{f"{group}.seed": getattr(self, group).seed for group in SEEDED}}
        for name, seed in seeds.items():
            check_seed(seed, name)
        for name in self.tracker:
            if name not in TRACKERS:
                raise UnknownName(unknown_name("tracker", name, TRACKERS))

    @property
    def full_trainer(self) -> TrainerConfig:
        """The trainer's settings, complete."""
        return TrainerConfig(
            **vars(self.trainer),
            loss=self.loss,
            optim=self.optim,
            ema=self.ema if self.ema.decay else None,
            checkpoints=self.checkpoints,
            rounds=self.imagination.free_rounds,
            clip=(self.grpo.clip, self.grpo.upper),
        )

    @property
    def reinforced(self) -> bool:
        """Whether the model trains on what it makes itself."""
        return self.grpo.stage is not None

    @property
    def encodes(self) -> bool:
        """Whether pictures go through the codec."""
        return self.imagination.encodes or "vae" in self.sequence.observe

    @property
    def full_tuning(self) -> TuningSettings:
        """What is trained: in a full tuning not the parts that targets come from, nor, where no picture goes through the codec,
        those that would never get a gradient (of BAGEL's 14.6 billion weights, 6.5)."""
        if self.tuning.kind != "full":
            return self.tuning
        idle = () if self.encodes else ("generation",)
        return replace(self.tuning, freeze=tuple(dict.fromkeys((*self.tuning.freeze, *self.imagination.frozen, *idle))))

    @property
    def full_sequence(self) -> SequenceConfig:
        """The sequence's settings, with the resolution of every task."""
        resolutions = {**dict.fromkeys(self.task.names, self.resolution), **self.sequence.resolutions}
        return replace(self.sequence, resolutions=resolutions)


def as_values(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON values, from which `train_config` makes them again."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """A checked run from nested mappings. ``ValueError`` names an unknown key with the valid ones, a wrong value, or the settings
    that do not go together."""
    groups = {name: values.get(name, {}) for name in SEEDED}
    seeds = {
        name: {"seed": values.get("seed", 0), **group} for name, group in groups.items() if isinstance(group, Mapping)
    }
    config = typed(TrainConfig, {**values, **seeds}, "train")
    if config.reinforced and config.model.init is not None:
        config = reinforced.as_trained(config)
    if found := conflicts(config):
        raise UserError("the settings do not go together: " + "; ".join(found))
    return config


def conflicts(config: TrainConfig) -> list[str]:
    """Settings that contradict each other, each with what would be right."""
    found = [*_data_conflicts(config), *_tuning_conflicts(config)]
    imagination = config.imagination
    if config.reinforced:
        found += reinforced.conflicts(config, functools.partial(_set, config))
    elif not imagination.trained:
        found.append("imagination.modes has no mode with a positive weight")
    if config.encodes and config.model.codec == "none":
        found.append("modes that draw, latent.target=vae and sequence.observe=[vae] need a codec: set model.codec")
    if config.model.init is None:
        found += _size_conflicts(config, bool(imagination.drawing))
    if config.sequence.max_sample_tokens > config.loader.budget:
        found.append(
            f"loader.budget={config.loader.budget} cannot hold the longest sample "
            f"(sequence.max_sample_tokens={config.sequence.max_sample_tokens})"
        )
    found += [*_process_conflicts(config), *_evaluation_conflicts(config)]
    weights = (
        {"grpo": 1.0}
        if config.reinforced
        else config.loss.weights | ({} if imagination.slot_input else {"cosine": 0.0})
    )
    if not any(weights.values()):
        found.append("the weights of all losses that this run has are 0: set loss.ce_weight or loss.flow_weight")
    if config.loader.epochs is not None:
        found.append("loader.epochs is not for training, which runs for trainer.steps")
    if config.model.attention == "flash" and config.trainer.dtype != "bfloat16":
        found.append("model.attention=flash computes in bfloat16 on a GPU: set trainer.dtype=bfloat16")
    if config.model.attention == "flash" and not config.dry_run and find_spec("flash_attn") is None:
        found.append(
            f"model.attention=flash needs flash-attn, which is not installed ({FLASH}); or choose flex, or sdpa"
        )
    return found + _without_effect(config)


def _without_effect(config: TrainConfig) -> list[str]:
    """Keys that somebody has set and nothing would read, each with what would make it count."""
    data, imagination, evaluation = config.data, config.imagination, config.evaluation
    sizes, tasks, several = set(config.sequence.resolutions), config.task.names, config.distributed.kind != "single"
    dropout, draws = config.sequence.dropout, bool(imagination.drawing)
    drops = any(dropout.rates.values()) and dropout.rows == "drawing"
    read = {
        "data.prompts": (data.profile == "release", "data.profile=release"),
        "data.validation_packs": (data.validation, "data.validation"),
        "data.cache": (config.model.codec != "none" or imagination.coded, "a model.codec"),
        "model.weights": (config.model.init, "model.init"),
        "model.pad_packs": (config.model.attention == "flex", "model.attention=flex"),
        "evaluation": (evaluation.questions or evaluation.data, "evaluation.questions or evaluation.data"),
        "evaluation.limit": (evaluation.data, "evaluation.data"),
        "checkpoints.best": (data.validation, "data.validation"),
        "tuning.lora": (config.tuning.kind == "lora", "tuning=lora"),
        "ema.warmup": (config.ema.decay, "ema.decay above 0"),
        "optim.min_lr": (config.optim.schedule == "cosine", "optim.schedule=cosine"),
        "loss.timestep_shift": (draws, "a mode that draws"),
        "loss.noise_draws": (draws, "a mode that draws"),
        "loss.cosine_weight": (imagination.slot_input, "a mode with latent slots (imagination=latent)"),
        "sequence.dropout": (draws or not drops, "a mode that draws, or sequence.dropout.rows=all"),
        "loader.start_method": (config.loader.workers, "loader.workers above 0"),
        "distributed.timeout_minutes": (several, "several processes (distributed=ddp, fsdp2 or hsdp)"),
        "distributed.shard": (config.distributed.kind == "hsdp", "distributed=hsdp"),
        "resolution": (
            config.reinforced or set(tasks) - sizes,
            "a task that has no sizes of its own in sequence.resolutions",
        ),
        "grpo": (config.reinforced, "grpo.stage (experiment=grpo)"),
    }
    owners = [entry.name for entry in fields(imagination) if entry.name != "modes"]
    read |= {f"imagination.{mode}": (mode in imagination.trained, f"{mode} in imagination.modes") for mode in owners}
    found = [
        f"{key} has no effect without {needs}" for key, (used, needs) in read.items() if not used and _set(config, key)
    ]
    if others := sorted(sizes - set(tasks)):
        found.append(f"sequence.resolutions of {', '.join(others)} has no effect: this run is for {', '.join(tasks)}")
    return found


def _set(config: TrainConfig, key: str) -> bool:
    """Whether a setting, or one of a group, is not the default; lists may be tuples."""
    here, there = (
        functools.reduce(operator.getitem, key.split("."), as_values(each)) for each in (config, TrainConfig())
    )
    return bool(here != there)


def _evaluation_conflicts(config: TrainConfig) -> list[str]:
    evaluation, best, found = config.evaluation, config.checkpoints.best, []
    imagines = bool(config.imagination.mediators)
    if evaluation.questions and config.data.validation is None:
        found.append(f"evaluation.questions={evaluation.questions} needs their dataset: set data.validation=FOLDER")
    if evaluation.data is not None and not Path(evaluation.data).exists():
        found.append(f"the dataset evaluation.data={evaluation.data} does not exist (python -m datagen makes one)")
    imagining = [mode for mode in evaluation.modes if mode not in ("answer_only", "free")]
    if imagining and not imagines:
        found.append(
            f"evaluation.modes={imagining} need a model that is trained to imagine: set imagination=mixed, say"
        )
    mode = best.partition("accuracy/")[2]
    if mode and not (evaluation.questions and mode in evaluation.chosen(imagines)):
        found.append(f"checkpoints.best={best} needs evaluation.questions above 0 and {mode} among evaluation.modes")
    return found


def _size_conflicts(config: TrainConfig, draws: bool) -> list[str]:
    shape, found = config.model.shape, []
    stride = shape.geometry.latent_stride
    for task in config.task.names:
        size = config.full_sequence.resolution(task)
        sides = {
            "input_side": (size.input_side // stride if "vae" in config.sequence.observe else 0, shape.latents.side),
            "imagination": (size.imagination if draws else 0, shape.latents.side),
            "vit_side": (size.vit_side // shape.vision.patch, shape.vision.side),
        }
        for name, (side, largest) in sides.items():
            if side > largest:
                found.append(
                    f"resolution.{name} of task {task} gives {side} x {side} tokens, the tables of {shape.name} have "
                    f"{largest} x {largest}"
                )
    return found


def _process_conflicts(config: TrainConfig) -> list[str]:
    kind, gpus, packs, found = config.distributed.kind, config.launch.gpus, config.loader.packs_per_step, []
    if gpus > 1 and kind == "single":
        found.append(f"launch.gpus={gpus} needs distributed=ddp, fsdp2 or hsdp")
    if packs % gpus:
        found.append(f"loader.packs_per_step={packs} cannot be shared by launch.gpus={gpus}; choose a multiple")
    if kind == "hsdp" and gpus > 1 and gpus % config.distributed.shard:
        found.append(f"distributed.shard={config.distributed.shard} must divide launch.gpus={gpus}")
    return found


def _tuning_conflicts(config: TrainConfig) -> list[str]:
    found = []
    if config.tuning.kind != "full" and config.tuning.freeze:
        found.append(f"tuning.freeze is for tuning.kind=full, not for {config.tuning.kind}")
    if config.tuning.kind == "generation_expert" and not config.imagination.drawing:
        drawing = " or ".join(name for name, mode in modes.items() if mode.draws)
        found.append(
            f"tuning.kind=generation_expert trains what draws, but no mode draws: use an imagination with {drawing}"
        )
    if config.tuning.kind == "lora" and (
        adapted := sorted({*config.imagination.frozen} & {*config.tuning.lora.groups})
    ):
        found.append(
            f"tuning.lora.groups={adapted} would change the features that are the targets of latent slots: leave them out, or "
            "set imagination.latent.target=vae"
        )
    if not config.dry_run:
        found += missing_weights(config)
    return found


def missing_weights(config: TrainConfig) -> list[str]:
    """Why the run needs ``model.init``, where that is not set. It can be planned nevertheless."""
    imagination, init = config.imagination, config.model.init
    for mode in imagination.trained:
        reason = imagination.of(mode).continues
        if reason is not None and (init is None or mode not in trained_in(model_path(init))):
            return [f"{reason}: set model.init to its folder, OUTPUT_DIR/model (experiment=mirage trains both stages)"]
    if config.model.init is not None:
        return []
    found = []
    if config.model.preset == "bagel_7b_mot":
        found.append(
            "model.preset=bagel_7b_mot is not trained from scratch: set model.init to the folder of BAGEL-7B-MoT"
        )
    if config.tuning.kind != "full":
        found.append(f"tuning.kind={config.tuning.kind} starts from trained weights: set model.init to their folder")
    if config.model.codec == "init" and not found:
        found.append("model.codec=init takes the codec of model.init, which is not set")
    return found


def trained_in(folder: Path) -> tuple[str, ...]:
    """The modes that the model in ``folder`` was trained in; none where nothing says so."""
    return read_recipe(folder).imagination.trained if (folder / RECIPE).is_file() else ()


def _data_conflicts(config: TrainConfig) -> list[str]:
    data, found = config.data, []
    if data.train is not None and data.parts:
        found.append("data.train and data.parts exclude each other")
    if not data.weights and not config.dry_run:
        found.append("there is no dataset: set data.train=FOLDER (python -m datagen makes one)")
    for folder, weight in data.weights.items():
        if not Path(folder).exists():
            found.append(f"the dataset {folder} does not exist (python -m datagen makes one)")
        if not (math.isfinite(weight) and weight > 0):
            found.append(f"the weight of {folder} in data.parts must be positive, got {weight}")
    if data.validation_packs < 1 or data.validation_packs % config.launch.gpus:
        found.append(f"data.validation_packs={data.validation_packs} must be a positive multiple of launch.gpus")
    init = None if config.model.init is None else str(model_path(config.model.init))
    named = {"data.validation": data.validation, "model.init": init}
    if not config.dry_run:  # it is made from the same settings
        named["data.cache"] = data.cache
    for name, place in named.items():
        if place is not None and not Path(place).is_dir():
            found.append(f"{name}={place} is no folder")
    if config.model.codec not in CODECS and not Path(config.model.codec).is_dir():
        found.append(f"model.codec must be {', '.join(CODECS)} or a folder, got '{config.model.codec}'")
    return found
