"""Everything that only a GPU can tell: ``python -m benchmarks.gpu output_dir=FOLDER budget_s=360``.

Each section is a process of its own, so that a failure, a hang or a full memory costs that section only. Results are lines of
``FOLDER/results.jsonl``, written as they come, and tables at the end. ``device=cpu scale=tiny`` runs the same code in seconds.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipt.common import cli
from ipt.common.registry import unknown_name

#: Sections in the order of their importance, with the seconds each may take.
LIMITS = {
    "machine": 40,
    "attention": 120,
    "training": 150,
    "sampling": 90,
    "small": 70,
    "sharded": 60,
    "compiled": 80,
    "options": 90,
}
SCALES = ("paper", "tiny")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure attention, training and sampling on a GPU.

    output_dir: folder for results; budget_s: seconds for all sections; device: cuda or cpu; scale: paper or tiny; only: sections
    to run, separated by '+' (all by default); section: run this one here, in this process.
    """

    output_dir: str
    budget_s: float = 360.0
    device: str = "cuda"
    scale: str = "paper"
    only: str = ""
    section: str = ""


def main(config: BenchmarkConfig) -> None:
    chosen = config.only.split("+") if config.only else list(LIMITS)
    for name in (*chosen, *([config.section] if config.section else [])):
        if name not in LIMITS:
            raise ValueError(unknown_name("section", name, LIMITS))
    if config.scale not in SCALES:
        raise ValueError(unknown_name("scale", config.scale, SCALES))
    if config.section:
        run_here(config)
        return
    Path(config.output_dir).mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for name in chosen:
        left = config.budget_s - (time.monotonic() - started)
        outcome = "skipped: no time left" if left < 10 else run_apart(config, name, min(left, LIMITS[name]))
        print(f"== {name}: {outcome}; {time.monotonic() - started:.0f} s so far", flush=True)
    print_tables(Path(config.output_dir) / "results.jsonl")


def run_apart(config: BenchmarkConfig, name: str, limit: float) -> str:
    """A section in a process of its own, ended with its children where it takes too long."""
    given = [f"{key}={getattr(config, key)}" for key in ("output_dir", "device", "scale")]
    command = [sys.executable, "-m", "benchmarks.gpu", f"section={name}", *given]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return f"exit code {process.wait(limit)}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {limit:.0f} s"


def run_here(config: BenchmarkConfig) -> None:
    import torch

    from benchmarks.gpu import attention, sampling, training
    from benchmarks.gpu.measure import Results
    from benchmarks.gpu.packs import PAPER, SMALL, TINY

    device = "cuda:0" if config.device == "cuda" else config.device
    if device == "cpu":
        torch.set_num_threads(1)
    large, little = (PAPER, SMALL) if config.scale == "paper" else (TINY, TINY)
    results = Results(Path(config.output_dir) / "results.jsonl", config.section, device)
    sections: dict[str, Callable[[], None]] = {
        "machine": lambda: machine(results),
        "attention": lambda: attention.run(results, large),
        "options": lambda: attention.options(results, large),
        "training": lambda: training.run(results, large),
        "compiled": lambda: training.compiled(results, large),
        "sharded": lambda: training.sharded(results, large),
        "small": lambda: training.small(results, little),
        "sampling": lambda: sampling.run(results, large),
    }
    with results.attempt(config.section):
        sections[config.section]()


def machine(results: Any) -> None:
    """What this runs on, and its ceilings: a bfloat16 matrix product of random numbers, and a copy, bytes read and written."""
    import torch

    from benchmarks.gpu.measure import seconds_of

    cuda = results.device != "cpu"
    name = torch.cuda.get_device_name() if cuda else platform.processor()
    results.add("versions", device=name, torch=torch.__version__, python=platform.python_version())
    side = 8192 if cuda else 256
    a, b = (torch.randn(side, side, device=results.device).bfloat16() for _ in range(2))
    product = seconds_of(lambda: a @ b, results.device, repeats=10, warm_up=3)
    copy = seconds_of(a.clone, results.device, repeats=10, warm_up=3)
    results.add("ceilings", matmul_tflops=2 * side**3 / product / 1e12, copy_tb_s=2 * a.nbytes / copy / 1e12)


def print_tables(path: Path) -> None:
    """All results as lists by section."""
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    section = ""
    for record in records:
        if record["section"] != section:
            section = record["section"]
            print(f"\n## {section}")
        values = ", ".join(f"{key} {value}" for key, value in record.items() if key not in ("section", "name"))
        print(f"- {record['name']}: {values}")


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
