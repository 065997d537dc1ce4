"""Mixtures: a distribution over modes by row weight, which the model tells apart by their system prompts, and its settings.

A run is checked by these before anything heavy is imported, so there is no torch in here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import generator
from ipt.imagination.base import Imagination, ImaginationSettings
from ipt.imagination.modes import modes
from ipt.samples.sample import TASKS, SpatialSample
from ipt.sequence.packing import largest_remainders

if TYPE_CHECKING:
    from ipt.samples.store import SampleReader
    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segment


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

    @property
    def settings(self) -> tuple[ImaginationSettings, ...]:
        """Those of the trained modes."""
        return tuple(self.of(mode) for mode in self.trained)

    @property
    def encodes(self) -> bool:
        """Whether a trained mode needs a codec."""
        return bool(self.drawing) or any(each.encodes for each in self.settings)

    @property
    def free_rounds(self) -> tuple[int, int]:
        """How often free latent slots are filled in training, and how many of these rounds have gradients."""
        return max((each.free_rounds for each in self.settings), default=(0, 0))

    @property
    def slot_input(self) -> str | None:
        """What is fed to latent slots for a vector; None without them."""
        return next((each.slot_input for each in self.settings if each.slot_input is not None), None)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Parts of the model that the trained modes take targets from."""
        return tuple(dict.fromkeys(part for each in self.settings for part in each.frozen))

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


def make_mode(
    name: str, renderer: Renderer, config: ImaginationConfig, reader: SampleReader | None = None
) -> Imagination:
    """The mode ``name`` with its settings, for training on the samples of ``reader``, or for inference without one."""
    return modes[name].make(renderer, config.of(name), reader)


def assign_modes(weights: Sequence[float], rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """[rows] the number of the mode of each row in an epoch.

    Every epoch has the same counts, exact to the row. Which rows a mode gets is drawn anew each epoch.
    """
    counts = largest_remainders(weights, rows)
    assigned: NDArray[np.int64] = np.empty(rows, dtype=np.int64)
    assigned[generator(seed, "mixture", epoch).permutation(rows)] = np.repeat(np.arange(len(counts)), counts)
    return assigned


class Mixture:
    """The `Segmenter` of a dataset of ``rows`` rows: picks the mode and renders, with ``draws`` noised copies of an image
    that is to be drawn."""

    def __init__(
        self,
        members: Sequence[Imagination],
        weights: Sequence[float],
        renderer: Renderer,
        rows: int,
        draws: int = 1,
    ) -> None:
        if len(members) != len(weights) or not members or min(weights) < 0 or not sum(weights) > 0:
            raise UserError(f"a mixture needs one weight >= 0 per mode and a positive sum, got {list(weights)}")
        self.members, self.weights, self.renderer = tuple(members), tuple(weights), renderer
        self.rows, self.draws = rows, draws
        self._check_prompts()

    def _check_prompts(self) -> None:
        systems, names = self.renderer.profile.systems, [member.name for member in self.members]
        for task in TASKS:
            texts = [systems.get(f"{task}/{name}", systems.get(name)) for name in names]
            known = [text for text in texts if text is not None]
            if len(set(known)) != len(known):
                raise UserError(
                    f"the modes {', '.join(names)} of a mixture must have different system prompts for task '{task}' "
                    f"in profile '{self.renderer.profile.name}', or the model cannot tell which one is asked for"
                )

    def mode(self, epoch: int, row: int) -> Imagination:
        """The mode of a row in an epoch."""
        if not 0 <= row < self.rows:
            raise UserError(f"the mixture was made for {self.rows} rows, there is no row {row}")
        number = _assigned(self.weights, self.rows, self.renderer.config.seed, epoch)[row]
        return self.members[number]

    def __call__(self, sample: SpatialSample, epoch: int, row: int) -> list[Segment]:
        segments = self.mode(epoch, row).segments(sample, epoch)
        return self.renderer.finish(sample, segments, epoch, self.draws)


@lru_cache(maxsize=4)  # of the current epoch, per process
def _assigned(weights: tuple[float, ...], rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return assign_modes(weights, rows, seed, epoch)


def make_segmenter(config: ImaginationConfig, renderer: Renderer, reader: SampleReader, draws: int = 1) -> Mixture:
    """The `Segmenter` of a dataset, from configuration; ``draws``: noised copies of each image that is to be drawn."""
    members = [make_mode(name, renderer, config, reader) for name in config.modes]
    return Mixture(members, list(config.modes.values()), renderer, len(reader), draws)
