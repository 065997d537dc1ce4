"""``python -m ipt.imagination.export data=DIR output_dir=DIR``: our samples in the interleaved schema, for BAGEL's trainer and
those derived from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import atomic_writer, write_json
from ipt.common.progress import tracked
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator
from ipt.imagination.modes import modes
from ipt.imagination.recipe import load_profile
from ipt.samples.official.rows import INFO_FILE
from ipt.samples.prompts import Profile, render_prompt
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader

SCHEMA = pa.schema(
    [
        ("image_list", pa.list_(pa.binary())),
        ("instruction_list", pa.list_(pa.string())),
        ("output_text_list", pa.list_(pa.string())),
        ("num_input_images", pa.int64()),
    ]
)
ROW_GROUP_ROWS = 16


@dataclass
class ExportConfig:
    """Write a folder of samples as parquet files for BAGEL's trainer, with their parquet_info.json.

    ``imagination``: a mode of it. ``profile``: default, or release with ``prompts`` (a prompts.json).
    ``data_dir``: the folder as the trainer will name it, because it looks files up by path (default: ``output_dir``).
    ``rows_per_file``: those trainers want more files than GPUs times workers.
    """

    data: str
    output_dir: str
    imagination: str
    profile: str = "default"
    prompts: str | None = None
    data_dir: str | None = None
    rows_per_file: int = 1024
    seed: int = 0


def interleaved_row(sample: SpatialSample, mode: str, profile: Profile, seed: int) -> dict[str, Any]:
    """One row, in the order of texts and tags that the profile and the mode have in our own training."""
    turns = modes[mode].turns(sample, profile, generator(seed, "thought", sample.id))
    images, drawn = list(sample.images), [turn for turn in turns if isinstance(turn, SampleImage)]
    return {
        "image_list": [image.data for image in (*images, *drawn)],
        "instruction_list": [part.text for part in render_prompt(sample, mode, profile) if part.image is None],
        "output_text_list": [turn for turn in turns if isinstance(turn, str)],
        "num_input_images": len(images),
    }


def export(config: ExportConfig) -> None:
    """Write ``chunk_0.parquet``, ... and ``parquet_info.json``. Raises ``ValueError`` naming the row that cannot be written."""
    if config.imagination not in modes:
        raise UserError(unknown_name("imagination", config.imagination, modes))
    if config.rows_per_file < 1:
        raise UserError(f"rows_per_file must be positive, got {config.rows_per_file}")
    reader = SampleReader(config.data)
    profile = load_profile(config.profile, None if config.prompts is None else Path(config.prompts))
    output, data_dir = Path(config.output_dir), Path(config.data_dir or config.output_dir)
    rows = tracked(exported_rows(reader, config.imagination, profile, config.seed), "exporting", len(reader))
    info = {}
    for chunk in range(-(-len(reader) // config.rows_per_file)):
        name = f"chunk_{chunk}.parquet"
        info[str(data_dir / name)] = write_chunk(output / name, itertools.islice(rows, config.rows_per_file))
    write_json(output / INFO_FILE, info)
    print(f"{len(reader)} rows in {len(info)} files in {output}")


def exported_rows(reader: SampleReader, mode: str, profile: Profile, seed: int) -> Iterator[dict[str, Any]]:
    for number, sample in enumerate(reader):
        try:
            yield interleaved_row(sample, mode, profile, seed)
        except UserError as error:
            raise UserError(f"{reader.where(number)}: {error}") from error


def write_chunk(path: Path, rows: Iterator[dict[str, Any]]) -> dict[str, int]:
    """Write a file of ``rows``; returns its entry in ``parquet_info.json``."""
    counts = {"num_row_groups": 0, "num_rows": 0}
    with atomic_writer(path) as stream, pq.ParquetWriter(stream, SCHEMA, compression="none") as writer:
        while group := list(itertools.islice(rows, ROW_GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
            counts = {"num_row_groups": counts["num_row_groups"] + 1, "num_rows": counts["num_rows"] + len(group)}
    return counts


if __name__ == "__main__":
    cli.run(ExportConfig, export)
