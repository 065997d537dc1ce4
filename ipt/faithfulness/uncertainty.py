"""What several imaginations of one question are worth: votes, calibration, risk and coverage, and when imagining pays.

With pi_k the probabilities of the options from imagination k and p their mean, the entropy of p splits into what the reader is
unsure of given an imagination, E_k H(pi_k), and what its imaginations disagree about, the mutual information (Houlsby et al.
2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ipt.common.statistics import Floats
from ipt.evaluation.calibration import calibration
from ipt.faithfulness.effects import Results
from ipt.faithfulness.runs import NONE, SELF
from ipt.inference.answering import chosen, mean
from ipt.inference.prediction import Prediction

Curve = list[tuple[float, float]]
STEPS = 20


@dataclass(frozen=True)
class Uncertainty:
    """Of ``count`` questions with K imaginations each. ``accuracy``: by combination (``vote``, ``mean``) and number of
    imaginations, and answered at once. ``calibration``: of the mean of 1 and of K, and at once. ``total`` = ``reader`` +
    ``disagreement``: mean entropies in nats. ``scores``: by score of confidence, the area under the risk-coverage curve, and
    Spearman's correlation of the score's opposite with being wrong. ``curves``: coverage and accuracy, by score. ``gate``:
    share of questions imagined, those first whose answer at once is least sure, and accuracy; ``random``: what the same share
    gives by chance."""

    count: int
    imaginations: int
    accuracy: Mapping[str, Sequence[float]]
    calibration: Mapping[str, Mapping[str, float]]
    total: float
    reader: float
    disagreement: float
    scores: Mapping[str, tuple[float, float]]
    curves: Mapping[str, Curve]
    gate: Curve
    random: Curve


def entropy(shares: Floats) -> Floats:
    """Of the last axis, in nats."""
    return -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1)


def uncertainty(results: Results, diversity: Mapping[str, float] | None = None) -> Uncertainty | None:
    """Of the production runs; None where there is one imagination only. ``diversity``: how different the imaginations of each
    question are, as a further score."""
    once, runs = results.arms.get((NONE, 0), {}), results.runs(SELF)
    names = sorted(n for n in set.intersection(*map(set, runs), set(once)) if all(r[n].probabilities for r in runs))
    names = [name for name in names if once[name].probabilities]
    if len(runs) < 2 or not names:
        return None
    listed = [[run[name] for run in runs] for name in names]
    at_once = [once[name] for name in names]
    means = [mean(each) for each in listed]
    whole = np.array([entropy(np.array(p)) for p in means])
    inside = np.array([np.mean([entropy(np.array(p.probabilities)) for p in each]) for each in listed])
    hits = np.array([float(np.argmax(p) == each[0].expected) for p, each in zip(means, listed, strict=True)])
    scores = {"most probable option": np.array([max(p) for p in means]), "disagreement": inside - whole}
    if diversity:
        scores["diversity"] = -np.array([diversity.get(name, 0.0) for name in names])
    combined = {
        combine: [accuracy(listed, k, combine) for k in range(1, len(runs) + 1)] for combine in ("vote", "mean")
    }
    unsure = np.array([entropy(np.array(p.probabilities)) for p in at_once])
    base = np.array([float(p.correct) for p in at_once])
    return Uncertainty(
        count=len(names),
        imaginations=len(runs),
        accuracy={**combined, "at once": [float(base.mean())]},
        calibration={
            "at once": calibrated(at_once, [p.probabilities for p in at_once]),
            "one imagination": calibrated([each[0] for each in listed], [each[0].probabilities for each in listed]),
            f"mean of {len(runs)}": calibrated([each[0] for each in listed], means),
        },
        total=float(whole.mean()),
        reader=float(inside.mean()),
        disagreement=float((whole - inside).mean()),
        scores={name: (aurc(score, hits), correlation(-score, 1 - hits)) for name, score in scores.items()},
        curves={name: risk_coverage(score, hits) for name, score in scores.items()},
        gate=gate(unsure, base, np.array([float(each[0].correct) for each in listed])),
        random=[(0.0, float(base.mean())), (1.0, float(np.mean([each[0].correct for each in listed])))],
    )


def accuracy(listed: Sequence[Sequence[Prediction]], k: int, combine: str) -> float:
    """Of the answers that the first ``k`` imaginations give together."""
    return float(np.mean([chosen(each[:k], combine) == each[0].expected for each in listed]))


def calibrated(predictions: Sequence[Prediction], probabilities: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Accuracy of the most probable option, expected calibration error, Brier score and negative log-likelihood."""
    pairs = zip(predictions, probabilities, strict=True)
    found = calibration([replace(prediction, probabilities=shares) for prediction, shares in pairs])
    assert found is not None
    return {
        "accuracy": found.accuracy,
        "ECE": found.expected_error,
        "Brier": found.brier,
        "NLL": -found.log_probability,
    }


def risk_coverage(score: Floats, hits: Floats) -> Curve:
    """Coverage and accuracy when only the questions of the highest scores are answered; equal scores in the order of
    questions."""
    found = hits[np.argsort(-score, kind="stable")].cumsum() / np.arange(1, len(hits) + 1)
    places = np.unique(np.linspace(1, len(hits), STEPS).round().astype(int))
    return [(place / len(hits), float(found[place - 1])) for place in places]


def aurc(score: Floats, hits: Floats) -> float:
    """Area under the risk-coverage curve: the mean over coverages of the share that is wrong (Geifman and El-Yaniv 2017)."""
    order = np.argsort(-score, kind="stable")
    return float((1 - hits[order].cumsum() / np.arange(1, len(hits) + 1)).mean())


def correlation(score: Floats, wrong: Floats) -> float:
    """Spearman's, 0 where one of them is constant."""
    return float(stats.spearmanr(score, wrong).statistic) if np.ptp(score) > 0 and np.ptp(wrong) > 0 else 0.0


def gate(unsure: Floats, at_once: Floats, imagined: Floats) -> Curve:
    """Share of questions that are imagined, the least sure first, and the accuracy of all."""
    order = np.argsort(-unsure, kind="stable")
    gain = np.concatenate([[0.0], (imagined - at_once)[order].cumsum()])
    places = np.unique(np.linspace(0, len(order), STEPS + 1).round().astype(int))
    return [(place / len(order), float(at_once.mean() + gain[place] / len(order))) for place in places]
