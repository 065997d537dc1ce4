"""Where the packs of training steps come from: stored samples (`Supervised`), or what the model makes itself
(`ipt.training.reinforce`).

The loop takes what it is given and does not know which, so that resuming, world sizes, steps that are not finite, averages,
trackers and checkpoints are the same for both.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ipt.sequence.batch import PackedBatch
from ipt.sequence.loader import Loader, merge_states
from ipt.training.distributed import World
from ipt.training.settings import LossConfig

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer


class Material(NamedTuple):
    """What one step is trained on: this rank's ``packs``, as many as every other rank has, and ``figures`` for its record, the
    same on all ranks."""

    packs: Sequence[PackedBatch]
    figures: Mapping[str, float] = {}


class Source(Protocol):
    """``factors``: what each loss of its packs counts in the total, by term. ``compares``: whether it needs the weights that the
    run started from (`Trainer.start`). ``whole``: whether the run can be saved after the step that was given last."""

    @property
    def factors(self) -> Mapping[str, float]: ...

    @property
    def compares(self) -> bool: ...

    @property
    def whole(self) -> bool: ...

    def steps(self, trainer: Trainer) -> Generator[Material, None, None]:
        """The material of the steps from here on, without end, made with the weights as they are when it is asked for."""
        ...

    def state(self, world: World) -> dict[str, Any]:
        """Where it stands, as JSON values, for any number of processes. All ranks call this."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises ``ValueError`` for a state of other data or settings."""
        ...


class Supervised:
    """The packs of a loader, one of each lane in a step."""

    compares, whole = False, True

    def __init__(self, loader: Loader, loss: LossConfig) -> None:
        self.loader, self.factors = loader, loss.weights

    def steps(self, trainer: Trainer) -> Generator[Material, None, None]:
        with closing(iter(self.loader)) as batches:  # type: ignore[type-var]  # it is a generator
            while True:
                yield Material([next(batches) for _ in self.loader.lanes])

    def state(self, world: World) -> dict[str, Any]:
        return merge_states(world.gather(self.loader.state_dict()))

    def load(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)
