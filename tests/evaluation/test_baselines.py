"""Baselines leave the run folder that inference leaves, whatever happens to the endpoint in between."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipt.common import cli
from ipt.common.endpoint import Endpoint, EndpointDown
from ipt.evaluation.baselines import BaselineConfig, answer_dataset, main
from ipt.evaluation.comparison import compare
from ipt.evaluation.metrics import evaluate
from ipt.imagination.recipe import load_profile
from ipt.inference.prediction import Prediction, read_run, without_seconds
from ipt.samples.store import seal, write_shards
from tests.stub_endpoint import Stub, serving
from tests.synthetic import make_sample

pytest.importorskip("openai")

SAMPLES = [make_sample(number, question=f"How many chairs are in place ({number})?") for number in range(12)]
KNOWN = {sample.question: sample.answer for sample in SAMPLES}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(tmp_path / "data", "s", SAMPLES)
    seal(tmp_path / "data", {})
    return tmp_path / "data"


def known(text: str) -> str:
    """The right answer to a rendered question, but for one."""
    (question,) = (each for each in KNOWN if each in text)
    return "I cannot tell." if "(5)" in question else f"<answer>{KNOWN[question]}</answer>"


def config_of(data: Path, url: str, **changes: Any) -> BaselineConfig:
    return BaselineConfig(
        **{"data": str(data), "model": "m", "output_dir": str(data.parent / "run"), "base_url": url, **changes}
    )


def endpoint_of(config: BaselineConfig, **changes: Any) -> Endpoint:
    return Endpoint(config.model, config.base_url, Path(config.output_dir) / "cache", config.request, **changes)


def answered(folder: str) -> list[Prediction]:
    return sorted(map(without_seconds, read_run(folder).predictions), key=lambda p: p.sample_id)


def test_answers_are_read_and_scored_like_our_own(data: Path) -> None:
    stub = Stub(lambda text, pictures: known(text))
    with serving(stub) as url:
        config = config_of(data, url)
        answer_dataset(config, endpoint_of(config))
    run = read_run(config.output_dir)
    assert [p.sample_id for p in answered(config.output_dir)] == [sample.id for sample in SAMPLES]
    assert run.done is not None and (run.done["answered"], run.done["invalid"], run.done["errors"]) == (11, 1, {})
    (task,) = evaluate(run.predictions).tasks
    assert (task.mode, task.overall.value, task.overall.invalid) == ("zero_shot", pytest.approx(11 / 12), 1)
    assert {p.scene for p in run.predictions} == {"scene-0", "scene-1", "scene-2"}


def test_the_prompt_is_the_one_of_training_and_text_cot_asks_for_reasoning(data: Path) -> None:
    stub = Stub(lambda text, pictures: f"{text} {pictures}")
    with serving(stub) as url:
        for baseline in ("zero_shot", "text_cot"):
            config = config_of(
                data,
                url,
                baseline=baseline,
                output_dir=str(data.parent / baseline),
                limit=1,
                request={"temperature": 0},
            )
            answer_dataset(config, endpoint_of(config))
    (first,) = answered(str(data.parent / "zero_shot"))
    assert first.text.startswith(SAMPLES[0].question) and "(B) 2" in first.text and first.text.endswith(" 2")
    systems = [request["messages"][0]["content"] for request in stub.requests]
    assert systems == [load_profile().systems["label_only"], load_profile().systems["text_cot"]]
    assert [request["temperature"] for request in stub.requests] == [0, 0]


def test_a_run_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(data: Path) -> None:
    stub = Stub(lambda text, pictures: known(text))
    with serving(stub) as url:
        whole = config_of(data, url, output_dir=str(data.parent / "whole"))
        answer_dataset(whole, endpoint_of(whole))
    count = len(stub.requests)
    assert count == 12
    dying = Stub(lambda text, pictures: known(text) if len(dying.requests) < 6 else 503)
    with serving(dying) as url:
        config = config_of(data, url, workers=1)
        with pytest.raises(EndpointDown):
            answer_dataset(config, endpoint_of(config, retries=0))
        assert read_run(config.output_dir).done is None and 3 <= len(answered(config.output_dir)) <= 5
        dying.answer = lambda text, pictures: known(text)
        before = len(dying.requests)
        answer_dataset(config, endpoint_of(config))
        assert len(dying.requests) - before <= 12 - 5  # what was paid for is not asked again
    assert answered(config.output_dir) == answered(whole.output_dir)
    assert compare([read_run(config.output_dir), read_run(whole.output_dir)])[0].difference == 0


def test_refused_and_unreadable_samples_are_errors_with_their_ids_and_the_others_are_answered(data: Path) -> None:
    broken = replace(SAMPLES[3], question="Where is <image_7>?")
    write_shards(data.parent / "bad", "s", [*SAMPLES[:3], broken])
    seal(data.parent / "bad", {})
    with serving(Stub(lambda text, pictures: 400 if "(1)" in text else known(text))) as url:
        config = config_of(data.parent / "bad", url)
        answer_dataset(config, endpoint_of(config))
    found = {p.sample_id: p for p in answered(config.output_dir)}
    assert (found[SAMPLES[1].id].error or "").startswith("RefusedRequest: the endpoint refuses a request")
    assert "names image 7" in (found[broken.id].error or "")
    assert [found[SAMPLES[n].id].correct for n in (0, 2)] == [True, True]


def test_another_model_prompt_or_setting_is_another_run(data: Path) -> None:
    with serving(Stub(lambda text, pictures: known(text))) as url:
        config = config_of(data, url, limit=2)
        answer_dataset(config, endpoint_of(config))
        answer_dataset(replace(config, workers=2, price_in=3.0), endpoint_of(config))
        for change in ({"model": "n"}, {"baseline": "text_cot"}, {"limit": 3}, {"request": {"temperature": 1}}):
            with pytest.raises(ValueError, match=f"holds another run .*{next(iter(change))}|mode"):
                answer_dataset(replace(config, **change), endpoint_of(config))
    with pytest.raises(ValueError, match="did you mean 'zero_shot'"):
        answer_dataset(replace(config, baseline="zero_short"), endpoint_of(config))


def test_the_command_prints_scores_and_counts_costs_over_both_halves(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Stub(lambda text, pictures: known(text))) as url:
        given = [
            "model=m",
            f"data={data}",
            f"output_dir={data.parent / 'run'}",
            f"base_url={url}",
            "request.temperature=0",
        ]
        for _ in range(2):
            cli.run(BaselineConfig, main, [*given, "price_in=10000", "price_out=100000"])
            printed = capsys.readouterr().out
            costs = json.loads((data.parent / "run" / "costs.json").read_text())
            assert costs == {"requests": 12, "prompt_tokens": 1200, "completion_tokens": 24, "cost": 14.4}
            assert "91.7" in printed and "12 requests, 1,200 + 24 tokens, cost 14.40" in printed
