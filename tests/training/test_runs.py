"""Whole runs: golden losses, killed ones, memorised samples, and every mode of every task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ipt.common.seeding import generator
from ipt.samples.store import seal, write_shards
from ipt.training.build import make_trainer
from ipt.training.distributed import World
from tests.sequence.loading import SAMPLES
from tests.synthetic import make_sample
from tests.training import golden
from tests.training.processes import start
from tests.training.runs import ROOT, Run, assert_same_state
from tests.training.test_trainer import lasting

KILLS = 20
MODES = {mode: {mode: 1.0} for mode in ("label_only", "text_cot", "caption", "ipt")}
MODES["mixed"] = {"ipt": 1.0, "label_only": 1.0}
SMALL_PACKS: dict[str, object] = {
    "loader": {"budget": 512, "packs_per_step": 1},
    "sequence": {"max_sample_tokens": 512, "max_prompt_tokens": 512},
}


def test_ten_steps_of_tiny_have_their_golden_losses() -> None:
    threads = torch.get_num_threads()
    try:
        assert golden.losses() == golden.FILE.read_text(), (
            "python -m tests.training.golden prints the losses as they are now"
        )
    finally:
        torch.set_num_threads(threads)


def train(run: Run, ready: Path) -> None:
    """The run, in a process to be killed."""
    trainer = run.trainer()
    ready.touch()
    trainer.run()


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("kills", [1, pytest.param(KILLS, marks=pytest.mark.long)])
def test_a_run_killed_at_random_moments_loses_and_doubles_nothing(kills: int, draws: int, tmp_path: Path) -> None:
    """SIGKILL, then the same command, again and again; compared in every tensor and record with a run left alone."""
    threads, steps = torch.get_num_threads(), 36 if kills > 1 else 8
    torch.set_num_threads(1)
    try:
        whole = Run(tmp_path / "data", tmp_path / "whole", draws=draws).with_(steps=steps).trainer()
        started = time.monotonic()
        whole.run()
        seconds = time.monotonic() - started
        killed = Run(tmp_path / "data", tmp_path / "killed", draws=draws)
        moments = generator(0, "kills").uniform(0, 2 * seconds / kills, kills)
        deaths = 0
        for moment in moments:
            ready = tmp_path / f"ready-{moment}"
            process = start(train, killed.with_(steps=steps), ready)
            while process.is_alive() and not ready.exists():
                time.sleep(0.005)
            time.sleep(moment)
            deaths += process.is_alive()
            process.kill()
            process.join()
        finished = killed.with_(steps=steps).trainer()
        finished.run()
    finally:
        torch.set_num_threads(threads)
    assert deaths
    assert_same_state(whole, finished)
    records = lasting(killed.folder)
    assert records == lasting(whole.folder)
    assert [record["step"] for record in records] == list(range(steps))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, "train", SAMPLES)
    seal(folder, {})
    return folder


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_sixteen_samples_are_learnt_by_heart(mode: str, data: Path, tmp_path: Path) -> None:
    """With the settings of ``trainer=overfit``, texts and pictures: both losses fall to a few hundredths of their start."""
    preset: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "trainer" / "overfit.yaml"))  # type: ignore[assignment]
    steps = {"ipt": 160, "mixed": 300, "caption": 140}.get(mode, 80)
    changes = {"data": {"train": str(data), **preset["data"]}, "trainer": {"steps": steps}}
    given = {**SMALL_PACKS, **preset, **changes, "imagination": {"modes": MODES[mode]}}
    trainer, _ = make_trainer(golden.tiny(data, tmp_path / "run", **given), World())
    batches = iter(trainer.loader)
    records = [trainer.train_step(batches) for _ in range(steps)]
    first, last = (np.mean([list(r.losses.values()) for r in part], axis=0) for part in (records[:5], records[-10:]))
    assert last[0] < 0.02 < 1 < first[0]
    assert last[1] <= 0.04 * first[1]


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", ["pet", "pt", "mvc"])
def test_every_mode_of_every_task_trains(task: str, mode: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "data", "train", [make_sample(number, task=task) for number in range(12)])
    seal(tmp_path / "data", {})
    changes = {"task": {"names": [task]}, "imagination": {"modes": MODES[mode]}, "trainer": {"steps": 20}}
    trainer, _ = make_trainer(golden.tiny(tmp_path / "data", tmp_path / "run", **SMALL_PACKS, **changes), World())
    batches = iter(trainer.loader)
    records = [trainer.train_step(batches) for _ in range(20)]
    first, last = (np.mean([r.losses["ce"] for r in part]) for part in (records[:5], records[-5:]))
    assert not trainer.skipped and last < 0.8 * first
    drawn = [r.tokens["noised"] > 0 for r in records]
    assert all(drawn) if mode == "ipt" else any(drawn) == (mode == "mixed")
