"""Answers of models that never trained to answer at once: given behind a picture that they cannot see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipt.imagination.modes import ipt
from ipt.imagination.modes.ipt import IptSettings
from ipt.inference.engine import Engine
from ipt.inference.settings import ModeSettings
from ipt.samples.sample import SampleImage
from tests.imagination.examples import noise_picture
from tests.inference import toy


def probabilities(reveal: float, *modes: str) -> list[tuple[float, ...]]:
    checkpoint = toy.checkpoint(*modes)
    imagination = replace(checkpoint.recipe.imagination, ipt=IptSettings(reveal=reveal))
    checkpoint = replace(checkpoint, recipe=replace(checkpoint.recipe, imagination=imagination))
    engine = Engine(checkpoint, ModeSettings("answer_only", answer="options"))
    answered = {each.prediction.sample_id: each.prediction for each in engine.answer(toy.SAMPLES)}
    return [answered[sample.id].probabilities for sample in toy.SAMPLES]


def test_the_answer_does_not_depend_on_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = probabilities(0.5, "ipt")
    monkeypatch.setattr(ipt, "blank", lambda width, height: SampleImage(noise_picture(7), "imagination"))
    assert probabilities(0.5, "ipt") == grey
    assert probabilities(1.0, "ipt") == probabilities(1.0, "ipt", "label_only") != grey


def test_who_trained_to_answer_at_once_is_asked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipt, "blank", lambda width, height: pytest.fail("a picture was shown"))
    assert len(probabilities(0.5, "ipt", "label_only")) == len(toy.SAMPLES)
