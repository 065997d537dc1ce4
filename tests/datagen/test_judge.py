"""Votes of the judge, against a stub endpoint on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from datagen.judge import YES_NO, JudgeConfig, judge, main, parse_reply, probes, vote
from ipt.common import cli
from ipt.common.endpoint import Endpoint, Reply
from ipt.samples.sample import SpatialSample
from ipt.samples.store import write_shard
from tests.stub_endpoint import Stub, serving
from tests.synthetic import make_sample

pytest.importorskip("openai")

PT = make_sample(0, task="pt", choices=("a bed", "a sofa", "a lamp", "a sink"), answer="B")
PET = make_sample(1, task="pet", choices=("Left", "Right"), answer="A", facts={"object": {"name": "bed"}})
MVC = make_sample(2)


@dataclass
class Scripted:
    """Replies from a list per probe text, counting the questions."""

    script: list[str]
    asked: int = 0

    def ask(self, content: Sequence[str | bytes], attempt: int) -> Reply:
        self.asked += 1
        return Reply(self.script[attempt], "stop", 10, 1)


@pytest.mark.parametrize(
    ("script", "majority", "asked"),
    [
        (["Yes.", "yes", "no", "no", "no"], "yes", 2),
        (["no", "NO!", "yes", "yes", "yes"], "no", 2),
        (["yes", "no", "yes", "no", "yes"], "yes", 5),
        (["yes", "no", "no", "maybe", "no"], "no", 5),
        (["yes", "no", "maybe", "perhaps", "yes"], None, 5),
        (["maybe", "perhaps", "yes", "yes", "yes"], None, 2),
    ],
)
def test_two_equal_replies_settle_a_vote_and_otherwise_the_majority_does(
    script: list[str], majority: str | None, asked: int
) -> None:
    model = Scripted(script)
    verdict = vote("s", next(probes(PT)), model, 5)
    assert (verdict.majority, model.asked, len(verdict.votes)) == (majority, asked, asked)
    assert verdict.passed is (majority == "yes")
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (10 * asked, asked)


@pytest.mark.parametrize(
    ("text", "replies", "expected"),
    [
        ("Yes, there is no doubt", YES_NO, "yes"),
        ("The answer is no.", YES_NO, "no"),
        ("Well, yes or no", YES_NO, None),
        ("", YES_NO, None),
        ("B", ("a", "b"), "b"),
        ("**B.** a sofa", ("a", "b"), "b"),
        ("I cannot tell", YES_NO, None),
        ("A chair is visible on the right, so B.", ("a", "b"), "b"),
        ("a", ("a", "b"), "a"),
        ("A", ("a", "b"), "a"),
        ("A is right.", ("a", "b"), "a"),
        ("A\nbecause a bed is there", ("a", "b"), "a"),
        ("(A) a bed", ("a", "b"), "a"),
        ("A bed or a sofa", ("a", "b"), None),
        ("Option A is right.", ("a", "b"), "a"),
        ("Either A or B", ("a", "b"), None),
    ],
)
def test_replies_are_read_strictly(text: str, replies: tuple[str, ...], expected: str | None) -> None:
    assert parse_reply(text, replies) == expected


def test_probes_ask_about_the_answer_every_distractor_and_the_question() -> None:
    asked = [(probe.name, probe.expected, len(probe.images)) for probe in probes(PT)]
    assert asked == [("answer_visible", "yes", 1), *[("distractor_visible", "no", 1)] * 3, ("answerable", "b", 3)]
    assert "a sofa" in next(probes(PT)).text and "a bed" in next(probes(PET)).text
    assert "exactly 3 of: chair" in next(probes(MVC)).text
    armchair = make_sample(1, task="pet", choices=("Left", "Right"), answer="A", facts={"object": {"name": "armchair"}})
    assert next(probes(armchair)).text.startswith("Is an armchair visible")
    books = make_sample(1, task="pet", choices=("Left", "Right"), answer="A", facts={"object": {"name": "books"}})
    assert next(probes(books)).text.startswith("Are some books visible")
    assert all(probe.images[-1] == sample.imagination for sample in (PT, PET, MVC) for probe in probes(sample))


def knows(sample: SpatialSample, text: str) -> str:
    """What a perfect judge says about a path-tracing sample."""
    if "Reply yes or no" in text:
        return "Yes" if sample.answer_text in text else "No"
    return sample.answer


def test_a_perfect_judge_keeps_a_good_sample_and_names_what_fails(tmp_path: Path) -> None:
    with serving(Stub(lambda text, pictures: knows(PT, text))) as url:
        report = judge([PT], Endpoint("m", url, tmp_path / "good"))
    assert (report["samples"], report["kept"], report["failing"]) == (1, 1, {})
    assert report["probes"]["distractor_visible"] == {"asked": 3, "passed": 3}
    assert (report["prompt_tokens"], report["completion_tokens"]) == (5 * 2 * 100, 5 * 2 * 2)
    with serving(Stub(lambda text, pictures: "yes" if "Reply yes" in text else "A")) as url:
        report = judge([PT], Endpoint("m", url, tmp_path / "bad"))
    assert report["kept"] == 0
    assert report["failing"] == {PT.id: ["answerable", "distractor_visible"]}


def test_a_second_judgement_comes_from_the_cache_and_costs_nothing(tmp_path: Path) -> None:
    stub = Stub(lambda text, pictures: knows(PT, text), failures=3)
    with serving(stub) as url:
        model = Endpoint("m", url, tmp_path)
        first = judge([PT], model, workers=1)
        again = judge([PT], model, workers=4)
    assert len(stub.requests) == 3 + 10
    assert again["prompt_tokens"] == 0 and again["failing"] == first["failing"] == {}
    assert [verdict["votes"] for verdict in again["verdicts"]] == [verdict["votes"] for verdict in first["verdicts"]]


def test_a_vote_needs_a_round() -> None:
    with pytest.raises(ValueError, match="rounds=0"):
        judge([PT], Scripted([]), rounds=0)


def test_the_command_judges_a_folder_and_prices_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "a.parquet", [PT, PET, MVC])
    with serving(Stub(lambda text, pictures: "yes" if "Reply yes" in text else "A")) as url:
        given = {"data": tmp_path / "a.parquet", "model": "m", "output_dir": tmp_path, "base_url": url}
        arguments = [f"{key}={value}" for key, value in given.items()]
        cli.run(JudgeConfig, main, [*arguments, "price_in=1", "price_out=10"])
    report = json.loads((tmp_path / "judge.json").read_text())
    assert sorted(report["failing"]) == [PT.id, MVC.id]
    assert report["cost"] == pytest.approx((report["prompt_tokens"] + 10 * report["completion_tokens"]) / 1e6)
    assert "1 of 3 samples pass" in capsys.readouterr().out
