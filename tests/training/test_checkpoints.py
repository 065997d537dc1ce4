"""Checkpoints: whole or absent, and never the last good one lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ipt.common import files
from ipt.common.files import MANIFEST, CorruptFile
from ipt.training.checkpoints import Checkpoints
from ipt.training.distributed import World, start_world
from ipt.training.settings import CheckpointConfig, DistributedConfig
from tests.training.processes import together


def tensors(value: float = 0.0) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"a": torch.full((2, 3), value), "empty": torch.zeros(0, 2)},
        "ema": {"a": torch.full((1,), value)},
    }


def make(folder: Path, **settings: int) -> Checkpoints:
    return Checkpoints(folder, CheckpointConfig(**settings), World())


def save(checkpoints: Checkpoints, step: int, values: dict[str, Any], progress: dict[str, Any]) -> Path:
    path = checkpoints.save(step, values, progress)
    checkpoints.wait()
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    assert checkpoints.latest() is None
    save(checkpoints, 3, tensors(1.5), {"loader": {"lane": [1, 2]}})
    found = tensors()
    progress = checkpoints.load(tmp_path / "step_00000003", found)
    assert progress == {"loader": {"lane": [1, 2]}, "step": 3}
    torch.testing.assert_close(found, tensors(1.5), atol=0, rtol=0)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = make(tmp_path, keep_last=2, keep_best=1)
    for step, score in enumerate([0.9, 0.2, 0.5, None, 0.4]):
        save(checkpoints, step, tensors(), {})
        checkpoints.rate(step, score)
    assert [path.name for path in checkpoints.complete()] == ["step_00000001", "step_00000003", "step_00000004"]


def test_a_folder_without_a_manifest_does_not_count(tmp_path: Path) -> None:
    checkpoints = make(tmp_path, keep_last=5)
    for step in (1, 2):
        save(checkpoints, step, tensors(step), {})
    (tmp_path / "step_00000002" / MANIFEST).unlink()
    (tmp_path / "step_00000007").mkdir()
    assert checkpoints.latest() == tmp_path / "step_00000001"
    save(checkpoints, 2, tensors(9.0), {})
    found = tensors()
    checkpoints.load(tmp_path / "step_00000002", found)
    assert found["ema"]["a"] == 9.0


@pytest.mark.parametrize("file", ["progress.json", "__0_0.distcp", ".metadata"])
@pytest.mark.parametrize("damage", ["cut", "altered", "removed"])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path: Path, file: str, damage: str) -> None:
    checkpoints = make(tmp_path)
    path = save(checkpoints, 1, tensors(), {}) / file
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(CorruptFile, match=file.replace(".", r"\.")):
        checkpoints.load(path.parent, tensors())


def test_another_model_is_refused(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    path = save(checkpoints, 1, tensors(), {})
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.load(path, {**tensors(), "optimizer": {"b": torch.zeros(1)}})
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.load(path, {"model": {"a": torch.zeros(5, 3)}})


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = make(tmp_path, keep_last=1)
    save(checkpoints, 1, tensors(), {})
    with monkeypatch.context() as patch:
        patch.setattr("ipt.training.checkpoints.write_manifest", full_disk)
        with pytest.raises(
            OSError, match=r"step_00000002 could not be written \(.*No space left.*step_00000001 is whole"
        ):
            save(checkpoints, 2, tensors(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    checkpoints.load(tmp_path / "step_00000001", tensors())


def test_no_rank_reads_all_of_a_checkpoint_to_seal_or_to_check_it(tmp_path: Path) -> None:
    together(2, two_ranks, tmp_path)
    found = [json.loads((tmp_path / f"hashed-{rank}.json").read_text()) for rank in range(2)]
    for rank, (sealed, checked) in enumerate(found):
        assert [name for name in sealed if name.endswith(".distcp")] == [f"__{rank}_0.distcp"]
        assert 0 < len(checked) < 4
    every = {".metadata", "progress.json", "__0_0.distcp", "__1_0.distcp"}
    assert set(found[0][0]) | set(found[1][0]) == set(found[0][1]) | set(found[1][1]) == every


def two_ranks(folder: Path) -> None:
    """A checkpoint of two processes, saved and loaded; the names of the files that each has hashed for that go to a file."""
    world, hashed = start_world(DistributedConfig("ddp")), list[str]()
    original = files.sha256_file
    files.sha256_file = lambda path: hashed.append(path.name) or original(path)  # type: ignore[assignment,func-returns-value]
    checkpoints = Checkpoints(folder, CheckpointConfig(), world)
    values = {"model": {str(number): torch.full((100,), float(number)) for number in range(8)}}
    path = save(checkpoints, 1, values, {})
    sealed = len(hashed)
    found = {"model": {name: torch.zeros(100) for name in values["model"]}}
    checkpoints.load(path, found)
    torch.testing.assert_close(found, values)
    (folder / f"hashed-{world.rank}.json").write_text(json.dumps([hashed[:sealed], hashed[sealed:]]))
    world.barrier()
    dist.destroy_process_group()


def full_disk(*arguments: object) -> None:
    raise OSError(28, "No space left on device")
