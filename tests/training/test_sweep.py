"""Sweeps: every job is tried and told about, on this machine one by one or side by side, and on a cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train as command
from ipt.common.files import write_json
from ipt.samples.store import seal, write_shards
from ipt.training import build
from ipt.training.config import TrainConfig
from ipt.training.distributed import World
from ipt.training.sweep import DONE, FAILED, STOPPED, SUMMARY, Job, run_job, summarise
from tests.sequence.loading import SAMPLES
from tests.training.runs import ROOT

STUDIES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml") if "sweeper:" in path.read_text())


@pytest.fixture(autouse=True)
def clean_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(ROOT)
    GlobalHydra.instance().clear()
    command.register()


def job(tmp_path: Path, number: int, *overrides: str) -> Job:
    return Job(number, ("name=x", *overrides), str(tmp_path / f"run-{number}"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_sweeps_over_runs_that_pass_the_checks(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["-m", f"study={study}", "dry_run=true", f"hydra.sweep.dir={tmp_path}"])
    printed = capsys.readouterr().out
    folders = [line.split(" in ")[1] for line in printed.splitlines() if line.startswith("run pet_")]
    assert len(folders) == len(set(folders)) == printed.count("| planned") == 9
    assert (tmp_path / SUMMARY).read_text() in printed


def test_seeds_of_a_study_differ_in_the_order_of_the_data_too() -> None:
    study = OmegaConf.load(ROOT / "conf" / "study" / "modes_by_seeds.yaml")
    (name,) = (key for key in study.hydra.sweeper.params if "seed" in key)
    made = [command.COMMAND.compose([f"{name}={seed}"]) for seed in study.hydra.sweeper.params[name].split(",")]
    assert [run.loader.seed for run in made] == [run.sequence.seed for run in made] == [0, 1, 2]


def test_a_failed_job_does_not_end_the_others_and_fails_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["-m", "optim.lr=-1,0.001", "name=job", "dry_run=true", f"hydra.sweep.dir={tmp_path}"])
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    assert "error: job 0" in printed.err and printed.out.count("run job in outputs/job") == 1
    rows = (tmp_path / SUMMARY).read_text().splitlines()[2:]
    assert re.match(r"\| 0 +\| optim.lr=-1 .*failed: .*lr > 0", rows[0])
    assert re.match(r"\| 1 +\| optim.lr=0.001 .*planned", rows[1])


def test_jobs_run_side_by_side_in_processes_with_their_share_of_the_cores(tmp_path: Path) -> None:
    """Two jobs, each of which waits until the other has begun."""
    module = [sys.executable, "-m", "tests.training.meeting", "-m", "hydra/launcher=parallel", "trainer.seed=0,1"]
    arguments = [*module, f"hydra.sweep.dir={tmp_path}", f"output_dir={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    met = [json.loads((tmp_path / f"met-{number}.json").read_text()) for number in range(2)]
    assert met[0]["process"] != met[1]["process"]
    assert {each["threads"] for each in met} == {str(max(joblib.cpu_count() // 2, 1))}


def test_a_job_tells_how_far_it_came(tmp_path: Path) -> None:
    first = job(tmp_path, 0, "optim.lr=1")
    folder = Path(first.folder)
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 6, "loss": 0.5, "ce": 0.5, "flow": null}\n')
    (folder / "validation.jsonl").write_text('{"step": 5, "loss": 9.0}\n{"step": 7, "loss": 0.75}\n')
    assert run_job(first, tmp_path, lambda: (DONE, 0.5)) == (DONE, 0.5)

    def broken() -> tuple[str, float]:
        raise KeyError("a defect")

    assert run_job(job(tmp_path, 1, "optim.lr=2"), tmp_path, broken)[0] == FAILED
    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path, 2, "optim.lr=3"), tmp_path, interrupted)
    job(tmp_path, 3, "optim.lr=4").write(tmp_path)
    text, failed = summarise(tmp_path)
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines())
    told = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["settings"] for row in told] == [f"optim.lr={number}" for number in (1, 2, 3, 4)]
    assert [row["status"] for row in told] == [DONE, "failed: 'a defect'", STOPPED, "died"]
    assert (told[0]["steps"], told[0]["loss"], told[0]["flow"], told[0]["val. loss"]) == ("7", "0.5000", "", "0.7500")
    assert failed == 2


def interrupted() -> tuple[str, float]:
    raise KeyboardInterrupt


def test_a_sweep_without_jobs_has_no_table(tmp_path: Path) -> None:
    assert summarise(tmp_path) == ("", 0)
    write_json(tmp_path / "jobs" / "00000.json", {"number": 0, "overrides": ["a=1"], "folder": "x"})
    assert "| a=1 " in summarise(tmp_path)[0]


def test_a_sweep_on_slurm_composes_and_asks_for_the_gpus_of_the_run() -> None:
    overrides = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "launch.gpus=8", "distributed=fsdp2"]
    with initialize_config_dir(str(command.COMMAND.folder), version_base="1.3"):
        composed = compose("train", [*overrides, "loader.packs_per_step=8"], return_hydra_config=True)
    launcher = composed.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.gpus_per_node, launcher.tasks_per_node, launcher.partition) == (8, 1, "gpu")
    assert launcher.max_num_timeout > 0


@pytest.mark.parametrize("processes", [(), ("distributed=ddp", "launch.gpus=2")], ids=["alone", "launched"])
def test_a_run_beyond_its_end_is_named_and_the_sweep_goes_on(
    processes: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of the first seed has done six steps when the sweep asks for four; that of the second has not begun."""
    begun = []
    monkeypatch.setattr("ipt.training.build.make_assets", lambda *a: begun.append("assets"))
    monkeypatch.setattr("ipt.training.launch._launch", lambda config, folder: begun.append(folder.name) or 1.0)
    monkeypatch.setattr("ipt.training.build._run", run_until_assets)
    write_shards(tmp_path / "data", "train", SAMPLES[:4])
    seal(tmp_path / "data", {})
    write_json(tmp_path / "x-0/checkpoints/step_00000006/manifest.json", {})
    shared = ["task=mvc", f"data.train={tmp_path / 'data'}", "trainer.steps=4", "loader.packs_per_step=2", *processes]
    with pytest.raises(SystemExit) as exit_:
        command.main(
            ["-m", *shared, "seed=0,1", f"output_dir={tmp_path}/x-${{seed}}", f"hydra.sweep.dir={tmp_path}/sweep"]
        )
    told = capsys.readouterr()
    assert exit_.value.code == 1 and len(begun) == 1
    assert f"error: job 0: {tmp_path}/x-0 holds a run of 6 steps, beyond trainer.steps=4" in told.err
    assert re.search(r"seed=0 .*failed: ", told.out) and re.search(r"seed=1 .*done", told.out)
    assert not (tmp_path / "x-0/config.json").exists()


def run_until_assets(config: TrainConfig, world: World) -> float:
    build.check_settings(config, Path(config.output_dir))
    build.make_assets(config, [], None)
    return 1.0
