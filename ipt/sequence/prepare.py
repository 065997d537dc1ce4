"""The work of a loader, in this process or in worker processes: measuring samples, and building batches of them.

Both are pure functions of positions in the order, so only numbers go to the workers. Measuring decodes no image; building
reads the rows again, which costs milliseconds where decoding costs tens of them. Batches come back through pipes, not through
shared memory, which containers often limit to 64 MB.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ipt.common.errors import UserError
from ipt.samples.sample import SpatialSample
from ipt.sequence.batch import Origin, PackedBatch, lay_out
from ipt.sequence.order import MixtureOrder
from ipt.sequence.pictures import Picture
from ipt.sequence.segments import RejectedSample, Segment, Segmenter, SpecialTokens, num_tokens, with_latents
from ipt.sequence.settings import Geometry


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
class Measured:
    """A sample's tokens, or why it is left out. ``where``: its file, row and id."""

    position: int
    tokens: int
    where: str = ""
    rejected: str = ""


#: Where a sample is (file, row and id), its origin, and its segments.
Read = tuple[str, Origin, list[Segment]]


@dataclass(frozen=True)
class Preparer:
    """Reads, measures and lays out the samples of an order. ``latents``: a latent cache, which then replaces the codec.

    Errors are ``ValueError`` and name file, row, sample and field.
    """

    parts: tuple[Part, ...]
    order: MixtureOrder
    tokens: SpecialTokens
    geometry: Geometry
    latents: Callable[[Picture], Tensor] | None = None

    def measure(self, positions: Sequence[int], kept: dict[int, Read] | None = None) -> list[Measured]:
        """The lengths of the samples at ``positions``. What was read for that goes into ``kept``."""
        return [self._measure(position, kept) for position in positions]

    def _measure(self, position: int, kept: dict[int, Read] | None) -> Measured:
        try:
            read = self._read(position)
        except RejectedSample as rejection:
            return Measured(position, 0, rejected=f"{self._where(position)}: {rejection}")
        if kept is not None:
            kept[position] = read
        where, _, segments = read
        return Measured(position, num_tokens(segments, self.geometry), where)

    def build(self, samples: Sequence[Measured], kept: dict[int, Read] | None = None) -> PackedBatch:
        """One pack of samples that were measured before, taken out of ``kept`` where they are there. Also raises ``ValueError``
        where a sample's length has changed since."""
        found = {} if kept is None else kept
        read = [found.pop(s.position) if s.position in found else self._read(s.position) for s in samples]
        for (where, _, segments), sample in zip(read, samples, strict=True):
            if (tokens := num_tokens(segments, self.geometry)) != sample.tokens:
                raise UserError(
                    f"{where} has {tokens} tokens, but had {sample.tokens} when it was measured: the data, the tokenizer or "
                    "the configuration has changed since the loader's state was saved"
                )
        packed = [self._complete(where, segments) for where, _, segments in read]
        try:
            batch = lay_out(packed, self.tokens, self.geometry)
        except UserError:  # a sample's, but whose?
            for (where, _, _), segments in zip(read, packed, strict=True):
                with located(where):
                    lay_out([segments], self.tokens, self.geometry)
            raise
        return replace(batch, origins=tuple(origin for _, origin, _ in read))

    def _read(self, position: int) -> Read:
        place = self.order[position]
        part = self.parts[place.part]
        sample = part.samples[place.row]
        where = f"{self._where(position)}, sample '{sample.id}' (part '{part.name}')"
        with located(where):
            return where, Origin(part.name, sample.id, position), part.segmenter(sample, place.turn, place.row)

    def _complete(self, where: str, segments: list[Segment]) -> list[Segment]:
        if self.latents is None:
            return segments
        with located(where):
            return with_latents(segments, self.latents)

    def _where(self, position: int) -> str:
        place = self.order[position]
        return self.parts[place.part].samples.where(place.row)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put ``where`` before the message of a ``ValueError``."""
    try:
        yield
    except RejectedSample:
        raise
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


class Workers(Protocol):
    """Who measures and builds. Each call orders work and returns the function that waits for its result."""

    def measure(self, positions: Sequence[int]) -> Callable[[], list[Measured]]: ...

    def build(self, samples: Sequence[Measured]) -> Callable[[], PackedBatch]: ...


@dataclass(frozen=True)
class Inline:
    """This process: work is done when its result is asked for. ``kept``: samples that wait in open packs, whose pictures are
    still encoded, so that none is read twice."""

    preparer: Preparer
    kept: dict[int, Read] = field(default_factory=dict)

    def measure(self, positions: Sequence[int]) -> Callable[[], list[Measured]]:
        return partial(self.preparer.measure, positions, self.kept)

    def build(self, samples: Sequence[Measured]) -> Callable[[], PackedBatch]:
        return partial(self.preparer.build, samples, self.kept)


@dataclass(frozen=True)
class Processes:
    """Worker processes, which take work in the order in which it is given."""

    pool: ProcessPoolExecutor

    def measure(self, positions: Sequence[int]) -> Callable[[], list[Measured]]:
        return partial(received, self.pool.submit(_in_worker, "measure", positions))

    def build(self, samples: Sequence[Measured]) -> Callable[[], PackedBatch]:
        return partial(received, self.pool.submit(_in_worker, "build", samples))


def received(answer: Future[bytes]) -> Any:
    """What a worker has made. Its errors are raised here; ``RuntimeError`` where it died."""
    try:
        return pickle.loads(answer.result())
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a loader worker died; its own message is above, if it could write one (a worker that the system kills for memory "
            "cannot: use fewer workers)"
        ) from error


class _TensorPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


_preparer: Preparer


def _start_worker(preparer: Preparer) -> None:
    global _preparer
    _preparer = preparer
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops its workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A killed main process cannot stop its workers, which would wait for work for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _in_worker(work: str, argument: Any) -> bytes:
    stream = io.BytesIO()
    _TensorPickler(stream, protocol=5).dump(getattr(_preparer, work)(argument))
    return stream.getvalue()


@contextmanager
def workers(preparer: Preparer, number: int, start_method: str) -> Iterator[Workers]:
    """``number`` worker processes for as long as the block runs, or this process for 0."""
    if not number:
        yield Inline(preparer)
        return
    context = multiprocessing.get_context(start_method)
    pool = ProcessPoolExecutor(number, context, _start_worker, (preparer,))
    try:
        yield Processes(pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
