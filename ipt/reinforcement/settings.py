"""Settings of reinforcement learning, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import within
from ipt.imagination.base import Imagination
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes import modes
from ipt.inference.settings import DrawSettings, TextSettings
from ipt.reinforcement.rewards import REWARDS, STAGES, load_rewards

LOSSES = ("grpo", "dr_grpo", "dapo")
SCALES = ("group", "none")
#: What counts where ``rewards`` names nothing.
DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "readout": {"correct": 0.9, "format": 0.1},
    "imagination": {"reader": 0.7, "similarity": 0.3},
}
#: Settings that only one stage reads.
ONLY: Mapping[str, tuple[str, ...]] = {
    "readout": ("answers", "closed", "loss", "kl"),
    "imagination": ("noise", "window", "first", "last", "velocity", "reader"),
}


@dataclass(frozen=True)
class GrpoSettings:
    """``stage``: ``readout`` trains the answers that follow the model's own imaginations, ``imagination`` the drawing itself;
    null: no reinforcement. ``mode``: the imagination mode that is asked in, where not the first one that the model imagines in.

    ``questions`` of a rollout, over all lanes, with ``imaginations`` each, on which ``updates`` steps are made. ``rewards``: what
    each counts, by name; null names: the defaults of the stage. ``files``: Python files that register more. ``shuffled``: a
    control that gives every reward to another choice. ``scale``: advantages divided by their deviation within the question
    (``group``), or not. ``clip`` and ``clip_high`` (default: the same): how far below and above 1 a ratio counts.

    Readout: with ``closed``, options are weighed instead of sampled where no words come before them; else ``answers`` texts are
    sampled per question (default: one per imagination), and ``loss`` says what a token counts: ``grpo``, ``dr_grpo`` or
    ``dapo``. ``kl``: the price of leaving the start.

    Imagination: ``window`` steps of a drawing are left to chance, with ``noise`` as eta; they begin at a step between the shares
    ``first`` and ``last`` of the schedule, drawn for each question. ``velocity``: the price of velocities that leave the start's.
    ``reader``: the run or folder of the model that reads the pictures, where not the start.

    ``text`` and ``draw``: as in inference; texts are sampled at temperature 1 where the recipe says 0. ``batch_size``: rows at a
    time. ``control_every``: rollouts after which the answers are read with the mediators of other questions, too (0: never);
    ``write_every``: those after which one is written to ``rollouts/`` (0: never).
    """

    stage: str | None = None
    mode: str | None = None
    questions: int = 16
    imaginations: int = 4
    updates: int = 1
    rewards: dict[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    shuffled: bool = False
    scale: str = "none"
    clip: float = 0.2
    clip_high: float | None = None
    answers: int | None = None
    closed: bool = True
    loss: str = "dr_grpo"
    kl: float = 0.0
    noise: float = 0.8
    window: int = 2
    first: float = 0.0
    last: float = 0.5
    velocity: float = 0.0
    reader: str | None = None
    text: TextSettings = field(default_factory=TextSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    batch_size: int = 64
    control_every: int = 10
    write_every: int = 10

    def __post_init__(self) -> None:
        if self.stage is None:
            return
        load_rewards(self.files)
        for what, value, valid in (
            ("stage", self.stage, STAGES),
            ("loss", self.loss, LOSSES),
            ("scale", self.scale, SCALES),
        ):
            if value not in valid:
                raise UnknownName(unknown_name(f"grpo.{what}", value, valid))
        self._check_rewards()
        self._check_numbers()
        for stage, names in ONLY.items():
            others = [name for name in names if getattr(self, name) != DEFAULT[name]]
            if stage != self.stage and others:
                raise UserError(f"grpo.{', grpo.'.join(others)} have no effect without grpo.stage={stage}")

    def _check_rewards(self) -> None:
        for name, weight in self.weights.items():
            if name not in REWARDS:
                raise UnknownName(unknown_name("reward", name, REWARDS))
            if self.stage not in REWARDS[name].stages:
                raise UserError(
                    f"grpo.rewards: {name} is for grpo.stage={' or '.join(REWARDS[name].stages)}, not for {self.stage}"
                )
            if not weight > 0:
                raise UserError(
                    f"grpo.rewards: the weight of {name} must be positive, got {weight}; leave out what does not count"
                )

    def _check_numbers(self) -> None:
        within(self, questions=10**6, imaginations=10**4, updates=10**4, batch_size=10**6)
        if min(self.kl, self.velocity, self.control_every, self.write_every) < 0:
            raise UserError("grpo.kl, velocity, control_every and write_every must be at least 0")
        if not (0 < self.clip < 1 and self.upper > 0):
            raise UserError(
                f"grpo.clip must lie between 0 and 1 and clip_high be positive, got {self.clip} and {self.clip_high}"
            )
        if self.answers is not None and (self.answers < 1 or self.answers % self.imaginations):
            raise UserError(
                f"grpo.answers={self.answers} must be a multiple of grpo.imaginations={self.imaginations}, which share them"
            )
        if self.text.temperature == 0 and self.stage == "readout" and not self.closed:
            raise UserError("grpo.text.temperature=0 samples nothing: set it above 0, or grpo.closed=true")
        if self.stage == "imagination":
            if not 0 <= self.first < self.last <= 1 or self.window < 1 or not self.noise > 0:
                raise UserError("grpo.first and last need 0 <= first < last <= 1, window at least 1 and noise above 0")
            if {self.draw.text_scale, self.draw.image_scale} - {None, 1.0}:
                raise UserError(
                    "grpo.draw.text_scale and image_scale: pictures are trained without guidance, leave them out"
                )
            if self.imaginations < 2:
                raise UserError(
                    "grpo.stage=imagination compares the pictures of a question: set grpo.imaginations above 1"
                )

    @property
    def weights(self) -> Mapping[str, float]:
        """What each reward counts, by name."""
        return self.rewards or DEFAULTS[str(self.stage)]

    @property
    def upper(self) -> float:
        """How far above 1 a ratio counts."""
        return self.clip if self.clip_high is None else self.clip_high

    @property
    def answers_each(self) -> int:
        """Sampled texts per imagination."""
        return 1 if self.answers is None else self.answers // self.imaginations


DEFAULT = {entry.name: entry.default for entry in fields(GrpoSettings)}


def trained_mode(settings: GrpoSettings, imagination: ImaginationConfig) -> str:
    """The mode that is asked in: the one that is named, else the first in which the model imagines, else the first that answers.
    ``UserError`` where it is none that the model was trained in, or cannot be trained in this stage."""
    drawing = settings.stage == "imagination"
    fit = [name for name in imagination.answering if modes[name].draws or not drawing]
    if not fit:
        raise UserError(
            f"grpo.stage={settings.stage} needs a mode that {'draws and ' * drawing}answers; the model was trained on "
            f"{', '.join(imagination.trained)}"
        )
    if settings.mode is not None and settings.mode not in fit:
        raise UserError(f"grpo.mode={settings.mode}: the model can be trained in {', '.join(fit)}")
    return settings.mode or next((name for name in fit if name in imagination.mediators), fit[0])


def samples_texts(settings: GrpoSettings, mode: type[Imagination]) -> bool:
    """Whether texts are sampled, instead of options weighed: where words come before the answer, or where it is asked for."""
    return not settings.closed or mode.kind == "text"


def unread(settings: GrpoSettings, imagination: ImaginationConfig) -> list[str]:
    """Keys that are set and that the run would not read, with what would make them count. ``UserError`` for a mode that cannot be
    trained."""
    mode = modes[trained_mode(settings, imagination)]
    if settings.stage != "readout":
        return []
    idle: tuple[str, ...]
    if mode.kind == "text":
        idle, why = ("closed",), f"in mode {mode.name}, whose texts are sampled anyway"
    elif settings.closed:
        idle, why = (
            ("answers", "loss", "scale", "clip", "clip_high"),
            "while options are weighed: set grpo.closed=false",
        )
    else:
        return []
    return [f"grpo.{name} has no effect {why}" for name in idle if getattr(settings, name) != DEFAULT[name]]
