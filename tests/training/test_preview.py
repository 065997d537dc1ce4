"""The preview command, and errors that say where the data is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from ipt.common.hydra_command import Command
from ipt.common.images import MAX_PIXELS, decode_image
from ipt.samples.store import SCHEMA, write_shard
from ipt.sequence.describe import ranges
from ipt.training.build import make_assets, make_loader, readers
from ipt.training.command import register
from ipt.training.config import train_config
from ipt.training.distributed import World
from ipt.training.preview import main
from tests.imagination.examples import example, noise_picture, plain

ROOT = Path(__file__).parents[2]


def shard(folder: Path, **cells: Any) -> Path:
    """Three samples; ``cells`` overwrite columns of row 1, unchecked."""
    path = folder / "samples.parquet"
    write_shard(path, [example(task, id=f"{task}-0") for task in ("pet", "pt", "mvc")])
    if cells:
        records = pq.read_table(path).to_pylist()
        records[1].update(cells)
        pq.write_table(pa.Table.from_pylist(records, SCHEMA), path)
    return path


def overrides(path: Path, folder: Path, *more: str) -> list[str]:
    sizes = ["input_side=16", "input_min_side=8", "vit_side=16", "vit_min_side=8", "imagination=2"]
    return [
        "task=all",
        f"data.train={path}",
        f"output_dir={folder}",
        *(f"resolution.{size}" for size in sizes),
        "sequence.dropout.text=1",
        *more,
    ]


def test_the_command_prints_every_segment_and_draws_the_mask(tmp_path: Path) -> None:
    arguments = overrides(shard(tmp_path), tmp_path, "row=2", "imagination.ipt.bottleneck=1")
    command = [sys.executable, "-m", "ipt.training.preview", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, *lines = result.stdout.splitlines()
    assert head == "sample 'mvc-0' (mvc), imagination ipt, profile default, epoch 0"
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
    mask = decode_image(tmp_path / "preview.png")
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
def test_wrong_data_is_located(
    tmp_path: Path, cells: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shard(tmp_path, **cells)
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["preview"])
        main(overrides(path, tmp_path, "row=1"))
    assert ended.value.code == 2
    assert re.search(rf"samples\.parquet, row 1: sample 'pt-0', {message}", capsys.readouterr().err)


@pytest.mark.parametrize("imagination", ["ipt", "caption"])
def test_it_is_the_sequence_of_the_training_with_the_same_settings(
    imagination: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes, mixture and texts come from the same keys: nothing is typed again."""
    monkeypatch.setattr(sys, "argv", ["preview"])
    given = overrides(shard(tmp_path), tmp_path, f"imagination={imagination}", "data.profile=brief")
    given += ["loader.max_samples=1", "sequence.dropout.text=0"]
    command = Command("train")
    register(command)
    config = train_config(OmegaConf.to_container(command.compose([*given, "trainer.steps=1"]), resolve=True))  # type: ignore[arg-type]
    datasets = readers(config)
    assets = make_assets(config, list(datasets.values()), None)
    loader = make_loader(config, datasets, assets, World())
    packs = {pack.origins[0].sample_id: pack for _, pack in zip(range(3), loader, strict=False)}
    for sample_id, pack in packs.items():
        main([*given, f"row={('pet-0', 'pt-0', 'mvc-0').index(sample_id)}"])
        lines = capsys.readouterr().out.splitlines()[2:-1]
        shown = sum(int(line.split()[3]) for line in lines if line.split()[0] != "-")
        assert shown == pack.spans.num_tokens, lines


def test_ranges() -> None:
    assert [ranges(np.array(numbers)) for numbers in ([], [3], [0, 1, 2, 5], [1, 3])] == ["-", "3", "0-2, 5", "1, 3"]
