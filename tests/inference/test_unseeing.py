"""Answers of models that never trained to answer at once: given behind a picture that they cannot see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipt.imagination.modes import ipt
from ipt.imagination.modes.ipt import IptSettings
from ipt.inference.context import SessionContext
from ipt.inference.engine import Engine
from ipt.inference.settings import ModeSettings, TextSettings
from ipt.inference.writing import Line
from ipt.samples.sample import SampleImage
from ipt.training.evaluation import tally
from tests.imagination.examples import noise_picture
from tests.inference import toy


def engine(reveal: float, *modes: str, answer: str = "options") -> Engine:
    checkpoint = toy.checkpoint(*modes)
    imagination = replace(checkpoint.recipe.imagination, ipt=IptSettings(reveal=reveal))
    checkpoint = replace(checkpoint, recipe=replace(checkpoint.recipe, imagination=imagination))
    return Engine(checkpoint, ModeSettings("answer_only", answer=answer, text=TextSettings(max_tokens=20)))


def probabilities(reveal: float, *modes: str) -> list[tuple[float, ...]]:
    answered = {each.prediction.sample_id: each.prediction for each in engine(reveal, *modes).answer(toy.SAMPLES)}
    return [answered[sample.id].probabilities for sample in toy.SAMPLES]


def test_the_answer_does_not_depend_on_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = probabilities(0.5, "ipt")
    monkeypatch.setattr(ipt, "blank", lambda width, height: SampleImage(noise_picture(7), "imagination"))
    assert probabilities(0.5, "ipt") == grey
    assert probabilities(1.0, "ipt") == probabilities(1.0, "ipt", "label_only") != grey


def test_who_trained_to_answer_at_once_is_asked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipt, "blank", lambda width, height: pytest.fail("a picture was shown"))
    assert len(probabilities(0.5, "ipt", "label_only")) == len(toy.SAMPLES)


@pytest.mark.parametrize("modes", [("ipt",), ("ipt", "label_only")], ids=["unseeing", "at once"])
def test_an_image_is_opened_by_what_the_model_writes_not_by_what_it_was_given(
    modes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thought around the blank picture announces an image, too: training's monitor must not ring for it."""
    for said, share in (("<answer>A</answer", 0), ("<image_start>", 1)):
        monkeypatch.setattr(
            SessionContext, "generate_text", lambda self, *a, said=said, **k: (self, [said] * len(self))
        )
        monkeypatch.setattr(Line, "said", lambda self, session, said=said: said)  # where rows are written continuously
        answers = list(engine(0.5, *modes, answer="text").answer(toy.SAMPLES))
        assert all(("<image_start>" in "".join(each.prediction.thoughts)) == (modes == ("ipt",)) for each in answers)
        assert tally(answers).shares("answer_only")["opened_image/answer_only"] == share
