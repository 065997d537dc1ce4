"""What do a run of the paper's size, one on 256 GPUs and a million samples cost? On paper, from the model's own counts.

    python -m benchmarks.scale                    # training: memory, traffic, time, failures (a second)
    python -m benchmarks.scale scenes=12          # data too: some scenes are made here and the rest is simulated (minutes)

Every assumption is a key: speeds of links and storage, MFU, how often a GPU fails. Memory and operations are those that
``dry_run=true`` prints; nothing is measured here but the scenes.
"""

from __future__ import annotations

import heapq
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipt.common.cli import run
from ipt.common.seeding import generator
from ipt.evaluation.tables import aligned

HOURS_A_WEEK = 168
#: GPUs, processes that share a model: one node by FSDP2, 32 nodes by HSDP.
RUNS = ((8, 8), (64, 8), (256, 8), (256, 32))


@dataclass(frozen=True)
class ScaleConfig:
    """Costs of training BAGEL's shape with IPT, and of its data.

    steps, pack: as in experiment=bagel; a step is one pack a GPU, each of an imagining sample repeated. mfu: share of the peak of
    ``gpu`` that goes into necessary operations (28 % were measured on one H200). node_gb_s, net_gb_s: GB/s a GPU sends to its
    node and to others. storage_gb_s: of the file system, all together. gpu_mtbf_hours: between failures of one GPU with its share
    of everything else (419 unexpected ends in 54 days of 16,384 GPUs are 50,700). restart_minutes: from a failure to the next
    step. save_minutes: between checkpoints; null takes the best interval.
    scenes: of each task to make here, none: no data. samples, workers: the dataset to simulate, and by how many processes, in
    parts of at most ``part_workers`` that have a selecting process each. start_s: until a process makes its first scene.
    worker_mtbf_hours: after which it fails, and its scene is made again.
    """

    steps: int = 25_000
    pack: int = 32_768
    gpu: str = "H100"
    mfu: float = 0.28
    node_gb_s: float = 450.0
    net_gb_s: float = 50.0
    storage_gb_s: float = 20.0
    gpu_mtbf_hours: float = 50_700.0
    restart_minutes: float = 10.0
    save_minutes: float | None = None
    scenes: int = 0
    image_size: int = 512
    samples: int = 1_000_000
    workers: tuple[int, ...] = (1, 2, 32, 1000)
    part_workers: int = 32
    start_s: float = 10.0
    worker_mtbf_hours: float = 1_000.0


def training(config: ScaleConfig) -> str:
    """Memory, traffic, time and failures of `RUNS`."""
    from ipt.model.checkpoint import build_on_meta  # torch takes seconds to import
    from ipt.model.config import presets
    from ipt.model.costs import activation_bytes, imagining_layout, parameters, sample
    from ipt.model.flops import PEAK_TFLOPS, forward_flops

    shape = presets["bagel_7b_mot"]
    weights = sum(parameters(build_on_meta(shape)).values())
    once = sample(shape, imagining_layout(shape))
    operations = forward_flops(shape, once.spans, once.patch_grids).training / once.spans.num_tokens * config.pack
    step_s = operations / (config.mfu * PEAK_TFLOPS[config.gpu] * 1e12)
    rows = [
        [
            "GPUs / shared by",
            "memory, GB",
            "in node, GB a step",
            "between nodes",
            "traffic / step, s",
            "run, hours",
            "save, s",
            "failures a week",
            "save every, min",
            "time lost",
        ]
    ]
    for gpus, shared in RUNS:
        memory = weights * (16 + 2 + 4) / shared + activation_bytes(shape, config.pack)
        near, far = traffic(weights, gpus, shared)
        moving = near / (config.node_gb_s * 1e9) + far / (config.net_gb_s * 1e9)
        save_s = weights * 16 / (config.storage_gb_s * 1e9)
        mtbf_s = config.gpu_mtbf_hours * 3600 / gpus
        every_s = 60 * config.save_minutes if config.save_minutes else math.sqrt(2 * save_s * mtbf_s)
        lost = save_s / every_s + (every_s / 2 + 60 * config.restart_minutes) / mtbf_s
        hours = config.steps * max(step_s, moving) / 3600 * (1 + lost)
        rows.append(
            [
                f"{gpus} / {shared}",
                f"{memory / 1e9:.0f}",
                f"{near / 1e9:.0f}",
                f"{far / 1e9:.1f}",
                f"{moving:.2f} / {step_s:.2f}",
                f"{hours:.1f}",
                f"{save_s:.0f}",
                f"{HOURS_A_WEEK * 3600 / mtbf_s:.2f}",
                f"{every_s / 60:.0f}",
                f"{100 * lost:.2f} %",
            ]
        )
    return aligned(rows)


