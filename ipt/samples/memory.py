"""A dataset in memory: for small ones that are read over and over, where finding a row would cost more than its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader


class InMemory(SampleReader):
    """A reader that reads everything once per process; a worker that gets one reads the files itself."""

    def __init__(self, source: Path | str) -> None:
        super().__init__(source)
        self._samples = list(super().__iter__())

    def __reduce__(self) -> tuple[Callable[[Path], InMemory], tuple[Path]]:
        return in_memory, (self.source,)

    def __iter__(self) -> Iterator[SpatialSample]:
        return iter(self._samples)

    def __getitem__(self, index: int) -> SpatialSample:
        return self._samples[index]


@lru_cache(maxsize=4)
def in_memory(source: Path) -> InMemory:
    """The samples of a folder or shard, shared by all runs of this process."""
    return InMemory(source)
