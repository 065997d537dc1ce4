"""The figures of a report: scores, paired differences, quality and training curves of runs, as one JSON value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.errors import UserError
from ipt.common.files import read_json_lines
from ipt.evaluation.comparison import Comparison, compare, labels, together
from ipt.evaluation.metrics import Scores, scores_of
from ipt.evaluation.quality.judge import Quality, judge
from ipt.evaluation.quality.lpips import Lpips
from ipt.evaluation.settings import QualityConfig
from ipt.inference.prediction import Run
from ipt.inference.selective import Point, curve

#: Files of a training run, and how many points of each of their curves are kept.
CURVE_FILES = {"training": "metrics.jsonl", "validation": "validation.jsonl"}
#: What a step cost, which says nothing about what was learnt.
COSTS = {"samples", "seconds", "data_wait", "tokens_per_second", "mfu", "mfu_bagel", "peak_memory"}
MAX_POINTS = 400

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class RunFigures:
    """One run: its ``label`` tells it from the others. ``curves``: (step, value) by name and file kind."""

    label: str
    run: Run
    scores: Scores
    quality: tuple[Quality, ...]
    curves: dict[str, dict[str, Curve]]

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "folder": str(self.run.folder),
            "manifest": asdict(self.run.manifest),
            "done": self.run.done,
            "predictions": len(self.run.predictions),
            "scores": self.scores.to_json(),
            "quality": [quality.to_json() for quality in self.quality],
            "curves": self.curves,
        }


@dataclass(frozen=True)
class Figures:
    """All runs, the comparisons among those that answered the same questions, and ``notes`` on what could not be computed.
    ``selective``: by run and task, what imagining only where the answer without is unsure would give."""

    runs: tuple[RunFigures, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    selective: dict[str, list[Point]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": [run.to_json() for run in self.runs],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "notes": list(self.notes),
            "selective": {name: [point._asdict() for point in points] for name, points in self.selective.items()},
        }


def compute(runs: Sequence[Run], quality: QualityConfig, seed: int) -> Figures:
    """Figures of runs, at least one; ``quality``: how imaginations are judged. ``ValueError`` where weights of LPIPS lack."""
    names, notes = labels(runs), []
    comparisons: list[Comparison] = []
    for group in same_data(runs):
        try:
            found = compare(group, seed) if len(group) > 1 else []
        except UserError as error:
            notes.append(f"No differences are given: {error}.")
            continue
        own = dict(zip(labels(group), (names[runs.index(run)] for run in group), strict=True))
        comparisons += [relabelled(row, own) for row in found]
    perceptual = None if quality.lpips is None else Lpips(Path(quality.lpips))
    parts = []
    for name, run in zip(names, runs, strict=True):
        judged: list[Quality] = []
        try:
            judged = judge(run, quality, seed, perceptual)
        except (UserError, OSError) as error:
            notes.append(f"The imaginations of {name} were not judged: {error}.")
        trained = training_curves(Path(run.manifest.checkpoint))
        parts.append(RunFigures(name, run, scores_of(run, seed), tuple(judged), trained))
    curves = selective_curves(dict(zip(names, runs, strict=True)))
    return Figures(tuple(parts), tuple(together(comparisons)), tuple(notes), curves)


def selective_curves(runs: Mapping[str, Run]) -> dict[str, list[Point]]:
    """`ipt.inference.selective.curve` of each run that imagines, and each task, with a run of the same weights and data that does
    not."""
    found: dict[str, list[Point]] = {}
    for without, (name, imagining) in itertools.product(runs.values(), runs.items()):
        here, there = without.manifest, imagining.manifest
        same = (here.checkpoint_sha256, here.data_sha256) == (there.checkpoint_sha256, there.data_sha256)
        if same and (here.mode, there.mode) == ("answer_only", "imagination"):
            for task in sorted({prediction.task for prediction in without.predictions}):
                points = curve([each for each in without.predictions if each.task == task], imagining.predictions)
                if points:
                    found[f"{name}, {task}"] = points
    return found


def same_data(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by the data that they answered, in the order given."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.manifest.data_sha256, []).append(run)
    return list(groups.values())


def relabelled(row: Comparison, names: dict[str, str]) -> Comparison:
    """The comparison with the labels that runs have in the whole report."""
    return Comparison(**{**asdict(row), "reference": names[row.reference], "other": names[row.other]})


def training_curves(checkpoint: Path) -> dict[str, dict[str, Curve]]:
    """The curves of the training run that ``checkpoint`` is, or lies in (up to two folders down); empty where there is none."""
    places = (checkpoint, *checkpoint.parents[:2])
    folder = next((place for place in places if (place / CURVE_FILES["training"]).is_file()), None)
    if folder is None:
        return {}
    curves: dict[str, dict[str, Curve]] = {}
    for kind, file in CURVE_FILES.items():
        records = read_json_lines(folder / file)
        fields = {name for record in records for name in numbers(record)} - {"step"}
        for name in sorted(fields - COSTS if kind == "training" else fields):
            points = [(record["step"], record[name]) for record in records if name in numbers(record)]
            curves.setdefault(name, {})[kind] = thinned(points)
    return curves


def numbers(record: dict[str, Any]) -> dict[str, float]:
    return {n: v for n, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def thinned(points: Curve) -> Curve:
    """At most ``MAX_POINTS`` points, means of neighbours."""
    if not points:
        return []
    blocks = np.array_split(np.array(points, dtype=np.float64), min(len(points), MAX_POINTS))
    return [(float(step), float(value)) for step, value in (block.mean(axis=0) for block in blocks)]
