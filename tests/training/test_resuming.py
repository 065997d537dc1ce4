"""What a continued run is compared with: the data itself, not the spelling of its path; and what accelerate was asked for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ipt.common.errors import UserError
from ipt.samples.store import seal, write_shards
from ipt.training.build import check_precision, check_settings, run
from ipt.training.config import TrainConfig, train_config
from tests.sequence.loading import SAMPLES


def dataset(folder: Path, rows: int) -> Path:
    write_shards(folder, "train", SAMPLES[:rows])
    seal(folder, {})
    return folder


def settings(path: str, parts: bool) -> TrainConfig:
    data = {"parts": {path: 2.0}} if parts else {"train": path, "validation": path}
    small = {"input_side": 16, "vit_side": 16, "imagination": 2}
    values = {"task": {"names": ["mvc"]}, "imagination": {"modes": {"ipt": 1.0}}, "resolution": small, "data": data}
    return train_config(values)


@pytest.mark.parametrize("parts", [False, True], ids=["train and validation", "parts"])
def test_a_path_spelled_otherwise_is_the_same_data(
    parts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset(tmp_path / "data", 6)
    os.symlink("data", "link")
    check_settings(settings("data", parts), tmp_path / "run")
    for path in (str(tmp_path / "data"), "./link", "../" + tmp_path.name + "/data"):
        check_settings(settings(path, parts), tmp_path / "run")
    (tmp_path / "data").rename("moved")
    check_settings(settings("moved", parts), tmp_path / "run")


@pytest.mark.parametrize("parts", [False, True], ids=["train and validation", "parts"])
def test_other_data_is_named_even_under_the_same_path(
    parts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset(tmp_path / "data", 6)
    dataset(tmp_path / "other", 5)
    check_settings(settings("data", parts), tmp_path / "run")
    with pytest.raises(UserError, match=r"run with other settings \(data\..*other"):
        check_settings(settings("other", parts), tmp_path / "run")
    (tmp_path / "data").rename("old")
    (tmp_path / "other").rename("data")
    with pytest.raises(UserError, match=r"run with other settings \(data\..*changed: "):
        check_settings(settings("data", parts), tmp_path / "run")


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has kept no digests: the spelling is compared."""
    monkeypatch.chdir(tmp_path)
    config = settings(str(dataset(tmp_path / "data", 6)), False)
    check_settings(config, tmp_path / "run")
    (tmp_path / "run/datasets.json").unlink()
    check_settings(replace(config), tmp_path / "run")


def test_a_precision_that_accelerate_alone_was_asked_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_precision("float32")
    for given, dtype in (("no", "bfloat16"), ("bf16", "bfloat16"), ("no", "float32")):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", given)
        check_precision(dtype)
    for given in ("bf16", "fp16", "fp8"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", given)
        with pytest.raises(UserError, match=f"mixed_precision={given} does not go with trainer.dtype=float32"):
            check_precision("float32")
    with pytest.raises(UserError, match=r"mixed_precision=fp8 does not go with trainer.dtype=float32"):
        run(settings(str(tmp_path), False))
