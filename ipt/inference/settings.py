"""Settings of inference, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.inference.prediction import MODES

COMBINE = ("vote", "mean")
READOUTS = ("text", "options")


@dataclass(frozen=True)
class TextSettings:
    """``max_tokens`` of one text. ``temperature``: 0 takes the likeliest token (the paper samples at 0.3)."""

    max_tokens: int = 1024
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.temperature < 0:
            raise UserError(f"max_tokens must be at least 1 and temperature >= 0, got {self}")


@dataclass(frozen=True)
class DrawSettings:
    """How an image is drawn: ``timesteps`` points of the schedule (one more than steps) and its ``shift``; guidance scales and
    where they hold (`ipt.flow.guidance`). A scale of ``None`` is the paper's (text 4, image 2) where the model was trained
    without what that guidance leaves out now and then, else 1: off. ``side``: latent tokens per side of the image, else as
    trained."""

    timesteps: int = 25
    shift: float = 3.0
    text_scale: float | None = None
    image_scale: float | None = None
    start: float = 0.0
    end: float = 1.0
    renorm: str = "text_channel"
    renorm_min: float = 0.0
    side: int | None = None

    def __post_init__(self) -> None:
        if self.timesteps < 2 or (self.side is not None and self.side < 1):
            raise UserError(f"timesteps must be at least 2 and side at least 1, got {self.timesteps} and {self.side}")


@dataclass(frozen=True)
class ModeSettings:
    """A decode plan: ``name`` is its column in tables (`ipt.inference.prediction.MODES`).

    ``mediator``: the imagination mode to use where a checkpoint knows several. ``n``: imaginations per question, whose answers
    are combined by ``vote`` (ties: mean probability) or by ``mean`` probability. ``answer``: read from the ``text`` that the
    model writes, or from the probabilities of the ``options``, without writing. ``probabilities``: compute those in any case.
    ``max_images``: images that a free answer may draw. ``max_seconds`` per answer (None: no limit).
    """

    name: str = "answer_only"
    mediator: str | None = None
    n: int = 1
    combine: str = "vote"
    answer: str = "text"
    probabilities: bool = True
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
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise UserError(f"mode.max_seconds must be positive, got {self.max_seconds}")

    @property
    def reads_options(self) -> bool:
        """Whether the probabilities of the options are computed."""
        return self.probabilities or self.answer == "options" or self.combine == "mean"
