"""Scores equal what a direct count gives, and their intervals cover what they claim to cover."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipt.common.files import write_json
from ipt.common.seeding import generator
from ipt.common.statistics import stratified_bootstrap, wilson_interval
from ipt.evaluation.calibration import calibration
from ipt.evaluation.metrics import Score, evaluate, score, summary
from ipt.inference.prediction import Prediction
from tests.evaluation.simulated import clustered, prediction, write_run


def overall(predictions: list[Prediction], averaged: bool | None = None) -> Score:
    (task,) = evaluate(predictions, averaged).tasks
    return task.overall


def test_perspective_taking_is_the_mean_of_its_sub_categories_whatever_their_sizes() -> None:
    rng = generator(0, "sizes")
    predictions = [prediction(n, bool(rng.random() < 0.2 + 0.1 * (n % 6))) for n in range(240)]
    predictions = [
        p for n, p in enumerate(predictions) if n % 6 or n < 60
    ]  # the first sub-category has fewer questions
    (task,) = evaluate(predictions).tasks
    by_hand = {
        name: np.mean([p.correct for p in predictions if p.sub_category == name])
        for name in {p.sub_category for p in predictions}
    }
    assert {name: part.value for name, part in task.parts.items()} == pytest.approx(by_hand)
    assert task.overall.value == pytest.approx(np.mean(list(by_hand.values())))
    assert task.overall.value != pytest.approx(np.mean([p.correct for p in predictions]), abs=1e-3)
    assert task.metric == "mean of 6 sub-categories"
    low, high = task.overall.interval or (1, 0)
    assert low < task.overall.value < high


@pytest.mark.parametrize("name", ["pt", "mvc"])
def test_the_other_tasks_are_plain_accuracies_unless_their_benchmark_averages(name: str) -> None:
    predictions = [prediction(n, n % 6 == 0 or n > 50, task=name) for n in range(60)]
    assert overall(predictions).value == pytest.approx(np.mean([p.correct for p in predictions]))
    assert overall(predictions, averaged=True).value == overall([replace(p, task="pet") for p in predictions]).value


def test_balanced_sub_categories_have_the_wilson_interval_of_the_plain_count() -> None:
    predictions = [prediction(n, n % 5 != 0) for n in range(120)]
    assert overall(predictions).wilson == pytest.approx(wilson_interval(96, 120))


def test_modes_and_tasks_are_never_merged() -> None:
    first = [prediction(n, True) for n in range(24)]
    second = [replace(p, mode="imagination", answer=None) for p in first]
    rows = evaluate([*first, *second, *(replace(p, task="mvc") for p in first)]).tasks
    assert [(row.task, row.mode, row.overall.value) for row in rows] == [
        ("mvc", "answer_only", 1.0),
        ("pet", "answer_only", 1.0),
        ("pet", "imagination", 0.0),
    ]


def test_invalid_outputs_and_failures_are_wrong_and_counted_apart() -> None:
    right = [prediction(n, True) for n in range(20)]
    invalid = [prediction(n, answer=None, opened_image=True) for n in range(20, 23)]
    failed = [prediction(n, answer=None, error="timeout: 60 s") for n in range(23, 25)]
    unread = [prediction(25, choices=(), expected=-1, answer=None, error="BadImage: x", sub_category="")]
    scores = evaluate([*right, *invalid, *failed, *unread], averaged=False)
    (task,) = scores.tasks
    assert (task.overall.count, task.overall.invalid, task.overall.errors, scores.unread) == (25, 3, 2, 1)
    assert (task.overall.value, task.overall.opened_image) == (pytest.approx(20 / 25), 3)


def test_questions_of_unknown_scene_count_for_themselves_and_one_scene_has_no_interval() -> None:
    unknown = [prediction(n, n % 3 > 0, scene="") for n in range(30)]
    scores = evaluate(unknown)
    assert (scores.unknown_scenes, scores.tasks[0].overall.scenes) == (30, 30)
    alone = overall([prediction(n, n % 3 > 0, scene="one") for n in range(30)])
    assert (alone.interval, alone.scenes) == (None, 1)


@pytest.mark.parametrize("averaged", [False, True])
def test_the_interval_is_that_of_resampled_scenes_which_is_wider_than_wilsons(averaged: bool) -> None:
    """That it covers what it claims is shown in tests/common/test_statistics.py."""
    predictions = clustered(generator(0, "interval"))
    found = score(predictions, averaged, generator(1, "draws"), replicates=500)
    strata = [p.sub_category if averaged else "" for p in predictions]
    right, scenes = [p.correct for p in predictions], [p.scene for p in predictions]
    expected = stratified_bootstrap(right, scenes, generator(1, "draws"), strata, replicates=500)
    assert found.interval == (expected.low, expected.high) and found.value == pytest.approx(expected.value)
    assert expected.high - expected.low > 1.3 * (found.wilson[1] - found.wilson[0])


def test_scores_do_not_depend_on_the_order_of_predictions() -> None:
    predictions = clustered(generator(1, "draw"), scenes=20)
    order = generator(2, "order").permutation(len(predictions))
    assert evaluate(predictions) == evaluate([predictions[index] for index in order])


def test_calibration_of_certain_uniform_and_honest_probabilities() -> None:
    certain = [prediction(n, True, probabilities=(1.0, 0.0) if n % 2 == 0 else (0.0, 1.0)) for n in range(100)]
    found = calibration(certain)
    assert found is not None and (found.accuracy, found.brier, found.log_probability, found.expected_error) == (
        1,
        0,
        0,
        0,
    )
    found = calibration([replace(p, probabilities=p.probabilities[::-1]) for p in certain])
    assert found is not None and (found.accuracy, found.brier, found.expected_error) == (0, 2, 1)
    found = calibration([replace(p, probabilities=(0.5, 0.5)) for p in certain])
    assert found is not None and (found.brier, found.log_probability) == (0.5, pytest.approx(np.log(0.5)))
    rng = generator(3, "honest")
    honest = [
        prediction(n, expected=int(rng.random() > q), probabilities=(q, 1 - q)) for n, q in enumerate(rng.random(4000))
    ]
    found = calibration(honest)
    assert found is not None and found.expected_error < 0.03 and found.brier == pytest.approx(1 / 3, abs=0.02)
    assert calibration([prediction()]) is None


def test_the_summary_names_every_figure_and_what_is_missing(tmp_path: Path) -> None:
    predictions = [prediction(n, n % 4 > 0, scene="" if n == 0 else "s") for n in range(24)]
    run = write_run(tmp_path / "run", predictions, done=False)
    text = summary(run)
    assert "75.0" in text and "kind_5" in text and "mean of 6 sub-categories" in text
    assert "unfinished: 24 questions" in text and "1 questions name no scene" in text
    assert "Brier" not in text  # nobody asked for probabilities
    json.dumps(evaluate(run.predictions).to_json(), allow_nan=False)


def test_a_benchmark_says_what_is_averaged(tmp_path: Path) -> None:
    predictions = [prediction(n, n % 6 == 0 or n > 50, task="pt") for n in range(58)]
    write_json(tmp_path / "data" / "manifest.json", {"benchmark": {"name": "x", "averaged": True}})
    benchmark = write_run(tmp_path / "a", predictions, data=str(tmp_path / "data"))
    plain = write_run(tmp_path / "b", predictions, data=str(tmp_path / "none"))
    assert "mean of 6 sub-categories" in summary(benchmark) and "mean of 6" not in summary(plain)
