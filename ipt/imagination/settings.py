"""Settings of imagination modes and their mixtures, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ipt.common.errors import UserError
from ipt.sequence.settings import check_encoders


@dataclass(frozen=True)
class IptSettings:
    """``condition``: the encoders through which the answer sees an imagination. ``source``: weights of ``ground_truth`` and
    ``self`` (the model's own, from a cache) as what the answer is trained on; the flow target is always the truth.

    ``reveal``: probability that the answer may attend to the imagination; 0 makes it an auxiliary target. ``bottleneck``:
    probability that observation images reach the answer through the imagination alone: only the image being drawn may attend
    to them. At inference reveal 0 and bottleneck 1 hold, too; probabilities between are for training. ``train_flow=False``
    takes the loss off the drawn image and leaves everything else as it is.
    """

    condition: tuple[str, ...] = ("vae", "vit")
    source: dict[str, float] = field(default_factory=lambda: {"ground_truth": 1.0, "self": 0.0})
    reveal: float = 1.0
    bottleneck: float = 0.0
    train_flow: bool = True

    def __post_init__(self) -> None:
        check_encoders("condition", self.condition)
        weights = self.source.values()
        if not set(self.source) <= {"ground_truth", "self"} or min(weights, default=-1) < 0 or not sum(weights):
            raise UserError(f"source takes weights of ground_truth and self, got {self.source}")
        for name in ("reveal", "bottleneck"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a probability, got {getattr(self, name)}")

    @property
    def self_share(self) -> float:
        """The probability of a self-made imagination."""
        return self.source.get("self", 0.0) / sum(self.source.values())


@dataclass(frozen=True)
class ImaginationConfig:
    """``modes``: row weights by mode (``mixed`` is ``{ipt: 1, label_only: 1}``). ``self_made``: folder of the model's own
    imaginations. ``permuted``: a control that gives every sample the imagination of another one."""

    modes: dict[str, float]
    ipt: IptSettings = field(default_factory=IptSettings)
    self_made: Path | None = None
    permuted: bool = False
