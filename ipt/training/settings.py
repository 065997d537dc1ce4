"""Settings of training, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import within
from ipt.inference.prediction import MODES
from ipt.inference.settings import READOUTS, DrawSettings, TextSettings

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. ``reweight_text``: BAGEL's (n + 1)^-0.5 for each token of an n-id text, normalised by the sum of
    the weights. ``timestep_shift`` of the training times. ``fresh_noise``: new times and noise for an image in every epoch;
    otherwise always the same, which can be learnt by heart. ``noise_draws``: noised copies of each image that is to be drawn,
    each with its own time and noise, which share one context and are averaged. ``chunk``: positions whose logits exist at
    a time."""

    ce_weight: float = 1.0
    flow_weight: float = 1.0
    cosine_weight: float = 1.0
    reweight_text: bool = False
    timestep_shift: float = 1.0
    fresh_noise: bool = True
    noise_draws: int = 1
    chunk: int = 2048

    def __post_init__(self) -> None:
        if min(self.weights.values()) < 0 or not sum(self.weights.values()) > 0:
            given = ", ".join(f"{term}{WEIGHT}={value}" for term, value in self.weights.items())
            raise UserError(f"the weights of losses must be >= 0, not all 0; got {given}")
        for name in ("timestep_shift", "noise_draws", "chunk"):
            if not getattr(self, name) > 0:
                raise UserError(f"loss.{name} must be positive, got {getattr(self, name)}")

    @property
    def weights(self) -> dict[str, float]:
        """By term (`ipt.training.losses.TERMS`)."""
        return {term: getattr(self, f"{term}{WEIGHT}") for term in LOSS_TERMS}

    def total(self, losses: Iterable[Any]) -> Any:
        """The weighted sum of ``losses`` (numbers or scalar tensors), one per term and in their order."""
        return weighted(losses, self.weights)


def weighted(losses: Iterable[Any], factors: Mapping[str, float]) -> Any:
    """The sum of ``losses`` (numbers or scalar tensors), one per term and in their order, each times its factor."""
    return sum(factor * loss for factor, loss in zip(factors.values(), losses, strict=True))


WEIGHT = "_weight"
LOSS_TERMS = tuple(entry.name.removesuffix(WEIGHT) for entry in fields(LossConfig) if entry.name.endswith(WEIGHT))
"""The names of the losses, as columns of records, validations and reports."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate: linear warm-up over ``warmup_steps``, then ``constant`` or ``cosine`` down to ``min_lr`` at
    the last step (default: a hundredth of ``lr``). ``clip``: largest norm of the whole gradient. Defaults are those of the
    paper's training. ``from_zero`` counts updates as transformers' schedules do, which the release uses: the first one has the
    rate 0, the first after the warm-up the full one, and a cosine ends one step after the last."""

    lr: float = 1e-5
    min_lr: float | None = None
    warmup_steps: int = 2000
    from_zero: bool = False
    schedule: str = "constant"
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-15
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise UserError(f"schedule must be constant or cosine, got '{self.schedule}'")
        if not self.lr > 0 or not 0 <= self.lowest <= self.lr:
            raise UserError(f"learning rates need 0 <= min_lr <= lr and lr > 0, got {self.min_lr} and {self.lr}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError(f"beta1 and beta2 must lie in [0, 1), got {self.beta1} and {self.beta2}")
        if self.warmup_steps < 0 or self.clip <= 0 or self.eps <= 0 or self.weight_decay < 0:
            raise UserError("warmup_steps and weight_decay must be >= 0, clip and eps > 0")

    @property
    def lowest(self) -> float:
        """The rate at the end of a cosine."""
        return self.lr / 100 if self.min_lr is None else self.min_lr


@dataclass(frozen=True)
class EmaConfig:
    """``decay`` is reached gradually: update number n (from 1) uses min(decay, (1 + n) / (10 + n)). ``warmup=False`` uses it
    from the first."""

    decay: float = 0.9999
    warmup: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"an EMA decay lies in [0, 1), got {self.decay}")


@dataclass(frozen=True)
class CheckpointConfig:
    """A checkpoint every ``every`` steps and at the end. Kept are the newest ``keep_last``, and the ``keep_best`` with the best
    ``best`` in validation: ``loss``, ``ce``, ``flow``, or for example ``accuracy/answer_only``."""

    every: int = 500
    keep_last: int = 2
    keep_best: int = 1
    best: str = "loss"

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep_last < 1 or self.keep_best < 0:
            raise UserError("every and keep_last must be at least 1, keep_best at least 0")
        valid = ("loss", *LOSS_TERMS, *(f"accuracy/{mode}" for mode in MODES))
        if self.best not in valid:
            raise UnknownName(unknown_name("figure for checkpoints.best", self.best, valid))


