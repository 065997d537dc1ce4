"""A training step of `small` against the same step written naively, in one run: ``python -m benchmarks.training``.

Naive is a loop of our own: one mask of S x S numbers for the whole pack, every token gathered and scattered by its expert around
each operation, and logits of all trained positions at once. The published code does the latter two, but masks and attends sample
by sample; `benchmarks.reference` measures it. Both compute the same losses. Each step is measured in a process of its own, the
two kinds in turn; rates are medians per CPU-second, which other jobs disturb least.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field

from ipt.common import cli

KINDS = ("naive", "ours")


@dataclass(frozen=True)
class BenchmarkConfig:
    """A training step of a preset against a naive one.

    preset: tiny or small; samples: imagining samples in a pack, for each pack; threads; repeats; only: ours or naive, once.
    """

    preset: str = "small"
    samples: list[int] = field(default_factory=lambda: [1, 4])
    threads: int = 2
    repeats: int = 3
    only: str = ""


@dataclass(frozen=True)
class Measured:
    """CPU-seconds of one step, its loss, and the most memory that the process ever held, in bytes."""

    seconds: float
    loss: float
    peak: int


def in_a_process(config: BenchmarkConfig, samples: int, kind: str) -> Measured:
    """`measure` there. Threads that wait do not spin: their CPU time would count."""
    given = [f"preset={config.preset}", f"samples=[{samples}]", f"threads={config.threads}", f"only={kind}"]
    command = [sys.executable, "-m", "benchmarks.training", *given]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Measured(**json.loads(done.stdout))


def main(config: BenchmarkConfig) -> None:
    import torch  # takes seconds to import

    from benchmarks.naive import Bench, measure, pack

    if config.only:
        print(json.dumps(asdict(measure(config))))
        return
    print(f"{platform.machine()}, {config.threads} threads, torch {torch.__version__}, {config.preset}")
    print("\n| step | tokens | tokens per core-s | ratio | peak memory, MB | loss |\n|---|---|---|---|---|---|")
    bench = Bench(config.preset)
    for samples in config.samples:
        tokens, taken = pack(bench, samples).spans.num_tokens, {kind: [] for kind in KINDS}
        for _ in range(config.repeats):
            for kind in KINDS:
                taken[kind].append(in_a_process(config, samples, kind))
        medians = {kind: statistics.median(each.seconds for each in taken[kind]) for kind in KINDS}
        for kind, seconds in medians.items():
            peak = max(each.peak for each in taken[kind]) / 1e6
            speed, ratio, loss = tokens / seconds, medians[KINDS[0]] / seconds, taken[kind][0].loss
            print(f"| {kind} | {tokens:,} | {speed:,.0f} | {ratio:.2f} | {peak:,.0f} | {loss:.6f} |", flush=True)


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
