"""The teacher's words become rationales only where they end in the right answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipt.common import cli
from ipt.common.files import read_json
from ipt.evaluation.teacher import TeacherConfig, main, reasoning_of
from ipt.samples.sample import SampleImage
from ipt.samples.store import SampleReader, seal, write_shards
from tests.stub_endpoint import Stub, serving
from tests.synthetic import make_sample

pytest.importorskip("openai")

SAMPLES = [make_sample(number, question=f"How many chairs are in place ({number})?") for number in range(4)]
SAMPLES[3] = make_sample(3, question="How many chairs are in place (3)?", imagination=SampleImage(b"", "bev"))


def reply(text: str, pictures: int) -> str | int:
    """Good words for 0 and 3, a wrong answer for 1, a refusal of 2."""
    number = next(number for number in range(4) if f"({number})" in text)
    told = text.rpartition("The right answer is ")[2][0]
    assert ("For you only" in text) is (number != 3)
    assert told == SAMPLES[number].answer and pictures == (2 if number == 3 else 3)
    return 400 if number == 2 else f"<think>Steps of {number}.</think><answer>{'C' if number == 1 else told}</answer>"


def test_right_reasoning_is_kept_and_the_rest_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path / "data", "s", SAMPLES)
    seal(tmp_path / "data", {})
    stub = Stub(reply)
    with serving(stub) as url:
        given = [
            f"data={tmp_path / 'data'}",
            "model=m",
            f"output_dir={tmp_path / 'out'}",
            f"base_url={url}",
            "attempts=2",
        ]
        cli.run(TeacherConfig, main, given)
        assert len(stub.requests) == 1 + 2 + 1 + 1  # the wrong one is asked twice
        cli.run(TeacherConfig, main, given)
        assert len(stub.requests) == 6  # refusals are not kept, replies are
    samples = list(SampleReader(tmp_path / "out", verify=True))
    assert [(sample.id, sample.rationale) for sample in samples] == [
        (SAMPLES[0].id, "Steps of 0."),
        (SAMPLES[3].id, "Steps of 3."),
    ]
    manifest = read_json(tmp_path / "out" / "manifest.json")
    assert manifest["counts"] == {"kept": 2, "wrong": 1, "refused": 1} and manifest["usage"]["requests"] == 4
    assert "2 of 4 samples" in capsys.readouterr().out


def test_reasoning_is_what_stands_before_the_answer() -> None:
    assert reasoning_of("<think>Turn left.</think><answer>A</answer>") == "Turn left."
    assert reasoning_of("Turn left. <answer>A</answer>") == "Turn left."
    assert reasoning_of("<answer>A</answer>") == ""
