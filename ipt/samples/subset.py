"""A part of a dataset as a dataset of its own."""

from __future__ import annotations

from typing import Any

from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader


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
