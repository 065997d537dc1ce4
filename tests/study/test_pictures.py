"""How near imagined pictures are to the truth, on pictures whose answer is known."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipt.common.images import encode_image
from ipt.common.statistics import seed_mean, stratified_bootstrap
from ipt.evaluation.seeds import SeedScore
from ipt.samples.sample import SampleImage
from ipt.study.report import cell, picture_scores


@pytest.mark.parametrize("side", [16, 32])
def test_pictures_are_compared_at_the_size_in_which_they_were_drawn(tmp_path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    truths = {f"room-{number}": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for number in range(24)}
    predictions = []
    for name, pixels in truths.items():
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
        predictions.append(SimpleNamespace(sample_id=name, images=(f"{name}.png",), scene=name))
    run: Any = SimpleNamespace(folder=tmp_path, predictions=predictions)
    stored = {name: SampleImage(encode_image(pixels), "imagination") for name, pixels in truths.items()}
    mean = np.mean(list(truths.values()), axis=0)
    scores = picture_scores(run, stored, mean, rng)
    assert scores.own > 70 and scores.closer == scores.found == 1
    assert scores.other < scores.mean < 25


def test_another_scenes_truth_is_of_another_scene(tmp_path: Path) -> None:
    """Pictures of a scene are alike: with two of each, a picture that fits its scene, not its sample, is nearer to either of them
    than to any other scene's."""
    rng = np.random.default_rng(1)
    rooms = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    names = [(f"room-{scene}", f"{scene}-{number}") for number in range(2) for scene in range(len(rooms))]
    rng.shuffle(names)
    predictions, stored = [], {}
    for scene, name in names:
        pixels = rooms[int(scene.partition("-")[2])]
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        predictions.append(SimpleNamespace(sample_id=name, images=(f"{name}.png",), scene=scene))
        stored[name] = SampleImage(encode_image(pixels), "imagination")
    run: Any = SimpleNamespace(folder=tmp_path, predictions=predictions)
    scores = picture_scores(run, stored, None, rng)
    assert scores.closer == scores.found == 1 and scores.other < 12
    run.predictions = [each for each in predictions if each.scene in ("room-0", "room-1")]
    with pytest.raises(ValueError, match="compared with 19 pictures of other scenes, there are 2"):
        picture_scores(run, stored, None, rng)


def test_scores_of_two_seeds_show_the_interval_that_covers_them() -> None:
    """With two seeds that scatter by 3 points, resampling them covers four times in five; the t interval beside it does."""
    rng, hits = np.random.default_rng(0), {"both": 0, "shown": 0}
    scenes = np.repeat(np.arange(60), 40).tolist()
    for _ in range(150):
        right = rng.random((2, 2400)) < 0.6 + rng.normal(0, 0.03, (2, 1))
        both, seeds = stratified_bootstrap(right, scenes, rng, replicates=250), seed_mean(right.mean(1).tolist())
        score = SeedScore("pet", "m", False, (), both.value, (seeds.low, seeds.high), (both.low, both.high), 2400, 60)
        told = [float(bound) / 100 for bound in re.findall(r"-?[0-9]+\.[0-9]", cell(score))[1:]]
        hits["both"] += told[0] <= 0.6 <= told[1]
        hits["shown"] += told[-2] <= 0.6 <= told[-1]
    assert hits["both"] / 150 < 0.87 and hits["shown"] / 150 >= 0.91, hits
