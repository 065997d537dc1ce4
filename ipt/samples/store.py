"""Samples on disk: parquet shards with embedded encoded images, sealed by a manifest that is written last.

A shard is an ordinary parquet file that ``datasets.load_dataset("parquet", data_files=...)`` and the Hub viewer read
with pictures decoded. Row groups are small, because the row group is what a random read costs (two 250 KB pictures per
row: 9 ms at 16 rows, 140 ms at 256), pages carry checksums, and equal samples give equal files, byte for byte.
"""

from __future__ import annotations

import itertools
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import MANIFEST, CorruptFile, atomic_writer, read_manifest, sha256_file, write_manifest
from ipt.samples.sample import RECORD_FIELDS, SCHEMA_VERSION, BadSample, SpatialSample

ROW_GROUP_ROWS = 16
MAX_SHARD_ROWS = 4096
MAX_SHARD_BYTES = 512 * 2**20
MAX_CELL_BYTES = 32 * 2**20
MAX_ROW_BYTES = 128 * 2**20
MAX_ROW_GROUP_BYTES = 2**30
OPEN_FILES = 32

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMN_TYPES: Mapping[str, pa.DataType] = {
    "schema_version": pa.int64(),
    "choices": pa.list_(pa.string()),
    "images": pa.list_(PICTURE),
    "images_role": pa.list_(pa.string()),
    "images_camera": pa.list_(pa.string()),
    "imagination": PICTURE,
    "counterfactuals": pa.list_(PICTURE),
    "counterfactuals_role": pa.list_(pa.string()),
    "counterfactuals_camera": pa.list_(pa.string()),
    "provenance": pa.struct(
        [
            ("backend", pa.string()),
            ("backend_version", pa.string()),
            ("scene_id", pa.string()),
            ("seed", pa.int64()),
            ("code_revision", pa.string()),
            ("config_sha256", pa.string()),
        ]
    ),
}
FIELDS = [(name, COLUMN_TYPES.get(name, pa.string())) for name in RECORD_FIELDS]


def hugging_face_feature(kind: pa.DataType) -> Any:
    """The ``datasets`` feature of an arrow type; lists in the form that every version since 2.0 reads."""
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return [hugging_face_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: hugging_face_feature(field.type) for field in kind}
    return {"dtype": str(kind), "_type": "Value"}


FEATURES = {"info": {"features": {name: hugging_face_feature(kind) for name, kind in FIELDS}}}
SCHEMA = pa.schema(FIELDS, metadata={"huggingface": json.dumps(FEATURES)})


def write_shard(path: Path, samples: Iterable[SpatialSample], row_group_rows: int = ROW_GROUP_ROWS) -> int:
    """Write one shard and return its number of rows; either the whole shard is there afterwards, or nothing of it.

    Samples are consumed one row group at a time. ``ValueError`` for a row or shard beyond the limits of this module;
    ``OSError`` (full disk, read-only folder) names the shard and says what remains.
    """
    rows = 0
    records = (sample.to_record() for sample in samples)
    try:
        with atomic_writer(path) as stream, pq.ParquetWriter(stream, SCHEMA, **writer_options()) as writer:
            while group := list(itertools.islice(records, row_group_rows)):
                for record in group:
                    rows += 1
                    check_sizes(record, f"{path}, row {rows - 1}")
                if rows > MAX_SHARD_ROWS:
                    raise UserError(f"{path}: a shard holds at most {MAX_SHARD_ROWS} rows; use write_shards")
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    except OSError as error:
        advice = "finished shards stay; make room or choose a writable folder and run the same command again"
        raise type(error)(error.errno, f"{error.strerror} while writing a shard ({advice})", str(path)) from error
    return rows


def writer_options() -> dict[str, Any]:
    """Checksummed pages; compression for text only, since pictures already are; no statistics over picture bytes."""
    texts = [name for name, kind in FIELDS if kind == pa.string()]
    return {
        "compression": dict.fromkeys(texts, "zstd"),
        "use_dictionary": ["task", "split", "question_type"],
        "write_statistics": ["id", "task", "split", "question_type"],
        "write_page_checksum": True,
    }


