"""``python -m datagen.audit data=[DIR,DIR]``: audit sealed folders of samples together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.verify import Mismatch, maker, maker_of, recheck
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.progress import tracked
from ipt.samples.sample import SpatialSample

if TYPE_CHECKING:
    from datagen.audit.report import Recheck


@dataclass(frozen=True)
class AuditConfig:
    """Audit sealed folders of samples (or single shards) together, data=[DIR,DIR]: audit.json and audit.html.

    They go to output_dir, by default the first folder (for SHARD.parquet the folder SHARD-audit beside it). recompute renders
    every stored camera again and recomputes the answers; it needs the simulator that made the samples. The exit status is 1
    if a bar does not hold.
    """

    data: list[str]
    output_dir: str = ""
    recompute: bool = True
    seed: int = 0


def recomputation(folders: list[Path], stack: ExitStack) -> Recheck:
    """What recomputes the answers of generated ``folders``, with the backend their manifests name.

    ``ValueError`` says why that cannot be done: a single shard, a folder that no simulator made, several simulators, or
    one that is not installed.
    """
    made = [maker(folder) for folder in folders]
    if any(entry != made[0] for entry in made):
        raise ValueError("the folders were made with different simulators or settings; audit them one by one")
    backend = stack.enter_context(maker_of(folders[0]))

    def again(samples: Iterable[SpatialSample]) -> Iterator[Mismatch]:
        return recheck(samples, backend, lambda stored: tracked(stored, "recomputing answers", len(stored)))

    return again


def beside(source: Path) -> Path:
    """Where an audit goes by default: into the folder that it is about, or into one beside the shard."""
    return source.parent / f"{source.stem}-audit" if source.is_file() else source


def main(config: AuditConfig) -> None:
    """Write the audit and print every bar."""
    if not config.data:
        raise UserError("data=[DIR,DIR] names no folder")
    from datagen.audit.report import audit  # scikit-learn and matplotlib take seconds to import

    folders = [Path(folder) for folder in config.data]
    output = Path(config.output_dir) if config.output_dir else beside(folders[0])
    with ExitStack() as stack:
        again: Recheck | None = None
        if config.recompute:
            try:
                again = recomputation(folders, stack)
            except ValueError as error:
                print(f"answers are not recomputed: {error}")
        report = audit(folders, output, again, seed=config.seed)
    for bar in report["bars"]:
        mark = {True: "pass", False: "FAIL", None: "not tested"}[bar["passed"]]
        print(f"{mark:10} {bar['task']:4} {bar['bar']}: {bar['figure']}")
    print(f"written: {output / 'audit.html'}")
    if not report["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(AuditConfig, main)
