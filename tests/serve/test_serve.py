"""The endpoint: the openai client gets what infer.py says, nothing is lost, and what is wrong is refused in the API's form."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ipt.common.errors import UserError
from ipt.common.html import data_uri
from ipt.evaluation.baselines import BaselineConfig
from ipt.evaluation.baselines import main as baselines
from ipt.inference.engine import Engine
from ipt.inference.own import own_question
from ipt.inference.prediction import read_run
from ipt.inference.settings import DrawSettings, ModeSettings
from ipt.samples.sample import SpatialSample
from ipt.serve.__main__ import HOST, ServeConfig, make_parts
from ipt.serve.batching import Batcher
from ipt.serve.requests import MAX_BODY, Desk, Job, Refused
from tests.imagination.examples import noise_picture
from tests.inference import toy

openai = pytest.importorskip("openai", reason="the openai client is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install '.[serve]'")

DRAW = DrawSettings(timesteps=3)


@dataclass
class Served:
    url: str
    batcher: Batcher
    client: Any

    def ask(self, sample: SpatialSample, **more: Any) -> Any:
        """The reply to a question, as programs put it."""
        parts: list[Any] = [
            {"type": "image_url", "image_url": {"url": data_uri(image.data, "x")}} for image in sample.images
        ]
        lines = [
            sample.question,
            *(f"({letter}) {c}" for letter, c in zip(sample.letters, sample.choices, strict=True)),
        ]
        parts.append({"type": "text", "text": "\n".join(lines)})
        own = {key: more.pop(key) for key in ("mode", "task") if key in more}
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
        return self.client.chat.completions.create(model="toy", messages=messages, extra_body=own, **more)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    from ipt.serve.http import make_app

    config = ServeConfig("toy", draw=DRAW, batch_size=16)
    desk, batcher = make_parts(config, toy.checkpoint())
    server = uvicorn.Server(uvicorn.Config(make_app(desk, batcher, 60.0), log_level="error"))
    with socket.create_server((HOST, 0)) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}/v1"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Served(url, batcher, openai.OpenAI(api_key="none", base_url=url, max_retries=0))
        server.should_exit = True
        thread.join()
    batcher.close()


def expected(sample: SpatialSample, mode: str) -> Any:
    """What infer.py says to the same question about one's own picture."""
    asked = own_question(toy.checkpoint(), [image.data for image in sample.images], sample.question, sample.choices)
    (answered,) = Engine(toy.checkpoint(), ModeSettings(mode, draw=DRAW), 0, 1).answer([asked])
    return answered


@pytest.mark.parametrize("mode", ["answer_only", "imagination"])
def test_answers_and_pictures_are_those_of_inference(served: Served, mode: str) -> None:
    for sample in toy.SAMPLES[:2]:
        reply, (prediction, images, *_) = served.ask(sample, mode=mode), expected(sample, mode)
        choice = reply.choices[0]
        assert prediction.text in choice.message.content and choice.finish_reason == "stop"
        assert reply.ipt["answer"] == sample.choices[prediction.answer]
        assert list(reply.ipt["probabilities"].values()) == pytest.approx(prediction.probabilities, abs=1e-5)
        assert [each["image_url"]["url"] for each in choice.message.images] == [data_uri(i.data, "x") for i in images]
        assert len(images) == (mode == "imagination")
        assert reply.usage.prompt_tokens > 0 and reply.usage.completion_tokens > 0


def test_requests_may_set_seed_mode_and_lengths(served: Served) -> None:
    """A model that was trained to imagine does so unless it is told otherwise."""
    sample = toy.SAMPLES[0]
    plain = served.ask(sample)
    assert plain.ipt["mode"] == "imagination" and plain.choices[0].message.images
    assert served.ask(sample, seed=7).choices[0].message.images != plain.choices[0].message.images
    assert served.ask(sample, seed=0, n=1, user="me").choices[0].message == plain.choices[0].message
    short = served.ask(sample, mode="answer_only", max_tokens=1)
    assert len(short.choices[0].message.content) < len(plain.choices[0].message.content)
    texts = {
        served.ask(sample, mode="answer_only", temperature=2.0, seed=s).choices[0].message.content for s in range(6)
    }
    assert len(texts) > 1
    drawn = served.ask(replace(sample), mode="draw")
    assert drawn.choices[0].message.content == "" and len(drawn.choices[0].message.images) == 1


