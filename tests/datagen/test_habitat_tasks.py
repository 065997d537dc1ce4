"""The three tasks through the habitat backend: real engine, adapter, worker and pipe, on embedded homes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from datagen import __main__ as command
from datagen import run
from datagen.backends.base import SceneError
from datagen.backends.habitat.backend import HabitatConfig
from datagen.config import RunConfig, run_config
from datagen.tasks import TASK_CONFIGS, TASKS
from datagen.tasks.base import CounterfactualConfig
from datagen.units import close_backends
from ipt.samples.store import SampleReader
from tests.datagen.habitat_tools import PYTHON

SAMPLES = 4


def settings(folder: Path, name: str, python: str = PYTHON, **changes: object) -> RunConfig:
    """A run on homes that the stand-in draws."""
    homes = folder / "homes"
    homes.mkdir(exist_ok=True)
    for number in range(200):
        (homes / f"home-train-{number}.glb").write_bytes(b"glTF")
    values: dict[str, object] = {
        "task": TASK_CONFIGS[name](name=name),
        "backend": "habitat",
        "backend_config": HabitatConfig(python, "files", str(homes), gpu=-1, whitelist=False),
        "output_dir": str(folder / name),
        "num_samples": SAMPLES,
        "seed": 3,
        "image_size": 64,
    }
    return RunConfig(**{**values, **changes})


@pytest.fixture(autouse=True)
def no_simulator_survives() -> None:
    yield
    close_backends()


@pytest.mark.long
@pytest.mark.parametrize("task", ["pet", "pt", "mvc"])
def test_every_task_generates_through_the_worker(task: str, tmp_path: Path) -> None:
    # kinds that join categories ("seats") have enough counts in few homes
    wanted = {"task": TASK_CONFIGS["mvc"](name="mvc", groups=True)} if task == "mvc" else {}
    config = settings(tmp_path, task, **wanted)
    manifest = run.generate(config, quiet=True)
    assert manifest["samples"] == SAMPLES and manifest["complete"]
    samples = list(SampleReader(tmp_path / task))
    assert len({sample.id for sample in samples}) == SAMPLES
    for sample in samples:
        assert sample.provenance.backend == "habitat" and sample.provenance.backend_version.startswith(
            "habitat-sim-0.3.3"
        )
        pictures = [image.pixels() for image in sample.images]
        assert all(picture.shape == (64, 64, 3) and np.ptp(picture) > 30 for picture in pictures)


def test_a_unit_is_tried_again_when_the_simulator_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A crash in the middle changes nothing of what comes out."""
    task = TASK_CONFIGS["pet"](name="pet")
    wrapper = Path(__file__).with_name("habitat_faults.py")
    results = []
    for name, python in (
        ("calm", PYTHON),
        ("crash", f"{PYTHON} {wrapper} 'crash once while rendering' {tmp_path / 'mark'}"),
    ):
        config = settings(tmp_path, "pet", python, task=task, num_samples=2, output_dir=str(tmp_path / name))
        run.generate(config, quiet=True)
        results.append([(sample.id, sample.question, sample.answer) for sample in SampleReader(tmp_path / name)])
        close_backends()
    assert results[0] == results[1] and len(results[0]) == 2
    assert "attempt 1 of 3: habitat-sim died" in caplog.text


def test_what_habitat_lacks_is_an_error_before_the_first_scene(tmp_path: Path) -> None:
    wrong = TASK_CONFIGS["pet"](name="pet", counterfactuals=CounterfactualConfig(enabled=True))
    with pytest.raises(SceneError, match="edit_scene"):
        run.generate(settings(tmp_path, "pet", "/no/such/python", task=wrong))
    for variants in (("dh_midpoint",), ("td_ego_dir", "dh_midpoint")):
        oblique = TASK_CONFIGS["pt"](name="pt", variants=variants)
        with pytest.raises(SceneError, match="oblique_cut"):
            run.generate(
                settings(tmp_path, "pt", "/no/such/python", task=oblique, output_dir=str(tmp_path / str(len(variants))))
            )
    assert "oblique_cut" not in TASKS["pt"](TASK_CONFIGS["pt"](name="pt")).required


@pytest.mark.parametrize("preset", ["hm3d", "mp3d", "replica_cad", "hssd"])
def test_presets_name_a_data_set_and_the_papers_settings(preset: str) -> None:
    command.register()
    composed = OmegaConf.to_container(command.compose([f"backend={preset}", "task=pet_habitat"]), resolve=True)
    config = run_config(composed)
    data = (
        "data/scene_datasets/hm3d" if preset == "hm3d" else f"data/{preset}"
    )  # where habitat-sim's downloader puts it
    assert config.backend == "habitat" and config.backend_config == HabitatConfig(dataset=preset, data=data)
    assert config.task.eye_height_m == 1.25 and config.task.vertical_fov_deg == 90
    assert config.task.centre_margin * 1024 == 180 and config.task.edge_margin * 1024 == 200


def test_without_the_package_the_command_ends_with_an_instruction(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / f"home-train-{number}.glb").write_bytes(b"glTF")
    data = ["backend.dataset=files", f"backend.data={tmp_path}", f"backend.python={sys.executable}"]
    monkeypatch.setattr(sys, "argv", ["datagen"])
    with pytest.raises(SystemExit) as stopped:
        command.main(["backend=habitat", *data, f"output_dir={tmp_path / 'out'}"])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and "conda install habitat-sim" in told and "Traceback" not in told
