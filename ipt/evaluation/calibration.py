"""How good option probabilities are: the readout without decoding noise (its argmax, the mass on the right option) and its
calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ipt.common.statistics import Floats
from ipt.inference.prediction import Prediction

MAX_BINS = 15
LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Means over the ``count`` predictions that have probabilities.

    ``accuracy``: of the most probable option. ``probability`` and ``log_probability`` (natural, of at least 1e-12): of the right
    option. ``brier``: the sum over options of squared errors, 0 to 2. ``expected_error``: the mean gap between confidence and
    accuracy over bins of equally many predictions (adaptive ECE, Nguyen and O'Connor 2015).
    """

    count: int
    accuracy: float
    probability: float
    log_probability: float
    brier: float
    expected_error: float


def calibration(predictions: Iterable[Prediction]) -> Calibration | None:
    """The calibration of the predictions with probabilities; ``None`` where there are none."""
    asked = [prediction for prediction in predictions if prediction.probabilities]
    if not asked:
        return None
    right = np.array([p.probabilities[p.expected] for p in asked])
    confidence = np.array([max(p.probabilities) for p in asked])
    hits = np.array([p.probabilities.index(max(p.probabilities)) == p.expected for p in asked], dtype=np.float64)
    squares = np.array([math.fsum(q * q for q in p.probabilities) for p in asked])
    return Calibration(
        count=len(asked),
        accuracy=float(hits.mean()),
        probability=float(right.mean()),
        log_probability=float(np.log(np.maximum(right, LEAST)).mean()),
        brier=float((squares - 2 * right + 1).mean()),
        expected_error=expected_error(confidence, hits),
    )


def expected_error(confidence: Floats, hits: Floats) -> float:
    """The gap between confidence and accuracy, both (n,), averaged over bins of equal size."""
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(MAX_BINS, math.isqrt(len(order))))
    gaps = [len(rows) * abs(confidence[rows].mean() - hits[rows].mean()) for rows in bins]
    return float(sum(gaps) / len(order))
