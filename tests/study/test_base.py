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
    settings = {
        "loader": {"max_samples": 16, "packs_per_step": 2},
        "loss": {"noise_draws": 4},
        "optim": {"lr": 3e-3},
        "ema": {"decay": 0.9},
    }
    record = {"flow": 0.5, "ce": 0.25, "tokens": {"all": 500_000}}
    runs = [toy.save_run(tmp_path / stage.name, "ipt") for stage in base.STAGES]
    for run in runs:
        (run / "config.json").write_text(json.dumps(settings))
        (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for _ in range(4)))
    for name in base.PARTS:
        (tmp_path / name).mkdir()
        manifest = {"samples": 1000, "code_revision": "abc", "files": {}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "drawn").mkdir()
    score = PictureScores(own=20.5, mean=18.25, other=16.0, closer=0.97, found=0.855, count=300)
    (tmp_path / "drawn/scores.json").write_text(json.dumps({"kinds": {"plan": asdict(score)}}))
    target = tmp_path / "package"
    base.package(runs[-1], target)
    base.card(tmp_path, tmp_path / "drawn", target)
    assert StoredModel.in_folder(target).dtype is torch.bfloat16
    packed, made = load_checkpoint(target), toy.checkpoint("ipt")
    assert packed.recipe == read_recipe(runs[-1] / "model") and isinstance(packed.codec, PatchPca)
    for name, weight in packed.model.state_dict().items():
        assert torch.equal(weight, made.model.state_dict()[name].bfloat16().float()), name
    text = (target / "README.md").read_text()
    assert "| plan | 20.50 | 18.25 | 16.00 | 97.0 % | 85.5 % | 300 |" in text
    assert f"{len(base.PARTS)},000 pairs" in text and "32 pairs a step with 4 noise draws" in text
    assert f"({2 * len(base.STAGES)}.0\nmillion tokens" in text
    assert "1. 4 steps, learning rate 0.003: 70 % move turn, 20 % plan and view from plan, 10 % side view." in text
    assert (
        "2. 4 steps, learning rate 0.003: 25 % move turn, 7 % plan and view from plan, 38 % side view, 30 % view"
        in text
    )


def test_a_stage_has_a_hundred_shares_of_parts_that_there_are() -> None:
    for stage in base.STAGES:
        assert sum(stage.shares.values()) == 100 and stage.shares.keys() <= base.PARTS.keys()


def test_stages_are_trained_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part is made with its own settings, and each stage goes on from the weights of the one before."""
    commands: list[str] = []
    monkeypatch.setattr(base, "run", lambda command: commands.append(" ".join(command)))
    monkeypatch.setattr(base, "package", lambda folder, target: commands.append(f"package {folder.name}"))
    monkeypatch.setattr(base, "card", lambda *_: None)
    base.make(base.BaseConfig(output=str(tmp_path), package=str(tmp_path / "base"), train="trainer.steps=200"))
    made = {name: next(each for each in commands if f"output_dir={tmp_path / name}" in each) for name in base.PARTS}
    assert "task.plan_turn_deg=20" in made["nearly_up"] and "task.told=0.5" in made["told_sides"]
    assert "task.told" not in made["moves"] and "num_samples=56000 seed=22" in made["moves"]
    assert "task.min_arrow_share=0.3" in made["moves"].split() and made["sides"].endswith("task.min_arrow_share=0.12")
    assert made["turned_by_arrow"].endswith("task.told=0.25")
    first, second, third, _ = (each for each in commands if "train.py" in each)
    assert "model.init" not in first and f"model.init={tmp_path / 'moves_first'} model.codec=init" in second
    assert first.endswith("trainer.steps=200") and "optim.lr=0.002 seed=1" in second
    assert f"model.init={tmp_path / 'then_maps'}" in third and "trainer.steps=1800 trainer.steps=200" in third
    assert commands[-2] == "package more_arrows"


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
