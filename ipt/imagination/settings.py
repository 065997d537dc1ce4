"""Settings of a mixture of imagination modes, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import TYPE_CHECKING, Any

from ipt.common.registry import UnknownName, unknown_name
from ipt.imagination.base import Imagination, ImaginationSettings
from ipt.imagination.modes import modes


@dataclass(frozen=True)
class Mixed:
    """``modes``: row weights by mode, for example ``{ipt: 1, label_only: 1}``. A mode with settings has them under its name."""

    modes: dict[str, float]

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in modes:
                raise UnknownName(unknown_name("imagination mode", mode, modes))

    def of(self, mode: str) -> ImaginationSettings:
        """The settings of a mode."""
        found: ImaginationSettings = getattr(self, mode, None) or modes[mode].Settings()
        return found

    @property
    def trained(self) -> tuple[str, ...]:
        """The modes that have rows."""
        return tuple(mode for mode, weight in self.modes.items() if weight > 0)

    @property
    def mediators(self) -> tuple[str, ...]:
        """The trained modes in which something stands between question and answer."""
        return self._which(lambda mode: mode.mediates)

    @property
    def answering(self) -> tuple[str, ...]:
        """The trained modes that end in an answer."""
        return self._which(lambda mode: mode.answers)

    @property
    def drawing(self) -> tuple[str, ...]:
        """The trained modes that draw."""
        return self._which(lambda mode: mode.draws)

    def _which(self, chosen: Callable[[type[Imagination]], bool]) -> tuple[str, ...]:
        return tuple(mode for mode in self.trained if chosen(modes[mode]))

    @property
    def at_inference(self) -> ImaginationConfig:
        """The same without the settings of where training takes its mediators from."""
        owned: dict[str, Any] = {entry.name: self.of(entry.name).at_inference for entry in fields(self)[1:]}
        return replace(self, **owned)


if TYPE_CHECKING:
    ImaginationConfig = Mixed
else:
    #: `Mixed`, and a field for each mode that has settings.
    ImaginationConfig = make_dataclass(
        "ImaginationConfig",
        [
            (name, mode.Settings, field(default_factory=mode.Settings))
            for name, mode in modes.items()
            if fields(mode.Settings)
        ],
        bases=(Mixed,),
        frozen=True,
    )
    ImaginationConfig.__module__ = __name__
