"""Comparisons pair the same questions, tell gains from losses, and refuse anything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipt.common import cli
from ipt.common.seeding import generator
from ipt.common.statistics import mcnemar_exact, seed_mean
from ipt.evaluation import compare as command
from ipt.evaluation import seeds as seeds_command
from ipt.evaluation.comparison import compare, labels
from ipt.evaluation.metrics import evaluate
from ipt.evaluation.seeds import over_seeds
from ipt.inference.prediction import Prediction, Run
from tests.evaluation.simulated import clustered, prediction, write_run


def imagined(predictions: Sequence[Prediction], rng: np.random.Generator, gain: float, loss: float) -> list[Prediction]:
    """The same questions in another mode: some wrong answers become right, some right ones wrong."""
    flips = rng.random(len(predictions)) < np.where([p.correct for p in predictions], loss, gain)
    answers = [1 - (p.answer or 0) if flip else p.answer for p, flip in zip(predictions, flips, strict=True)]
    return [replace(p, answer=a, mode="imagination") for p, a in zip(predictions, answers, strict=True)]


@pytest.fixture
def pair(tmp_path: Path) -> list[Run]:
    """An answer-only run and one with imagination, in another order."""
    first = clustered(generator(0, "pair"), scenes=60)
    second = imagined(first, generator(1, "flips"), 0.5, 0.05)
    return [write_run(tmp_path / "plain", first), write_run(tmp_path / "imagined", second[::-1])]


def test_the_difference_is_that_of_the_scores_and_its_lists_are_the_flipped_questions(pair: list[Run]) -> None:
    (found,) = compare(pair)
    plain, other = (evaluate(run.predictions).tasks[0].overall for run in pair)
    assert found.difference == pytest.approx(other.value - plain.value)
    right = [{p.sample_id: p.correct for p in run.predictions} for run in pair]
    assert set(found.gained) == {name for name in right[0] if right[1][name] and not right[0][name]}
    assert set(found.lost) == {name for name in right[0] if right[0][name] and not right[1][name]}
    assert found.p_value == found.adjusted == mcnemar_exact(len(found.gained), len(found.lost))
    assert found.interval is not None and found.interval[0] < found.difference < found.interval[1]
    assert (found.reference, found.other, found.averaged) == ("answer_only", "imagination", True)


def test_exchanging_the_runs_changes_the_sign_and_nothing_else(pair: list[Run]) -> None:
    (there,), (back,) = compare(pair), compare(pair[::-1])
    assert back.difference == pytest.approx(-there.difference)
    assert (back.gained, back.lost, back.p_value) == (there.lost, there.gained, there.p_value)
    assert there.interval is not None and back.interval is not None
    assert back.interval[::-1] == pytest.approx([-bound for bound in there.interval], abs=0.02)


def test_a_run_does_not_differ_from_itself(pair: list[Run], tmp_path: Path) -> None:
    same = write_run(tmp_path / "again", pair[0].predictions)
    (found,) = compare([pair[0], same])
    assert (found.difference, found.interval, found.gained, found.lost, found.p_value) == (0, (0, 0), (), (), 1)


def test_pairing_makes_the_interval_narrower_than_that_of_independent_runs(pair: list[Run]) -> None:
    (found,) = compare(pair)
    spread = [evaluate(run.predictions).tasks[0].overall.interval for run in pair]
    assert found.interval is not None and all(spread)
    independent = np.hypot(*[high - low for low, high in filter(None, spread)])
    assert found.interval[1] - found.interval[0] < independent


def test_p_values_are_adjusted_for_all_comparisons_made_together(pair: list[Run], tmp_path: Path) -> None:
    weak = imagined(pair[0].predictions, generator(2, "flips"), 0.05, 0.02)
    third = write_run(tmp_path / "weak", [replace(p, mode="gt_imagination") for p in weak])
    strong, weakest = compare([*pair, third])
    assert strong.adjusted == pytest.approx(min(1, 2 * strong.p_value))
    assert weakest.adjusted == pytest.approx(max(weakest.p_value, strong.adjusted))


def test_other_samples_are_refused_by_name(pair: list[Run], tmp_path: Path) -> None:
    predictions = list(pair[0].predictions)
    fewer = write_run(tmp_path / "fewer", predictions[:-2], done=False)
    with pytest.raises(ValueError, match=rf"2 only in .*plain \({predictions[-2].sample_id}, .*unfinished: .*fewer"):
        compare([pair[0], fewer])
    more = write_run(tmp_path / "more", [*predictions, prediction(99999)])
    with pytest.raises(ValueError, match=r"1 only in .*more \(q-99999\)"):
        compare([pair[0], more])
    with pytest.raises(ValueError, match="at least two runs, got 1"):
        compare(pair[:1])


@pytest.mark.parametrize(
    ("field", "value"), [("question", "Another?"), ("choices", ("Left", "Up")), ("task", "mvc"), ("scene", "elsewhere")]
)
def test_other_questions_under_the_same_id_are_refused_by_field(
    pair: list[Run], tmp_path: Path, field: str, value: object
) -> None:
    predictions = list(pair[0].predictions)
    predictions[3] = replace(predictions[3], **{field: value})
    changed = write_run(tmp_path / "changed", predictions)
    with pytest.raises(ValueError, match=f"1 samples differ in '{field}' .{predictions[3].sample_id}"):
        compare([pair[0], changed])


def test_runs_are_told_apart_by_mode_then_checkpoint_then_folder(pair: list[Run], tmp_path: Path) -> None:
    predictions = pair[0].predictions
    a = write_run(tmp_path / "a", predictions, checkpoint="runs/one")
    b = write_run(tmp_path / "b", predictions, checkpoint="runs/two")
    c = write_run(tmp_path / "c", predictions, checkpoint="runs/two")
    assert labels(pair) == ["answer_only", "imagination"]
    assert labels([a, b]) == ["one answer_only", "two answer_only"]
    assert labels([b, c]) == ["b answer_only", "c answer_only"]


def test_the_command_shows_modes_as_columns_and_writes_every_figure(
    pair: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ",".join(str(run.folder) for run in pair)
    cli.run(command.CompareConfig, command.main, [f"runs=[{folders}]", f"output_dir={tmp_path}"])
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert any("answer_only" in line and "imagination" in line for line in printed.splitlines())
    assert len(written["scores"]) == 2
    assert len(written["comparisons"][0]["gained"]) > len(written["comparisons"][0]["lost"])
    assert f"{100 * written['comparisons'][0]['difference']:+.1f}" in printed
    for arguments, told in (
        ([f"runs={tmp_path}"], "is no run of inference"),
        ([f"runs={folders}"], f"a list stands in brackets: runs=[{folders}]"),
        ([f"runs=[{folders}]", "output=a.json"], "'output' is called 'output_dir'"),
    ):
        with pytest.raises(SystemExit):
            cli.run(command.CompareConfig, command.main, arguments)
        assert told in capsys.readouterr().err


def test_seeds_have_an_interval_over_runs_and_one_over_runs_and_scenes(tmp_path: Path) -> None:
    first = clustered(generator(0, "seeds"), scenes=40)
    arms = {
        name: [
            write_run(
                tmp_path / f"{name}{seed}",
                imagined(first, generator(seed, name), gain, 0.1),
                checkpoint=f"{name}{seed}",
            )
            for seed in range(4)
        ]
        for name, gain in (("weak", 0.1), ("strong", 0.6))
    }
    (weak,), (strong,) = over_seeds(arms["weak"]), over_seeds(arms["strong"])
    for row, runs in ((weak, arms["weak"]), (strong, arms["strong"])):
        assert row.values == pytest.approx([evaluate(run.predictions).tasks[0].overall.value for run in runs])
        expected = seed_mean(row.values)
        assert row.seeds == (expected.low, expected.high) and row.value == pytest.approx(expected.value)
        assert row.both is not None and row.both[0] < row.value < row.both[1]
    (gain,) = over_seeds(arms["strong"], arms["weak"])
    assert gain.value == pytest.approx(strong.value - weak.value)
    assert gain.values == pytest.approx([b - a for a, b in zip(weak.values, strong.values, strict=True)])
    assert gain.both is not None and gain.both[0] > 0
    (alone,) = over_seeds(arms["weak"][:1])
    assert (alone.seeds, alone.both) == (None, None)


def test_arms_that_do_not_fit_are_refused(pair: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="got 2 runs and 1 of the reference"):
        over_seeds([pair[0], pair[0]], [pair[1]])
    with pytest.raises(ValueError, match="share a mode, got answer_only, imagination"):
        over_seeds(pair)
    cli.run(seeds_command.SeedsConfig, seeds_command.main, [f"runs={pair[1].folder}", f"reference={pair[0].folder}"])
    assert "imagination - answer_only" in capsys.readouterr().out
