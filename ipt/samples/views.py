"""Datasets made of other things: in memory, the beginning of one, a list of samples, and one with the imaginations of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.sample import SampleImage, SpatialSample
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


class First:
    """The first ``rows`` samples of a dataset."""

    def __init__(self, reader: SampleReader, rows: int) -> None:
        self.reader, self.rows, self.source = reader, min(rows, len(reader)), reader.source

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> SpatialSample:
        return self.reader[range(self.rows)[index]]

    def where(self, index: int) -> str:
        return self.reader.where(index)

    def ids(self) -> list[str]:
        return self.reader.ids()[: self.rows]

    def column(self, name: str) -> list[Any]:
        return self.reader.column(name)[: self.rows]


class Samples(Protocol):
    """A dataset that can be read by row and by column: ``ipt.samples.store.SampleReader``, or `Listed`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SpatialSample: ...

    def column(self, name: str) -> list[Any]: ...


class Listed(list[SpatialSample]):
    """Samples in memory, as a dataset."""

    def column(self, name: str) -> list[Any]:
        """One column of every row, as it would be stored."""
        return [sample.to_record()[name] for sample in self]


class Permuted:
    """A control: every sample has the imagination of another one of its task, by one fixed permutation without fixed points; of
    another scene, unless one scene has more than half of the samples.

    Raises ``ValueError`` for a task with a single sample.
    """

    def __init__(self, samples: Samples, seed: int) -> None:
        self.samples = samples
        self.partner = dict(zip(samples.column("id"), partners(samples, seed), strict=True))

    def sample(self, sample: SpatialSample) -> SpatialSample:
        """The sample whose imagination ``sample`` gets; ``ValueError`` for one that is not of the dataset."""
        if sample.id not in self.partner:
            raise UserError(f"sample '{sample.id}' is not in the dataset from which imaginations are permuted")
        return self.samples[self.partner[sample.id]]

    def __call__(self, sample: SpatialSample) -> SampleImage:
        return self.sample(sample).imagination


def partners(samples: Samples, seed: int) -> list[int]:
    """For each sample the number of its partner: samples in random order, those of a scene together, turned by the size of the
    largest scene."""
    tasks, scenes = samples.column("task"), [origin["scene_id"] for origin in samples.column("provenance")]
    partner = [-1] * len(tasks)
    for task in sorted(set(tasks)):
        rows = [row for row, name in enumerate(tasks) if name == task]
        shuffled = generator(seed, "permuted", task).permutation(rows).tolist()
        first = {scenes[row]: place for place, row in reversed(list(enumerate(shuffled)))}
        grouped = sorted(shuffled, key=lambda row: first[scenes[row]])
        if len(rows) < 2:
            raise UserError(f"there is one sample of task '{task}': its imagination cannot be permuted")
        largest = Counter(scenes[row] for row in rows).most_common(1)[0][1]
        shift = min(largest, len(rows) // 2)
        for place, row in enumerate(grouped):
            partner[row] = grouped[(place + shift) % len(grouped)]
    return partner
