"""``python benchmarks/thor_overhead.py``: what the AI2-THOR adapter and its wire add to a frame.

The stand-in player draws the same embedded homes that are drawn in this process, so the difference is client, wire and
adapter, plus the agent's own three (blank) pictures that every message of a player carries. CPU seconds are those of both
processes; each round measures both ways, and the ratio is the median over rounds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from datagen.backends.ai2thor import Ai2thorBackend
from datagen.backends.base import SceneBackend, SimulatorDied
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common import cli
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.standins.thor import ThorMachine, running, thor_machine

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare frames through the AI2-THOR client and a stand-in player with the same frames drawn in this process.

    size: picture side in pixels; frames: per round; rounds: of which the median counts; home: number of the home.
    """

    size: int = 512
    frames: int = 12
    rounds: int = 7
    home: int = 205


def cpu_of(process_id: int) -> float:
    """CPU seconds of another process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(backend: SceneBackend, cameras: Sequence[Camera], player: int | None) -> tuple[float, float]:
    """Wall and CPU milliseconds per frame."""

    def cpu() -> float:
        return time.process_time() + (cpu_of(player) if player is not None else 0.0)

    started, used = time.perf_counter(), cpu()
    backend.render(cameras)
    scale = 1000 / len(cameras)
    return scale * (time.perf_counter() - started), scale * (cpu() - used)


def overhead(config: BenchmarkConfig, machine: ThorMachine, server: str) -> None:
    with (
        Ai2thorBackend(machine.config(server=server, image_size=config.size)) as thor,
        EmbeddedBackend(EmbeddedConfig()) as embedded,
    ):
        thor.load(f"FloorPlan{config.home}")
        embedded.load(f"home-train-{config.home}")
        places = thor.sample_navigable(config.frames, generator(0, "benchmark"))
        cameras = [
            Camera(CameraPose((x, y, 1.5), float(yaw)), config.size, config.size)
            for (x, y, _), yaw in zip(places, np.linspace(0, 6, config.frames), strict=True)
        ]
        for backend in (thor, embedded):
            backend.render(cameras[:1])
        rows = [
            (measure(thor, cameras, running(thor).pid), measure(embedded, cameras, None)) for _ in range(config.rounds)
        ]
    through, direct = np.median(rows, axis=0)
    wall, cpu = np.median([np.divide(*row) for row in rows], axis=0)
    print(
        f"| {server} | {direct[0]:.0f} | {through[0]:.0f} | {wall:.2f} | {direct[1]:.0f} | {through[1]:.0f} | {cpu:.2f} |"
    )


def detection(machine: ThorMachine, kind: str, step_timeout_s: float) -> None:
    """Print how long the backend takes to name a fault."""
    machine.settings(fault={"kind": kind, "at": "UpdateThirdPartyCamera"})
    with Ai2thorBackend(machine.config(step_timeout_s=step_timeout_s)) as backend:
        backend.load("FloorPlan205")
        started = time.perf_counter()
        try:
            backend.render([Camera(CameraPose((1, 1, 1.5), 0.0), 64, 64)])
        except SimulatorDied as error:
            print(f"| {kind} | {time.perf_counter() - started:.2f} | {str(error).split(';')[0]} |")


def main(config: BenchmarkConfig) -> None:
    with tempfile.TemporaryDirectory() as folder, thor_machine(Path(folder), "home") as machine:
        print(f"{config.size} pixels, rgb + depth + instance, {config.rounds} rounds of {config.frames} frames\n")
        print(
            "| wire | in process, wall ms | through player, wall ms | ratio | in process, CPU ms | both, CPU ms | ratio |"
        )
        print("|---|---|---|---|---|---|---|")
        for server in ("fifo", "wsgi"):
            overhead(config, machine, server)
        print("\n| fault | seconds until SimulatorDied | message |\n|---|---|---|")
        detection(machine, "crash", 60.0)
        detection(machine, "leave", 60.0)
        detection(machine, "hang", 5.0)


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
