"""Packed batches in an order that no machine changes: any number of ranks and workers, stopped and resumed anywhere.

An optimisation step consists of ``packs_per_step`` packs, whatever the hardware. Each belongs to a *lane*: lane l packs the
positions l, l + packs_per_step, ... of the `MixtureOrder` on its own. Ranks share the lanes, so more ranks mean fewer packs to
accumulate per rank and step, but the same steps. Workers measure samples and build batches (`prepare`), which changes nothing
but the speed. The state is what the batches handed out have consumed: per lane a cursor, and the positions in its open packs.

Without ``epochs`` lanes run through epoch after epoch without a break (every epoch still has its exact row counts). With it,
each lane ends with its open packs, so ranks may end a few packs apart: a caller with collectives goes on with empty batches.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ipt.common.errors import UserError
from ipt.sequence.batch import PackedBatch
from ipt.sequence.order import MixtureOrder
from ipt.sequence.packing import FirstFit, Pack
from ipt.sequence.pictures import Picture
from ipt.sequence.prepare import Measured, Part, Preparer, Workers, workers
from ipt.sequence.segments import SpecialTokens
from ipt.sequence.settings import Geometry, LoaderConfig

#: Samples per order to a worker: more of them cost less to send, fewer are ready sooner.
MEASURED_TOGETHER = 8

log = logging.getLogger(__name__)


class Lane:
    """One pack of every step: plans packs from measured samples, and hands them out in order once they are built."""

    def __init__(self, number: int, config: LoaderConfig, epoch_rows: int) -> None:
        self.number, self.config, self.epoch_rows = number, config, epoch_rows
        self._end = math.inf if config.epochs is None else config.epochs * epoch_rows
        self.load({"cursor": number, "packs": 0, "rejected": 0, "open": []})

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.state: Mapping[str, Any] = state

    def start(self, staff: Workers, ahead: int) -> None:
        """Order work from ``staff``, planning ``ahead`` packs beyond the one that is handed out."""
        self._staff, self._ahead = staff, ahead
        self._cursor, self._packs, self._rejected = (self.state[name] for name in ("cursor", "packs", "rejected"))
        self._packer: FirstFit[Measured] = FirstFit(self.config.budget, self.config.open_packs, self.config.max_samples)
        for items in self.state["open"]:
            samples = [Measured(position, tokens) for position, tokens in items]
            self._packer.open.append(Pack(samples, sum(sample.tokens for sample in samples)))
        self._to_measure, self._measured = self._cursor, deque[Measured]()
        self._measuring: deque[Callable[[], list[Measured]]] = deque()
        self._ready: deque[tuple[Callable[[], PackedBatch], dict[str, Any]]] = deque()
        self._ended, self._rejected_in_a_row = False, 0
        self._order_measures()

    def plan_ahead(self) -> None:
        """Have the next pack and ``ahead`` further ones in work."""
        while len(self._ready) <= self._ahead and not self._ended:
            self._plan()

    def next_batch(self) -> PackedBatch | None:
        """The next pack, and ``None`` after the last one. `state` then is that after this pack."""
        self.plan_ahead()
        if not self._ready:
            return None
        build, state = self._ready[0]
        batch = build()
        self._ready.popleft()
        self.state = state
        return batch

    def _plan(self) -> None:
        """Take one more sample, or at the end of the data close one more pack, and order a pack that this completes."""
        if not self._measured and self._measuring:
            self._measured.extend(self._measuring.popleft()())
            self._order_measures()
        if self._measured:
            sample = self._measured.popleft()
            self._cursor += self.config.packs_per_step
            closed = self._place(sample)
        else:
            closed = self._packer.close_oldest()
            self._ended = closed is None
        if closed is not None:
            self._packs += 1
            packs = [[[item.position, item.tokens] for item in pack.items] for pack in self._packer.open]
            state = {"cursor": self._cursor, "packs": self._packs, "rejected": self._rejected, "open": packs}
            self._ready.append((self._staff.build(closed.items), state))

    def _place(self, sample: Measured) -> Pack[Measured] | None:
        if sample.rejected:
            self._rejected += 1
            self._rejected_in_a_row += 1
            log.warning("rejected %s (lane %d: %d so far)", sample.rejected, self.number, self._rejected)
            if self._rejected_in_a_row > self.epoch_rows:
                raise UserError(f"every sample of a whole epoch was rejected, the last one: {sample.rejected}")
            return None
        self._rejected_in_a_row = 0
        try:
            return self._packer.add(sample, sample.tokens)
        except UserError as error:
            raise UserError(f"{sample.where}: {error}") from error

    def _order_measures(self) -> None:
        stride = self.config.packs_per_step
        while len(self._measuring) <= self._ahead and self._to_measure < self._end:
            last = min(self._to_measure + MEASURED_TOGETHER * stride, self._end)
            self._measuring.append(self._staff.measure(range(self._to_measure, int(last), stride)))
            self._to_measure += MEASURED_TOGETHER * stride


class Loader:
    """An iterator over the packs of this ``rank``, lane by lane and step by step; iterating again continues.

    Raises ``ValueError`` where ``world`` ranks cannot share the packs of a step evenly.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tokens: SpecialTokens,
        geometry: Geometry,
        config: LoaderConfig,
        latents: Callable[[Picture], Tensor] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.packs_per_step % world or not 0 <= rank < world:
            raise UserError(
                f"rank {rank} of {world} cannot take part in steps of {config.packs_per_step} packs: packs_per_step must be a "
                "multiple of the number of ranks"
            )
        self.config = config
        sizes, names = [len(part.samples) for part in parts], [part.name for part in parts]
        self.order = MixtureOrder(config.seed, names, sizes, [part.weight for part in parts], config.epoch_rows)
        self._preparer = Preparer(tuple(parts), self.order, tokens, geometry, latents)
        numbers = range(rank, config.packs_per_step, world)
        self.lanes = [Lane(number, config, self.order.epoch_rows) for number in numbers]

    def __iter__(self) -> Iterator[PackedBatch]:
        with workers(self._preparer, self.config.workers, self.config.start_method) as staff:
            ahead = math.ceil(self.config.workers / len(self.lanes))
            for lane in self.lanes:
                lane.start(staff, ahead)
            going = list(self.lanes)
            while going:
                for lane in going:
                    lane.plan_ahead()
                lane = min(going, key=lambda lane: (lane.state["packs"], lane.number))
                if (batch := lane.next_batch()) is None:
                    going.remove(lane)
                else:
                    yield batch

    def state_dict(self) -> dict[str, Any]:
        """What this rank's lanes have given so far, as JSON values. Ranks' states are combined by `merge_states`."""
        return {"identity": self._identity(), "lanes": {str(lane.number): lane.state for lane in self.lanes}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` (of all lanes, at least of this rank's) was taken, by any number of ranks and workers.

        Raises ``ValueError`` where it belongs to other data or to another configuration, or lacks a lane.
        """
        check_same(self._identity(), state["identity"])
        if missing := [lane.number for lane in self.lanes if str(lane.number) not in state["lanes"]]:
            raise UserError(f"the loader state lacks the lanes {missing}; merge the states of all ranks (merge_states)")
        for lane in self.lanes:
            lane.load(state["lanes"][str(lane.number)])

    def _identity(self) -> dict[str, Any]:
        """Everything that decides which samples a pack holds."""
        names = ("seed", "packs_per_step", "budget", "open_packs", "max_samples")
        rows = [list(part) for part in zip(self.order.names, self.order.sizes, self.order.counts, strict=True)]
        return {name: getattr(self.config, name) for name in names} | {"parts": rows}


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One state from those of all ranks. Raises ``ValueError`` where they do not belong together."""
    first, *others = states
    merged = {"identity": first["identity"], "lanes": dict(first["lanes"])}
    for other in others:
        check_same(merged["identity"], other["identity"])
        if twice := sorted(set(merged["lanes"]) & set(other["lanes"])):
            raise UserError(f"two of the loader states hold the lanes {', '.join(twice)}")
        merged["lanes"] |= other["lanes"]
    return merged


def check_same(here: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` naming what differs between two loaders' identities."""
    if different := [key for key in sorted({*here, *saved}) if here.get(key) != saved.get(key)]:
        details = "; ".join(f"{key}: {here.get(key)} here, {saved.get(key)} in the state" for key in different)
        raise UserError(f"the loader state belongs to another run ({details}); start anew, or use that run's settings")
