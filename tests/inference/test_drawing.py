"""Pictures without answers: they depend on the sample and the seed, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipt.common.errors import UserError
from ipt.inference.drawing import draw_pictures
from ipt.inference.settings import DrawSettings
from ipt.model.sampling import LatentVelocity
from ipt.samples.sample import SpatialSample
from tests.inference import toy

DRAW = DrawSettings(timesteps=4, text_scale=1.0)
SAMPLES = [replace(sample, choices=(), answer="") for sample in toy.SAMPLES]


def drawn(
    samples: list[SpatialSample], seed: int = 0, batch_size: int = 4, draw: DrawSettings = DRAW
) -> dict[str, bytes]:
    made = draw_pictures(toy.checkpoint("ipt"), samples, draw, seed, batch_size)
    return {sample.id: image.data for sample, image in made}


def test_a_picture_depends_on_its_sample_and_the_seed_alone() -> None:
    together = drawn(SAMPLES)
    assert list(together) == [sample.id for sample in SAMPLES] and len(set(together.values())) == 4
    assert drawn(SAMPLES[::-1], batch_size=1) == together
    assert drawn(SAMPLES, seed=1)[SAMPLES[0].id] != together[SAMPLES[0].id]


def test_steps_that_are_skipped_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    compute = LatentVelocity.__call__
    monkeypatch.setattr(LatentVelocity, "__call__", lambda self, x, t: calls.append(t) or compute(self, x, t))
    whole = drawn(SAMPLES[:1], draw=replace(DRAW, timesteps=9))
    assert len(calls) == 8
    skipped = drawn(SAMPLES[:1], draw=replace(DRAW, timesteps=9, skip=2))
    assert len(calls) == 8 + 4 and whole != skipped
    with pytest.raises(UserError, match=r"mode.draw.skip must be at least 0, got -1"):
        replace(DRAW, skip=-1)


def test_a_model_that_does_not_draw_says_so() -> None:
    with pytest.raises(UserError, match="trained on label_only, none of which draws"):
        next(draw_pictures(toy.checkpoint("label_only"), SAMPLES, DRAW))
