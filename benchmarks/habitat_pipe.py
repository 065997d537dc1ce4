"""``python benchmarks/habitat_pipe.py``: what the habitat adapter and its pipe cost per frame.

The stand-in for habitat-sim answers with frames that it drew before, so that what remains is the overhead: once called in
this process, once through worker, pipe and conversions, in turn. CPU time of both processes together, because other work
on the machine does not change it, and the median of the wall time. The ratio is that of a simulator which needs
``simulator_ms`` for a frame.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from datagen.backends.base import ALL_MODALITIES, Modality
from datagen.backends.habitat import frames
from datagen.backends.habitat.backend import SENSORS, HabitatBackend, HabitatConfig
from datagen.backends.habitat.process import WORKER
from ipt.common import cli
from ipt.samples.camera import Camera, CameraPose

ROOT = Path(__file__).parents[1]
STANDINS = ROOT / "tests" / "standins"
SCENE = ROOT / "tests" / "golden_habitat" / "scene" / "golden_room.glb"


#: Makes the stand-in draw every view once only; run at the start of both processes.
REMEMBER = """
import habitat_sim.simulator
draw, drawn = habitat_sim.simulator.Simulator._observe, {}
def observe(self, sensor):
    key = (sensor.uuid, sensor.camera_to_world().tobytes())
    if key not in drawn:
        drawn[key] = draw(self, sensor)
    return drawn[key].copy()
habitat_sim.simulator.Simulator._observe = observe
"""


@dataclass(frozen=True)
class PipeConfig:
    """Measure the overhead of the habitat adapter and pipe against rendering in this process.

    size: pixels a side; frames: measured per row; simulator_ms: milliseconds that a real simulator needs for a frame.
    """

    size: int = 512
    frames: int = 200
    simulator_ms: float = 20.0


def in_process() -> Any:
    """The worker's own object, without a process or a pipe around it."""
    sys.path[:0] = [str(STANDINS), str(WORKER.parent)]
    exec(compile(REMEMBER, "sitecustomize.py", "exec"), {})
    import habitat_sim
    from worker import Worker

    worker = Worker(habitat_sim)
    config = HabitatConfig()
    worker.open(
        {
            "scene": str(SCENE),
            "dataset_config": "default",
            "gpu": -1,
            "navmesh": config.navmesh,
            "instances": "semantic",
        },
        {},
    )
    return worker


def worker_cpu_ms(pid: int) -> float:
    """CPU milliseconds of another process so far (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return 1e3 * (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measured(call: Callable[[], Any], count: int, pid: int) -> tuple[float, float]:
    """Milliseconds per call: CPU of this process and of ``pid``, and the median of the wall time."""
    walls, other, own = [], worker_cpu_ms(pid), time.process_time()
    for _ in range(count):
        start = time.perf_counter()
        call()
        walls.append(1e3 * (time.perf_counter() - start))
    return (1e3 * (time.process_time() - own) + worker_cpu_ms(pid) - other) / count, median(walls)


def main(config: PipeConfig) -> None:
    worker = in_process()
    camera = Camera(CameraPose((0.0, -2.5, 1.5), 1.5), config.size, config.size, 90.0)
    request = frames.sensor(camera, camera.near)
    wanted: tuple[tuple[Modality, ...], ...] = (("rgb",), ("rgb", "depth"), ALL_MODALITIES)
    print(f"{config.size}x{config.size}, {config.frames} frames a row; CPU and wall milliseconds per frame")
    print(
        f"{'modalities':22}{'MB':>6}{'in process':>16}{'piped':>16}{'overhead':>16}   ratio at {config.simulator_ms} ms"
    )
    with TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(REMEMBER)
        python = f"env PYTHONPATH={folder}:{STANDINS}:{ROOT} {sys.executable}"
        with HabitatBackend(HabitatConfig(python, "files", str(SCENE.parent), gpu=-1)) as backend:
            backend.load("golden_room")
            for modalities in wanted:
                kinds = sorted({kind for modality in modalities for kind in SENSORS[modality]})
                asked = {"camera": request, "kinds": kinds}
                size = sum(values.nbytes for values in worker.render(asked, {})[1].values()) / 1e6
                backend.render([camera], modalities)
                pid = backend.worker_pid
                direct = measured(lambda: worker.render(asked, {}), config.frames, pid)  # noqa: B023
                piped = measured(lambda: backend.render([camera], modalities), config.frames, pid)  # noqa: B023
                rows = [direct, piped, (piped[0] - direct[0], piped[1] - direct[1])]
                cells = "".join(f"{cpu:8.2f}{wall:8.2f}" for cpu, wall in rows)
                print(f"{'+'.join(modalities):22}{size:6.1f}{cells}   {1 + rows[2][0] / config.simulator_ms:.3f}")


if __name__ == "__main__":
    cli.run(PipeConfig, main)
