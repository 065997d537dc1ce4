"""Pictures without answers: they depend on the sample and the seed, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipt.common.errors import UserError
from ipt.inference.drawing import draw_pictures
from ipt.inference.settings import DrawSettings
from ipt.samples.sample import SpatialSample
from tests.inference import toy

DRAW = DrawSettings(timesteps=4, text_scale=1.0)
SAMPLES = [replace(sample, choices=(), answer="") for sample in toy.SAMPLES]


def drawn(samples: list[SpatialSample], seed: int = 0, batch_size: int = 4) -> dict[str, bytes]:
    made = draw_pictures(toy.checkpoint("ipt"), samples, DRAW, seed, batch_size)
    return {sample.id: image.data for sample, image in made}


def test_a_picture_depends_on_its_sample_and_the_seed_alone() -> None:
    together = drawn(SAMPLES)
    assert list(together) == [sample.id for sample in SAMPLES] and len(set(together.values())) == 4
    assert drawn(SAMPLES[::-1], batch_size=1) == together
    assert drawn(SAMPLES, seed=1)[SAMPLES[0].id] != together[SAMPLES[0].id]


def test_a_model_that_does_not_draw_says_so() -> None:
    with pytest.raises(UserError, match="trained on label_only, none of which draws"):
        next(draw_pictures(toy.checkpoint("label_only"), SAMPLES, DRAW))
