"""Scenes and masks made up for tests of filters: no simulator, no pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from datagen.backends.base import SceneInfo, SceneObject
from datagen.tasks.base import SceneView, TaskConfig
from datagen.visibility import InstanceStats
from ipt.samples.camera import Camera, CameraPose

LAMP = (2.0, 0.0, 1.0)
EYE = Camera(CameraPose((0.0, 0.0, 1.5), 0.0), 100, 100, 75)


def thing(index: int, name: str, centre: tuple[float, float, float], structure: bool = False) -> SceneObject:
    """A cube of 0.4 m."""
    low, high = (tuple(value + side for value in centre) for side in (-0.2, 0.2))
    return SceneObject(f"{name}-{index}", index, name, name, name, low, high, is_structure=structure)  # type: ignore[arg-type]


def made_up(objects: list[SceneObject], config: TaskConfig, **changes: Any) -> Any:
    """A scene that knows its objects; ``changes`` replace what a test needs of it."""
    info = SceneInfo("made up", "embedded", "0", (-5, -5, 0), (5, 5, 2.5))
    backend = SimpleNamespace(
        objects=lambda: tuple(objects), info=info, is_free=lambda points, _: np.ones(len(points), bool)
    )
    scene = SceneView(backend, info, 100, config)  # type: ignore[arg-type]
    for name, value in changes.items():
        object.__setattr__(scene, name, value)
    return scene


def measures(area: list[float], centre: list[tuple[float, float]], median: float = 3.0) -> InstanceStats:
    """Masks of these shares of a picture of 100 x 100 at these places."""
    pixels = np.rint(np.array(area) * 10_000).astype(np.int64)
    return InstanceStats(pixels, np.array(area), np.array(centre, dtype=float), median)
