"""A whole study in miniature: trained, asked, continued, packed and told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train as command
from ipt.common.files import read_json
from ipt.samples.store import seal, write_shards
from ipt.study.collect import CollectConfig, collect, unpack
from ipt.study.report import ReportConfig, report
from ipt.study.run import run_study
from ipt.study.settings import results
from tests.sequence.loading import SAMPLES

COMMON = ("model=micro", "resolution=micro", "data.profile=brief", "trainer.steps=2", "loader.max_samples=4")
PLAN: dict[str, Any] = {
    "tasks": {"mvc": {"seeds": 2, "rows": {"train": 12, "test": 8}, "transfer": ["backend.blocks.max_solids=9"]}},
    "arms": {
        "label_only": {"modes": ["answer_only"], "overrides": ["imagination=label_only"]},
        "mixed": {"modes": ["answer_only", "gt_imagination"], "overrides": ["imagination=mixed"], "steps": 1.5},
        "again": {"modes": ["gt_imagination"], "after": "mixed", "steps": 0},  # is not asked without
    },
    "contrasts": {
        "primary": {"task": "mvc", "arm": "mixed", "mode": "gt_imagination", "reference": "label_only"},
        "same": {
            **{"task": "mvc", "arm": "again", "mode": "gt_imagination"},
            **{"reference": "mixed", "reference_mode": "gt_imagination"},
        },
        "far": {"task": "mvc", "arm": "mixed", "mode": "gt_imagination", "reference": "label_only", "transfer": True},
    },
}


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    values: Any = OmegaConf.to_container(command.COMMAND.compose(overrides), resolve=True)
    return values


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    unseen = [replace(each, split="test") for each in SAMPLES]
    for name, rows in (("train", SAMPLES[:12]), ("test", unseen[12:20]), ("transfer", unseen[20:26])):
        write_shards(folder / "data" / f"mvc-{name}", rows[0].split, rows)
        seal(folder / "data" / f"mvc-{name}", {})
    command.register()
    assert run(folder)
    return folder


def run(folder: Path) -> bool:
    return run_study({**PLAN, "data": str(folder / "data")}, folder / "out", COMMON, compose)


def test_every_run_is_trained_and_asked_once(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {(r["arm"], r["seed"]): r for r in results(done / "out")}
    assert set(found) == {(arm, seed) for arm in PLAN["arms"] for seed in (0, 1)}
    assert [found[arm, 1]["steps"] for arm in PLAN["arms"]] == [2, 3, 0]
    assert all(found[arm, 0]["samples"] == 4 * found[arm, 0]["steps"] for arm in PLAN["arms"])
    assert not list((done / "out").glob("*/checkpoints"))
    asked = {
        name: {m: counts["samples"] for m, counts in found["mixed", 0][name].items()} for name in ("modes", "transfer")
    }
    assert asked == {
        name: dict.fromkeys(PLAN["arms"]["mixed"]["modes"], n) for name, n in (("modes", 8), ("transfer", 6))
    }
    monkeypatch.setattr("ipt.study.run.do", lambda *_: sys.exit(1))
    assert run(done)


def test_the_report_is_the_same_from_archives_and_pairs_arms_by_seed(done: Path, tmp_path: Path) -> None:
    archives = collect(CollectConfig(str(done / "out"), str(tmp_path / "packed")))
    assert [path.name for path in archives] == ["answers.tar.xz"]
    unpack(tmp_path / "packed", tmp_path / "again")
    texts = []
    for folder in (done / "out", tmp_path / "again"):
        path = report(ReportConfig(str(folder), str(tmp_path / "told"), data=str(done / "data")))
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    values = read_json(tmp_path / "told" / "out.json")
    assert values["contrasts"]["same"]["values"] == [0.0, 0.0]
    accuracies = values["mvc"]["accuracy"]
    primary = [gt - label for gt, label in zip(
        accuracies["mixed"]["gt_imagination"]["values"], accuracies["label_only"]["answer_only"]["values"], strict=True
    )]  # fmt: skip
    assert values["contrasts"]["primary"]["values"] == pytest.approx(primary)
    assert accuracies["again"]["gt_imagination"]["values"] == accuracies["mixed"]["gt_imagination"]["values"]
    assert accuracies["again"].keys() == {"gt_imagination"} and values["mvc"]["gains"]["again"] == [None, None]
