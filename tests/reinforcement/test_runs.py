"""Reinforced runs: resumed bit by bit, on any number of processes, written as run folders, and every setting counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from ipt.evaluation.report import run_report
from ipt.evaluation.settings import ReportConfig
from ipt.inference.checkpoint import load_checkpoint
from ipt.inference.prediction import read_run
from ipt.reinforcement.rewards import REWARDS
from ipt.training.build import make_trainer, run
from ipt.training.distributed import gather_full, start_world
from ipt.training.records import read_records
from ipt.training.trainer import Trainer
from tests.reinforcement import toys
from tests.training.processes import together
from tests.training.runs import assert_same_state, state
from tests.training.test_trainer import lasting


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.saved(tmp_path_factory.mktemp("toys"))


def files(trainer: Trainer) -> dict[str, bytes]:
    """All that a run has written of its rollouts, but for the run's own name."""
    own = str(trainer.folder)
    found = {
        str(path.relative_to(trainer.folder)): path.read_bytes() for path in trainer.folder.glob("rollouts/**/*.*")
    }
    return {name: data.replace(own.encode(), b"") for name, data in found.items()}


@pytest.mark.parametrize("stage, updates", [("closed", 1), ("sampled", 2), ("drawn", 1)])
def test_a_resumed_run_is_the_uninterrupted_one_rollouts_included(stage: str, updates: int, folder: Path) -> None:
    changes = {"grpo": {"updates": updates, "kl": 0.1} if stage != "drawn" else {"velocity": 0.1}}
    steps = {"trainer": {"steps": 2 * updates}, "checkpoints": {"every": updates}}
    whole = toys.trainer(folder, stage, f"whole-{stage}", **changes, **steps)
    assert whole.run()
    first = toys.trainer(folder, stage, f"again-{stage}", **changes, **steps)
    packs = first.steps()
    for _ in range(updates):
        first.train_step(packs)
    first._save()
    first.checkpoints.wait()
    second = toys.trainer(folder, stage, f"again-{stage}", **changes, **steps)
    assert second.step == updates and second.run()
    assert_same_state(whole, second)
    assert lasting(second.folder) == lasting(whole.folder)[updates:]
    assert next(record["samples"] for record in lasting(whole.folder)) > 0
    expected = files(whole)
    assert files(second) == {name: expected[name] for name in files(second)} and len(expected) >= 8
    assert len({record["reward"] for record in lasting(whole.folder)}) == 2, "no two rollouts are alike"
    if updates == 2:
        assert any(record["mismatch"] > 1e-4 for record in lasting(whole.folder)[1::2])
    assert all(record["mismatch"] < 1e-5 for record in lasting(whole.folder)[::updates])


def test_a_run_is_stopped_and_saved_between_rollouts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: dict[str, Any] = {
        "trainer": {"steps": 4},
        "checkpoints": {"every": 4},
        "grpo": {"updates": 2, "write_every": 0},
    }
    trainer = toys.trainer(folder, "sampled", "stopped", **steps)
    monkeypatch.setattr(trainer, "_any", lambda flag: trainer.step > 0)
    assert not trainer.run() and trainer.step == 2
    assert toys.trainer(folder, "sampled", "stopped", **steps).step == 2
    assert not (trainer.folder / "rollouts").exists()


