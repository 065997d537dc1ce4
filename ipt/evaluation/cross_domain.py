"""``python -m ipt.evaluation.cross_domain checkpoints=[RUN,RUN] data=[DIR,DIR]``: what training on one source is worth on others.

Every checkpoint answers every dataset, each pair into a run folder of its own below output_dir, as ``infer.py`` would; the table
has a row per checkpoint and a column per dataset and task. The same command goes on where it was stopped and asks nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import read_json, write_json
from ipt.evaluation.metrics import Scores, TaskScores, scores_of
from ipt.evaluation.tables import aligned, percent, span
from ipt.inference.prediction import DONE, Run, read_manifest, read_run
from ipt.inference.settings import InferConfig, infer_config
from ipt.samples.store import SampleReader

if TYPE_CHECKING:
    from ipt.inference.checkpoint import Checkpoint

DATASETS = "datasets.json"  # of a training run: the data that it was begun with, by path


@dataclass(frozen=True)
class CrossDomainConfig:
    """Answer every dataset (data=[DIR,DIR]) with every checkpoint (checkpoints=[RUN,RUN]) and print accuracies, train source by
    test source, with 95% intervals by scene.

    mode: how a question is asked (answer_only, imagination, ...); settings.KEY=VALUE: its settings, such as
    settings.draw.timesteps=50. limit: the first so many samples of each dataset. output_dir: the run folders CHECKPOINT/DATASET,
    which compare and the report read as well, and transfer.json with all figures.
    """

    checkpoints: list[str]
    data: list[str]
    output_dir: str = "outputs/transfer"
    mode: str = "answer_only"
    settings: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    batch_size: int = 32
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"


@dataclass(frozen=True)
class Cell:
    """A checkpoint on a dataset, both by their short names, and what came of it."""

    checkpoint: str
    dataset: str
    run: Run
    scores: Scores

    def to_json(self) -> dict[str, Any]:
        manifest = self.run.manifest
        about = {"path": manifest.checkpoint, "trained_on": trained_on(Path(manifest.checkpoint))}
        return {
            "checkpoint": {"name": self.checkpoint, **about},
            "data": {"name": self.dataset, "path": manifest.data},
            "mode": manifest.mode,
            **self.scores.to_json(),
        }


def cross_domain(config: CrossDomainConfig) -> list[Cell]:
    """Every checkpoint on every dataset, in the order given; runs that are complete are read. A checkpoint is loaded once, and
    only where something is left to answer."""
    # every pair is checked before the first one is answered
    pairs = [
        [run_config(config, one, data) for data in short_names("data", config.data)]
        for one in short_names("checkpoints", config.checkpoints)
    ]
    cells = []
    for row in pairs:
        load = cache(lambda first=row[0]: loaded(first))
        for each in row:
            if not complete(each):
                from ipt.inference.run import answer_dataset

                answer_dataset(each, load())
            run = read_run(each.output_dir)
            cells.append(Cell(run.folder.parent.name, run.folder.name, run, scores_of(run, config.seed)))
    return cells


def loaded(config: InferConfig) -> Checkpoint:
    """The checkpoint of a run; torch takes seconds to import, so that it waits until it is needed."""
    from ipt.inference.run import load

    return load(config)


def run_config(config: CrossDomainConfig, checkpoint: tuple[str, str], data: tuple[str, str]) -> InferConfig:
    """The run of one pair, both as (short name, path)."""
    return infer_config(
        {
            "checkpoint": checkpoint[1],
            "data": data[1],
            "output_dir": str(Path(config.output_dir) / checkpoint[0] / data[0]),
            "mode": {"name": config.mode, **config.settings},
            "limit": config.limit,
            "batch_size": config.batch_size,
            "seed": config.seed,
            "device": config.device,
            "dtype": config.dtype,
        }
    )


def complete(config: InferConfig) -> bool:
    """Whether a run's folder holds all its answers. ``UserError`` where they are those of another run."""
    folder = Path(config.output_dir)
    if not (folder / DONE).is_file():
        return False
    from ipt.inference.run import manifest

    manifest(config, SampleReader(Path(str(config.data)))).check_same(read_manifest(folder), folder)
    return True


def short_names(what: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """(name, path) of each folder: as many of its last parts as tell all apart. ``UserError`` for none, and for one twice."""
    parts = [Path(path).resolve().parts[1:] for path in paths]
    if not paths or len(set(parts)) < len(parts):
        raise UserError(f"{what} must name at least one folder, and each once, got {list(paths)}")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return list(zip(names, paths, strict=True))


def trained_on(checkpoint: Path) -> list[str]:
    """Names of the datasets that a training run was begun with; none for weights from elsewhere."""
    path = checkpoint / DATASETS
    return sorted(Path(name).name for name in read_json(path)) if path.is_file() else []


def table(cells: Sequence[Cell]) -> str:
    """One row per checkpoint, one column per dataset and task; a dash where a dataset has no question of the task."""
    columns = list(dict.fromkeys((cell.dataset, task.task) for cell in cells for task in cell.scores.tasks))
    found: dict[str, dict[tuple[str, str], TaskScores]] = {}
    sources = {cell.checkpoint: trained_on(Path(cell.run.manifest.checkpoint)) for cell in cells}
    for cell in cells:
        found.setdefault(cell.checkpoint, {}).update({(cell.dataset, task.task): task for task in cell.scores.tasks})
    rows = [["%", "trained with", *(f"{dataset} {task}" for dataset, task in columns)]]
    for name, scores in found.items():
        cell_texts = [
            f"{percent(scores[column].overall.value)} {span(scores[column].overall.interval)}"
            if column in scores
            else "-"
            for column in columns
        ]
        rows.append([name, " + ".join(sources[name]), *cell_texts])
    return aligned(rows, left=2)


def main(config: CrossDomainConfig) -> None:
    """Answer what is left, print the table and where answers are missing, write transfer.json."""
    cells = cross_domain(config)
    print(f"mode {config.mode}, accuracy with 95% by scene")
    print(table(cells))
    for cell in cells:
        failed = sum(task.overall.errors for task in cell.scores.tasks) + cell.scores.unread
        if failed:
            print(
                f"{cell.run.folder}: {failed} questions could not be answered; {cell.run.folder}/predictions.jsonl says why"
            )
    write_json(Path(config.output_dir) / "transfer.json", [cell.to_json() for cell in cells])


if __name__ == "__main__":
    cli.run(CrossDomainConfig, main)
