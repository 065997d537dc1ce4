"""Mixtures: a distribution over modes by row weight, which the model tells apart by their system prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.imagination.base import Imagination
from ipt.imagination.modes import modes
from ipt.imagination.settings import ImaginationConfig
from ipt.samples.sample import TASKS, SpatialSample
from ipt.samples.store import SampleReader
from ipt.sequence.order import largest_remainders
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Segment, with_draws


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
    """The `Segmenter` of a dataset of ``rows`` rows: picks the mode, renders, lays ``draws`` noised copies of an image that is
    to be drawn into the sequence, applies guidance dropout and the token cap."""

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
        segments = with_draws(self.mode(epoch, row).segments(sample, epoch), self.draws)
        return self.renderer.finish(sample, segments, epoch)


@lru_cache(maxsize=4)  # of the current epoch, per process
def _assigned(weights: tuple[float, ...], rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return assign_modes(weights, rows, seed, epoch)


def make_segmenter(config: ImaginationConfig, renderer: Renderer, reader: SampleReader, draws: int = 1) -> Mixture:
    """The `Segmenter` of a dataset, from configuration; ``draws``: noised copies of each image that is to be drawn."""
    members = [make_mode(name, renderer, config, reader) for name in config.modes]
    return Mixture(members, list(config.modes.values()), renderer, len(reader), draws)