@dataclass(frozen=True)
class EvaluationSettings:
    """Answering questions. After a checkpoint: the first ``questions`` of ``data.validation`` (0: none). After the last step:
    all of the dataset ``data``, or its first ``limit``, into run folders as ``infer.py`` writes them.

    ``modes`` of inference; empty: answer_only, and imagination where it is trained. ``answer``, ``text`` and ``draw``: as there.
    """

    questions: int = 0
    data: str | None = None
    limit: int | None = None
    modes: tuple[str, ...] = ()
    answer: str = "text"
    batch_size: int = 32
    text: TextSettings = field(default_factory=lambda: TextSettings(max_tokens=256))
    draw: DrawSettings = field(default_factory=DrawSettings)

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise UnknownName(unknown_name("mode of evaluation", mode, MODES))
        if self.answer not in READOUTS:
            raise UnknownName(unknown_name("evaluation.answer", self.answer, READOUTS))
        if self.questions < 0 or self.batch_size < 1 or (self.limit is not None and self.limit < 1):
            raise UserError("evaluation.questions must be at least 0, batch_size and limit at least 1")

    def chosen(self, imagines: bool) -> tuple[str, ...]:
        """The modes to answer in, for a model that is trained to imagine or not."""
        return self.modes or ("answer_only", *(("imagination",) if imagines else ()))


@dataclass(frozen=True)
class TrainerSettings:
    """A run of ``steps`` updates. ``dtype``: what the model computes with (weights and optimizer are float32).
    ``checkpoint_activations``: recompute every layer in the backward pass. ``resume``: ``auto`` continues from the newest
    checkpoint where there is one, ``never`` demands that there is none. ``max_skipped``: non-finite steps in a row after which
    the run ends. ``hardest``: samples with the largest loss to name per step. ``hang_minutes`` without a step, or a checkpoint,
    after which the stacks of all threads are written (0: never).
    ``peak_tflops`` of one device, for MFU, where it is not a known one. ``threads`` of the CPU; null: one for a small model, else
    as many as there are cores."""

    steps: int = 1000
    seed: int = 0
    dtype: str = "float32"
    checkpoint_activations: bool = False
    resume: str = "auto"
    max_skipped: int = 20
    hardest: int = 4
    hang_minutes: float = 30.0
    peak_tflops: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got '{self.dtype}'")
        if self.resume not in ("auto", "never"):
            raise UserError(f"resume must be auto or never, got '{self.resume}'")
        if self.steps < 1 or self.max_skipped < 1:
            raise UserError("steps and max_skipped must be at least 1")
        if self.hang_minutes < 0:
            raise UserError(f"hang_minutes must be at least 0, got {self.hang_minutes}")
        if self.threads is not None:
            within(self, threads=1024)


@dataclass(frozen=True)
class TrainerConfig(TrainerSettings):
    """Everything that the loop takes: its own settings, those of loss, optimizer, average (None: none) and checkpoints, the
    ``rounds`` in which free latent slots are filled (`ipt.model.unified.UnifiedModel.forward`), and the ``clip`` of the ratios of
    rollouts."""

    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig | None = None
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    rounds: tuple[int, int] = (0, 0)
    clip: tuple[float, float] = (0.2, 0.2)


DISTRIBUTED = ("single", "ddp", "fsdp2", "hsdp")


@dataclass(frozen=True)
class DistributedConfig:
    """``kind``: single, ddp, fsdp2 or hsdp. ``shard``: processes that divide a model among them, for hsdp.
    ``timeout_minutes``: how long a process waits for the others before the run fails."""

    kind: str = "single"
    shard: int = 8
    timeout_minutes: int = 30

    def __post_init__(self) -> None:
        if self.kind not in DISTRIBUTED:
            raise UserError(unknown_name("distributed", self.kind, DISTRIBUTED))
        if self.shard < 1 or self.timeout_minutes < 1:
            raise UserError("shard and timeout_minutes must be at least 1")

    def divides(self, processes: int) -> bool:
        """Whether so many processes share one copy of the weights, so that none can compute alone."""
        return processes > 1 and (self.kind == "fsdp2" or (self.kind == "hsdp" and self.shard > 1))
