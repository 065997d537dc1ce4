"""Intervals for accuracies and other means, with questions that come in clusters (several per scene).

Questions about one scene share its furniture and its pictures, so they are not independent: an interval that treats them
as such is too narrow. Everything here resamples or sums over whole clusters. No torch: generation and evaluation share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


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


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion from independent trials (Wilson 1927): keeps its coverage near 0 and 1."""
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"a proportion needs 0 <= successes <= total and total > 0, got {successes} of {total}")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (successes + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(successes * (total - successes) / total + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_mean(values: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Mean over values (n,) with a t interval from cluster totals.

    The linearised variance of a ratio of sums, G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2, with G - 1 degrees of
    freedom (Cochran, Sampling Techniques, ch. 9A). Needs at least two clusters.
    """
    data, index, groups = cluster_indices(values, clusters)
    mean = float(data.mean())
    residuals = np.bincount(index, weights=data - mean, minlength=groups)
    error = math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / len(data)
    half = float(stats.t.ppf((1 + confidence) / 2, groups - 1)) * error
    return Estimate(mean, mean - half, mean + half, len(data), groups)


def clustered_bootstrap(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    statistic: Callable[[Floats], float] = np.mean,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """A statistic of values (n, ...) with a percentile interval from resampling whole clusters with replacement.

    For what is not a mean, or for paired differences of any kind; ``statistic`` sees the values of the drawn clusters.
    """
    data, index, groups = cluster_indices(values, clusters)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index, minlength=groups))[:-1])
    draws = rng.integers(0, groups, (replicates, groups))
    samples = [statistic(data[np.concatenate([members[group] for group in draw])]) for draw in draws]
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(statistic(data)), float(low), float(high), len(data), groups)


def cluster_indices(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[Floats, NDArray[np.intp], int]:
    """Values as floats, the cluster number of each, and the number of clusters (at least two, else ``ValueError``)."""
    data = np.asarray(values, dtype=np.float64)
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)
    if len(data) != len(index):
        raise ValueError(f"every value needs its cluster, got {len(data)} values and {len(index)} clusters")
    if len(numbers) < 2:
        raise ValueError(f"an interval needs at least two clusters (scenes), got {len(numbers)}")
    return data, index, len(numbers)
