"""Run the stand-in player where the backend expects a local AI2-THOR build."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datagen.backends.ai2thor import Ai2thorConfig
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common.seeding import generator
from tests.waiting import HANGS

ROOT = Path(__file__).parents[2]


class ThorMachine:
    """A home folder, a player build and the settings of its next start."""

    def __init__(self, folder: Path, preset: str) -> None:
        self.folder, self.preset = folder, preset
        self.executable = folder / "stand-in build"  # with a blank, as users' folders have
        self.executable.write_text(
            f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m tests.standins.thor_player "$@"\n'
        )
        self.executable.chmod(0o755)
        self.settings_file = folder / "settings.json"
        self.settings()

    def settings(self, **settings: Any) -> None:
        """Oddities and the fault of the players to come; see ``thor_player``."""
        self.settings_file.write_text(json.dumps({"preset": self.preset, **settings}))

    def config(self, **changes: Any) -> Ai2thorConfig:
        """The backend's configuration for this machine."""
        patient = {"step_timeout_s": HANGS, "start_timeout_s": HANGS}
        return Ai2thorConfig(**{"local_executable": str(self.executable), "image_size": 64, **patient, **changes})

    def houses(self, *numbers: int) -> str:
        """A ProcTHOR file with the embedded homes of these numbers."""
        path = self.folder / "houses.jsonl"
        with EmbeddedBackend(EmbeddedConfig(preset=self.preset, renderer="ray")) as backend:
            path.write_text("\n".join(json.dumps(procthor_house(backend, number)) for number in numbers) + "\n")
        return str(path)


def procthor_house(backend: EmbeddedBackend, number: int) -> dict[str, Any]:
    """An embedded scene as a ProcTHOR house: the stand-in finds the scene again by its id."""
    info = backend.load(f"{backend.config.preset}-train-{number}")
    rooms = [
        {
            "id": room.id,
            "roomType": room.kind.title().replace(" ", ""),
            "floorPolygon": [{"x": float(x), "y": 0.0, "z": float(y)} for x, y in room.polygon],
        }
        for room in info.rooms
    ]
    x, y, z = (float(value) for value in backend.sample_navigable(1, generator(number, "agent"), 0.3)[0])
    agent = {
        "position": {"x": x, "y": z + 0.901, "z": y},
        "rotation": {"x": 0, "y": 90, "z": 0},
        "horizon": 0,
        "standing": True,
    }
    return {"id": info.scene_id, "rooms": rooms, "walls": [], "objects": [], "metadata": {"agent": agent}}


@contextmanager
def thor_machine(folder: Path, preset: str = "home") -> Iterator[ThorMachine]:
    """A machine without a display whose only AI2-THOR build is the stand-in."""
    machine = ThorMachine(folder, preset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("THOR_STANDIN", str(machine.settings_file))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in ("DISPLAY", "CUDA_VISIBLE_DEVICES"):
            patch.delenv(name, raising=False)
        yield machine


def running(backend: Any) -> Any:
    """The process of a backend's player."""
    return backend._player._controller.server.unity_proc
