"""Intervals cover what they claim to cover, also when questions of a scene stick together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.seeding import generator
from ipt.common.statistics import (
    clustered_mean,
    effective_trials,
    holm,
    mcnemar_exact,
    seed_mean,
    stratified_bootstrap,
    wilson_interval,
)


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
        covered["bootstrap"] += stratified_bootstrap(values, scenes, rng, replicates=200).includes(0)
    assert 368 <= covered["t"] <= 392  # 380 expected, standard deviation 4.4
    assert 362 <= covered["bootstrap"] <= 392
    assert covered["naive"] < 300


def simulated_accuracies(rng: np.random.Generator, accuracy: float) -> tuple[np.ndarray, list[int], list[int]]:
    """Right and wrong answers in 200 scenes of 2 to 8 questions of six kinds; the accuracy of a scene has a beta distribution."""
    scenes = np.repeat(np.arange(200), rng.integers(2, 9, 200))
    rates = rng.beta(2 * accuracy, 2 * (1 - accuracy), 200)
    return (rng.random(len(scenes)) < rates[scenes]) * 1.0, scenes.tolist(), rng.integers(0, 6, len(scenes)).tolist()


def test_at_200_scenes_the_clustered_interval_of_an_accuracy_covers_and_the_independent_one_does_not() -> None:
    rng = generator(0, "accuracy")
    covered = {"plain": 0, "strata": 0, "independent": 0}
    for _ in range(500):
        right, scenes, kinds = simulated_accuracies(rng, 0.7)
        covered["plain"] += stratified_bootstrap(right, scenes, rng, replicates=250).includes(0.7)
        covered["strata"] += stratified_bootstrap(right, scenes, rng, kinds, replicates=250).includes(0.7)
        low, high = wilson_interval(right.sum(), len(right))
        covered["independent"] += low <= 0.7 <= high
    assert 0.92 <= covered["plain"] / 500 <= 0.97, covered
    assert 0.92 <= covered["strata"] / 500 <= 0.97, covered
    assert covered["independent"] / 500 < 0.85, covered


def test_seeds_and_scenes_together_cover_where_either_alone_does_not() -> None:
    """Eight training runs that differ, on the same questions: the truth is the mean over runs and scenes to come."""
    rng = generator(0, "seeds")
    covered = {"both": 0, "scenes": 0, "seeds": 0}
    for _ in range(300):
        scenes = np.repeat(np.arange(60), 3)
        effects = rng.normal(scale=0.5, size=60)[scenes] + rng.normal(scale=0.2, size=(8, 1))
        values = effects + rng.normal(size=(8, 180))
        covered["both"] += stratified_bootstrap(values, scenes.tolist(), rng, replicates=250).includes(0)
        covered["scenes"] += stratified_bootstrap(values.mean(0), scenes.tolist(), rng, replicates=250).includes(0)
        covered["seeds"] += seed_mean(values.mean(1).tolist()).includes(0)
    assert covered["both"] / 300 >= 0.92, covered
    assert covered["scenes"] / 300 < 0.9 and covered["seeds"] / 300 < 0.92, covered


def test_equal_seeds_add_nothing_and_one_stratum_is_a_plain_mean() -> None:
    right, scenes, kinds = simulated_accuracies(generator(1, "draw"), 0.6)
    one = stratified_bootstrap(right, scenes, generator(2, "draw"), replicates=4000)
    for values, strata in ((np.stack([right] * 3), None), (right, ["all"] * len(right))):
        again = stratified_bootstrap(values, scenes, generator(3, "draw"), strata, replicates=4000)
        assert again.value == pytest.approx(one.value)
        assert (again.low, again.high) == pytest.approx((one.low, one.high), abs=0.1 * (one.high - one.low))
    mean = np.mean([right[np.array(kinds) == kind].mean() for kind in range(6)])
    assert stratified_bootstrap(right, scenes, generator(4, "draw"), kinds).value == pytest.approx(mean)


def test_replicates_in_pieces_are_the_same_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    right, scenes, kinds = simulated_accuracies(generator(1, "draw"), 0.6)
    whole = stratified_bootstrap(right, scenes, generator(2, "draw"), kinds, replicates=500)
    monkeypatch.setattr("ipt.common.statistics.MAX_CELLS", 200 * 7)
    pieces = stratified_bootstrap(right, scenes, generator(2, "draw"), kinds, replicates=500)
    assert pieces.value == whole.value
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.15 * (whole.high - whole.low))


def test_a_balanced_mean_over_strata_is_worth_all_its_trials_and_another_fewer() -> None:
    assert effective_trials(["a", "b", "c"] * 20) == pytest.approx(60)
    assert effective_trials(["a"] * 50 + ["b"] * 10) == pytest.approx(4 / (1 / 50 + 1 / 10))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_sign_test_of_the_discordant_pairs(gained: int, lost: int) -> None:
    p = mcnemar_exact(gained, lost)
    tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
    assert p == pytest.approx(min(1, 2 * tail)) and p == pytest.approx(mcnemar_exact(lost, gained))


def test_mcnemar_and_holm_equal_worked_examples() -> None:
    assert mcnemar_exact(1, 9) == pytest.approx(22 / 1024)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= min(1, p * len(p_values)) + 1e-12 for p, q in zip(p_values, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_bootstrap_of_a_mean_agrees_with_its_t_interval() -> None:
    values, scenes = clustered_draw(generator(1, "draw"))
    t = clustered_mean(values, scenes)
    found = stratified_bootstrap(values, scenes, generator(2, "draw"), replicates=4000)
    assert found.value == pytest.approx(t.value)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.1 * (t.high - t.low))


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
    with pytest.raises(ValueError, match="2 values and 1 strata"):
        stratified_bootstrap([0.0, 1.0], ["a", "b"], generator(0, "bad"), ["x"])
    with pytest.raises(ValueError, match="2 values and 1 clusters"):
        clustered_mean([0.0, 1.0], ["a"])
