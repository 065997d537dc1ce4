"""Packed batches in an order that no machine changes: any number of ranks and workers, stopped and resumed anywhere.

An optimisation step consists of ``packs_per_step`` packs, whatever the hardware. Each belongs to a *lane*: lane l packs the
positions l, l + packs_per_step, ... of the `MixtureOrder` on its own. Ranks share the lanes, so more ranks mean fewer packs to
accumulate per rank and step, but the same steps; workers prepare single samples, which changes nothing but the speed. The
state is what the lanes have consumed: a cursor and the positions in their open packs.

Without ``epochs`` lanes run through epoch after epoch without a break (every epoch still has its exact row counts). With it,
each lane ends with its open packs, so ranks may end a few packs apart: a caller with collectives goes on with empty batches.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.order import MixtureOrder
from ipt.sequence.packing import FirstFit, Pack
from ipt.sequence.prepare import Part, Prepared, Preparer, Submit, worker_pool
from ipt.sequence.segments import Geometry, SpecialTokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoaderConfig:
    """``packs_per_step`` packs of at most ``budget`` tokens make a step, over all ranks. ``max_sample_tokens`` (default: the
    budget) caps one sample; beyond it, ``oversize`` says whether to stop with an error or to reject the sample, which is
    logged with its id and counted. ``epoch_rows``: rows of an epoch (default: all parts' rows together). ``epochs``: stop
    after so many. ``workers`` processes prepare samples (0: this one), up to ``ahead`` of them per worker beforehand.
    """

    seed: int = 0
    packs_per_step: int = 1
    budget: int = 32768
    max_sample_tokens: int | None = None
    oversize: Literal["error", "reject"] = "error"
    open_packs: int = 4
    epoch_rows: int | None = None
    epochs: int | None = None
    workers: int = 0
    ahead: int = 4
    start_method: Literal["forkserver", "fork", "spawn"] = "forkserver"

    def __post_init__(self) -> None:
        for name in ("packs_per_step", "budget", "open_packs", "ahead"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 < self.sample_cap <= self.budget:
            raise ValueError(f"max_sample_tokens must lie in 1..{self.budget:,} (the budget), got {self.sample_cap:,}")
        if self.oversize not in ("error", "reject"):
            raise ValueError(f"oversize must be 'error' or 'reject', got '{self.oversize}'")

    @property
    def sample_cap(self) -> int:
        return self.budget if self.max_sample_tokens is None else self.max_sample_tokens


class Lane:
    """One pack of every step. ``cursor``: the position it reads next; ``packs``: how many it has given."""

    def __init__(self, number: int, config: LoaderConfig, end: float) -> None:
        self.number, self.config, self.end = number, config, end
        self.load({"cursor": number, "packs": 0, "rejected": 0, "open": []})

    def state(self) -> dict[str, Any]:
        """JSON values; ``open`` lists [position, tokens] of the samples in each open pack."""
        packs = [[[item.position, item.tokens] for item in pack.items] for pack in self.packer.open]
        return {"cursor": self.cursor, "packs": self.packs, "rejected": self.rejected, "open": self._to_refill or packs}

    def load(self, state: Mapping[str, Any]) -> None:
        self.cursor, self.packs, self.rejected = state["cursor"], state["packs"], state["rejected"]
        self.packer: FirstFit[Prepared] = FirstFit(self.config.budget, self.config.open_packs)
        self._to_refill = [[list(item) for item in pack] for pack in state["open"]]
        self.finished = False

    def start(self, submit: Submit, ahead: int) -> None:
        """Begin to read through ``submit``, keeping ``ahead`` samples in preparation; prepares the open packs again.

        Raises ``ValueError`` where a sample of theirs has another length than it had when the state was saved.
        """
        self._submit, self._ahead = submit, ahead
        self._pending: deque[Callable[[], Prepared]] = deque()
        for pack in [[(submit(position), tokens) for position, tokens in items] for items in self._to_refill]:
            items = [result() for result, _ in pack]
            for item, (_, tokens) in zip(items, pack, strict=True):
                if item.tokens != tokens:
                    raise ValueError(
                        f"{item.where} has {item.tokens} tokens, {tokens} when the state was saved: the data, the tokenizer or "
                        "the configuration of its segments has changed since"
                    )
            self.packer.open.append(Pack(items, sum(item.tokens for item in items)))
        self._to_refill = []

    def next_pack(self) -> Pack[Prepared] | None:
        """The next full pack, at the end of the data the open ones, and then ``None``."""
        closed = None
        while closed is None and (sample := self._next_sample()) is not None:
            if sample.tokens <= self.config.sample_cap:
                closed = self.packer.add(sample, sample.tokens)
            else:
                self._reject(sample)
        closed = closed or self.packer.close_oldest()
        self.packs += closed is not None
        self.finished = closed is None
        return closed

    def _next_sample(self) -> Prepared | None:
        stride = self.config.packs_per_step
        while len(self._pending) < self._ahead and (position := self.cursor + len(self._pending) * stride) < self.end:
            self._pending.append(self._submit(position))
        if not self._pending:
            return None
        sample = self._pending[0]()
        self._pending.popleft()
        self.cursor += stride
        return sample

    def _reject(self, sample: Prepared) -> None:
        what = f"{sample.where} takes {sample.tokens:,} tokens, more than max_sample_tokens={self.config.sample_cap:,}"
        if self.config.oversize == "error":
            raise ValueError(f"{what}; use smaller images, raise the cap, or set oversize=reject")
        self.rejected += 1
        log.warning("%s: rejected, the %dth of lane %d", what, self.rejected, self.number)


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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.packs_per_step % world or not 0 <= rank < world:
            raise ValueError(
                f"rank {rank} of {world} cannot take part in steps of {config.packs_per_step} packs: packs_per_step must be a "
                "multiple of the number of ranks"
            )
        self.tokens, self.geometry, self.config = tokens, geometry, config
        sizes, names = [len(part.samples) for part in parts], [part.name for part in parts]
        self.order = MixtureOrder(config.seed, names, sizes, [part.weight for part in parts], config.epoch_rows)
        self._preparer = Preparer(tuple(parts), self.order, geometry)
        end = math.inf if config.epochs is None else config.epochs * self.order.epoch_rows
        self.lanes = [Lane(number, config, end) for number in range(rank, config.packs_per_step, world)]

    def __iter__(self) -> Iterator[PackedBatch]:
        with worker_pool(self._preparer, self.config.workers, self.config.start_method) as submit:
            ahead = max(1, math.ceil(self.config.workers * self.config.ahead / len(self.lanes)))
            for lane in self.lanes:
                lane.start(submit, ahead)
            while lane := min((lane for lane in self.lanes if not lane.finished), key=by_progress, default=None):
                if (pack := lane.next_pack()) is not None:
                    batch = lay_out([item.segments for item in pack.items], self.tokens, self.geometry)
                    yield replace(batch, origins=tuple(item.origin for item in pack.items))

    def state_dict(self) -> dict[str, Any]:
        """What this rank's lanes have given so far, as JSON values. Ranks' states are combined by `merge_states`."""
        return {"identity": self._identity(), "lanes": {str(lane.number): lane.state() for lane in self.lanes}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` (of all lanes, at least of this rank's) was taken, by any number of ranks and workers.

        Raises ``ValueError`` where it belongs to other data or to another configuration, or lacks a lane.
        """
        check_same(self._identity(), state["identity"])
        if missing := [lane.number for lane in self.lanes if str(lane.number) not in state["lanes"]]:
            raise ValueError(f"the loader state lacks the lanes {missing}; merge the states of all ranks (merge_states)")
        for lane in self.lanes:
            lane.load(state["lanes"][str(lane.number)])

    def _identity(self) -> dict[str, Any]:
        """Everything that decides which samples a pack holds."""
        names = ("seed", "packs_per_step", "budget", "oversize", "open_packs")
        rows = [list(part) for part in zip(self.order.names, self.order.sizes, self.order.counts, strict=True)]
        return {name: getattr(self.config, name) for name in names} | {"sample_cap": self.config.sample_cap, "parts": rows}


def by_progress(lane: Lane) -> tuple[int, int]:
    """Lanes take turns: the one that has given the fewest packs, the first of them."""
    return lane.packs, lane.number


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One state from those of all ranks. Raises ``ValueError`` where they do not belong together."""
    first, *others = states
    merged = {"identity": first["identity"], "lanes": dict(first["lanes"])}
    for other in others:
        check_same(merged["identity"], other["identity"])
        if twice := sorted(set(merged["lanes"]) & set(other["lanes"])):
            raise ValueError(f"two of the loader states hold the lanes {', '.join(twice)}")
        merged["lanes"] |= other["lanes"]
    return merged


def check_same(here: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` naming what differs between two loaders' identities."""
    if different := [key for key in sorted({*here, *saved}) if here.get(key) != saved.get(key)]:
        details = "; ".join(f"{key}: {here.get(key)} here, {saved.get(key)} in the state" for key in different)
        raise ValueError(f"the loader state belongs to another run ({details}); start anew, or use that run's settings")
