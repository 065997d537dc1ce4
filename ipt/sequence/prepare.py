"""From a position of the order to the segments of its sample, in this process or in worker processes.

Workers send arrays through pipes, not through shared memory, which containers often limit to 64 MB.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol

import torch
from numpy.random import Generator

from ipt.common.seeding import generator
from ipt.samples.sample import SpatialSample
from ipt.sequence.batch import Origin
from ipt.sequence.order import MixtureOrder
from ipt.sequence.packing import token_count
from ipt.sequence.segments import Geometry, Segment


class Samples(Protocol):
    """What a loader reads: ``ipt.samples.store.SampleReader``, or anything that says where a sample stands."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SpatialSample: ...

    def where(self, index: int) -> str: ...


SegmentFunction = Callable[[SpatialSample, Generator], list[Segment]]


@dataclass(frozen=True)
class Part:
    """An ingredient of a mixture: samples, how they become segments, and the weight of the part in rows.

    ``segments`` draws from the generator it is given and from nothing else. All of it must be picklable for workers.
    """

    name: str
    samples: Samples
    segments: SegmentFunction
    weight: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """A sample ready to be packed. ``where``: its file, row and id, for messages."""

    position: int
    origin: Origin
    where: str
    tokens: int
    segments: tuple[Segment, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        names = [field.name for field in fields(Segment)]
        rows = [{name: getattr(segment, name) for name in names} for segment in self.segments]
        arrays = [{**row, "payload": row["payload"].numpy()} for row in rows]
        return _received, (self.position, self.origin, self.where, self.tokens, arrays)


def _received(position: int, origin: Origin, where: str, tokens: int, arrays: list[dict[str, Any]]) -> Prepared:
    segments = tuple(Segment(**{**row, "payload": torch.from_numpy(row["payload"])}) for row in arrays)
    return Prepared(position, origin, where, tokens, segments)


@dataclass(frozen=True)
class Preparer:
    """A function of the position: reads the sample that stands there and makes its segments, from its own random stream."""

    parts: tuple[Part, ...]
    order: MixtureOrder
    geometry: Geometry

    def __call__(self, position: int) -> Prepared:
        """Raises ``ValueError`` that names file, row, sample and field of what is wrong."""
        place = self.order[position]
        part = self.parts[place.part]
        sample = part.samples[place.row]
        where = f"{part.samples.where(place.row)}, sample '{sample.id}' ({part.name})"
        try:
            segments = part.segments(sample, generator(self.order.seed, "segments", position))
            tokens = token_count(segments, self.geometry)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return Prepared(position, Origin(part.name, sample.id), where, tokens, tuple(segments))


Submit = Callable[[int], Callable[[], Prepared]]

_preparer: Preparer


def _start_worker(preparer: Preparer) -> None:
    global _preparer
    _preparer = preparer
    torch.set_num_threads(1)


def _prepare(position: int) -> Prepared:
    return _preparer(position)


@contextmanager
def worker_pool(preparer: Preparer, workers: int, start_method: str) -> Iterator[Submit]:
    """A function that begins to prepare a position and returns the function that waits for the result.

    Without workers nothing is begun before the result is asked for.
    """
    if not workers:
        yield lambda position: partial(preparer, position)
        return
    context = multiprocessing.get_context(start_method)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (preparer,))

    def submit(position: int) -> Callable[[], Prepared]:
        future = pool.submit(_prepare, position)

        def result() -> Prepared:
            try:
                return future.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "a loader worker died; its own message is above, if it could write one (a worker that the system kills "
                    "for memory cannot: use fewer workers or a smaller loader.ahead)"
                ) from error

        return result

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
