"""The small base: how a run becomes what ships, and what ships."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipt.evaluation.quality.similarity import PictureScores
from ipt.imagination.recipe import read_recipe
from ipt.inference.checkpoint import load_checkpoint
from ipt.inference.drawing import draw_pictures
from ipt.inference.settings import DrawSettings
from ipt.model.checkpoint import StoredModel
from ipt.model.codec import PatchPca
from ipt.model.config import BASE_FOLDER, model_path
from ipt.study import base
from tests.imagination.examples import example
from tests.inference import toy

ROOT = Path(__file__).parents[2]


def test_a_run_is_packed_in_bfloat16_with_all_that_it_needs_and_a_card(tmp_path: Path) -> None:
    run = toy.save_run(tmp_path / "run", "ipt")
    settings = {
        "loader": {"max_samples": 16, "packs_per_step": 2},
        "loss": {"noise_draws": 4},
        "optim": {"lr": 3e-3},
        "ema": {"decay": 0.9},
    }
    (run / "config.json").write_text(json.dumps(settings))
    record = {"flow": 0.5, "ce": 0.25, "tokens": {"all": 500_000}}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for _ in range(4)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text(json.dumps({"samples": 1234, "code_revision": "abc", "files": {}}))
    (tmp_path / "drawn").mkdir()
    score = PictureScores(own=20.5, mean=18.25, other=16.0, closer=0.97, found=0.855, count=300)
    (tmp_path / "drawn/scores.json").write_text(json.dumps({"kinds": {"plan": asdict(score)}}))
    target = tmp_path / "package"
    base.package(run, target)
    base.card(run, [tmp_path / "data"], tmp_path / "drawn", target)
    assert StoredModel.in_folder(target).dtype is torch.bfloat16
    packed, made = load_checkpoint(target), toy.checkpoint("ipt")
    assert packed.recipe == read_recipe(run / "model") and isinstance(packed.codec, PatchPca)
    for name, weight in packed.model.state_dict().items():
        assert torch.equal(weight, made.model.state_dict()[name].bfloat16().float()), name
    text = (target / "README.md").read_text()
    assert "| plan | 20.50 | 18.25 | 16.00 | 97.0 % | 85.5 % | 300 |" in text
    assert "1,234 pairs" in text and "4 steps of 32 pairs with 4 noise draws" in text and "2.0 million tokens" in text


def test_base_is_a_name_and_every_other_path_a_path() -> None:
    assert model_path("base") == BASE_FOLDER and model_path(Path("base")) == BASE_FOLDER
    assert model_path("./base/x") == Path("base/x") and model_path("runs/base") == Path("runs/base")


@pytest.mark.parametrize("kind", ["pet", "pt", "mvc"])
def test_what_ships_is_small_draws_and_was_asked_nothing(kind: str) -> None:
    shipped = load_checkpoint(Path("base"))
    assert sum(path.stat().st_size for path in BASE_FOLDER.iterdir()) < 8 * 2**20
    assert StoredModel.in_folder(BASE_FOLDER).dtype is torch.bfloat16
    assert set(shipped.recipe.imagination.trained) == {"draw", "describe"}
    assert not shipped.recipe.imagination.answering
    asked = example(kind, question="Draw.", choices=(), answer="")
    ((_, image),) = draw_pictures(shipped, [asked], DrawSettings(timesteps=3, shift=4.0))
    assert image.pixels().shape == (32, 32, 3)


def test_a_training_goes_on_from_what_ships(tmp_path: Path) -> None:
    data = toy.save_data(tmp_path / "data", toy.SAMPLES)
    common = ["model=base", "resolution=micro", "data.profile=brief", f"data.train={data}", "trainer.steps=1"]
    command = [
        sys.executable,
        "train.py",
        *common,
        f"output_dir={tmp_path / 'run'}",
        "optim.lr=1e-9",
        "optim.min_lr=0",
        "ema.decay=0",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trained, shipped = load_checkpoint(tmp_path / "run"), load_checkpoint(Path("base"))
    for name, weight in trained.model.state_dict().items():
        assert torch.allclose(weight, shipped.model.state_dict()[name], atol=1e-6), name
    ours, theirs = (load_file(folder / "codec.safetensors") for folder in (tmp_path / "run/model", BASE_FOLDER))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
