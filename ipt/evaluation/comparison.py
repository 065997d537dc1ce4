"""Runs over the same questions, paired question by question: does a mode, or a checkpoint, answer better than another one?

The difference has an interval from resampling scenes. The exact McNemar test stands beside it, which takes questions as
independent, adjusted for all comparisons made together (Holm). Runs over other questions are refused: pairing them would
compare the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.common.statistics import holm, mcnemar_exact, mean_over_strata, stratified_bootstrap
from ipt.evaluation.metrics import AVERAGED, Interval, averages, clusters, grouped
from ipt.inference.prediction import Prediction, Run

REPLICATES = 10_000
SHOWN_IDS = 5
QUESTION = ("task", "sub_category", "scene", "question", "choices", "expected")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run ``other`` minus run ``reference`` (their labels) in one task.

    ``difference`` of accuracies in [-1, 1], averaged as the task is. ``interval``: 95%, by resampling scenes; ``None`` with fewer
    than two. ``gained``: ids of the questions that only ``other`` answers rightly; ``lost``: those that only ``reference`` does.
    ``p_value``: exact McNemar; ``adjusted``: for all comparisons made together.
    """

    task: str
    reference: str
    other: str
    averaged: bool
    difference: float
    interval: Interval | None
    count: int
    scenes: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    p_value: float
    adjusted: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(runs: Sequence[Run], seed: int = 0, replicates: int = REPLICATES) -> list[Comparison]:
    """Every run but the first against the first, task by task. ``ValueError`` names what differs where questions do."""
    if len(runs) < 2:
        raise UserError(f"a comparison needs at least two runs, got {len(runs)}")
    names, found = labels(runs), []
    for run, name in zip(runs[1:], names[1:], strict=True):
        pairs = paired(runs[0], run)
        by_task = grouped([first for first, _ in pairs], "task")
        others = {second.sample_id: second for _, second in pairs}
        mean = averages(Path(run.manifest.data))
        for (task,), group in sorted(by_task.items()):
            found.append(
                difference(
                    [(first, others[first.sample_id]) for first in group],
                    (names[0], name),
                    task in AVERAGED if mean is None else mean,
                    generator(seed, "difference", task),
                    replicates,
                )
            )
    return together(found)


def together(rows: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that are shown together, their p-values adjusted for the number of all of them."""
    adjusted = holm([row.p_value for row in rows])
    return [replace(row, adjusted=p) for row, p in zip(rows, adjusted, strict=True)]


def difference(
    pairs: Sequence[tuple[Prediction, Prediction]],
    names: tuple[str, str],
    averaged: bool,
    rng: np.random.Generator,
    replicates: int,
) -> Comparison:
    """The comparison of one task, as if it were the only one."""
    first = [reference for reference, _ in pairs]
    gains = [float(other.correct) - float(reference.correct) for reference, other in pairs]
    strata, scenes = [p.sub_category if averaged else "" for p in first], clusters(first)
    interval = None
    if len(set(scenes)) > 1:
        estimate = stratified_bootstrap(gains, scenes, rng, strata, replicates)
        interval = (estimate.low, estimate.high)
    gained = tuple(p.sample_id for p, gain in zip(first, gains, strict=True) if gain > 0)
    lost = tuple(p.sample_id for p, gain in zip(first, gains, strict=True) if gain < 0)
    p_value = mcnemar_exact(len(gained), len(lost))
    return Comparison(
        first[0].task,
        *names,
        averaged,
        mean_over_strata(gains, strata),
        interval,
        len(pairs),
        len(set(scenes)),
        gained,
        lost,
        p_value,
        adjusted=p_value,
    )


def paired(reference: Run, other: Run) -> list[tuple[Prediction, Prediction]]:
    """The predictions of two runs for each question, in the order of ids; questions that neither could read are left out.

    Raises ``ValueError`` naming the samples that one of them lacks, or the field in which a question differs.
    """
    first, second = ({p.sample_id: p for p in run.predictions} for run in (reference, other))
    lacking = [
        f"{len(ids)} only in {run.folder} ({named(ids)})"
        for run, ids in ((reference, first.keys() - second.keys()), (other, second.keys() - first.keys()))
        if ids
    ]
    if lacking:
        unfinished = [str(run.folder) for run in (reference, other) if run.done is None]
        hint = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
        raise UserError(f"the runs answer different samples: {', '.join(lacking)}{hint}")
    for field in QUESTION:
        ids = {name for name in first if getattr(first[name], field) != getattr(second[name], field)}
        if ids:
            example = min(ids)
            raise UserError(
                f"{len(ids)} samples differ in '{field}' ({named(ids)}): {getattr(first[example], field)!r:.80} in "
                f"{reference.folder}, {getattr(second[example], field)!r:.80} in {other.folder}"
            )
    return [(first[name], second[name]) for name in sorted(first) if first[name].choices]


def named(ids: set[str]) -> str:
    """The first few of some ids."""
    return ", ".join(sorted(ids)[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")


def labels(runs: Sequence[Run]) -> list[str]:
    """Short names that tell the runs apart: their modes, their checkpoints and modes, or their folders."""
    for names in (
        [run.manifest.mode for run in runs],
        [f"{Path(run.manifest.checkpoint).name} {run.manifest.mode}" for run in runs],
        [f"{run.folder.name} {run.manifest.mode}" for run in runs],
    ):
        if len(set(names)) == len(runs):
            return names
    return [f"{run.folder} {run.manifest.mode}" for run in runs]
