"""Intervals and tests for accuracies and other means, with questions that come in clusters (several per scene).

Questions about one scene share its furniture and its pictures, so they are not independent: an interval that treats them
as such is too narrow. Intervals here resample or sum over whole clusters. No torch: generation and evaluation share it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MAX_CELLS = 2**22  # of a table of resampled clusters: 32 MiB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval, and how many values and clusters it rests on."""

    value: float
    low: float
    high: float
    count: int
    clusters: int

    def includes(self, value: float) -> bool:
        return self.low <= value <= self.high

    def shifted(self, offset: float) -> Estimate:
        return Estimate(self.value + offset, self.low + offset, self.high + offset, self.count, self.clusters)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def wilson_interval(successes: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion from independent trials (Wilson 1927): keeps its coverage near 0 and 1.

    Fractions of a trial are allowed: a mean over strata has the effective number of trials of `effective_trials`.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"a proportion needs 0 <= successes <= total and total > 0, got {successes} of {total}")
    from scipy import stats  # takes a second to import

    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (successes + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(successes * (total - successes) / total + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_mean(values: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Mean over values (n,) with a t interval from cluster totals.

    The linearised variance of a ratio of sums, G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2, with G - 1 degrees of
    freedom (Cochran, Sampling Techniques, ch. 9A). Needs at least two clusters.
    """
    from scipy import stats

    data, index, groups = cluster_indices(values, clusters)
    mean = float(data.mean())
    residuals = np.bincount(index, weights=data - mean, minlength=groups)
    error = math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / len(data)
    half = float(stats.t.ppf((1 + confidence) / 2, groups - 1)) * error
    return Estimate(mean, mean - half, mean + half, len(data), groups)


def mean_over_strata(values: ArrayLike, strata: Sequence[Hashable]) -> float:
    """The unweighted mean of the means of ``values`` (n,) within each stratum."""
    data, groups = np.asarray(values, dtype=np.float64), np.array(numbered(strata))
    return float(np.mean([data[groups == group].mean() for group in range(groups.max() + 1)]))


def effective_trials(strata: Sequence[Hashable]) -> float:
    """How many independent trials an unweighted mean over strata is worth: K^2 / sum_k 1/n_k, which is n if they are balanced."""
    sizes = np.bincount(numbered(strata))
    return float(len(sizes) ** 2 / np.sum(1 / sizes))


def stratified_bootstrap(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    strata: Sequence[Hashable] | None = None,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The unweighted mean over strata (default: one, a plain mean) with a percentile interval from resampling clusters.

    ``values``: (n,), or (seeds, n) for several training runs on the same questions. Then seeds and clusters are both resampled,
    independently, since every seed meets every cluster (the pigeonhole bootstrap, Owen 2007); put `seed_mean` beside it where
    there are few seeds. A stratum that a replicate misses is left out of that replicate's mean. Needs two clusters.
    """
    data = np.atleast_2d(np.asarray(values, dtype=np.float64))
    _, index, groups = cluster_indices(data[0], clusters)
    rows = np.zeros(len(index), dtype=np.intp) if strata is None else np.array(numbered(strata), dtype=np.intp)
    if len(rows) != len(index):
        raise ValueError(f"every value needs its stratum, got {len(index)} values and {len(rows)} strata")
    kinds = int(rows.max()) + 1
    cells = index * kinds + rows
    sums = np.stack([np.bincount(cells, seed, groups * kinds).reshape(groups, kinds) for seed in data])
    counts = np.bincount(cells, minlength=groups * kinds).reshape(groups, kinds).astype(np.float64)
    means = []
    for chunk in range(0, replicates, step := max(1, MAX_CELLS // groups)):
        drawn = min(step, replicates - chunk)
        seeds, weights = resampled(rng, len(data), drawn) / len(data), resampled(rng, groups, drawn)
        totals = np.einsum("rs,rsk->rk", seeds, np.einsum("rg,sgk->rsk", weights, sums, optimize=True))
        trials = weights @ counts
        means.append(np.nanmean(np.where(trials > 0, totals / np.maximum(trials, 1), np.nan), axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    value = float(np.mean(sums.mean(0).sum(0) / counts.sum(0)))
    return Estimate(value, float(low), float(high), len(index), groups)


def resampled(rng: np.random.Generator, size: int, replicates: int) -> Floats:
    """How often each of ``size`` things is drawn, in ``replicates`` draws of ``size`` with replacement: (replicates, size)."""
    draws = rng.integers(0, size, (replicates, size)) + np.arange(replicates)[:, None] * size
    return np.bincount(draws.ravel(), minlength=replicates * size).reshape(replicates, size).astype(np.float64)


def seed_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean over training seeds with its t interval: what another training run may give. Needs two seeds."""
    return clustered_mean(values, range(len(values)), confidence)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact p-value that ``gained`` and ``lost`` discordant pairs are equally probable (McNemar 1947)."""
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, step down (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def numbered(labels: Sequence[Hashable]) -> list[int]:
    """Labels as numbers from 0, in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def cluster_indices(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[Floats, NDArray[np.intp], int]:
    """Values as floats, the cluster number of each, and the number of clusters (at least two, else ``ValueError``)."""
    data = np.asarray(values, dtype=np.float64)
    index = np.array(numbered(clusters), dtype=np.intp)
    groups = len(set(clusters))
    if len(data) != len(index):
        raise ValueError(f"every value needs its cluster, got {len(data)} values and {len(index)} clusters")
    if groups < 2:
        raise ValueError(f"an interval needs at least two clusters (scenes), got {groups}")
    return data, index, groups
