"""The adapters against stand-ins of the base classes of lmms-eval and VLMEvalKit: the answers of our own engine come out."""

from __future__ import annotations

import importlib
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipt.common.images import open_image
from ipt.evaluation.adapters.harness import Harness, joined, options_of
from ipt.inference.engine import Engine
from ipt.inference.settings import ModeSettings
from tests.inference.toy import SAMPLES, checkpoint, save_run

ROOT = Path(__file__).parents[2]


class Lmms:
    """lmms_eval.api.model.lmms as a model sees it."""

    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.task_dict: dict[str, Any] = {}

    @classmethod
    def create_from_arg_string(cls, arguments: str, additional: dict[str, Any]) -> Lmms:
        given = dict(pair.split("=") for pair in arguments.split(","))
        return cls(**given, **{key: value for key, value in additional.items() if value is not None})  # type: ignore[call-arg]


@dataclass(frozen=True)
class ModelManifest:
    """lmms_eval.models.registry_v2.ModelManifest."""

    model_id: str
    simple_class_path: str | None = None


class BaseModel:
    """vlmeval.vlm.base.BaseModel, whose `generate` checks messages and calls `generate_inner`."""

    INTERLEAVE = False
    allowed_types = ("text", "image")

    def generate(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
        assert all(part["type"] in self.allowed_types for part in message)
        return self.generate_inner(message, dataset)  # type: ignore[attr-defined, no-any-return]


def module(name: str, **contents: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(contents, __path__=[])
    return made


@pytest.fixture
def harnesses(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Both packages as far as the adapters use them; gives VLMEvalKit's table of models."""
    models: dict[str, Any] = {}
    for made in (
        module("lmms_eval"),
        module("lmms_eval.api"),
        module("lmms_eval.api.model", lmms=Lmms),
        module("lmms_eval.models"),
        module("lmms_eval.models.registry_v2", ModelManifest=ModelManifest),
        module("vlmeval"),
        module("vlmeval.vlm"),
        module("vlmeval.vlm.base", BaseModel=BaseModel),
        module("vlmeval.config", supported_VLM=models),
    ):
        monkeypatch.setitem(sys.modules, made.__name__, made)
    yield models
    for name in ("lmms_eval", "vlmevalkit"):
        sys.modules.pop(f"ipt.evaluation.adapters.{name}", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """The letters of our own engine for the samples that the toy knows."""
    engine = Engine(checkpoint(), ModeSettings("answer_only"))
    answers = {prediction.sample_id: prediction for prediction, *_ in engine.answer(SAMPLES)}
    letters = ["AB"[answers[sample.id].answer or 0] for sample in SAMPLES]
    assert letters == [sample.answer for sample in SAMPLES]
    return letters


def worded(number: int) -> str:
    """A sample's question as the harnesses word it."""
    sample = SAMPLES[number]
    return f"Question: {sample.question}\nOptions:\nA. far\nB. near\nPlease select the correct answer from the options above. \n"


def test_lmms_eval_gets_the_answers_of_our_engine(harnesses: dict[str, Any], run: Path, expected: list[str]) -> None:
    adapter = importlib.import_module("ipt.evaluation.adapters.lmms_eval")
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lmms_eval.models"]
    source, _, name = entries["ipt"].partition(":")
    assert source == adapter.__name__
    where, _, kind = getattr(adapter, name)().simple_class_path.rpartition(".")
    model = getattr(importlib.import_module(where), kind).create_from_arg_string(
        f"pretrained={run},mode=answer_only", {"batch_size": 3, "device": "cpu", "max_batch_size": None}
    )
    assert isinstance(model, Lmms) and model.is_simple
    pictures = [open_image(sample.images[0].data) for sample in SAMPLES]
    model.task_dict = {"task": {"test": pictures}}
    requests = [
        types.SimpleNamespace(args=(worded(n), {"max_new_tokens": 16}, lambda doc: [doc], n, "task", "test"))
        for n in range(4)
    ]
    assert model.generate_until(requests) == expected
    with pytest.raises(NotImplementedError, match="generate_until only"):
        model.loglikelihood(requests)


def test_vlmevalkit_gets_the_answers_of_our_engine(
    harnesses: dict[str, Any], run: Path, expected: list[str], tmp_path: Path
) -> None:
    importlib.import_module("ipt.evaluation.adapters.vlmevalkit").register("toy", checkpoint=str(run), device="cpu")
    model = harnesses["toy"]()
    assert model.INTERLEAVE
    for number, sample in enumerate(SAMPLES):
        path = tmp_path / f"{number}.png"
        path.write_bytes(sample.images[0].data)
        message = [{"type": "image", "value": str(path)}, {"type": "text", "value": worded(number)}]
        assert model.generate(message, "PET_AI2Thor_ImaginativePerceptionToken") == expected[number]


def test_a_question_that_fails_is_empty_and_named_and_the_others_are_answered(
    run: Path, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    harness = Harness(run, batch_size=2, device="cpu")
    good = [SAMPLES[1].images[0].data, worded(1)]
    assert harness.answer([[b"no picture", worded(0)], good]) == ["", expected[1]]
    assert "is not answered: BadImage" in capsys.readouterr().err
    with pytest.raises(ValueError, match="without answer options"):
        harness.answer([[SAMPLES[0].images[0].data, "What is this?"]])
    with pytest.raises(ValueError, match="unknown mode setting 'steps'"):
        Harness(run, device="cpu", steps=3)


@pytest.mark.parametrize(
    ("text", "question", "choices"),
    [
        (
            "Is it far?\nA. far\nB. near\nAnswer with the option's letter from the given choices directly.",
            "Is it far?",
            ("far", "near"),
        ),
        (
            "Hint: Look.\nQuestion: Is it far?\nOptions:\nA. far\nB. near\n",
            "Hint: Look.\nQuestion: Is it far?",
            ("far", "near"),
        ),
        ("How many? A) 1 B) 2 C) 3 D) 4", "How many?", ("1", "2", "3", "4")),
        ("Question: Is it far?\nChoices: (A) far (B) near", "Is it far?", ("far", "near")),
    ],
)
def test_the_wordings_of_harnesses_are_taken_apart(text: str, question: str, choices: tuple[str, ...]) -> None:
    assert options_of(text) == (question, choices)


def test_pictures_between_texts_are_named_where_they_stand() -> None:
    assert joined([b"1", "On the map", b"2", "you go."]) == ("On the map\n<image_2>\nyou go.", [b"1", b"2"])
    assert joined([b"1", b"2", "Where?"]) == ("Where?", [b"1", b"2"])
