"""Votes of the judge, against a stub endpoint on this machine."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from datagen.judge import YES_NO, JudgeConfig, forecast, judge, main, parse_reply, probes, vote
from ipt.common import cli
from ipt.common.endpoint import BudgetSpent, Endpoint, EndpointDown, EndpointSettings, Reply, Usage
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader, write_shard
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


def test_a_faulty_endpoint_loses_nothing_and_is_asked_nothing_twice(tmp_path: Path) -> None:
    """Rate limits, unreadable bodies, slow and undecided replies in turn: every probe is settled, every answer kept."""
    numbers, answered = itertools.count(), Counter[str]()

    def answer(text: str, pictures: int) -> str | int | bytes:
        number = next(numbers)
        if number % 5 == 0:
            return 429
        if number % 7 == 3:
            return b"<html>busy</html>" if number % 2 else b'{"object": "nothing"}'
        if number % 4 == 1:
            time.sleep(0.02)
        answered[f"{pictures} {text}"] += 1
        return "hm, perhaps" if number % 11 == 6 else knows(PT, text)

    stub = Stub(answer)
    with serving(stub) as url:
        model = Endpoint("m", url, tmp_path)
        report = judge([PT], model, rounds=3, workers=4, blind=True)
        sent = len(stub.requests)
        assert judge([PT], model, rounds=3, workers=4, blind=True)["verdicts"] != [] and len(stub.requests) == sent
    votes = {verdict["probe"]: 0 for verdict in report["verdicts"]}
    assert (
        votes.keys() == {"answer_visible", "distractor_visible", "answerable", "blind"} and len(report["verdicts"]) == 6
    )
    assert (
        sum(answered.values())
        == sum(len(verdict["votes"]) for verdict in report["verdicts"])
        == len(list(tmp_path.iterdir()))
    )
    assert max(answered.values()) <= 3 and sent > sum(answered.values())


def test_an_endpoint_that_never_speaks_json_is_an_error(tmp_path: Path) -> None:
    with (
        serving(Stub(lambda text, pictures: b"<html>")) as url,
        pytest.raises(EndpointDown, match=r"no (JSON|chat completion)"),
    ):
        Endpoint("m", url, tmp_path, retries=2).ask(["a"])
    assert not list(tmp_path.iterdir())


def test_the_blind_question_drops_what_needs_no_imagination() -> None:
    *others, blind = probes(PT, blind=True)
    assert [probe.name for probe in probes(PT)] == [probe.name for probe in others] and blind.images == PT.images
    assert PT.imagination not in blind.images and "last picture" not in blind.text and PT.question in blind.text
    assert vote("s", blind, Scripted(["C", "C"]), 3).passed and not vote("s", blind, Scripted(["B", "B"]), 3).passed


def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """A reply costs 102 tokens; the forecast of a request is higher, so fewer are sent than the budget has room for."""
    stub = Stub(lambda text, pictures: knows(PT, text))
    with serving(stub) as url:
        given = {
            "model": "m",
            "base_url": url,
            "request": {"max_completion_tokens": 4},
            "price_in": 1e6,
            "price_out": 1e6,
        }
        small = EndpointSettings(**given, budget=600.0).open(tmp_path)  # type: ignore[arg-type]
        with pytest.raises(BudgetSpent, match=r"of the budget of 600 is spent.*larger budget"):
            judge([PT], small, workers=8)
        first = len(stub.requests)
        assert first >= 1 and small.spent().cost(1e6, 1e6) <= 600
        with pytest.raises(BudgetSpent):
            judge([PT], EndpointSettings(**given, budget=600.0).open(tmp_path))  # type: ignore[arg-type]
        report = judge([PT], EndpointSettings(**given, budget=5000.0).open(tmp_path))  # type: ignore[arg-type]
    assert report["kept"] == 1 and len(stub.requests) == 10 >= first
    with pytest.raises(ValueError, match="needs price_in and price_out"):
        EndpointSettings(model="m", base_url="http://127.0.0.1:1/v1", budget=1.0).open(tmp_path)


def test_a_dry_run_sends_nothing_and_bounds_what_the_run_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / "a.parquet", [PT, PET])
    stub = Stub(lambda text, pictures: "yes" if "Reply yes" in text else "A")
    with serving(stub) as url:
        given = {"data": tmp_path / "a.parquet", "model": "m", "output_dir": tmp_path / "out", "base_url": url}
        arguments = [*(f"{key}={value}" for key, value in given.items()), "price_in=1", "price_out=10"]
        cli.run(JudgeConfig, main, [*arguments, "dry_run=true"])
        assert not stub.requests and "at least 14 requests" in (printed := capsys.readouterr().out)
        assert "at most 21 requests" in printed
        model = Endpoint("m", url, tmp_path / "out" / "cache")
        least, most = forecast([PT, PET], model, 3, False)
        cli.run(JudgeConfig, main, [*arguments, f"kept={tmp_path / 'kept'}"])
        assert forecast([PT, PET], model, 3, False)[0] == Usage()
    assert (len(stub.requests), least.requests, most.requests) == (14, 14, 21)
    assert [sample.id for sample in SampleReader(tmp_path / "kept")] == [PET.id]
