"""Checkpoints: whole or absent, and never the last good one lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ipt.common.files import MANIFEST, CorruptFile
from ipt.training.checkpoints import Checkpoints
from ipt.training.distributed import World
from ipt.training.settings import CheckpointConfig


def tensors(value: float = 0.0) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"a": torch.full((2, 3), value), "empty": torch.zeros(0, 2)},
        "ema": {"a": torch.full((1,), value)},
    }


def make(folder: Path, **settings: int) -> Checkpoints:
    return Checkpoints(folder, CheckpointConfig(**settings), World())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    assert checkpoints.latest() is None
    checkpoints.save(3, tensors(1.5), {"loader": {"lane": [1, 2]}})
    found = tensors()
    progress = checkpoints.load(tmp_path / "step_00000003", found)
    assert progress == {"loader": {"lane": [1, 2]}, "step": 3}
    torch.testing.assert_close(found, tensors(1.5), atol=0, rtol=0)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = make(tmp_path, keep_last=2, keep_best=1)
    for step, score in enumerate([0.9, 0.2, 0.5, None, 0.4]):
        checkpoints.save(step, tensors(), {})
        checkpoints.rate(step, score)
    assert [path.name for path in checkpoints.complete()] == ["step_00000001", "step_00000003", "step_00000004"]


def test_a_folder_without_a_manifest_does_not_count(tmp_path: Path) -> None:
    checkpoints = make(tmp_path, keep_last=5)
    for step in (1, 2):
        checkpoints.save(step, tensors(step), {})
    (tmp_path / "step_00000002" / MANIFEST).unlink()
    (tmp_path / "step_00000007").mkdir()
    assert checkpoints.latest() == tmp_path / "step_00000001"
    checkpoints.save(2, tensors(9.0), {})
    found = tensors()
    checkpoints.load(tmp_path / "step_00000002", found)
    assert found["ema"]["a"] == 9.0


@pytest.mark.parametrize("file", ["progress.json", "__0_0.distcp", ".metadata"])
@pytest.mark.parametrize("damage", ["cut", "altered", "removed"])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path: Path, file: str, damage: str) -> None:
    checkpoints = make(tmp_path)
    path = checkpoints.save(1, tensors(), {}) / file
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(CorruptFile, match=file.replace(".", r"\.")):
        checkpoints.load(path.parent, tensors())


def test_another_model_is_refused(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    path = checkpoints.save(1, tensors(), {})
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.load(path, {**tensors(), "optimizer": {"b": torch.zeros(1)}})
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.load(path, {"model": {"a": torch.zeros(5, 3)}})


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = make(tmp_path, keep_last=1)
    checkpoints.save(1, tensors(), {})
    with monkeypatch.context() as patch:
        patch.setattr("ipt.training.checkpoints.write_manifest", full_disk)
        with pytest.raises(
            OSError, match=r"step_00000002 could not be written \(.*No space left.*step_00000001 is whole"
        ):
            checkpoints.save(2, tensors(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    checkpoints.load(tmp_path / "step_00000001", tensors())


def full_disk(*arguments: object) -> None:
    raise OSError(28, "No space left on device")
