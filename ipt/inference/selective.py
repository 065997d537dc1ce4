"""Imagining only where the answer without is unsure: how right that is, for how many pictures.

Both are known of questions that were answered without an imagination and with one, so no picture is drawn to find out: below each
threshold on the probability of the likeliest option, the answer with the imagination counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from ipt.common.errors import UserError
from ipt.inference.prediction import Prediction, read_run
from ipt.inference.settings import ModeSettings


class Point(NamedTuple):
    """``imagined``: the share of questions whose confidence lies below ``threshold``. ``accuracy``: of all questions."""

    threshold: float
    imagined: float
    accuracy: float


def confidence(prediction: Prediction) -> float:
    """The probability of the likeliest option; 0 where there is no answer."""
    return max(prediction.probabilities, default=0.0) if prediction.error is None else 0.0


def curve(without: Sequence[Prediction], imagining: Sequence[Prediction]) -> list[Point]:
    """From imagining nowhere to everywhere, one point per distinct confidence, on the questions that both have answered; empty
    where there are none or probabilities are missing."""
    other = {prediction.sample_id: prediction for prediction in imagining}
    pairs = sorted(
        (confidence(each), each.correct, other[each.sample_id].correct) for each in without if each.sample_id in other
    )
    if not any(sure for sure, _, _ in pairs):
        return []
    right, imagined, count = sum(at_once for _, at_once, _ in pairs), 0, len(pairs)
    points = [Point(0.0, 0.0, right / count)]
    groups = [(sure, list(group)) for sure, group in groupby(pairs, key=lambda pair: pair[0])]
    for place, (sure, group) in enumerate(groups):
        imagined += len(group)
        right += sum(seen - at_once for _, at_once, seen in group)
        above = groups[place + 1][0] if place + 1 < len(groups) else math.nextafter(sure, 2.0)
        points.append(Point((sure + above) / 2 if above - sure > 1e-12 else above, imagined / count, right / count))
    return points


def best(points: Sequence[Point]) -> Point:
    """The most accurate point; of several the one with the fewest imaginations."""
    return max(points, key=lambda point: (point.accuracy, -point.imagined))


def fitted(settings: ModeSettings) -> ModeSettings:
    """The settings with the threshold that is best in the two runs of ``fit``, of a validation set."""
    runs = {run.manifest.mode: run for run in map(read_run, settings.fit)}
    if set(runs) != {"answer_only", "imagination"}:
        raise UserError(
            f"mode.fit takes two runs of one validation set, of mode=answer_only and mode=imagination; got {', '.join(runs)}"
        )
    without, imagining = runs["answer_only"], runs["imagination"]
    if without.manifest.data_sha256 != imagining.manifest.data_sha256:
        raise UserError(f"mode.fit: {without.folder} and {imagining.folder} did not answer the same data")
    if not (points := curve(without.predictions, imagining.predictions)):
        raise UserError(f"mode.fit: {without.folder} holds no probabilities; run it with mode.probabilities=true")
    return replace(settings, threshold=best(points).threshold, fit=())