def test_models_are_listed(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["toy"]
    assert served.client.models.retrieve("toy").id == "toy"
    with pytest.raises(openai.NotFoundError, match="no model 'other' here, only 'toy'"):
        served.client.models.retrieve("other")


@pytest.mark.long
def test_two_hundred_at_once_are_all_answered_and_together(served: Served) -> None:
    samples = [toy.SAMPLES[number % 4] for number in range(200)]
    asked = [replace(sample, question=f"{sample.question} {number}") for number, sample in enumerate(samples)]
    before = served.batcher.batches
    with ThreadPoolExecutor(200) as pool:
        replies = list(pool.map(lambda sample: served.ask(sample, mode="answer_only"), asked))
    assert len(replies) == 200 and served.batcher.batches - before < 100
    for sample, reply in list(zip(asked, replies, strict=True))[::20]:
        prediction = expected(sample, "answer_only").prediction
        assert list(reply.ipt["probabilities"].values()) == pytest.approx(prediction.probabilities, abs=1e-4)


def test_equal_questions_of_one_batch_are_answered_once() -> None:
    batcher = Batcher(toy.checkpoint(), ModeSettings("answer_only", draw=DRAW), 8, 8)
    try:
        asked = own_question(toy.checkpoint(), [noise_picture(0)], "Q0", ("far", "near"))
        job = Job(asked, "answer_only", ModeSettings().text, 0)
        futures = [batcher.submit(job) for _ in range(5)]
        outcomes = {futures[n].result(60).prediction for n in range(5)}
        assert len({replace(p, seconds=0.0) for p in outcomes if p is not None}) == 1
    finally:
        batcher.close()


def test_too_many_that_wait_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        go_on.wait(60)

    batcher = Batcher(toy.checkpoint(), ModeSettings(), 1, 1)
    monkeypatch.setattr(batcher, "_answer", slow)
    job = Job(
        own_question(toy.checkpoint(), [noise_picture(0)], "Q0", ("far", "near")), "answer_only", ModeSettings().text, 0
    )
    try:
        batcher.submit(job)
        assert begun.wait(60)
        batcher.submit(job)
        with pytest.raises(Refused, match="too many requests wait") as error:
            batcher.submit(job)
        assert error.value.status == 503
    finally:
        go_on.set()
        batcher.close()


def test_the_projects_own_baselines_ask_it(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = toy.save_data(tmp_path / "data", toy.SAMPLES)
    baselines(BaselineConfig(model="toy", base_url=served.url, data=str(data), output_dir=str(tmp_path / "run")))
    found = {prediction.sample_id: prediction for prediction in read_run(tmp_path / "run").predictions}
    for sample in toy.SAMPLES:
        said = expected(sample, "imagination").prediction
        assert found[sample.id].answer == said.answer is not None and found[sample.id].error is None
    assert "4 requests" in capsys.readouterr().out


PICTURE = {"type": "image_url", "image_url": {"url": data_uri(noise_picture(0), "x")}}
TEXT = {"type": "text", "text": "Q0\n(A) far\n(B) near"}


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": [PICTURE, TEXT]}], **changes}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def link(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


WRONG = {
    "other model": (body(model="gpt"), 404, "model", "only 'toy'"),
    "no messages": ({"model": "toy"}, 400, "messages", "missing"),
    "a path": (body(messages=user(link("/etc/passwd"), TEXT)), 400, "messages", "nothing is fetched"),
    "a file URL": (body(messages=user(link("file:///etc/passwd"), TEXT)), 400, "messages", "nothing is fetched"),
    "a web address": (body(messages=user(link("https://x.org/a.png"), TEXT)), 400, "messages", "nothing is fetched"),
    "no base64": (body(messages=user(link("data:image/png;base64,***"), TEXT)), 400, "messages", "no base64"),
    "no picture": (body(messages=user(link("data:image/png;base64,AAAA"), TEXT)), 400, "messages", "part 1: not a PNG"),
    "no pictures": (body(messages=user(TEXT)), 400, "messages", "needs 1 to 8 pictures, got 0"),
    "nine pictures": (body(messages=user(*[PICTURE] * 9, TEXT)), 400, "messages", "needs 1 to 8 pictures, got 9"),
    "long text": (
        body(messages=user(PICTURE, {"type": "text", "text": "x" * 30_000})),
        400,
        "messages",
        "20,000 letters",
    ),
    "no options": (
        body(messages=user(PICTURE, {"type": "text", "text": "hello"})),
        400,
        "messages",
        "without answer options",
    ),
    "audio": (body(messages=user({"type": "input_audio"}, TEXT)), 400, "messages", "part 1: must be of type text"),
    "a dialogue": (
        body(messages=[*user(PICTURE, TEXT), {"role": "assistant", "content": "A"}]),
        400,
        "messages",
        "one question is answered at a time",
    ),
    "the truth": (body(mode="gt_imagination"), 400, "mode", "valid: answer_only, draw, free, imagination"),
    "other task": (body(task="pt"), 400, "task", "valid: pet"),
    "stream": (body(stream=True), 400, "stream", "stream=true is not offered"),
    "several": (body(n=2), 400, "n", "n=2 is not offered"),
    "unknown": (body(tools=[]), 400, "tools", "unknown field 'tools'"),
    "seed": (body(seed=-1), 400, "seed", "seed must lie between"),
    "seed text": (body(seed="x"), 400, "seed", "whole number"),
    "tokens": (body(max_tokens=0), 400, "max_tokens", "at least 1"),
    "temperature": (body(temperature="hot"), 400, "temperature", "must be a number"),
    "content": (body(messages=[{"role": "user", "content": 3}]), 400, "messages", "a text or a list of parts"),
}


@pytest.mark.parametrize(("wrong", "status", "field", "told"), WRONG.values(), ids=WRONG)
def test_bad_requests_are_refused_by_name(wrong: dict[str, Any], status: int, field: str, told: str) -> None:
    with pytest.raises(Refused) as error:
        Desk(toy.checkpoint(), "toy", "imagination", 0).read(json.dumps(wrong).encode())
    refusal = error.value.body["error"]
    assert (error.value.status, refusal["param"]) == (status, field) and told in refusal["message"]
    assert set(refusal) == {"message", "type", "param", "code"} and refusal["type"] == "invalid_request_error"


def test_refusals_reach_the_client_in_the_apis_form(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        served.ask(toy.SAMPLES[0], mode="gt_imagination")
    assert refused.value.param == "mode" and "valid: answer_only" in refused.value.message
    answer, told = posted(served.url, b"{", "application/json")
    assert answer == 400 and "no JSON" in told["error"]["message"]
    answer, told = posted(served.url, b"{}", "text/plain")
    assert answer == 415 and "application/json" in told["error"]["message"]
    answer, told = posted(served.url, b" " * (MAX_BODY + 1), "application/json")
    assert answer == 413 and "bytes at most" in told["error"]["message"]
    answer, told = posted(served.url.replace("/v1", "/v2"), b"{}", "application/json")
    assert answer == 404 and "there are /v1/models" in told["error"]["message"]
    strange = urllib.request.Request(f"{served.url}/models", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as other:
        urllib.request.urlopen(strange)
    assert other.value.code == 400


def posted(url: str, data: bytes, kind: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}/chat/completions", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_an_answer_that_takes_too_long_is_an_error_of_the_server() -> None:
    from ipt.serve.http import completion

    desk, batcher = make_parts(ServeConfig("toy", draw=DRAW, timeout_s=1e-9), toy.checkpoint())
    try:
        job = desk.read(json.dumps(body()).encode())
        with pytest.raises(Refused, match="no answer within") as error:
            completion(job, batcher.submit(job).result(60), "toy")
        assert error.value.status == 504
    finally:
        batcher.close()


def test_settings_reach_the_engine_and_wrong_ones_are_named() -> None:
    desk, batcher = make_parts(
        ServeConfig("a/b/toy", answer="answer_only", options=True, seed=5, draw=DRAW, batch_size=3), toy.checkpoint()
    )
    batcher.close()
    job = desk.read(json.dumps(body()).encode())
    engine = batcher.engine(job)
    assert (desk.name, job.mode, job.seed, engine.batch_size) == ("toy", "answer_only", 5, 3)
    assert engine.mode.answer == "options" and engine.mode.draw == DRAW
    with pytest.raises(UserError, match="valid: answer_only, draw, free, imagination"):
        make_parts(ServeConfig("toy", answer="gt_imagination"), toy.checkpoint())
    with pytest.raises(UserError, match="needs a model that was trained to imagine"):
        make_parts(ServeConfig("toy", answer="imagination"), toy.checkpoint("label_only"))
    with pytest.raises(UserError, match="none of which draws"):
        make_parts(ServeConfig("toy", answer="draw"), toy.checkpoint("label_only"))
    for wrong in ({"dtype": "int8"}, {"port": 70000}, {"batch_size": 0}, {"timeout_s": 0.0}, {"seed": -1}):
        with pytest.raises(UserError):
            ServeConfig("toy", **wrong)  # type: ignore[arg-type]
