"""The doctor: finds what is there, names what is not with a command, and renders a frame where it can."""

from pathlib import Path

import pytest
from PIL import Image

from datagen.backends import doctor
from datagen.backends.diagnosis import Finding
from datagen.backends.habitat.scenes import LAYOUTS
from ipt.common import cli
from tests.datagen.habitat_tools import GOLDEN, PYTHON


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(doctor.DoctorConfig, doctor.main, arguments)
    return ended.value.code


def test_a_complete_machine_renders_a_frame_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code = run(
        "simulators=embedded,habitat",
        f"habitat_python={PYTHON}",
        "habitat_dataset=files",
        f"habitat_data={GOLDEN / 'scene'}",
        "habitat_gpu=-1",
        f"output={tmp_path}",
    )
    said = capsys.readouterr().out
    assert code == 0 and "missing frame" not in said and "0.3.3" in said
    for name in ("embedded", "habitat"):
        picture = Image.open(tmp_path / f"{name}.png")
        assert picture.size == (doctor.SIZE, doctor.SIZE) and len(picture.getcolors(1 << 20)) > 1


def test_what_is_missing_comes_with_its_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("simulators=habitat", f"habitat_data={tmp_path / 'none'}", f"output={tmp_path}") == 1
    said = capsys.readouterr().out
    assert "conda install habitat-sim" in said and LAYOUTS["hm3d"].download in said
    assert not list(tmp_path.glob("*.png"))


def test_a_crash_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """No CUDA device 99: the process of habitat-sim ends, the doctor does not."""
    scenes = f"habitat_data={GOLDEN / 'scene'}"
    assert run(f"habitat_python={PYTHON}", "simulators=habitat", "habitat_dataset=files", scenes, "habitat_gpu=99") == 1
    assert "no CUDA device 99" in capsys.readouterr().out


def test_every_simulator_is_examined_and_wrong_names_are_answered(capsys: pytest.CaptureFixture) -> None:
    assert set(doctor.PATIENTS) == {"embedded", "ai2thor", "habitat"}
    for patient in doctor.PATIENTS.values():
        findings = patient.examine(doctor.DoctorConfig(habitat_python="/no/such/python"))
        assert findings and all(isinstance(finding, Finding) and (finding.ok or finding.fix) for finding in findings)
    assert run("simulators=habitad") == 2 and "did you mean 'habitat'" in capsys.readouterr().err
