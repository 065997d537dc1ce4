"""How near imagined pictures are to the truth, on pictures whose answer is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipt.common.images import encode_image
from ipt.samples.sample import SampleImage
from ipt.study.pictures import picture_scores


@pytest.mark.parametrize("side", [16, 32])
def test_pictures_are_compared_at_the_size_in_which_they_were_drawn(tmp_path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    truths = {f"room-{number}": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for number in range(24)}
    predictions = []
    for name, pixels in truths.items():
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
        predictions.append(SimpleNamespace(sample_id=name, images=(f"{name}.png",)))
    run: Any = SimpleNamespace(folder=tmp_path, predictions=predictions)
    stored = {name: SampleImage(encode_image(pixels), "imagination") for name, pixels in truths.items()}
    mean = np.mean(list(truths.values()), axis=0)
    scores = picture_scores(run, stored, mean, rng)
    assert scores.own > 70 and scores.closer == scores.found == 1
    assert scores.other < scores.mean < 25
