"""Imagining only where unsure: the curve is what the two runs say at each threshold, and the threshold is fitted on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipt.common.errors import UserError
from ipt.inference.prediction import Prediction
from ipt.inference.selective import best, confidence, curve, fitted
from ipt.inference.settings import ModeSettings
from tests.evaluation.simulated import prediction, write_run


def answers(seed: int, mode: str, count: int = 60) -> list[Prediction]:
    """Answers that are the more often right the surer they are; some confidences are equal."""
    rng = np.random.default_rng(seed)
    sure = rng.integers(50, 100, count) / 100
    return [
        prediction(n, bool(rng.random() < each), mode=mode, probabilities=(float(each), float(1 - each)))
        for n, each in enumerate(sure)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_point_is_what_the_runs_say_at_its_threshold(seed: int) -> None:
    without, imagining = answers(seed, "answer_only"), answers(seed + 9, "imagination")[:50]
    points = curve(without, imagining)
    for point in points:
        unsure = [confidence(each) < point.threshold for each in without[:50]]
        right = [b.correct if low else a.correct for a, b, low in zip(without, imagining, unsure, strict=False)]
        assert (point.imagined, point.accuracy) == pytest.approx((np.mean(unsure), np.mean(right)))
    assert [point.imagined for point in points] == sorted({point.imagined for point in points})
    assert (points[0].imagined, points[-1].imagined) == (0, 1)
    assert best(points).accuracy == max(point.accuracy for point in points)


def test_the_threshold_is_fitted_on_two_runs_of_one_dataset(tmp_path: Path) -> None:
    """Imaginations help below a confidence of 0.7 and mislead above."""
    without = [each for each in answers(0, "answer_only")]
    without = [
        prediction(n, confidence(each) >= 0.7, probabilities=each.probabilities) for n, each in enumerate(without)
    ]
    drawn = [prediction(n, confidence(each) < 0.7, mode="imagination") for n, each in enumerate(without)]
    runs = [write_run(tmp_path / name, listed) for name, listed in (("a", without), ("b", drawn))]
    folders = tuple(str(run.folder) for run in runs)
    made = fitted(ModeSettings("selective", fit=folders[::-1]))
    assert 0.69 <= made.threshold <= 0.7 and made.fit == ()
    assert best(curve(without, drawn)).accuracy == 1.0
    with pytest.raises(UserError, match="two runs of one validation set"):
        fitted(ModeSettings("selective", fit=folders[:1]))
    write_run(tmp_path / "c", drawn, data_sha256="other")
    with pytest.raises(UserError, match="did not answer the same data"):
        fitted(ModeSettings("selective", fit=(folders[0], str(tmp_path / "c"))))
    write_run(tmp_path / "d", [prediction(n) for n in range(4)])
    with pytest.raises(UserError, match=r"holds no probabilities; run it with mode\.probabilities=true"):
        fitted(ModeSettings("selective", fit=(folders[1], str(tmp_path / "d"))))


def test_settings_that_do_not_go_together_are_named() -> None:
    with pytest.raises(UserError, match=r"mode=selective needs mode\.probabilities=true"):
        ModeSettings("selective", probabilities=False)
    with pytest.raises(UserError, match=r"mode\.fit is for mode=selective, not for imagination"):
        ModeSettings("imagination", fit=("a", "b"))
