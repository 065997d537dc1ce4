"""``python -m ipt.evaluation.compare runs=[RUN,RUN]``: scores side by side, and what differs from the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipt.common import cli
from ipt.common.files import write_json
from ipt.evaluation.comparison import Comparison, compare, labels
from ipt.evaluation.metrics import Scores, scores_of, summary
from ipt.evaluation.tables import aligned, percent, span
from ipt.inference.prediction import Run, read_run


@dataclass(frozen=True)
class CompareConfig:
    """Score runs of inference (runs=[DIR,DIR]), and compare all others with the first, question by question.

    output_dir: where comparison.json goes: all figures, with the ids of the questions that only one of two runs answers rightly.
    """

    runs: list[str]
    output_dir: str = ""
    seed: int = 0


def main(config: CompareConfig) -> None:
    """Print the tables; write the JSON where one is asked for."""
    runs = [read_run(folder) for folder in config.runs]
    scores = [scores_of(run, config.seed) for run in runs]
    comparisons = compare(runs, config.seed) if len(runs) > 1 else []
    print(
        "\n\n".join([*map(summary, runs), *([columns(runs, scores), differences(comparisons)] if comparisons else [])])
    )
    if config.output_dir:
        write_json(
            Path(config.output_dir) / "comparison.json",
            {
                "runs": [str(run.folder) for run in runs],
                "scores": [each.to_json() for each in scores],
                "comparisons": [each.to_json() for each in comparisons],
            },
        )


def columns(runs: Sequence[Run], scores: Sequence[Scores]) -> str:
    """One row per task, one column per run: a mode is a column of its own, and no figure is a maximum."""
    found = [{task.task: task.overall for task in each.tasks} for each in scores]
    rows = [["%", *labels(runs)]]
    for task in sorted({name for each in found for name in each}):
        cells = [f"{percent(each[task].value)} {span(each[task].interval)}" if task in each else "-" for each in found]
        rows.append([task, *cells])
    return aligned(rows)


def differences(comparisons: Sequence[Comparison]) -> str:
    """One row per task and run: what it gains over the first one."""
    rows = [
        [
            "minus " + comparisons[0].reference,
            "",
            "points",
            "95% by scene",
            "n",
            "gained",
            "lost",
            "McNemar p",
            "Holm p",
        ]
    ]
    for row in comparisons:
        counts = [str(number) for number in (row.count, len(row.gained), len(row.lost))]
        change = [f"{100 * row.difference:+.1f}", span(row.interval, signed=True)]
        rows.append([row.other, row.task, *change, *counts, f"{row.p_value:.3g}", f"{row.adjusted:.3g}"])
    return aligned(rows, left=2)


if __name__ == "__main__":
    cli.run(CompareConfig, main)