def write_shards(
    folder: Path,
    prefix: str,
    samples: Iterable[SpatialSample],
    max_rows: int = MAX_SHARD_ROWS,
    max_bytes: int = MAX_SHARD_BYTES,
) -> tuple[Path, ...]:
    """Stream samples into ``prefix-00000.parquet``, ... and return their paths.

    A shard is closed before it would exceed ``max_rows`` rows or ``max_bytes`` bytes of pictures; the split depends on
    the samples alone.
    """
    paths = []
    for number, shard in itertools.groupby(samples, shard_counter(max_rows, max_bytes)):
        paths.append(folder / f"{prefix}-{number:05d}.parquet")
        write_shard(paths[-1], shard)
    return tuple(paths)


def shard_counter(max_rows: int, max_bytes: int) -> Callable[[SpatialSample], int]:
    """A function that numbers successive samples by the shard they go to."""
    number, rows, size = 0, 0, 0

    def assign(sample: SpatialSample) -> int:
        nonlocal number, rows, size
        bytes_ = sum(len(image.data) for image in (*sample.images, sample.imagination, *sample.counterfactuals))
        if rows and (rows >= max_rows or size + bytes_ > max_bytes):
            number, rows, size = number + 1, 0, 0
        rows, size = rows + 1, size + bytes_
        return number

    return assign


def seal(folder: Path, content: Mapping[str, Any]) -> None:
    """Declare ``folder`` complete: check every shard in it and write the manifest, last.

    ``ValueError`` where there is no shard or where two rows share an id; ``CorruptFile`` for a broken shard.
    """
    shards = sorted(folder.glob("*.parquet"))
    if not shards:
        raise UserError(f"{folder} holds no parquet shard; write at least one before sealing it")
    owner: dict[str, Path] = {}
    rows = {}
    for shard in shards:
        ids = SampleReader(shard).column("id")
        for name in ids:
            if name in owner:
                raise UserError(f"sample '{name}' is in {owner[name]} and in {shard}; delete one of the two shards")
            owner[name] = shard
        rows[shard.name] = len(ids)
    summary = {"kind": "samples", "schema_version": SCHEMA_VERSION, "samples": len(owner), "rows": rows}
    write_manifest(folder, list(rows), {**content, **summary})


@dataclass(frozen=True, slots=True)
class OpenShard:
    """An open parquet file and the first row of each of its row groups (one more entry: the end)."""

    file: pq.ParquetFile
    starts: tuple[int, ...]


