"""Packed batches in an order that no machine changes: any number of ranks and workers, stopped and resumed anywhere.

An optimisation step consists of ``packs_per_step`` packs, whatever the hardware. Each belongs to a *lane*: lane l packs the
positions l, l + packs_per_step, ... of the `MixtureOrder` on its own. Ranks share the lanes, so more ranks mean fewer packs to
accumulate per rank and step, but the same steps. Rows are read, rendered and decoded once each, by the workers of torch's
`DataLoader`, and packed here; how many workers there are changes nothing but the speed. The state is what the batches handed out
have consumed: per lane a cursor, and the positions in its open packs, whose rows are read again where a state is continued.

Without ``epochs`` lanes run through epoch after epoch without a break (every epoch still has its exact row counts). With it,
each lane ends with its open packs, so ranks may end a few packs apart: a caller with collectives goes on with empty batches.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ipt.common.errors import UserError
from ipt.common.settings import differences
from ipt.samples.sample import SpatialSample
from ipt.sequence.batch import Origin, PackedBatch, lay_out
from ipt.sequence.packing import FirstFit, MixtureOrder, Pack
from ipt.sequence.pictures import Picture
from ipt.sequence.segments import RejectedSample, Segment, Segmenter, SpecialTokens, images, num_tokens, with_latents
from ipt.sequence.settings import Geometry, LoaderConfig

#: Rows that a worker prepares ahead: about the packs of a step, so that it works while the model is trained.
ROWS_AHEAD = 16

log = logging.getLogger(__name__)


class Samples(Protocol):
    """What a loader reads: ``ipt.samples.store.SampleReader``, or anything that says where a sample stands."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SpatialSample: ...

    def where(self, index: int) -> str: ...


@dataclass(frozen=True)
class Part:
    """An ingredient of a mixture: samples, how they become segments, and the weight of the part in rows.

    ``segmenter`` receives the number of the part's turn through its rows as the epoch. All of it must be picklable for workers.
    """

    name: str
    samples: Samples
    segmenter: Segmenter
    weight: float = 1.0


@dataclass(frozen=True)
class Row:
    """What stands at a position of the order: where it is stored (file, row and id), its origin, its segments and the tokens that
    they take; or the error for which it has none. A `RejectedSample` is left out, any other error ends the run."""

    position: int
    where: str
    origin: Origin | None = None
    segments: Sequence[Segment] = ()
    tokens: int = 0
    error: UserError | None = None


@dataclass(frozen=True)
class Rows(Dataset[Row]):
    """The rows of an order by position, each a pure function of it. ``latents``: a latent cache, which then replaces the codec.

    Errors are part of a row, since those that a worker raises lose their type; they name file, row, sample and field.
    """

    parts: tuple[Part, ...]
    order: MixtureOrder
    geometry: Geometry
    latents: Callable[[Picture], Tensor] | None = None

    def __getitem__(self, position: int) -> Row:
        place = self.order[position]
        part = self.parts[place.part]
        where = part.samples.where(place.row)
        try:
            sample = part.samples[place.row]
        except UserError as error:
            return Row(position, where, error=error)
        named = f"{where}, sample '{sample.id}' (part '{part.name}')"
        try:
            segments = part.segmenter(sample, place.turn, place.row)
            tokens = num_tokens(segments, self.geometry)
            found = segments if self.latents is None else with_latents(segments, self.latents)
            for image in images(segment for segment in found if not segment.dropped):
                if isinstance(image.payload, Picture):
                    _ = image.payload.decoded
        except RejectedSample as rejection:
            return Row(position, where, error=rejection)
        except UserError as error:
            return Row(position, where, error=UserError(f"{named}: {error}"))
        return Row(position, named, Origin(part.name, sample.id, position), found, tokens)


