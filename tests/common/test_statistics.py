"""Intervals cover what they claim to cover, also when questions of a scene stick together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.seeding import generator
from ipt.common.statistics import clustered_bootstrap, clustered_mean, wilson_interval


@given(st.integers(1, 2000), st.data())
def test_wilson_solves_the_score_equation(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    share = successes / total
    for bound in wilson_interval(successes, total):
        assert 0 <= bound <= 1
        if 0 < bound < 1:  # |share - p| = z * sqrt(p (1 - p) / n) at both ends
            assert abs(share - bound) == pytest.approx(
                1.959964 * (bound * (1 - bound) / total) ** 0.5, rel=1e-5, abs=1e-7
            )


def test_wilson_equals_the_published_example() -> None:
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I


def clustered_draw(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """120 scenes of 1 to 12 questions, half of whose variance is shared within the scene; the mean is 0."""
    sizes = rng.integers(1, 13, 120)
    scenes = np.repeat(np.arange(120), sizes)
    return rng.normal(size=120)[scenes] + rng.normal(size=len(scenes)), scenes.tolist()


def test_clustered_intervals_cover_and_naive_ones_do_not() -> None:
    rng = generator(0, "coverage")
    covered = {"t": 0, "bootstrap": 0, "naive": 0}
    for _ in range(400):
        values, scenes = clustered_draw(rng)
        covered["t"] += clustered_mean(values, scenes).includes(0)
        covered["naive"] += clustered_mean(values, range(len(values))).includes(0)
        covered["bootstrap"] += clustered_bootstrap(values, scenes, rng, replicates=200).includes(0)
    assert 368 <= covered["t"] <= 392  # 380 expected, standard deviation 4.4
    assert 362 <= covered["bootstrap"] <= 392
    assert covered["naive"] < 300


def test_bootstrap_of_a_mean_agrees_with_its_t_interval() -> None:
    values, scenes = clustered_draw(generator(1, "draw"))
    t = clustered_mean(values, scenes)
    bootstrap = clustered_bootstrap(values, scenes, generator(2, "draw"), replicates=4000)
    assert bootstrap.value == t.value
    assert (bootstrap.low, bootstrap.high) == pytest.approx((t.low, t.high), abs=0.1 * (t.high - t.low))


def test_order_of_questions_does_not_matter() -> None:
    values, scenes = clustered_draw(generator(3, "draw"))
    order = generator(4, "order").permutation(len(values))
    shuffled = clustered_mean(values[order], [scenes[index] for index in order])
    assert shuffled.low == pytest.approx(clustered_mean(values, scenes).low)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="5 of 3"):
        wilson_interval(5, 3)
    with pytest.raises(ValueError, match="at least two clusters"):
        clustered_mean([0.0, 1.0], ["a", "a"])
    with pytest.raises(ValueError, match="2 values and 1 clusters"):
        clustered_mean([0.0, 1.0], ["a"])
