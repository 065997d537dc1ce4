"""The command that turns a downloaded evaluation set into a folder of samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ipt.common import cli
from ipt.common.errors import MissingFile, UserError
from ipt.common.progress import tracked
from ipt.common.registry import unknown_name
from ipt.evaluation.benchmarks.catalog import BENCHMARKS
from ipt.samples.sample import SpatialSample
from ipt.samples.store import seal, write_shards


@dataclass(frozen=True)
class BenchmarkConfig:
    """Convert a published evaluation set, downloaded into the folder data, into a folder of samples.

    name: pet_ai2thor, pet_habitat, pet_sat, mvc_ai2thor, mvc_scannet, mvc_messytable, pt_ai2thor, pt_real, mindcube, all_angles;
    or photos: a folder of your own pictures with questions.csv or questions.jsonl.
    The manifest remembers the name and how the set is scored.
    """

    name: str
    data: str
    output_dir: str


def main(config: BenchmarkConfig) -> None:
    """Write shards and, last, the manifest; says where the number of questions is not the published one."""
    if config.name not in BENCHMARKS:
        raise UserError(unknown_name("benchmark", config.name, BENCHMARKS))
    benchmark, source, output = BENCHMARKS[config.name], Path(config.data), Path(config.output_dir)
    if not source.exists():
        raise MissingFile(f"{source} does not exist; it must hold {benchmark.origin}")
    count = 0

    def samples() -> Iterator[SpatialSample]:
        nonlocal count
        for sample in tracked(benchmark.read(source, benchmark.name), f"reading {benchmark.name}", benchmark.size):
            count += 1
            yield sample

    shards = write_shards(output, benchmark.name, samples())
    about = {"name": benchmark.name, "averaged": benchmark.averaged, "published_size": benchmark.size}
    seal(output, {"source": source.name, "benchmark": about})
    if benchmark.size and count != benchmark.size:
        print(f"note: {count} questions; the published evaluation has {benchmark.size}", file=sys.stderr)
    print(f"{count} questions in {len(shards)} shards in {output}")


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
