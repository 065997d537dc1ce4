"""``python -m ipt.evaluation.seeds runs=[RUN,RUN] reference=[RUN,RUN]``: the same training with several seeds.

Two questions, two intervals: what another training run may give (t, over seeds), and what other runs on other scenes may give
(seeds and scenes resampled together). With a reference, both are about the difference of two arms, paired by position: give the
runs of both in the order of their seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import write_json
from ipt.common.seeding import generator
from ipt.common.statistics import mean_over_strata, seed_mean, stratified_bootstrap
from ipt.evaluation.comparison import REPLICATES, paired
from ipt.evaluation.metrics import AVERAGED, Interval, averages, clusters, grouped
from ipt.evaluation.tables import aligned, percent, span
from ipt.inference.prediction import Prediction, Run, read_run


@dataclass(frozen=True, slots=True)
class SeedScore:
    """The accuracy of a task, or the difference of two arms, over training seeds.

    ``values``: one per run, in the order given; ``value``: their mean. ``seeds``: its 95% t interval over runs; ``both``: over
    runs and scenes; ``None`` where there are fewer than two runs, or scenes.
    """

    task: str
    mode: str
    averaged: bool
    values: tuple[float, ...]
    value: float
    seeds: Interval | None
    both: Interval | None
    count: int
    scenes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def over_seeds(
    runs: Sequence[Run], reference: Sequence[Run] = (), seed: int = 0, replicates: int = REPLICATES
) -> list[SeedScore]:
    """Every task of ``runs`` of one mode, minus those of ``reference`` where there are any.

    Raises ``ValueError`` for arms of different length, runs of different modes within an arm, or different questions.
    """
    if reference and len(reference) != len(runs):
        raise UserError(f"arms are paired run by run, got {len(runs)} runs and {len(reference)} of the reference")
    for arm in (runs, reference):
        if len(modes := {run.manifest.mode for run in arm}) > 1:
            raise UserError(f"the runs of an arm share a mode, got {', '.join(sorted(modes))}")
    arms = [[answers(runs[0], run) for run in arm] for arm in (runs, reference)]
    mean, mode = averages(Path(runs[0].manifest.data)), runs[0].manifest.mode
    if reference and reference[0].manifest.mode != mode:
        mode = f"{mode} - {reference[0].manifest.mode}"
    asked = [prediction for prediction, _ in paired(runs[0], runs[0])]
    return [
        seed_score(group, arms, mode, task in AVERAGED if mean is None else mean, generator(seed, task), replicates)
        for (task,), group in sorted(grouped(asked, "task").items())
    ]


def answers(first: Run, run: Run) -> dict[str, bool]:
    """Which questions of ``first`` a run answers rightly, by id."""
    return {other.sample_id: other.correct for _, other in paired(first, run)}


def seed_score(
    group: Sequence[Prediction],
    arms: Sequence[Sequence[dict[str, bool]]],
    mode: str,
    averaged: bool,
    rng: np.random.Generator,
    replicates: int,
) -> SeedScore:
    """The score of one task, whose questions are those of ``group``."""
    own, reference = (np.array([[right[p.sample_id] for p in group] for right in arm], np.float64) for arm in arms)
    gains = own - reference if len(reference) else own
    strata, scenes = [p.sub_category if averaged else "" for p in group], clusters(group)
    values = tuple(mean_over_strata(row, strata) for row in gains)
    seeds = both = None
    if len(values) > 1:
        estimate = seed_mean(values)
        seeds = (estimate.low, estimate.high)
        if len(set(scenes)) > 1:
            estimate = stratified_bootstrap(gains, scenes, rng, strata, replicates)
            both = (estimate.low, estimate.high)
    value = float(np.mean(values))
    return SeedScore(group[0].task, mode, averaged, values, value, seeds, both, len(group), len(set(scenes)))


@dataclass(frozen=True)
class SeedsConfig:
    """Accuracy over training seeds: runs of inference with the checkpoints of one arm (runs=[DIR,DIR]).

    reference: runs of another arm, in the same order of seeds, which is subtracted. output_dir: where seeds.json goes, with all
    figures.
    """

    runs: list[str]
    reference: list[str] = field(default_factory=list)
    output_dir: str = ""
    seed: int = 0


def main(config: SeedsConfig) -> None:
    """Print one row per task; write the JSON where one is asked for."""
    runs, reference = ([read_run(folder) for folder in names] for names in (config.runs, config.reference))
    if not runs:
        raise UserError("runs= names no run folder")
    scores = over_seeds(runs, reference, config.seed)
    rows = [["", "mode", "%", "95% by seed", "95% by seed and scene", "seeds", "n", "scenes", "of each seed"]]
    for row in scores:
        signed = bool(reference)
        figures = [percent(row.value), span(row.seeds, signed), span(row.both, signed)]
        counts = [str(number) for number in (len(row.values), row.count, row.scenes)]
        rows.append([row.task, row.mode, *figures, *counts, " ".join(map(percent, row.values))])
    print(aligned(rows, left=2))
    if config.output_dir:
        write_json(Path(config.output_dir) / "seeds.json", [score.to_json() for score in scores])


if __name__ == "__main__":
    cli.run(SeedsConfig, main)
