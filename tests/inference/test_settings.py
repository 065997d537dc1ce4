"""Numbers that no run can use are named with the settings, before any work."""

from __future__ import annotations

import math
from typing import Any

import pytest

from datagen.config import run_config
from ipt.common.errors import UserError
from ipt.inference.settings import DrawSettings, infer_config
from ipt.sequence.settings import LoaderConfig
from ipt.training.config import train_config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_scale": -0.5}, "draw.text_scale must be at least 0"),
        ({"image_scale": math.nan}, "draw.image_scale must be at least 0"),
        ({"text_scale": math.inf}, "draw.text_scale must be at least 0"),
        ({"start": 0.8, "end": 0.2}, "0 <= start <= end <= 1, got 0.8 and 0.2"),
        ({"end": 1.5}, "0 <= start <= end <= 1"),
        ({"start": -0.1}, "0 <= start <= end <= 1"),
        ({"shift": 0.0}, "draw.shift must be positive"),
        ({"renorm_min": -1.0}, "draw.renorm_min must lie in"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DrawSettings(**settings)
    DrawSettings(text_scale=0.0, image_scale=1.0, start=0.5, end=0.5)


@pytest.mark.parametrize("workers", [-1, 100_000])
def test_workers_fit_the_machine(workers: int) -> None:
    with pytest.raises(UserError, match=rf"loader\.workers must lie between 0 and \d+ on this machine, got {workers}"):
        LoaderConfig(workers=workers)


def test_processes_fit_the_machine(tmp_path: Any) -> None:
    with pytest.raises(UserError, match=r"launch\.gpus must lie between 1 and \d+ on this machine, got 100000"):
        train_config({"launch": {"gpus": 100_000}})
    datagen = {"task": {"name": "pet"}, "backend": {"name": "embedded"}, "output_dir": str(tmp_path)}
    with pytest.raises(UserError, match=r"workers must lie between 1 and \d+, got 100000"):
        run_config({**datagen, "workers": 100_000})
    assert run_config({**datagen, "workers": 100_000, "engine": "dask"})


@pytest.mark.parametrize("seed", [2**63, 2**64, 10**30])
def test_a_seed_fits_what_keeps_it(seed: int, tmp_path: Any) -> None:
    small = {"input_side": 16, "vit_side": 16, "imagination": 2}
    train = {"dry_run": True, "imagination": {"modes": {"ipt": 1.0}}, "resolution": small}
    infer = {"checkpoint": "x", "data": str(tmp_path)}
    datagen = {"task": {"name": "pet"}, "backend": {"name": "embedded"}, "output_dir": str(tmp_path), "num_samples": 1}
    for make, values in ((train_config, train), (infer_config, infer), (run_config, datagen)):
        make({**values, "seed": 2**63 - 1})  # type: ignore[operator]
        with pytest.raises(UserError, match=f"seed must lie between 0 and .*, got {seed}"):
            make({**values, "seed": seed})  # type: ignore[operator]
    with pytest.raises(UserError, match=r"loader\.seed must lie between"):
        train_config({**train, "loader": {"seed": seed}})
