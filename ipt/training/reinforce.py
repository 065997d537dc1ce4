"""Rollouts as the source of a run's packs: the model answers or draws by itself, and trains on what came of it.

A round is a rollout from the weights as they stand and ``grpo.updates`` steps on it. Its questions are a pure function of its
number, its random streams carry that number, and each lane (`LoaderConfig.packs_per_step`) makes its own in batches of its
own. So neither the number of processes nor an interruption changes a round, and a run that is saved between rounds needs no
rollout to go on.

Where the weights are divided among processes, these make all rollouts together, by the same forward passes; else each makes
those of its own lanes.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.seeding import derived_seed
from ipt.imagination.base import Mediator
from ipt.imagination.modes import modes
from ipt.inference.checkpoint import Checkpoint, load_checkpoint
from ipt.model.unified import UnifiedModel
from ipt.reinforcement.folder import ROLLOUTS, write_rollout
from ipt.reinforcement.rollouts import Asked, Player, Read, Rollout, replay_of
from ipt.reinforcement.settings import GrpoSettings, trained_mode
from ipt.reinforcement.units import Unit, packed, packs
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from ipt.sequence.batch import Origin, PackedBatch
from ipt.sequence.loader import Part, check_same
from ipt.sequence.packing import MixtureOrder
from ipt.sequence.replay import Closed, Replay
from ipt.sequence.segments import RejectedSample
from ipt.sequence.settings import LoaderConfig
from ipt.training.config import TrainConfig
from ipt.training.distributed import World, is_sharded, root_gathered, root_released
from ipt.training.policy import TABLES
from ipt.training.source import Material

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer

log = logging.getLogger(__name__)
#: What the losses of a rollout count, where not nothing; ``kl`` and ``velocity`` count what the settings say.
FULL = ("choice", "policy", "picture")


class Reinforced:
    """The rollouts of a model on the samples of ``parts``.

    ``checkpoint``: adds to the model that is trained what inference needs. ``data``: the name of the dataset and its digest.
    ``reader``: of pictures, where not the weights of the start. ``divided``: no process can compute with its weights alone.
    """

    compares = True

    def __init__(
        self,
        parts: Sequence[Part],
        settings: GrpoSettings,
        config: LoaderConfig,
        checkpoint: Callable[[UnifiedModel], Checkpoint],
        kind: type[Replay],
        data: tuple[str, str],
        reader: Checkpoint | None = None,
        divided: bool = False,
    ) -> None:
        sizes, names, weights = zip(*((len(part.samples), part.name, part.weight) for part in parts), strict=True)
        self.order = MixtureOrder(config.seed, names, sizes, weights, config.epoch_rows)
        self.parts, self.settings, self.config, self.kind, self.data = parts, settings, config, kind, data
        self.checkpoint, self.reader, self.divided = checkpoint, reader, divided
        self._left = 0
        counts = {**dict.fromkeys(FULL, 1.0), "kl": settings.kl, "velocity": settings.velocity}
        self.factors = {name: counts.get(name, 0.0) for name in TABLES[kind]}

    @property
    def whole(self) -> bool:
        return self._left == 0

    def steps(self, trainer: Trainer) -> Generator[Material, None, None]:
        if is_sharded(trainer.objective):  # whose parts compute alone only after the whole has once
            with trainer.playing():
                trainer.choices(self._empty(trainer))
        while True:
            assert trainer.step % self.settings.updates == 0, "runs are saved between rounds"
            material = self._round(trainer, trainer.step // self.settings.updates)
            for left in reversed(range(self.settings.updates)):
                self._left = left
                yield material

    def state(self, world: World) -> dict[str, Any]:
        return self._identity()

    def load(self, state: Mapping[str, Any]) -> None:
        check_same(self._identity(), state)

    def _identity(self) -> dict[str, Any]:
        """Everything that decides which questions a round has."""
        rows = [list(part) for part in zip(self.order.names, self.order.sizes, self.order.counts, strict=True)]
        return {
            "seed": self.config.seed,
            "packs_per_step": self.config.packs_per_step,
            "questions": self.settings.questions,
            "updates": self.settings.updates,
            "parts": rows,
        }

    def asked(self, number: int, lane: int) -> list[Asked]:
        """The questions of a lane in a round."""
        first, found = number * self.settings.questions, []
        for position in range(first + lane, first + self.settings.questions, self.config.packs_per_step):
            place = self.order[position]
            part = self.parts[place.part]
            sample = part.samples[place.row]
            found.append(Asked(sample, Origin(part.name, sample.id, position), part.samples.where(place.row)))
        return found

    def _round(self, trainer: Trainer, number: int) -> Material:
        """Roll out, pack, and ask the weights of the start, and where there are several updates those of now, about it."""
        world, lanes = trainer.world, range(self.config.packs_per_step)
        own = lanes[world.rank :: world.size]
        made = {lane: self._play(trainer, number, lane) for lane in (lanes if self.divided else own)}
        every = self.settings.write_every
        write = bool(every) and number % every == 0
        told = [made] if self.divided else world.gather({lane: _told(each, write) for lane, each in made.items()})
        together = Rollout()
        for _, each in sorted((item for found in told for item in found.items()), key=lambda item: item[0]):
            together.add(each)
        if write and world.is_main:
            seed = trainer.config.seed
            write_rollout(trainer.folder / ROLLOUTS, trainer.step, together, self.settings, *self.data, seed)
        batches = self._compared(trainer, self._packs(trainer, [made[lane].units for lane in own]))
        return Material(batches, figures(together))

    def _packs(self, trainer: Trainer, units_of_lanes: Sequence[Sequence[Unit]]) -> list[PackedBatch]:
        """As many packs as every other rank has; those of a lane hold nothing of another."""
        special, geometry = self.checkpoint(trainer.model).tokenizer.special, trainer.model.config.geometry
        own = [
            pack for units in units_of_lanes for pack in packs(units, self.kind, special, geometry, self.config.budget)
        ]
        return [*own, *[self._empty(trainer)] * (max(trainer.world.gather(len(own))) - len(own))]

    def _empty(self, trainer: Trainer) -> PackedBatch:
        """A pack of no choices, which all parts of the model compute nevertheless."""
        special, geometry = self.checkpoint(trainer.model).tokenizer.special, trainer.model.config.geometry
        return packed([], self.kind, special, geometry)

    def _play(self, trainer: Trainer, number: int, lane: int) -> Rollout:
        settings, every = self.settings, self.settings.control_every
        seed = derived_seed(trainer.config.seed, "rollout", number)
        with trainer.playing(), root_gathered(trainer.objective):
            player = Player(self.checkpoint(trainer.model), settings)
            asked = [each for each in self.asked(number, lane) if _is_fit(player, each)]
            control = bool(every) and number % every == 0
            return player.play(asked, seed, self.config.budget, self._reader(trainer), control)

    def _reader(self, trainer: Trainer) -> Read | None:
        """Who looks at pictures: another model, or the one that is trained with the weights of its start."""
        if self.settings.stage != "imagination":
            return None
        if self.reader is not None:
            return Player(self.reader, GrpoSettings("readout", batch_size=self.settings.batch_size)).read

        def read(samples: Sequence[SpatialSample], mediators: Sequence[Mediator]) -> list[tuple[float, ...]]:
            with root_released(trainer.objective), trainer.playing(trainer.start), root_gathered(trainer.objective):
                return Player(self.checkpoint(trainer.model), self.settings).read(samples, mediators)

        return read

    def _compared(self, trainer: Trainer, own: Sequence[PackedBatch]) -> list[PackedBatch]:
        """The packs with what the start, and where there are several updates the weights of now, make of their choices."""
        old: list[Tensor | None] = [None] * len(own)
        if self.settings.updates > 1 and self.kind is not Closed:
            with trainer.playing():
                old = [trainer.choices(pack).cpu() for pack in own]
        with trainer.playing(trainer.start):
            start = [trainer.choices(pack).cpu() for pack in own]
        return [
            replace(pack, replay=replace(pack.replay, old=before, start=first))
            for pack, before, first in zip(own, old, start, strict=True)
            if pack.replay is not None
        ]


def make_rollouts(
    config: TrainConfig,
    parts: Sequence[Part],
    checkpoint: Callable[[UnifiedModel], Checkpoint],
    datasets: Mapping[str, SampleReader],
    world: World,
) -> Reinforced:
    """The rollouts of a run on its ``datasets``, by folder, which are also its ``parts``."""
    grpo, reader = config.grpo, None
    if grpo.reader is not None:
        reader = load_checkpoint(Path(grpo.reader), device=world.device, dtype=config.trainer.dtype)
    kind = replay_of(grpo, modes[trained_mode(grpo, config.imagination)])
    digests = [each.digest() for each in datasets.values()]
    data = ", ".join(datasets), digests[0] if len(digests) == 1 else "-".join(digest[:12] for digest in digests)
    divided = config.distributed.divides(world.size)
    return Reinforced(parts, grpo, config.loader, checkpoint, kind, data, reader, divided)


def _is_fit(player: Player, asked: Asked) -> bool:
    """Whether a question can be asked; one that a policy leaves out is named. Raises what else is wrong with it, and says
    where."""
    try:
        player.mode.prompt(asked.sample)
    except RejectedSample as rejection:
        log.warning("rejected %s: %s", asked.where, rejection)
        return False
    except UserError as error:
        raise UserError(f"{asked.where}: {error}") from error
    return True


def _told(rollout: Rollout, whole: bool) -> Rollout:
    """What other processes need of it: the figures, and what is to be written."""
    plain = {name: list(values) for name, values in rollout.numbers.items()}
    kept = Rollout(numbers=defaultdict(list, plain), choices=rollout.choices)
    return replace(kept, answers=rollout.answers, lines=rollout.lines) if whole else kept


def figures(rollout: Rollout) -> dict[str, float]:
    """Means of what was measured, and ``same_answer``: the share of the option that was chosen most often."""
    found = {name: float(np.mean(values)) for name, values in rollout.numbers.items() if values}
    counts = Counter(rollout.choices)
    return found | ({"same_answer": max(counts.values()) / counts.total()} if counts else {})