def test_the_command_trains_exports_and_keeps_run_folders_that_report_pages_open(folder: Path) -> None:
    config = toys.config(
        folder, "drawn", "exported", tuning={"kind": "lora", "lora": {"experts": ["generation"], "rank": 2}}
    )
    assert run(config) is not None
    after, before = load_checkpoint(folder / "exported"), load_checkpoint(folder / "run")
    assert after.recipe == before.recipe
    changed = {
        name.split(".")[3]
        for (name, a), b in zip(after.model.named_parameters(), before.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {"generation"}, "only the expert that draws is trained"
    kept = folder / "exported" / "rollouts" / "step_00000001"
    read = read_run(kept)
    assert len(read.predictions) == 4 and read.done is not None
    assert all(len(each.images) == 2 and each.probabilities for each in read.predictions)
    assert all((kept / name).is_file() for each in read.predictions for name in each.images)
    lines = [json.loads(line) for line in (kept / "rollouts.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and all(len(line["log_probabilities"]) == len(line["steps"]) == 2 for line in lines)
    page = run_report(ReportConfig(report=(str(kept),)), folder / "report", 0)
    assert "report" in page and list((folder / "report").glob("*.html"))
    record = read_records(folder / "exported" / "metrics.jsonl")[-1]
    guards = {
        "reward",
        "reward/reader",
        "reward/similarity",
        "permuted",
        "diversity",
        "same_answer",
        "velocity",
        "mismatch",
    }
    assert guards <= record.keys() and (folder / "exported" / "curves.png").is_file()


def test_the_guards_of_a_readout_are_in_its_records(folder: Path) -> None:
    trainer = toys.trainer(folder, "sampled", "guards", grpo={"text": {"max_tokens": 12, "temperature": 1.0}})
    record = trainer.train_step(trainer.steps()).columns()
    assert {
        "reward",
        "reward/correct",
        "reward/format",
        "permuted",
        "entropy",
        "same_answer",
        "deviation",
        "kl",
    } <= record.keys()
    assert record["entropy"] > 0 and 0.25 <= record["same_answer"] <= 1 and 0 <= record["permuted"] <= 1


def effect(folder: Path, stage: str, **grpo: Any) -> Any:
    """The losses and the gradient of two steps, their figures, and what was written of the rollouts, with these settings."""
    steps: dict[str, Any] = {"trainer": {"steps": 4}, "checkpoints": {"every": 4}}
    output = f"effect-{len(list(folder.iterdir()))}"
    trainer = toys.trainer(folder, stage, output, grpo=grpo, **steps)
    packs = trainer.steps()
    first, second = trainer.train_step(packs), trainer.train_step(packs)
    lines = sorted(trainer.folder.glob("rollouts/*/rollouts.jsonl"))
    return [
        (first.loss, second.loss, second.gradient_norm),
        sorted({*first.figures, *second.figures}),
        [path.read_text() for path in lines],
    ]


EFFECTS: dict[str, list[dict[str, Any]]] = {
    "closed": [
        {"mode": "label_only"},
        {"questions": 2},
        {"imaginations": 1},
        {"updates": 2},
        {"rewards": {"correct": 1.0}},
        {"shuffled": True},
        {"kl": 5.0},
        {"closed": False, "text": {"max_tokens": 12}},
        {"draw": {"timesteps": 4, "shift": 1.0}},
        {"control_every": 0},
        {"write_every": 0},
    ],
    "sampled": [
        {"answers": 4},
        {"loss": "grpo"},
        {"loss": "dapo"},
        {"scale": "group"},
        {"text": {"max_tokens": 5, "temperature": 2.0}},
        {"text": {"max_tokens": 12, "temperature": 1.7}},
        {"shuffled": True},
    ],
    "drawn": [
        {"noise": 0.3},
        {"window": 1},
        {"first": 0.5, "last": 1.0},
        {"last": 1.0, "window": 1},
        {"velocity": 5.0},
        {"scale": "none"},
        {"shuffled": True},
        {"reader": "reader"},
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("stage", EFFECTS)
def test_every_setting_changes_a_run(stage: str, folder: Path, tmp_path: Path) -> None:
    from tests.inference import toy

    base = effect(folder, stage)
    assert effect(folder, stage) == base
    for change in EFFECTS[stage]:
        given = dict(change)
        if "reader" in given:
            given["reader"] = str(toy.save_run(tmp_path / "reader", "ipt"))
            head = load_file(tmp_path / "reader" / "model" / "model.safetensors")
            head["lm_head.weight"] *= 0.1
            save_file(head, tmp_path / "reader" / "model" / "model.safetensors", {"format": "pt"})
        assert effect(folder, stage, **given) != base, change


@pytest.mark.parametrize("clip", [(0.1, None), (0.1, 0.4)])
def test_the_clip_reaches_the_losses(clip: tuple[float, float | None], folder: Path) -> None:
    trainer = toys.trainer(folder, "sampled", f"clip-{clip[1]}", grpo={"clip": clip[0], "clip_high": clip[1]})
    assert trainer.objective.clip == (clip[0], clip[1] or clip[0])


def test_rows_are_played_so_many_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipt.inference.session import Session

    rows: list[int] = []
    prefill = Session.prefill
    monkeypatch.setattr(
        Session,
        "prefill",
        lambda self, context, samples: (rows.append(len(samples)), prefill(self, context, samples))[1],
    )
    toys.played(toys.player("closed", mode="label_only", imaginations=1), toys.asked())
    whole = max(rows)
    rows.clear()
    toys.played(toys.player("closed", mode="label_only", imaginations=1, batch_size=2), toys.asked())
    assert whole == 4 and max(rows) == 2


def test_a_file_of_ones_own_adds_a_reward(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from ipt.reinforcement.rewards import reward\n\n@reward('likes_b', 'readout')\ndef likes_b(outcome):\n"
        "    return float('B' in outcome.text)\n"
    )
    trainer = toys.trainer(folder, "closed", "own", grpo={"files": [str(path)], "rewards": {"likes_b": 2.0}})
    record = trainer.train_step(trainer.steps())
    assert record.figures["reward"] == pytest.approx(2 * record.figures["reward/likes_b"]) and "likes_b" in REWARDS


def rank(folder: str, stage: str, kind: str, output: str, changes: dict[str, Any]) -> None:
    """One process of two, or the only one: three steps, and every tensor of the run."""
    settings = toys.config(Path(folder), stage, output, distributed={"kind": kind}, **changes)
    world = start_world(settings.distributed)
    trainer = make_trainer(settings, world)[0]
    trainer.run()
    tensors = gather_full(state(trainer), world)
    if world.is_main:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, f"{folder}/{output}.safetensors")
    if world.size > 1:
        dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.parametrize("stage", toys.STAGES)
def test_one_process_equals_two(stage: str, folder: Path) -> None:
    changes = {"trainer": {"steps": 2}, "grpo": {"velocity": 0.1} if stage == "drawn" else {"kl": 0.1}}
    together(1, rank, str(folder), stage, "single", f"single-{stage}", changes)
    alone = lasting(folder / f"single-{stage}")
    for kind in ("ddp", "fsdp2"):
        together(2, rank, str(folder), stage, kind, f"{kind}-{stage}", changes)
        # pictures are rounded to eight bits: after a step the last digits of weights show as single ones of pixels
        for ours, theirs, close in zip(lasting(folder / f"{kind}-{stage}"), alone, (2e-6, 2e-3), strict=True):
            for name in theirs.keys() - {"hardest", "mismatch"}:
                exact = not isinstance(theirs[name], float)
                expected = theirs[name] if exact else pytest.approx(theirs[name], abs=close, rel=close)
                assert ours[name] == expected, (kind, name)
        tensors, single = (load_file(folder / f"{name}-{stage}.safetensors") for name in (kind, "single"))
        assert tensors.keys() == single.keys()
        moments = [name for name in single if name.startswith("exp_avg ")]
        largest = max(float(single[name].abs().max()) for name in moments)
        assert moments and largest > 0
        for name in moments:
            torch.testing.assert_close(tensors[name], single[name], atol=5e-3 * largest, rtol=0, msg=f"{kind} {name}")