class Lane:
    """One pack of every step: plans packs from its rows, and hands them out in order."""

    def __init__(self, number: int, config: LoaderConfig, epoch_rows: int) -> None:
        self.number, self.config, self.epoch_rows = number, config, epoch_rows
        self.load({"cursor": number, "packs": 0, "rejected": 0, "open": []})

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.state: Mapping[str, Any] = state

    def start(self) -> None:
        """Go on from `state`: ask for the rows of its open packs again, then for those from its cursor on."""
        self._cursor, self.packs, self._rejected = (self.state[name] for name in ("cursor", "packs", "rejected"))
        self._packer: FirstFit[Row] = FirstFit(
            self.config.budget, self.config.open_packs, self.config.max_samples, self.config.target
        )
        self._packer.open = [Pack() for _ in self.state["open"]]
        waiting = [
            (pack, *item) for pack, items in zip(self._packer.open, self.state["open"], strict=True) for item in items
        ]
        self._reopened = deque(waiting)
        self.ready: deque[tuple[list[Row], dict[str, Any]]] = deque()
        self._rejected_in_a_row = 0
        stride, epochs = self.config.packs_per_step, self.config.epochs
        rest = itertools.count(self._cursor, stride)
        if epochs is not None:
            rest = iter(range(self._cursor, epochs * self.epoch_rows, stride))  # type: ignore[assignment]
        self._positions = itertools.chain((position for _, position, _ in waiting), rest)
        self.in_work, self._ends = 0, False

    def ask(self) -> int | None:
        """The position of the next row, None after the last one."""
        position = next(self._positions, None)
        self._ends = position is None
        self.in_work += position is not None
        return position

    @property
    def waits(self) -> bool:
        """Whether the next pack needs more rows, and there are some."""
        return not self.ready and not (self._ends and not self.in_work)

    def take(self, row: Row) -> None:
        """Place the next row that was asked for."""
        self.in_work -= 1
        if self._reopened:
            self._reopen(row, *self._reopened.popleft())
            return
        self._cursor += self.config.packs_per_step
        if row.error is not None:
            self._leave_out(row, row.error)
            return
        self._rejected_in_a_row = 0
        try:
            self._close(self._packer.add(row, row.tokens))
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error

    def hand_out(self) -> tuple[list[Row], dict[str, Any]] | None:
        """The rows of the next pack and the state after it; at the end of the data of a pack that is still open."""
        if not self.ready:
            self._close(self._packer.close_oldest())
        return self.ready.popleft() if self.ready else None

    def _reopen(self, row: Row, pack: Pack[Row], position: int, tokens: int) -> None:
        assert row.position == position
        if row.error is not None:
            raise row.error
        if row.tokens != tokens:
            raise UserError(
                f"{row.where} has {row.tokens} tokens, but had {tokens} when it was measured: the data, the tokenizer or the "
                "configuration has changed since the loader's state was saved"
            )
        pack.items.append(row)
        pack.tokens += tokens

    def _leave_out(self, row: Row, error: UserError) -> None:
        if not isinstance(error, RejectedSample):
            raise error
        message = f"{row.where}: {error}"
        self._rejected += 1
        self._rejected_in_a_row += 1
        log.warning("rejected %s (lane %d: %d so far)", message, self.number, self._rejected)
        if self._rejected_in_a_row > self.epoch_rows:
            raise UserError(f"every sample of a whole epoch was rejected, the last one: {message}")

    def _close(self, pack: Pack[Row] | None) -> None:
        if pack is not None:
            self.packs += 1
            packs = [[[row.position, row.tokens] for row in each.items] for each in self._packer.open]
            state = {"cursor": self._cursor, "packs": self.packs, "rejected": self._rejected, "open": packs}
            self.ready.append((pack.items, state))


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
        self.config, self.tokens = config, tokens
        sizes, names = [len(part.samples) for part in parts], [part.name for part in parts]
        self.order = MixtureOrder(config.seed, names, sizes, [part.weight for part in parts], config.epoch_rows)
        self.rows = Rows(tuple(parts), self.order, geometry, latents)
        numbers = range(rank, config.packs_per_step, world)
        self.lanes = [Lane(number, config, self.order.epoch_rows) for number in numbers]

    def __iter__(self) -> Iterator[PackedBatch]:
        for lane in self.lanes:
            lane.start()
        lanes, going = {lane.number: lane for lane in self.lanes}, list(self.lanes)
        with closing(self._prepared()) as rows:
            while going:
                lane = min(going, key=lambda lane: (lane.state["packs"], lane.number))
                while lane.waits and (row := next(rows, None)) is not None:
                    lanes[row.position % self.config.packs_per_step].take(row)
                if (pack := lane.hand_out()) is None:
                    going.remove(lane)
                    continue
                batch = self.batch(pack[0])
                lane.load(pack[1])
                yield batch

    def batch(self, rows: Sequence[Row]) -> PackedBatch:
        """One pack of these rows."""
        origins = tuple(row.origin for row in rows if row.origin is not None)
        return replace(lay_out([row.segments for row in rows], self.tokens, self.rows.geometry), origins=origins)

    def _asked(self) -> Iterator[int]:
        """Positions in the order in which rows are prepared: next for the lane that has fewest packs, and least in work."""
        going = list(self.lanes)
        while going:
            lane = min(going, key=lambda lane: (lane.packs, lane.in_work, lane.number))
            if (position := lane.ask()) is None:
                going.remove(lane)
            else:
                yield position

    def _prepared(self) -> Generator[Row, None, None]:
        """The rows that were asked for, in that order. ``RuntimeError`` where a worker died; closing it ends the workers."""
        settings: dict[str, Any] = {}
        if workers := self.config.workers:
            # bytes come through pipes; tensors would come through shared memory, which containers often limit to 64 MB
            settings = {"num_workers": workers, "collate_fn": pickle.dumps, "prefetch_factor": ROWS_AHEAD}
            settings |= {"multiprocessing_context": self.config.start_method, "worker_init_fn": _start_worker}
        else:
            settings = {"collate_fn": _same}
        # with a generator of its own, torch's global one is left alone
        rows = iter(DataLoader(self.rows, None, sampler=self._asked(), generator=torch.Generator(), **settings))
        try:
            for row in rows:
                yield pickle.loads(row) if workers else row
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise RuntimeError(
                f"a loader worker died; its own message is above, if it could write one (a worker that the system kills for "
                f"memory cannot: use fewer workers): {error}"
            ) from error
        finally:
            del rows  # its last reference: it waits for its workers to end, which may still read files

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
        names = ("seed", "packs_per_step", "budget", "target", "open_packs", "max_samples")
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
    if changed := differences(saved, here):
        raise UserError(f"the loader state belongs to another run ({changed}); start anew, or use that run's settings")


def _same(row: Row) -> Row:
    return row


def _start_worker(worker: int) -> None:
    """Signals that ask a run to end reach its workers, too, but it is the main process that stops them. Where that one is killed,
    they end: torch's own watch waits for a full pipe to be read, which nobody does any more."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
