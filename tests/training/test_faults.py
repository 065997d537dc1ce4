"""What goes wrong while the command runs ends with a line that says where, loses nothing, and once it is mended the same command
goes on to the same end. The runs of this file take latents from a cache, samples from weighted parts and batches from workers,
and have the losses of a plain run."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

import train as command
from ipt.common.files import sha256_file
from ipt.samples.store import seal, write_shards
from ipt.training.cache_latents import main as cache_latents
from tests.sequence.loading import SAMPLES
from tests.training.runs import largest_file
from tests.training.test_trainer import lasting

SMALL = (
    "task=mvc",
    "model=micro",
    "resolution=micro",
    "loader.budget=512",
    "sequence.max_sample_tokens=512",
    "checkpoints.every=2",
    "optim.warmup_steps=1",
)


def train(*overrides: str, steps: int = 4) -> None:
    """The command, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])
        GlobalHydra.instance().clear()
        command.main([*SMALL, f"trainer.steps={steps}", *overrides])


@dataclass(frozen=True)
class Begun:
    """A run of two steps in ``folder``, and how it would have ended in ``whole``."""

    folder: Path
    data: Path
    cache: Path
    whole: Path

    def overrides(self) -> list[str]:
        place = [f"+data.parts={{{self.data}: 2}}", f"data.cache={self.cache}", f"output_dir={self.folder}"]
        return [*place, "loader.workers=1", "loader.start_method=fork"]

    def kept(self) -> dict[str, str]:
        """Digests of the files that no later start may touch: checkpoints, weights and what samples are read with."""
        folders = (self.folder / name for name in ("checkpoints", "model", "assets"))
        return {str(path): sha256_file(path) for folder in folders for path in folder.rglob("*") if path.is_file()}

    def fails(self, *overrides: str, steps: int = 4) -> str:
        """The one line with which the command ends; it has lost nothing."""
        before, errors = self.kept(), io.StringIO()
        with pytest.raises(SystemExit) as exit_, redirect_stderr(errors):
            train(*self.overrides(), *overrides, steps=steps)
        assert exit_.value.code == 2 and self.kept() == before
        (line,) = (line for line in errors.getvalue().splitlines() if line.startswith("error: "))
        assert errors.getvalue().endswith(line + "\n")
        return line

    def goes_on(self) -> None:
        """The same command ends where the undisturbed run did."""
        train(*self.overrides())
        ours, theirs = lasting(self.folder), lasting(self.whole)
        assert [record.keys() for record in ours] == [record.keys() for record in theirs] and len(ours) == 4
        for mine, other in zip(ours, theirs, strict=True):
            numbers = [name for name, value in other.items() if isinstance(value, float)]
            assert [mine[n] for n in numbers] == pytest.approx([other[n] for n in numbers], rel=1e-5)
            assert mine["data"] == other["data"] and mine["tokens"] == other["tokens"]
        expected = load_file(self.whole / "model" / "model.safetensors")
        found = load_file(self.folder / "model" / "model.safetensors")
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    folder = tmp_path_factory.mktemp("faults")
    data, cache, whole = folder / "data", folder / "cache", folder / "whole"
    write_shards(data, "train", SAMPLES[:20])
    seal(data, {})
    train(f"data.train={data}", f"output_dir={whole}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cache_latents"])
        cache_latents([*SMALL, f"data.train={data}", f"data.cache={cache}", f"output_dir={whole}"])
    begun = Begun(folder / "begun", data, cache, whole)
    train(*begun.overrides(), steps=2)
    return begun


@contextmanager
def altered(folder: Path, change: Callable[[Path], None]) -> Iterator[None]:
    """``folder`` after ``change``, while the block runs."""
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    change(folder)
    try:
        yield
    finally:
        for path, content in contents.items():
            path.write_bytes(content)


def spoil_latents(cache: Path) -> None:
    """NaN in the place of every number, which changes no size."""
    (path,) = cache.glob("*.safetensors")
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:start] + np.full((len(content) - start) // 4, np.nan, np.float32).tobytes())


def spoil_cameras(data: Path) -> None:
    (path,) = data.glob("*.parquet")
    table = pq.read_table(path)
    number = table.schema.get_field_index("images_camera")
    cameras = [[text.replace("1.4", "NaN") for text in row] for row in table.column(number).to_pylist()]
    pq.write_table(table.set_column(number, table.schema.field(number), pa.array(cameras)), path)
    seal(data, {})


def test_the_same_command_goes_on_after_every_fault(run: Begun) -> None:
    with largest_file(1_000_000):
        told = run.fails()
    assert re.search(r"step_00000004 could not be written \(.*File too large\); step_00000002 is whole", told)
    with altered(run.cache, spoil_latents):
        told = run.fails()
    sample = r"train-00000\.parquet, row \d+, sample 'sample-\d+' \(part 'part-0'\)"
    assert re.search(rf"{sample}: .*: its latents in .*\.safetensors are not finite; delete", told), told
    with altered(run.data, spoil_cameras):
        assert re.search(r"data \(changed: \w+ for \w+\)", run.fails())
        told = run.fails(f"output_dir={run.folder.parent / 'new'}")
    assert re.search(r"train-00000\.parquet, row \d+.*field 'images.*six finite numbers", told), told
    run.goes_on()
    with largest_file(1_000_000):
        told = run.fails()
    assert re.search(r"model/model\.safetensors could not be written \(.*File too large", told)


def test_mistakes_are_found_before_anything_is_touched(run: Begun, tmp_path: Path) -> None:
    starts = (run.folder / "starts.jsonl").read_bytes()
    assert re.search(r"unknown key 'optim\.lrr'; valid: ", run.fails("optim.lrr=1"))
    run.data.rename(tmp_path / "elsewhere")
    try:
        assert f"the dataset {run.data} does not exist" in run.fails()
    finally:
        (tmp_path / "elsewhere").rename(run.data)
    with largest_file(0):
        assert re.search(r"the output folder .* cannot be written .*set another output_dir", run.fails())
    assert (run.folder / "starts.jsonl").read_bytes() == starts