def traffic(weights: int, gpus: int, shared: int, node: int = 8) -> tuple[float, float]:
    """Bytes that a GPU sends in a step inside of its node and between nodes: weights gathered in bfloat16 for forward and
    backward, gradients reduced and scattered in float32, and averaged over the repeats."""
    gathered = weights * (2 + 2 + 4) * (shared - 1) / shared
    repeats = gpus // shared
    averaged = 2 * (repeats - 1) / repeats * weights * 4 / shared
    return (gathered, averaged) if shared <= node else (0.0, gathered + averaged)


@dataclass(frozen=True)
class Measured:
    """``unit_s``, ``found``: CPU seconds and questions of each scene that was made here. ``select_s``: of the selecting process,
    per question. ``wall_s``: of a whole run by one process and by two."""

    unit_s: Sequence[float]
    found: Sequence[int]
    select_s: float
    wall_s: tuple[float, float]


def measured(task: str, config: ScaleConfig) -> Measured:
    """Scenes of the embedded simulator, one by one, and as runs."""
    from datagen.backends.registry import BACKENDS
    from datagen.config import RunConfig
    from datagen.run import generate
    from datagen.tasks import TASK_CONFIGS
    from datagen.units import UnitRef, close_backends, make_unit, read_unit

    backend = BACKENDS["embedded"].config_class()()
    settings = RunConfig(TASK_CONFIGS[task](), "embedded", backend, "", image_size=config.image_size, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        units = [UnitRef(Path(folder), number) for number in range(config.scenes)]
        for unit in units:
            make_unit(settings, unit)
        headers = [read_unit(unit) for unit in units]
    close_backends()
    unit_s = [header["cpu_s"] for header in headers]
    walls, spare = [], 0.0
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            wanted = replace(settings, output_dir=folder, num_samples=max(2, config.scenes), workers=workers)
            started, cpu = time.perf_counter(), time.process_time()
            manifest = generate(wanted, quiet=True)
            walls.append(time.perf_counter() - started)
            if workers == 1:
                scenes = manifest["yields"]["scene.gives_candidates"]["tested"]
                spare = max(time.process_time() - cpu - scenes * float(np.mean(unit_s)), 0.0) / wanted.num_samples
    return Measured(unit_s, [len(header["candidates"]) for header in headers], spare, (walls[0], walls[1]))


def simulated(found: Measured, workers: int, config: ScaleConfig) -> tuple[float, int]:
    """Wall seconds and lost scenes of ``config.samples`` questions, in parts of at most ``part_workers`` processes: whoever is
    free takes the next scene, whose time is one of those that were measured; who fails loses it and starts again; and a part is
    no faster than the process that selects."""
    parts = math.ceil(workers / config.part_workers)
    wanted = math.ceil(config.samples / parts)
    scenes = math.ceil(wanted / max(float(np.mean(found.found)), 1e-9))
    rng = generator(0, "scale", workers)
    seconds = rng.choice(found.unit_s, size=scenes)
    failures = rng.exponential(config.worker_mtbf_hours * 3600, size=scenes)
    crew, lost = [config.start_s] * math.ceil(workers / parts), 0
    for took, failure in zip(seconds.tolist(), failures.tolist(), strict=True):
        free = heapq.heappop(crew)
        if failure < took:
            lost, free = lost + 1, free + failure + config.start_s
        heapq.heappush(crew, free + took)
    return max(*crew, wanted * found.select_s), lost * parts


def data(config: ScaleConfig) -> str:
    """What was measured of each task, and the simulated dataset."""
    rows = [["task", "CPU-s a scene", "questions", "selecting, CPU-ms", "1 and 2 processes, s"]]
    rows[0] += [f"{config.samples:,} by {workers:,}, hours (lost)" for workers in config.workers]
    for task in ("pet", "pt", "mvc"):
        found = measured(task, config)
        row = [
            task,
            f"{np.mean(found.unit_s):.2f} ({np.max(found.unit_s):.2f} at most)",
            f"{np.mean(found.found):.1f}",
            f"{1000 * found.select_s:.0f}",
            f"{found.wall_s[0]:.0f}, {found.wall_s[1]:.0f}",
        ]
        for workers in config.workers:
            wall, lost = simulated(found, workers, config)
            row.append(f"{wall / 3600:,.2f} ({lost})")
        rows.append(row)
    return aligned(rows)


def main(config: ScaleConfig) -> None:
    """Print the tables."""
    print(training(config))
    if config.scenes:
        print("\n" + data(config))


if __name__ == "__main__":
    run(ScaleConfig, main)
