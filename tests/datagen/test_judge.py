"""Votes, the cache and retries of the judge, against a stub endpoint on this machine."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datagen.judge import YES_NO, Endpoint, JudgeConfig, Probe, Reply, judge, main, parse_reply, probes, vote
from ipt.common import cli
from ipt.samples.sample import SpatialSample
from ipt.samples.store import write_shard
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

    def ask(self, probe: Probe, round_number: int) -> Reply:
        self.asked += 1
        return Reply(self.script[round_number], 10, 1)


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
    ],
)
def test_replies_are_read_strictly(text: str, replies: tuple[str, ...], expected: str | None) -> None:
    assert parse_reply(text, replies) == expected


def test_probes_ask_about_the_answer_every_distractor_and_the_question() -> None:
    asked = [(probe.name, probe.expected, len(probe.images)) for probe in probes(PT)]
    assert asked == [("answer_visible", "yes", 1), *[("distractor_visible", "no", 1)] * 3, ("answerable", "b", 3)]
    assert "a sofa" in next(probes(PT)).text and "a bed" in next(probes(PET)).text
    assert "exactly 3 of: chair" in next(probes(MVC)).text
    assert all(probe.images[-1] == sample.imagination for sample in (PT, PET, MVC) for probe in probes(sample))


@dataclass
class Stub:
    """An endpoint that fails the first ``failures`` requests with a status and then replies through ``answer``."""

    answer: Callable[[str, int], str]
    failures: int = 0
    status: int = 429
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.requests.append(body)
            if len(self.requests) <= self.failures:
                return self.status, {"error": {"message": "try later", "type": "rate_limit"}}
        *pictures, text = body["messages"][0]["content"]
        data = [base64.b64decode(picture["image_url"]["url"].partition(",")[2]) for picture in pictures]
        message = {"role": "assistant", "content": self.answer(text["text"], len(data))}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
        return 200, {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, answer = stub.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *values: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def test_refusals_are_retried_and_answers_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    for status in (429, 500):
        stub = Stub(lambda text, pictures: knows(PT, text), failures=3, status=status)
        with serving(stub) as url:
            model = Endpoint("m", url, tmp_path / str(status))
            first = judge([PT], model, workers=1)
            assert len(stub.requests) == 3 + 10
            again = judge([PT], model, workers=4)
            assert len(stub.requests) == 3 + 10
        assert again["prompt_tokens"] == 0 and again["failing"] == first["failing"] == {}
        assert [verdict["votes"] for verdict in again["verdicts"]] == [
            verdict["votes"] for verdict in first["verdicts"]
        ]


def test_other_pictures_words_or_models_are_not_answered_from_the_cache(tmp_path: Path) -> None:
    stub = Stub(lambda text, pictures: "yes")
    probe = next(probes(PT))
    with serving(stub) as url:
        Endpoint("m", url, tmp_path).ask(probe, 0)
        Endpoint("m", url, tmp_path).ask(probe, 0)
        assert len(stub.requests) == 1
        Endpoint("n", url, tmp_path).ask(probe, 0)
        Endpoint("m", url, tmp_path).ask(probe, 1)
        Endpoint("m", url, tmp_path).ask(Probe(probe.name, probe.text, PT.images[:1], YES_NO, "yes"), 0)
        Endpoint("m", url, tmp_path).ask(Probe(probe.name, probe.text + "!", probe.images, YES_NO, "yes"), 0)
    assert len(stub.requests) == 5


def test_an_endpoint_that_stays_down_is_an_error_and_nothing_is_cached(tmp_path: Path) -> None:
    import openai

    stub = Stub(lambda text, pictures: "yes", failures=10**6)
    with serving(stub) as url, pytest.raises(openai.RateLimitError):
        judge([PT], Endpoint("m", url, tmp_path, retries=2), workers=1)
    assert not list(tmp_path.glob("*.json"))
    with pytest.raises(ValueError, match="rounds=0"):
        judge([PT], Scripted([]), rounds=0)


def test_the_command_judges_a_folder_and_prices_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "a.parquet", [PT, PET, MVC])
    with serving(Stub(lambda text, pictures: "yes" if "Reply yes" in text else "A")) as url:
        given = {"source": tmp_path / "a.parquet", "model": "m", "output": tmp_path, "base_url": url}
        arguments = [f"{key}={value}" for key, value in given.items()]
        cli.run(JudgeConfig, main, [*arguments, "price_in=1", "price_out=10"])
    report = json.loads((tmp_path / "judge.json").read_text())
    assert sorted(report["failing"]) == [PT.id, MVC.id]
    assert report["cost"] == pytest.approx((report["prompt_tokens"] + 10 * report["completion_tokens"]) / 1e6)
    assert "1 of 3 samples pass" in capsys.readouterr().out
