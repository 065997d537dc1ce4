"""Datasets through the real AI2-THOR client: every task, and a run that loses its player on the way."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("ai2thor")

from datagen.__main__ import main
from datagen.backends.ai2thor import setup
from datagen.config import RunConfig, run_config
from datagen.run import generate
from datagen.tasks import TASKS
from datagen.tasks.drawing import KINDS
from datagen.units import close_backends
from ipt.samples.store import SampleReader
from tests.datagen.conftest import COUNTING
from tests.standins.thor import ThorMachine, thor_machine

SAMPLES = 4


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[ThorMachine]:
    with thor_machine(tmp_path, "home") as machine:
        yield machine
        close_backends()


def settings(machine: ThorMachine, task: str, output: str) -> RunConfig:
    """A small run of a task on the stand-in's scenes."""
    backend = {"name": "ai2thor", "local_executable": str(machine.executable), "image_size": 64}
    own = {"options": "any_scene", "walks_per_bin": 8} if task == "pt" else {}  # iTHOR's scenes are single rooms
    values = {"task": {"name": task, **own}, "backend": backend, "seed": 3, "image_size": 64, "num_samples": SAMPLES}
    return run_config({**values, "output_dir": str(machine.folder / output)})


def samples(config: RunConfig) -> list:
    generate(config, quiet=True)
    return [sample for path in sorted(Path(config.output_dir).glob("*.parquet")) for sample in SampleReader(path)]


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_every_task_generates_through_the_client(machine: ThorMachine, task: str) -> None:
    if task == "mvc":  # homes seldom hold four consecutive counts of a noun
        machine.settings(preset="blocks", blocks=asdict(COUNTING))
    made = samples(settings(machine, task, "out"))
    assert len(made) == SAMPLES and len({sample.id for sample in made}) == SAMPLES
    for sample in made:
        assert sample.provenance.backend == "ai2thor" and sample.provenance.scene_id.startswith("FloorPlan")
        assert sample.imagination is not None
        if task == "drawing":
            assert sample.task == KINDS[sample.question_type][0] and not sample.choices
        else:
            assert sample.task == TASKS[task].name
            assert sample.choices["ABCDEFGH".index(sample.answer)] == sample.facts["answer_text"]
    assert task != "drawing" or {sample.question_type for sample in made} == set(KINDS)


@pytest.mark.long
def test_a_crash_in_the_middle_changes_nothing(machine: ThorMachine) -> None:
    """A unit whose player dies is made again, and the dataset is the one of an undisturbed run."""
    calm = replace(settings(machine, "pet", "calm"), num_samples=2)
    expected = samples(calm)
    close_backends()
    machine.settings(fault={"kind": "crash", "at": "UpdateThirdPartyCamera", "after": 40})
    disturbed = replace(calm, output_dir=str(machine.folder / "disturbed"))
    assert samples(disturbed) == expected
    assert "fault" not in machine.settings_file.read_text(), "the player did crash"


def test_a_machine_without_the_client_ends_with_one_line(tmp_path, monkeypatch, capsys) -> None:
    def missing(_: str) -> str:
        raise setup.PackageNotFoundError

    monkeypatch.setattr(setup, "version", missing)
    monkeypatch.setattr("sys.argv", ["datagen"])
    with pytest.raises(SystemExit) as ended:
        main(["backend=ai2thor", "task=pet", "num_samples=1", f"output_dir={tmp_path}"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "pip install 'ai2thor" in told and "Traceback" not in told
