"""From a probe's readings to figures: for each picture, whether what was read is what the truth shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipt.common.statistics import Floats
from ipt.evaluation.quality.labels import Labels
from ipt.evaluation.quality.probe import MIDDLE, Readings

Guess = Callable[[Sequence[Labels]], float]


@dataclass(frozen=True, slots=True)
class ReadMetric:
    """A figure of what a picture shows. ``values``: one per picture from (readings, nouns, labels), NaN where it does not
    apply. ``chance``: what the best constant guess reaches on pictures of these labels."""

    name: str
    meaning: str
    values: Callable[[Readings, Sequence[str], Sequence[Labels]], Floats]
    chance: Guess


def objects(readings: Readings, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """How often a noun that the truth shows is read with more certainty than one that it does not show."""
    values = np.full(len(labels), np.nan)
    for row, label in enumerate(labels):
        shown = np.array([noun in label.counts for noun in nouns])
        if shown.any() and not shown.all():
            gaps = readings.count[row, shown][:, None] - readings.count[row, ~shown]
            values[row] = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    return values


def side(readings: Readings, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """Whether the asked object is read in the half that it is in; not where it is near the middle."""
    shares = asked(readings.right, nouns, labels)
    right = [np.nan if label is None else label for label in map(is_right, labels)]
    return agreement(shares > 0.5, right, np.isfinite(shares))


def order(readings: Readings, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """Whether the distance read for the asked object is on the true side of its distance before the move, which is given."""
    distance = asked(readings.distance_m, nouns, labels)
    before = np.array([np.nan if label.distance_before_m is None else label.distance_before_m for label in labels])
    return agreement(distance < before, [is_closer(label) for label in labels], np.isfinite(distance + before))


def option(readings: Readings, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """Whether the offered option that is read with most certainty is the right one; options unknown to the probe come last."""
    columns = {noun: number for number, noun in enumerate(nouns)}
    values = np.full(len(labels), np.nan)
    for row, label in enumerate(labels):
        if label.asked in columns:
            certainty = [readings.count[row, columns[noun]] if noun in columns else -1.0 for noun in label.options]
            values[row] = float(label.options[int(np.argmax(certainty))] == label.asked)
    return values


def count(readings: Readings, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """Whether the number read for the asked noun, rounded, is the true one."""
    read = asked(readings.count, nouns, labels)
    return agreement(np.rint(read), [float(label.counts[label.asked]) for label in labels], np.isfinite(read))


def asked(values: Floats, nouns: Sequence[str], labels: Sequence[Labels]) -> Floats:
    """The entry (B,) of the asked noun in values (B, N); NaN where the probe does not know the noun."""
    columns = {noun: number for number, noun in enumerate(nouns)}
    return np.array(
        [values[row, columns[x.asked]] if x.asked in columns else np.nan for row, x in enumerate(labels)], np.float64
    )


def agreement(read: NDArray[Any], true: Sequence[float], applies: NDArray[np.bool_]) -> Floats:
    """1 where both agree, 0 where not, NaN where the metric does not apply or the truth is NaN."""
    wanted = np.asarray(true, dtype=np.float64)
    return np.where(applies & np.isfinite(wanted), (read == wanted).astype(np.float64), np.nan)


def is_right(label: Labels) -> float:
    """1 for an object in the right half, 0 for one in the left half, NaN for neither."""
    if label.place is None or abs(label.place - 0.5) < MIDDLE:
        return np.nan
    return float(label.place > 0.5)


def is_closer(label: Labels) -> float:
    if label.distance_m is None or label.distance_before_m is None:
        return np.nan
    return float(label.distance_m < label.distance_before_m)


def majority(truth: Callable[[Labels], float]) -> Guess:
    """The share of the most frequent true value."""

    def guess(labels: Sequence[Labels]) -> float:
        values = np.array([truth(label) for label in labels])
        _, times = np.unique(values[np.isfinite(values)], return_counts=True)
        return float(times.max() / times.sum()) if len(times) else np.nan

    return guess


def one_option(labels: Sequence[Labels]) -> float:
    return float(np.mean([1 / len(label.options) for label in labels]))


OBJECTS = ReadMetric(
    "objects", "a noun that is there is read with more certainty than one that is not", objects, lambda labels: 0.5
)
READ_METRICS: Mapping[str, tuple[ReadMetric, ...]] = {
    "pet": (
        OBJECTS,
        ReadMetric("side", "the asked object is on its true side", side, majority(is_right)),
        ReadMetric("distance order", "the asked object is closer, or further, than before", order, majority(is_closer)),
    ),
    "pt": (OBJECTS, ReadMetric("option", "of the offered objects, the right one is there", option, one_option)),
    "mvc": (
        OBJECTS,
        ReadMetric("count", "as many as there are", count, majority(lambda label: float(label.counts[label.asked]))),
    ),
}
