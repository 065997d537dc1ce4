"""The preview command, and errors that say where the data is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ipt.common.images import MAX_PIXELS, decode_image
from ipt.imagination.preview import PreviewConfig, preview
from ipt.samples.store import SCHEMA, write_shard
from ipt.sequence.describe import ranges
from ipt.sequence.settings import Resolution
from tests.imagination.examples import GEOMETRY, example, noise_picture, plain

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"resolution": Resolution(16, 8, 16, 8, 2), "geometry": GEOMETRY, "vocabulary": 400}


def shard(folder: Path, **cells: Any) -> Path:
    """Three samples; ``cells`` overwrite columns of row 1, unchecked."""
    path = folder / "samples.parquet"
    write_shard(path, [example(task, id=f"{task}-0") for task in ("pet", "pt", "mvc")])
    if cells:
        records = pq.read_table(path).to_pylist()
        records[1].update(cells)
        pq.write_table(pa.Table.from_pylist(records, SCHEMA), path)
    return path


def test_the_command_prints_every_segment_and_draws_the_mask(tmp_path: Path) -> None:
    values = {f"{key}.{name}": v for key in ("resolution", "geometry") for name, v in SMALL[key].__dict__.items()}
    arguments = [f"{key}={value}" for key, value in values.items()]
    command = [sys.executable, "-m", "ipt.imagination.preview", f"data={shard(tmp_path)}", "row=2", *arguments]
    result = subprocess.run(
        [*command, f"output={tmp_path / 'mask.png'}", "ipt.bottleneck=1", "dropout.text=1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    head, *lines = result.stdout.splitlines()
    assert head == "sample 'mvc-0' (mvc), mode ipt, profile default, epoch 0"
    table = [line.split(maxsplit=6) for line in lines[1:-1]]
    assert [row[1:3] for row in table[:13]] == [
        *[["observation", "vae"], ["observation", "vit"]] * 4,
        ["imagination", "text"],
        ["imagination", "vae_noised"],
        ["imagination", "vae"],
        ["imagination", "vit"],
        ["answer", "text"],
    ]
    assert [row[3] for row in table[9:12]] == ["6", "6", "6"] and table[9][4] == "flow"
    assert table[9][6].startswith("0-8 ") and table[10][6].startswith("8 ") and table[12][6].startswith("8, 10-11 ")
    assert [row[:2] for row in table[13:]] == [["-", "system"], ["-", "question"]]
    mask = decode_image(tmp_path / "mask.png")
    colours = {tuple(colour) for colour in mask.reshape(-1, 3)[::97]}
    assert {(76, 120, 168), (84, 162, 75), (245, 133, 24), (178, 121, 162)} <= colours


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"question": " "}, "field 'question': must not be empty"),
        ({"choices": ["a bed"]}, "field 'choices': needs 2 to 26 entries"),
        ({"choices": ["a bed", ""]}, "field 'choices': must be text, none of it empty"),
        ({"answer": "E"}, "field 'answer': must be one of A, B, C, D"),
        ({"question": "What is on <image_4>?"}, "field 'question': names image 4, the sample has 3 images"),
        ({"images": [{"bytes": b"no image", "path": None}] * 3}, r"field 'images\[0\]': not a PNG"),
        (
            {"images": [{"bytes": noise_picture(0)[:400], "path": None}] * 3},
            r"field 'images\[0\]': broken or truncated",
        ),
        (
            {"images": [{"bytes": plain(0, 0, 0, MAX_PIXELS // 999, 1000), "path": None}] * 3},
            r"field 'images\[0\]': .* pixels",
        ),
        ({"imagination": {"bytes": b"no image", "path": None}}, "field 'imagination': not a PNG"),
    ],
)
def test_wrong_data_is_located(tmp_path: Path, cells: dict[str, Any], message: str) -> None:
    path = shard(tmp_path, **cells)
    config = PreviewConfig(str(path), row=1, output=str(tmp_path / "mask.png"), **SMALL)
    with pytest.raises(ValueError, match=rf"samples\.parquet, row 1: sample 'pt-0', {message}"):
        preview(config)


def test_ranges() -> None:
    assert [ranges(np.array(numbers)) for numbers in ([], [3], [0, 1, 2, 5], [1, 3])] == ["-", "3", "0-2, 5", "1, 3"]
