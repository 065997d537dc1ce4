"""Block rooms as the test simulator: real rendering, milliseconds a scene."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datagen import run
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.blocks import BlocksConfig
from datagen.config import RunConfig
from datagen.tasks import TASK_CONFIGS
from datagen.tasks.base import Candidate, SceneView, TaskConfig
from datagen.units import UnitRef, close_backends, read_unit
from datagen.yields import Yields
from ipt.common.seeding import generator

COUNTING = BlocksConfig(min_solids=5, max_solids=10, repeat_names=True, shapes=("cube", "sphere", "cylinder"))


@pytest.fixture(scope="session")
def blocks() -> Iterator[EmbeddedBackend]:
    """Rooms whose names are unique."""
    with EmbeddedBackend(EmbeddedConfig(preset="blocks")) as backend:
        yield backend  # type: ignore[misc]


@pytest.fixture(scope="session")
def counting_blocks() -> Iterator[EmbeddedBackend]:
    """Rooms with several solids of a shape."""
    with EmbeddedBackend(EmbeddedConfig(preset="blocks", blocks=COUNTING)) as backend:
        yield backend  # type: ignore[misc]


@pytest.fixture(autouse=True)
def release_simulators() -> Iterator[None]:
    """Runs leave their backend open in this process."""
    yield
    close_backends()


def block_config(task: str, **changes: Any) -> TaskConfig:
    """A task's settings for scenes of one room."""
    return TASK_CONFIGS[task](name=task, **({"options": "any_scene"} if task == "pt" else {}) | changes)


def candidates_of(
    task: object, backend: EmbeddedBackend, scenes: range, size: int = 96
) -> list[tuple[str, Candidate, Yields]]:
    """(scene id, candidate, yields) of a task on some scenes."""
    found = []
    for number in scenes:
        scene_id = backend.scenes("train")[number]
        yields = Yields()
        config: TaskConfig = task.config  # type: ignore[attr-defined]
        view = SceneView(backend, backend.load(scene_id), size, config)
        for candidate in task.propose(view, generator(3, scene_id), yields):  # type: ignore[attr-defined]
            found.append((scene_id, candidate, yields))
    return found


def run_settings(output: Path, task: str = "pet", **changes: object) -> RunConfig:
    """A small run on block rooms."""
    blocks = COUNTING if task == "mvc" else BlocksConfig()
    values: dict[str, object] = {
        "task": block_config(task),
        "backend": "embedded",
        "backend_config": EmbeddedConfig(preset="blocks", blocks=blocks),
        "output_dir": str(output),
        "num_samples": 24,
        "seed": 7,
        "image_size": 64,
        "samples_per_shard": 10,
    }
    return RunConfig(**{**values, **changes})  # type: ignore[arg-type]


def generate(config: RunConfig) -> dict[str, object]:
    return run.generate(config, quiet=True)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def interrupted(config: RunConfig, reads: int) -> None:
    """A run that is stopped while it selects, after it has read so many units."""
    units = itertools.count()

    def read_or_die(unit: UnitRef) -> dict[str, Any]:
        if next(units) >= reads:
            raise KeyboardInterrupt
        return read_unit(unit)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "read_unit", read_or_die)
        with pytest.raises(KeyboardInterrupt):
            generate(config)
