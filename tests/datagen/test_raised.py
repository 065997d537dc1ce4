"""Floors that are not at zero: the three tasks on scenes raised by three metres, on every backend.

Block rooms keep this cheap; the contract on raised scenes is in the backends' own tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from datagen import verify
from datagen.backends.base import SceneBackend
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.blocks import BlocksConfig
from datagen.tasks import TASKS
from datagen.tasks.base import Candidate, SceneView
from datagen.tasks.path_settings import VARIANTS
from datagen.yields import Yields
from ipt.common.seeding import generator
from tests.datagen.conftest import COUNTING, block_config
from tests.datagen.embedded.scenes import RaisedBackend
from tests.datagen.habitat_tools import homes_backend
from tests.standins.thor import thor_machine

LIFT, SIZE = 3.0, 64
SMALL: dict[str, dict[str, Any]] = {
    "pet": {"samples_per_scene": 2, "cameras_per_scene": 32},
    "pt": {"samples_per_scene": 2, "walks_per_bin": 3, "variants": ("td_path_arrow",)},
    "mvc": {"samples_per_scene": 1, "spots_per_scene": 8},
}


def propose(backend: SceneBackend, scene_id: str, task: str, **changes: Any) -> list[Candidate]:
    config = block_config(task, **{**SMALL[task], **changes})
    view = SceneView(backend, backend.load(scene_id), SIZE, config)
    return TASKS[task](config).propose(view, generator(3, scene_id), Yields())


class Simulators:
    """Raised scenes on every backend, opened when first asked for: rooms in which things repeat for counting."""

    def __init__(self, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
        self._stack, self._folders = stack, folders
        self._open: dict[tuple[str, bool], SceneBackend] = {}

    def get(self, name: str, counting: bool) -> SceneBackend:
        if (name, counting) not in self._open:
            self._open[name, counting] = self._stack.enter_context(self._make(name, counting))
        return self._open[name, counting]

    def _make(self, name: str, counting: bool) -> SceneBackend:
        blocks = COUNTING if counting else BlocksConfig()
        if name == "embedded":
            return RaisedBackend(EmbeddedConfig(preset="blocks", renderer="ray", blocks=blocks))
        folder = self._folders.mktemp(name)
        if name == "habitat":  # its stand-in draws rooms of single things, so that counting needs homes
            kind = "home" if counting else "blocks"
            return homes_backend(folder, tuple(f"{kind}-train-{number}-raised" for number in range(30)))
        pytest.importorskip("ai2thor")
        from datagen.backends.ai2thor import Ai2thorBackend

        machine = self._stack.enter_context(thor_machine(folder, "blocks"))
        machine.settings(preset="blocks", raised=True, blocks=asdict(blocks))
        return Ai2thorBackend(machine.config())


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with ExitStack() as stack:
        yield Simulators(stack, tmp_path_factory)


@pytest.mark.parametrize("task", ["pet", "pt", "mvc"])
@pytest.mark.parametrize("name", ["embedded", "ai2thor", "habitat"])
def test_every_task_works_three_metres_up(simulators: Simulators, name: str, task: str) -> None:
    """Samples are found, their answers are what the masks show, and what is drawn on the plans lies in the picture."""
    found, raised = 0, simulators.get(name, counting=task == "mvc")
    for scene_id in raised.scenes("train")[:8]:
        # The stand-in's homes hold no collections, so that only kinds reach numbers worth asking for.
        for candidate in propose(raised, scene_id, task, **({"groups": True} if task == "mvc" else {})):
            found += 1
            assert raised.info.floor_z == pytest.approx(LIFT, abs=0.02)
            pictures = {image.role: image for image in (*candidate.images, candidate.imagination)}
            for role, image in pictures.items():
                assert image.camera is not None
                z = image.camera.pose.position[2]
                assert z == pytest.approx(LIFT + (20.0 if role in ("map", "bev") else 1.5), abs=0.35), role
                if role == "map":
                    pixel, _ = image.camera.project(np.array([*candidate.facts["midpoint"][:2], LIFT]))
                    assert np.all((pixel > 0) & (pixel < SIZE))
                    reds = image.pixels().astype(int)
                    assert ((reds[..., 0] - reds[..., 1] > 60) & (reds[..., 0] > 150)).sum() > 8, "the path is drawn"
            stored = verify.Stored(
                "x", scene_id, task, candidate.facts, "", {role: image.camera for role, image in pictures.items()}
            )
            assert verify.recomputed(stored, raised) == candidate.facts["answer"]
        if found:
            return
    raise AssertionError("no sample in eight scenes")


@pytest.fixture(scope="module")
def twins() -> Iterator[tuple[EmbeddedBackend, EmbeddedBackend]]:
    """The same rooms on the ground and three metres up."""
    config = EmbeddedConfig(preset="blocks", renderer="ray")
    with EmbeddedBackend(config) as flat, RaisedBackend(config) as high:
        yield flat, high


@pytest.mark.parametrize("variant", VARIANTS)
def test_plans_and_views_look_the_same_three_metres_up(
    twins: tuple[EmbeddedBackend, EmbeddedBackend], variant: str
) -> None:
    """Camera, path, arrow and labels of every variant: the same picture, to the rounding of the masks."""
    pairs = [propose(backend, "blocks-train-1", "pt", samples_per_scene=1, variants=(variant,)) for backend in twins]
    assert len(pairs[0]) == len(pairs[1]) == 1
    for flat, high in zip(*pairs, strict=True):
        for name in ("answer", "side", "midpoint", "heading_on_map", "path_length_m", "camera_height_m", "coverage"):
            assert flat.facts[name] == high.facts[name], name
        for one, other in zip((*flat.images, flat.imagination), (*high.images, high.imagination), strict=True):
            assert np.abs(one.pixels().astype(int) - other.pixels()).mean() < 1.0, one.role


@pytest.mark.parametrize("task", ["pet", "mvc"])
def test_questions_are_the_same_three_metres_up(twins: tuple[EmbeddedBackend, EmbeddedBackend], task: str) -> None:
    pairs = [propose(backend, "blocks-train-2", task) for backend in twins]
    assert len(pairs[0]) == len(pairs[1]) > 0
    for flat, high in zip(*pairs, strict=True):
        assert flat.key == high.key and flat.facts["answer"] == high.facts["answer"]
        for one, other in zip((*flat.images, flat.imagination), (*high.images, high.imagination), strict=True):
            assert np.abs(one.pixels().astype(int) - other.pixels()).mean() < 1.0, one.role


def test_the_top_down_camera_stands_above_the_floor(twins: tuple[EmbeddedBackend, EmbeddedBackend]) -> None:
    """Above 18 m and below -10 m, where a camera at a fixed height sees nothing or stands under the floor."""
    for lift in (25.0, -15.0):
        with RaisedBackend(EmbeddedConfig(preset="blocks", renderer="ray")) as backend:
            backend.lift = lift
            info = backend.load("blocks-train-1")
            frame = backend.render_top_down((*info.bounds_min[:2], *info.bounds_max[:2]), 32)
            flat, _ = twins
            flat.load("blocks-train-1")
            expected = flat.render_top_down((*info.bounds_min[:2], *info.bounds_max[:2]), 32)
            assert (frame.instance == expected.instance).mean() > 0.98
            np.testing.assert_allclose(frame.depth, expected.depth, atol=1e-2)
