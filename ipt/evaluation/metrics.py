"""Accuracies of a run, per task as the paper defines them, each with what it rests on and how sure it is.

PET is the unweighted mean of its sub-categories (six in the paper), the other tasks are plain accuracies; a published benchmark
says in its manifest what it averages (`ipt.evaluation.benchmarks`). An output that chooses no option is wrong and counted apart,
and so is a question whose answering failed. A question that could not even be read belongs to no task: it is only counted.

Modes are never merged: what is scored together has one task and one mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.files import MANIFEST, read_json
from ipt.common.seeding import generator
from ipt.common.statistics import effective_trials, mean_over_strata, stratified_bootstrap, wilson_interval
from ipt.evaluation.calibration import Calibration, calibration
from ipt.evaluation.tables import aligned, percent, span
from ipt.inference.prediction import Prediction, Run

AVERAGED = frozenset({"pet"})
REPLICATES = 2000

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Score:
    """An accuracy in [0, 1] over ``count`` questions.

    ``interval``: 95%, by resampling scenes; ``None`` where there are fewer than two. ``wilson``: as if questions were
    independent. ``scenes``: clusters, a question of unknown scene being one of its own. ``invalid``: outputs that choose no
    option; ``errors``: questions whose answering failed; both are wrong. ``opened_image``: outputs that announce an image.
    """

    value: float
    interval: Interval | None
    wilson: Interval
    count: int
    scenes: int
    invalid: int
    errors: int
    opened_image: int
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class TaskScores:
    """The score of a task in one mode, and those of its sub-categories. ``averaged``: whether the overall score is the
    unweighted mean of the sub-categories."""

    task: str
    mode: str
    averaged: bool
    overall: Score
    parts: Mapping[str, Score]

    @property
    def metric(self) -> str:
        return f"mean of {len(self.parts)} sub-categories" if self.averaged and len(self.parts) > 1 else "accuracy"


@dataclass(frozen=True, slots=True)
class Scores:
    """All tasks of a run. ``unread``: questions that could not be read; ``unknown_scenes``: questions without a scene."""

    tasks: tuple[TaskScores, ...]
    unread: int
    unknown_scenes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    predictions: Iterable[Prediction], averaged: bool | None = None, seed: int = 0, replicates: int = REPLICATES
) -> Scores:
    """Score every task and mode, whatever the order of the predictions. ``averaged``: overrules which tasks are means of their
    sub-categories."""
    listed = sorted(predictions, key=lambda prediction: prediction.sample_id)
    asked = [prediction for prediction in listed if prediction.choices]
    tasks = []
    for (task, mode), group in grouped(asked, "task", "mode").items():
        mean = task in AVERAGED if averaged is None else averaged
        kinds = grouped(group, "sub_category")
        names = [task, mode]
        parts = {
            kind: score(kinds[(kind,)], False, generator(seed, *names, kind), replicates) for (kind,) in sorted(kinds)
        }
        overall = score(group, mean, generator(seed, *names), replicates)
        tasks.append(TaskScores(task, mode, mean, overall, parts))
    unknown = sum(not prediction.scene for prediction in asked)
    return Scores(tuple(sorted(tasks, key=lambda row: (row.task, row.mode))), len(listed) - len(asked), unknown)


def grouped(predictions: Iterable[Prediction], *names: str) -> dict[tuple[str, ...], list[Prediction]]:
    """Predictions by the values of some fields."""
    groups: dict[tuple[str, ...], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault(tuple(getattr(prediction, name) for name in names), []).append(prediction)
    return groups


def score(group: Sequence[Prediction], averaged: bool, rng: np.random.Generator, replicates: int = REPLICATES) -> Score:
    """The accuracy of some predictions (at least one), or with ``averaged`` the mean over their sub-categories."""
    strata = [prediction.sub_category if averaged else "" for prediction in group]
    right = [prediction.correct for prediction in group]
    scenes = clusters(group)
    value, interval = mean_over_strata(right, strata), None
    if len(set(scenes)) > 1:
        estimate = stratified_bootstrap(right, scenes, rng, strata, replicates)
        interval = (estimate.low, estimate.high)
    trials = effective_trials(strata)
    errors = sum(prediction.error is not None for prediction in group)
    return Score(
        value,
        interval,
        wilson_interval(min(value, 1.0) * trials, trials),
        len(group),
        len(set(scenes)),
        invalid=sum(prediction.answer is None for prediction in group) - errors,
        errors=errors,
        opened_image=sum(prediction.opened_image for prediction in group),
        calibration=calibration(group),
    )


def clusters(group: Iterable[Prediction]) -> list[tuple[str, str]]:
    """What is resampled together: the scene, or the sample where its scene is unknown."""
    return [(prediction.scene, "" if prediction.scene else prediction.sample_id) for prediction in group]


def scores_of(run: Run, seed: int = 0, replicates: int = REPLICATES) -> Scores:
    """The scores of a run, averaged as the manifest of its data says where that is a benchmark that is still in its place."""
    return evaluate(run.predictions, averages(Path(run.manifest.data)), seed, replicates)


def averages(data: Path) -> bool | None:
    """Whether the benchmark in folder ``data`` is a mean of its sub-categories; ``None`` for other data."""
    path = data / MANIFEST
    benchmark = read_json(path).get("benchmark") if path.is_file() else None
    return bool(benchmark["averaged"]) if isinstance(benchmark, dict) else None


def summary(run: Run) -> str:
    """The scores of a run as a table to print: percentages, with 95% intervals."""
    scores = scores_of(run)
    head = ["", "metric", "%", "95% by scene", "Wilson", "n", "scenes", "invalid", "errors", "imagined"]
    rows = [[*head, "readout %", "log p", "Brier"]]
    for task in scores.tasks:
        rows.append([f"{task.task} {task.mode}", task.metric, *score_cells(task.overall)])
        if len(task.parts) > 1:
            rows += [[f"  {name}", "", *score_cells(part)] for name, part in task.parts.items()]
    lines = [f"{run.folder}: {run.manifest.checkpoint}, mode {run.manifest.mode}", aligned(rows, left=2)]
    if run.done is None:
        lines.append(f"This run is unfinished: {len(run.predictions)} questions so far.")
    if scores.unread:
        lines.append(f"{scores.unread} questions could not be read and are in no score.")
    if scores.unknown_scenes:
        lines.append(f"{scores.unknown_scenes} questions name no scene: each counts as one of its own.")
    return "\n".join(lines)


def score_cells(part: Score) -> list[str]:
    counts = [part.count, part.scenes, part.invalid, part.errors, part.opened_image]
    cells = [percent(part.value), span(part.interval), span(part.wilson), *map(str, counts)]
    readout = part.calibration
    if readout is None:
        return [*cells, "", "", ""]
    return [*cells, percent(readout.accuracy), f"{readout.log_probability:.3f}", f"{readout.brier:.3f}"]
