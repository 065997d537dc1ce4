"""The command line: presets, typed settings, and errors that list what is valid."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from datagen import __main__ as command
from datagen import run
from datagen.backends.base import SceneError, SceneInfo, SimulatorDied
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.blocks import BlocksConfig
from datagen.config import run_config, typed
from datagen.tasks import TASK_CONFIGS
from datagen.tasks.base import TaskConfig
from datagen.verify import RECOMPUTE, recheck
from ipt.samples.store import SampleReader
from tests.datagen.conftest import COUNTING, run_settings


def settings(*overrides: str) -> dict[str, object]:
    from omegaconf import OmegaConf

    command.register()
    return OmegaConf.to_container(command.compose(overrides), resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize("task", TASK_CONFIGS)
@pytest.mark.parametrize("backend", ["embedded", "blocks", "blocks_counting"])
def test_the_command_line_composes_the_defaults_of_the_dataclasses(task: str, backend: str) -> None:
    config = run_config(settings(f"task={task}", f"backend={backend}"))
    assert config.task == typed(TASK_CONFIGS[task], asdict(TASK_CONFIGS[task](name=task)), task)
    assert config.backend == "embedded" and config.output_dir == f"data/{task}-train"
    assert config.backend_config.preset == ("home" if backend == "embedded" else "blocks")


def test_overrides_reach_nested_settings() -> None:
    config = run_config(settings("task=pt", "task.view.min_instances=5", "task.variants=[td_path]", "num_samples=9"))
    assert config.task.view.min_instances == 5 and config.num_samples == 9
    assert list(config.task.variants) == ["td_path"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("task=pett", "unknown task 'pett' (did you mean 'pet'?); valid: drawing, mvc, pet, pet_habitat, pt"),
        ("nun_samples=3", "valid: backend, cluster"),
        ("task.min_arae=0.1", "valid: arrow, cameras_per_scene"),
        ("task.min_area=wide", "'wide'"),
        ("split=all", "test, train, val"),
        ("task.arrow=sometimes", "mixed, with, without"),
        ("backend.preset=castle", "blocks, home"),
        ("shard=4/4", "0 <= i < n"),
    ],
)
def test_a_mistake_ends_with_one_line_that_says_what_is_valid(
    override: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["backend=blocks", f"output_dir={tmp_path / 'out'}", override])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and told in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_variant_lists_the_published_ones() -> None:
    with pytest.raises(ValueError, match="td_ego_dir_arrow"):
        run_config(settings("task=pt", "task.variants=[td_nothing]"))


def test_typed_settings_refuse_unknown_keys() -> None:
    with pytest.raises(ValueError, match=r"unknown task setting 'eye_hight_m' \(did you mean 'eye_height_m'"):
        typed(TaskConfig, {"name": "pet", "eye_hight_m": 1}, "task")


def test_the_module_runs_and_reports_its_yields(tmp_path: Path) -> None:
    arguments = ["backend=blocks", "task=pet", "num_samples=6", "image_size=64", f"output_dir={tmp_path}"]
    result = subprocess.run([sys.executable, "-m", "datagen", *arguments], capture_output=True, text=True, check=True)
    assert "6 samples, complete" in result.stdout and "first_view.area" in result.stdout
    assert len(SampleReader(tmp_path, verify=True)) == 6


def test_every_task_that_asks_can_be_recomputed() -> None:
    assert {*TASK_CONFIGS} - {"drawing"} == {*RECOMPUTE}


@pytest.mark.parametrize("task", RECOMPUTE)
def test_every_stored_answer_is_what_its_scene_shows(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Render the stored cameras again, each scene loaded once; recompute; then tamper with an answer and see it found."""
    config = run_settings(tmp_path, task, num_samples=12)
    run.generate(config, quiet=True)
    samples = list(SampleReader(tmp_path))
    assert all(sample.task == task and sample.caption and sample.rationale for sample in samples)
    assert all(sample.rationale.rstrip(".").endswith(sample.answer_text.lower()) for sample in samples)
    blocks = COUNTING if task == "mvc" else BlocksConfig()
    with EmbeddedBackend(EmbeddedConfig(preset="blocks", blocks=blocks)) as backend:
        scenes: list[str] = []
        load = backend.load
        monkeypatch.setattr(backend, "load", lambda scene_id: (scenes.append(scene_id), load(scene_id))[1])
        assert list(recheck([*samples[::2], *samples[1::2]], backend)) == []
        assert sorted(scenes) == sorted({sample.provenance.scene_id for sample in samples})
        first = samples[0]
        wrong = next(choice for choice in first.choices if choice != first.answer_text)
        (found,) = recheck([first.with_choices(first.choices, wrong)], backend)
        assert found.sample_id == first.id and found.stored == wrong


def test_a_scene_that_fails_leaves_the_others_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a refused scene nor a dead simulator ends a recomputation; what could not be checked is told with the reason."""
    run.generate(run_settings(tmp_path, "pet", num_samples=24), quiet=True)
    samples = list(SampleReader(tmp_path))
    scenes = list(dict.fromkeys(sample.provenance.scene_id for sample in samples))
    assert len(scenes) >= 3
    failures = {scenes[0]: SceneError("no such file"), scenes[1]: SimulatorDied("crashed\nlast words")}
    with EmbeddedBackend(EmbeddedConfig(preset="blocks")) as backend:
        load = backend.load

        def fails(scene_id: str) -> SceneInfo:
            if scene_id in failures:
                raise failures[scene_id]
            return load(scene_id)

        monkeypatch.setattr(backend, "load", fails)
        found = list(recheck(samples, backend))
    assert {mismatch.sample_id for mismatch in found} == {s.id for s in samples if s.provenance.scene_id in failures}
    reasons = {mismatch.error for mismatch in found}
    assert reasons == {f"scene {scenes[0]}: no such file", f"scene {scenes[1]}: crashed"}