class SampleReader:
    """Samples of a sealed folder or of one shard, by index or in order.

    A random read touches one row group. Files are opened on demand and kept per process, so a reader may be pickled,
    forked or spawned into workers; it is not meant to be shared by threads. ``verify`` checks the SHA-256 of every shard
    first. Errors are ``CorruptFile`` and name file and row.
    """

    def __init__(self, source: Path | str, verify: bool = False) -> None:
        self.source = Path(source)
        self._forget()
        if self.source.is_dir():
            rows = self._manifest_rows(verify)
            self.paths = tuple(self.source / name for name in rows)
            counts = list(rows.values())
        elif self.source.is_file():
            self.paths = (self.source,)
            counts = [self._open(0).starts[-1]]
        else:
            raise MissingFile(f"{self.source}: no such folder or shard")
        self._starts = tuple(itertools.accumulate(counts, initial=0))

    def _manifest_rows(self, verify: bool) -> dict[str, int]:
        manifest = read_manifest(self.source, verify)
        rows = manifest.get("rows")
        if not isinstance(rows, dict):
            raise CorruptFile(f"{self.source}: its manifest lists no rows per shard; this is not a folder of samples")
        for name, count in rows.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0 or name not in manifest["files"]:
                raise CorruptFile(
                    f"{self.source / MANIFEST}, field 'rows.{name:.80}': expected the number of rows of a listed file, "
                    f"got {count!r:.80}"
                )
        return rows

    def _forget(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[int, OpenShard] = OrderedDict()
        self._group: tuple[int, int, pa.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "paths": self.paths, "_starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return self._starts[-1]

    def where(self, index: int) -> str:
        """File and row of a sample, for messages."""
        shard, row = self._locate(index)
        return f"{self.paths[shard]}, row {row}"

    def _locate(self, index: int) -> tuple[int, int]:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.source} has {len(self)} samples, there is no sample {index}")
        shard = bisect_right(self._starts, position) - 1
        return shard, position - self._starts[shard]

    def __getitem__(self, index: int) -> SpatialSample:
        shard, row = self._locate(index)
        starts = self._open(shard).starts
        if row >= starts[-1]:
            raise CorruptFile(f"{self.paths[shard]} has {starts[-1]} rows, its manifest says more; write it again")
        group = bisect_right(starts, row) - 1
        return self._parse(self._read(shard, group).slice(row - starts[group], 1), shard, row)

    def __iter__(self) -> Iterator[SpatialSample]:
        for shard in range(len(self.paths)):
            starts = self._open(shard).starts
            for group in range(len(starts) - 1):
                table = self._read(shard, group)
                for row in range(starts[group], starts[group + 1]):
                    yield self._parse(table.slice(row - starts[group], 1), shard, row)

    def digest(self) -> str:
        """Hex SHA-256 that names the data: of the folder's manifest, which lists those of its shards, or of the one shard."""
        return sha256_file(self.source / MANIFEST if self.source.is_dir() else self.source)

    def ids(self) -> list[str]:
        return self.column("id")

    def column(self, name: str) -> list[Any]:
        """One column of every row, without reading the others."""
        if name not in RECORD_FIELDS:
            raise UserError(f"samples have no column '{name}'; columns: {', '.join(RECORD_FIELDS)}")
        values: list[Any] = []
        for shard, path in enumerate(self.paths):
            try:
                table = self._open(shard).file.read([name], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise CorruptFile(f"{path}, column '{name}': {error}; write the shard again") from error
            values += table.column(name).to_pylist()
        return values

    def _open(self, shard: int) -> OpenShard:
        if self._process != os.getpid():  # a forked child must not share file positions with its parent
            self._forget()
        if shard not in self._files:
            self._files[shard] = open_shard(self.paths[shard])
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].file.close()
        self._files.move_to_end(shard)
        return self._files[shard]

    def _read(self, shard: int, group: int) -> pa.Table:
        if self._group is not None and self._group[:2] == (shard, group):
            return self._group[2]
        opened = self._open(shard)
        where = f"{self.paths[shard]}, rows {opened.starts[group]} to {opened.starts[group + 1] - 1}"
        size = opened.file.metadata.row_group(group).total_byte_size
        if size > MAX_ROW_GROUP_BYTES:
            raise CorruptFile(f"{where}: a row group of {size:,} bytes, at most {MAX_ROW_GROUP_BYTES:,} are read")
        try:
            table = opened.file.read_row_group(group, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise CorruptFile(f"{where}: {error}; the shard is damaged, write it again") from error
        self._group = (shard, group, table)
        return table

    def _parse(self, table: pa.Table, shard: int, row: int) -> SpatialSample:
        where = f"{self.paths[shard]}, row {row}"
        try:
            (record,) = table.to_pylist()
            check_sizes(record, where)
            return SpatialSample.from_record(record)
        except (pa.ArrowException, UnicodeDecodeError, BadSample) as error:
            raise CorruptFile(f"{where}: {error}") from error


def open_shard(path: Path) -> OpenShard:
    """Open a shard and check that its columns are those of a sample; ``CorruptFile`` names the file."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptFile(f"{path} is not a readable parquet shard ({error}); write it again") from error
    found = {field.name: field.type for field in file.schema_arrow}
    wrong = sorted(name for name in {*found, *RECORD_FIELDS} if found.get(name) != dict(FIELDS).get(name))
    if wrong:
        file.close()
        raise CorruptFile(f"{path}: missing, unknown or ill-typed columns {', '.join(wrong)}; is this a sample shard?")
    sizes = (file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups))
    return OpenShard(file, tuple(itertools.accumulate(sizes, initial=0)))


def check_sizes(record: Mapping[str, Any], where: str) -> None:
    """Raise ``CorruptFile`` for a picture or text beyond ``MAX_CELL_BYTES`` or a row beyond ``MAX_ROW_BYTES``."""
    total = 0
    for column, value in record.items():
        for cell in value if isinstance(value, list) else [value]:
            size = len(cell["bytes"] or b"") if isinstance(cell, dict) and "bytes" in cell else len(str(cell))
            total += size
            if size > MAX_CELL_BYTES:
                raise CorruptFile(f"{where}, column '{column}': {size:,} bytes, at most {MAX_CELL_BYTES:,} are allowed")
    if total > MAX_ROW_BYTES:
        raise CorruptFile(f"{where}: {total:,} bytes, at most {MAX_ROW_BYTES:,} are allowed")
