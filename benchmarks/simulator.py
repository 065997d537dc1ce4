"""``python benchmarks/simulator.py``: what the embedded simulator costs, in CPU time, and where it goes.

CPU seconds of all threads, so that other work on the machine does not matter. One process; the last table runs one and
two processes side by side and prints the ratio of their throughputs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datagen.backends.base import TOP_DOWN_HIDES, top_down_camera
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common import cli
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure scene generation and rendering of the embedded simulator.

    homes, rooms: scenes measured per preset; renderer: auto, mujoco or ray; scaling: also compare one process with two.
    """

    homes: int = 40
    rooms: int = 200
    renderer: str = "auto"
    scaling: bool = True


class Clock:
    """Adds up CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    @contextmanager
    def __call__(self, name: str, count: int = 1) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start
        self.counts[name] += count

    def table(self, title: str) -> None:
        print(f"\n{title}\n| step | CPU-ms each |\n|---|---|")
        for name, seconds in self.seconds.items():
            print(f"| {name} | {1000 * seconds / self.counts[name]:.1f} |")


def cameras(backend: EmbeddedBackend, rng: np.random.Generator, count: int, size: int) -> list[Camera]:
    points = backend.sample_navigable(count, rng)
    return [Camera(CameraPose((x, y, 1.4), float(rng.uniform(-3, 3)), -0.2), size, size, 75) for x, y, _ in points]


def measure_homes(config: BenchmarkConfig) -> None:
    clock, rng = Clock(), generator(0, "benchmark")
    with EmbeddedBackend(EmbeddedConfig("home", config.renderer)) as backend:
        backend.load("home-val-0")
        backend.render(cameras(backend, rng, 1, 512))  # textures, context and caches of the process
        parts = triangles = 0
        for index in range(config.homes):
            scene_id = backend.scenes("train")[index]
            with clock("generate a home"):
                backend.load(scene_id)
            parts += len(backend.scene.parts)
            triangles += sum(len(part.mesh.faces) for part in backend.scene.parts)
            with clock("compile the model"):
                backend._renderer.load(backend.scene)
                backend._drawn = backend.scene
            with clock("free-space grid"):
                backend.free_map()
            with clock("first frame (upload of meshes and textures), 512 pixels, RGB"):
                backend.render(cameras(backend, rng, 1, 512), ("rgb",))
            for size in (256, 512):
                views = cameras(backend, rng, 4, size)
                for modalities in (("rgb",), ("depth", "instance"), ("rgb", "depth", "instance")):
                    with clock(f"frame, {size} pixels, {' + '.join(modalities)}", len(views)):
                        backend.render(views, modalities)
            with clock("plan from above, 512 pixels, RGB"):
                backend.render([top_down_camera((-1, -1, 9, 9), 512, 0.0)], ("rgb",), TOP_DOWN_HIDES)
            start, goal = backend.sample_navigable(2, rng)
            with clock("shortest path"):
                backend.shortest_path(start, goal)
        print(
            f"{backend.version}; {parts / config.homes:.0f} parts and {triangles / config.homes:.0f} triangles a home"
        )
    clock.table(f"{config.homes} homes")


def measure_blocks(config: BenchmarkConfig) -> None:
    clock, rng = Clock(), generator(1, "benchmark")
    with EmbeddedBackend(EmbeddedConfig("blocks", config.renderer)) as backend:
        backend.load("blocks-val-0")
        backend.render(cameras(backend, rng, 1, 64))
        for index in range(config.rooms):
            with clock("blocks scene with two 64-pixel RGB + depth + instance frames, all included"):
                backend.load(backend.scenes("train")[index])
                backend.render(cameras(backend, rng, 2, 64))
    clock.table(f"{config.rooms} block rooms")


WORKER = """
import sys, time
from benchmarks.simulator import cameras
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common.seeding import generator
rng = generator(int(sys.argv[2]), "scaling")
with EmbeddedBackend(EmbeddedConfig("home", sys.argv[1])) as backend:
    backend.load("home-val-0"); backend.render(cameras(backend, rng, 1, 256)); print("ready", flush=True); sys.stdin.readline()
    start = time.perf_counter()
    for index in range(12):
        backend.load(backend.scenes("train")[index]); backend.render(cameras(backend, rng, 8, 256))
    print(96 / (time.perf_counter() - start), flush=True)
"""


def throughput(renderer: str, processes: int) -> float:
    """Frames per second of wall time, summed over ``processes`` started together."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", WORKER, renderer]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as joblib gives its workers: BLAS threads only spin here
    running = [
        subprocess.Popen(
            [*command, str(seed)], cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for seed in range(processes)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


def main(config: BenchmarkConfig) -> None:
    measure_homes(config)
    measure_blocks(config)
    if config.scaling:
        one, two = throughput(config.renderer, 1), throughput(config.renderer, 2)
        print(f"\nhomes with 8 frames each: {one:.1f} frames/s with one process, {two:.1f} with two: {two / one:.2f}x")


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
