"""Rows of the published parquet files, one at a time, with errors that name file, row and field."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from ipt.common.errors import MissingFile
from ipt.common.files import CorruptFile, read_json
from ipt.common.images import BadImage, image_size, open_image
from ipt.samples.store import MAX_CELL_BYTES

INFO_FILE = "parquet_info.json"
BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One row. Its methods return a field, checked, or raise ``CorruptFile`` that names file, row and field.

    ``decode``: whether images are decoded to see if they are whole (about 20 ms each), or only their headers read.
    """

    path: Path
    number: int
    cells: Mapping[str, Any]
    decode: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.cells, Mapping):
            raise CorruptFile(f"{self.path}, row {self.number}: expected named fields, got {self.cells!r:.80}")

    def fail(self, field: str, what: str) -> NoReturn:
        raise CorruptFile(f"{self.path}, row {self.number}, field '{field}': {what}")

    def text(self, field: str) -> str:
        value = self.cells.get(field)
        if not isinstance(value, str) or not value.strip():
            self.fail(field, f"expected text, got {value!r:.80}")
        return value

    def texts(self, field: str) -> list[str]:
        """A list of texts, at least one."""
        value = self.cells.get(field)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            self.fail(field, f"expected a list of texts, got {value!r:.80}")
        return value

    def image(self, field: str) -> bytes:
        return self.checked_image(self.cells.get(field), field)

    def checked_image(self, cell: Any, field: str) -> bytes:
        """Encoded bytes of an image cell: bytes, or Hugging Face's structure of bytes and path."""
        data = cell["bytes"] if isinstance(cell, dict) and "bytes" in cell else cell
        if not isinstance(data, bytes):
            self.fail(field, "expected an embedded image (paths and URLs are not followed), got " + f"{cell!r:.80}")
        if len(data) > MAX_CELL_BYTES:
            self.fail(field, f"{len(data):,} bytes, at most {MAX_CELL_BYTES:,} are allowed")
        try:
            if self.decode:
                open_image(data, "the image")
            else:
                image_size(data, "the image")
        except BadImage as error:
            self.fail(field, str(error))
        return data

    def options(self, field: str) -> tuple[str, ...]:
        """Answer options: a list of texts, or one written as JSON."""
        value: Any = self.cells.get(field)
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError as error:
            self.fail(field, f"is not JSON ({error}): {value!r:.80}")
        if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
            self.fail(field, f"expected a JSON list of at least two options, got {value!r:.80}")
        return tuple(value)

    def letter(self, field: str, choices: Sequence[str]) -> str:
        """The letter of the right option, which the field gives as a letter or in the option's words."""
        value, letters = self.text(field).strip(), string.ascii_uppercase[: len(choices)]
        if len(value) == 1 and value.upper() in letters:
            return value.upper()
        places = [place for place, choice in enumerate(choices) if choice.strip().casefold() == value.casefold()]
        if len(places) != 1:
            self.fail(field, f"is neither a letter of {letters} nor an option of {', '.join(choices)}: {value!r:.80}")
        return letters[places[0]]

    def images(self, field: str) -> list[bytes]:
        """A list of images, at least one."""
        cells = self.cells.get(field)
        if not isinstance(cells, list) or not cells:
            self.fail(field, f"expected a list of images, got {cells!r:.80}")
        return [self.checked_image(cell, f"{field}[{number}]") for number, cell in enumerate(cells)]

    def scalars(self, *without: str) -> dict[str, Any]:
        """The fields that hold plain values, for a sample's facts."""
        cells = {name: value for name, value in self.cells.items() if name not in without}
        return {name: value for name, value in cells.items() if isinstance(value, str | int | float | bool)}


def parquet_files(folder: Path) -> list[Path]:
    """All parquet files below ``folder``, or the one file; ``FileNotFoundError`` where there is none."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    if not files:
        raise MissingFile(f"{folder} holds no parquet file")
    return files


def columns_of(path: Path) -> tuple[str, ...]:
    with open_parquet(path) as file:
        return tuple(file.schema_arrow.names)


def require_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise ``CorruptFile`` naming the ``columns`` that a file lacks."""
    found = columns_of(path)
    if missing := [name for name in columns if name not in found]:
        raise CorruptFile(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(found)}: it is another dataset, or another "
            "version of this one"
        )


def open_parquet(path: Path) -> pq.ParquetFile:
    """``CorruptFile`` for a file that is not whole."""
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise CorruptFile(f"{path} is not a whole parquet file ({error}); download it again") from error


def rows_of(path: Path, decode: bool = True) -> Iterator[Row]:
    """All rows of a file in order, read in small batches."""
    number = 0
    with open_parquet(path) as file:
        try:
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                for cells in batch.to_pylist():
                    yield Row(path, number, cells, decode)
                    number += 1
        except (pa.ArrowException, OSError) as error:
            raise CorruptFile(
                f"{path}, after row {number - 1}: {error}; the file is damaged, download it again"
            ) from error


def count_rows(files: Sequence[Path]) -> int:
    """Rows of all files, which must be those that a ``parquet_info.json`` beside them states.

    Its entries are matched by file name, because the releases store absolute paths of the machine that wrote them.
    """
    total = 0
    for path in files:
        with open_parquet(path) as file:
            rows = file.metadata.num_rows
        info = path.parent / INFO_FILE
        stated = read_json(info) if info.is_file() else {}
        for name, entry in stated.items():
            if Path(name).name == path.name and entry.get("num_rows") != rows:
                raise CorruptFile(f"{path} has {rows} rows, {info} says {entry.get('num_rows')}; download it again")
        total += rows
    return total
