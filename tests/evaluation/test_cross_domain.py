"""The transfer table: every checkpoint on every dataset once, figures as a single run gives them, resumed without loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.evaluation import cross_domain as command
from ipt.evaluation.cross_domain import CrossDomainConfig, cross_domain, short_names, table
from ipt.evaluation.metrics import scores_of
from ipt.evaluation.tables import percent, span
from ipt.inference import run as inference
from ipt.inference.prediction import read_run
from ipt.inference.run import answer_dataset
from ipt.inference.settings import InferConfig, ModeSettings
from ipt.samples.sample import SpatialSample
from tests.inference import toy


def other(number: int) -> SpatialSample:
    """A question that the toy knows, with the wrong answer for two of four."""
    return replace(toy.sample(number, "A"), id=f"other/{number}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    runs = {name: toy.save_run(folder / name) for name in ("simulated", "real")}
    (runs["simulated"] / "datasets.json").write_text(json.dumps({"data/pet-blocks": "0"}))
    data = {"known": toy.SAMPLES, "doubtful": [other(number) for number in range(4)]}
    return runs | {name: toy.save_data(folder / name, samples) for name, samples in data.items()}


def config(world: dict[str, Path], output: Path, **changes: Any) -> CrossDomainConfig:
    values = {
        "checkpoints": [str(world["simulated"]), str(world["real"])],
        "data": [str(world["known"]), str(world["doubtful"])],
        "output_dir": str(output),
        "device": "cpu",
        **changes,
    }
    return CrossDomainConfig(**values)


def test_every_cell_is_what_a_single_run_gives_and_is_answered_once(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads: list[str] = []
    load = inference.load
    monkeypatch.setattr(inference, "load", lambda given: loads.append(str(given.checkpoint)) or load(given))  # type: ignore[func-returns-value]
    arguments = [
        f"checkpoints=[{world['simulated']},{world['real']}]",
        f"data=[{world['known']},{world['doubtful']}]",
        f"output_dir={tmp_path / 'out'}",
        "device=cpu",
    ]
    cli.run(CrossDomainConfig, command.main, arguments)
    printed = capsys.readouterr().out
    assert loads == [str(world["simulated"]), str(world["real"])], "a checkpoint is loaded once for all datasets"
    alone = InferConfig(
        str(world["real"]), str(world["doubtful"]), str(tmp_path / "alone"), ModeSettings(), device="cpu"
    )
    answer_dataset(alone)
    expected = scores_of(read_run(tmp_path / "alone")).tasks[0].overall
    rows = {line.split()[0]: line for line in printed.splitlines()}
    assert "known pet" in rows["%"] and "doubtful pet" in rows["%"]
    assert f"{percent(expected.value)} {span(expected.interval)}" in rows["real"] and "100.0" in rows["real"]
    assert "pet-blocks" in rows["simulated"]
    found = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert [(cell["checkpoint"]["name"], cell["data"]["name"]) for cell in found] == [
        ("simulated", "known"), ("simulated", "doubtful"), ("real", "known"), ("real", "doubtful"),
    ]  # fmt: skip
    assert found[0]["checkpoint"]["trained_on"] == ["pet-blocks"] and not found[2]["checkpoint"]["trained_on"]
    assert [cell["tasks"][0]["overall"]["value"] for cell in found] == [1.0, 0.5, 1.0, 0.5]
    cli.run(CrossDomainConfig, command.main, arguments)
    assert capsys.readouterr().out == printed and len(loads) == 3, "the third is that of the single run"
    (tmp_path / "out" / "real" / "known" / "done.json").unlink()
    cli.run(CrossDomainConfig, command.main, arguments)
    assert capsys.readouterr().out == printed and loads[3:] == [str(world["real"])], "only what is left is answered"


def test_a_finished_cell_of_other_settings_is_refused_before_it_is_shown(
    world: dict[str, Path], tmp_path: Path
) -> None:
    few = config(world, tmp_path, checkpoints=[str(world["real"])], data=[str(world["known"])], limit=2)
    (cell,) = cross_domain(few)
    assert cell.scores.tasks[0].overall.count == 2, "limit is heard"
    with pytest.raises(UserError, match="holds another run"):
        cross_domain(replace(few, limit=None))
    with pytest.raises(UserError, match="holds another run"):
        cross_domain(replace(few, settings={"text": {"temperature": 0.5}}))


def test_mode_and_its_settings_are_heard_and_checked(world: dict[str, Path], tmp_path: Path) -> None:
    given = {"checkpoints": [str(world["real"])], "data": [str(world["known"])], "limit": 1}
    (cell,) = cross_domain(
        config(world, tmp_path, **given, mode="imagination", settings={"draw": {"timesteps": 3}}, seed=5, batch_size=1)
    )
    settings = cell.run.manifest.settings["mode"]
    assert cell.run.manifest.mode == "imagination" and settings["draw"]["timesteps"] == 3
    assert cell.run.manifest.seed == 5 and cell.run.manifest.settings["dtype"] == "float32"
    assert "known pet" in table([cell])
    with pytest.raises(UserError, match="mode"):
        cross_domain(config(world, tmp_path, **given, settings={"drawing": 1}))
    with pytest.raises(UserError, match="dtype"):
        cross_domain(config(world, tmp_path, **given, dtype="float8"))
    with pytest.raises(UserError, match="batch_size"):
        cross_domain(config(world, tmp_path, **given, batch_size=0))
    with pytest.raises(UserError, match="nowhere"):
        cross_domain(config(world, tmp_path / "device", **given, device="nowhere"))


def test_folders_are_told_apart_by_as_few_parts_as_will_do() -> None:
    assert [name for name, _ in short_names("data", ["a/test", "b/other"])] == ["test", "other"]
    assert [name for name, _ in short_names("data", ["a/test", "b/test"])] == ["a-test", "b-test"]
    with pytest.raises(UserError, match="each once"):
        short_names("data", ["a/test", "a/../a/test"])
    with pytest.raises(UserError, match="at least one"):
        short_names("data", [])
