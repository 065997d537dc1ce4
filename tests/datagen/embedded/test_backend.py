"""The embedded simulator passes the contract with either renderer, on blocks, homes and a user's own scene."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.base import SceneEdit, SceneError, SceneInfo
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.blocks import BlocksConfig, make_blocks
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.contract import BackendContract
from tests.datagen.embedded.scenes import RaisedBackend

needs_gl = pytest.mark.skipif(
    gl.prepare_gl() is None, reason="no OpenGL on this machine: `make setup` says how to get it"
)
ROOT = Path(__file__).parents[3]


class EmbeddedContract(BackendContract):
    preset, renderer, scene_id = "", "", ""
    kind: type[EmbeddedBackend] = EmbeddedBackend

    @pytest.fixture(scope="class")
    def backend(self) -> Iterator[EmbeddedBackend]:
        with self.kind(EmbeddedConfig(preset=self.preset, renderer=self.renderer)) as backend:
            yield backend

    @pytest.fixture(scope="class")
    def info(self, backend: EmbeddedBackend) -> SceneInfo:
        return backend.load(self.scene_id)


@needs_gl
class TestBlocksWithMujoco(EmbeddedContract):
    preset, renderer, scene_id = "blocks", "mujoco", "blocks-val-3"


class TestBlocksWithRays(EmbeddedContract):
    preset, renderer, scene_id = "blocks", "ray", "blocks-val-4"


@needs_gl
class TestHomeWithMujoco(EmbeddedContract):
    preset, renderer, scene_id = "home", "mujoco", "home-val-5"


class TestHomeWithRays(EmbeddedContract):
    preset, renderer, scene_id = "home", "ray", "home-val-7"


class TestRaisedHome(EmbeddedContract):
    preset, renderer, scene_id, kind = "home", "ray", "home-val-7", RaisedBackend


FINGERPRINT = """
import hashlib, sys, numpy as np
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.samples.camera import Camera, CameraPose
preset, renderer = sys.argv[1:]
with EmbeddedBackend(EmbeddedConfig(preset=preset, renderer=renderer)) as backend:
    for index in (5, 2, 5):
        info = backend.load(backend.scenes("train")[index])
        digest = hashlib.sha256()
        for part in backend.scene.parts:
            digest.update(part.world_vertices().tobytes() + part.mesh.faces.tobytes() + bytes([part.instance % 256]))
        digest.update(repr([(o.id, o.category, o.aabb_min, o.aabb_max) for o in backend.objects()]).encode())
        x, y, _ = backend.sample_navigable(1, np.random.default_rng(0))[0]
        frame = backend.render([Camera(CameraPose((x, y, 1.2), 0.5), 64, 64)])[0]
        digest.update(frame.instance.tobytes() + frame.depth.tobytes() + frame.rgb.tobytes())
        print(info.scene_id, digest.hexdigest())
"""


@pytest.mark.parametrize(("preset", "renderer"), [("blocks", "auto"), ("home", "auto"), ("home", "ray")])
def test_a_scene_id_is_the_same_scene_and_pixels_in_every_process(
    preset: str, renderer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this one, which has shown other scenes before, and in a fresh one."""
    command = [sys.executable, "-c", FINGERPRINT, preset, renderer]
    fresh = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(sys, "argv", command[2:])
    exec(FINGERPRINT, {"__name__": "__main__"})
    assert capsys.readouterr().out == fresh
    first, other, again = fresh.splitlines()
    assert first == again and first.split()[1] != other.split()[1]


@pytest.fixture(scope="module")
def blocks() -> Iterator[EmbeddedBackend]:
    with EmbeddedBackend(EmbeddedConfig(preset="blocks")) as backend:
        yield backend


def test_wrong_names_are_errors_that_list_the_valid_ones(blocks: EmbeddedBackend) -> None:
    for change, message in (({"preset": "house"}, "blocks, home"), ({"renderer": "opengl"}, "auto, mujoco, ray")):
        with pytest.raises(SceneError, match=message):
            EmbeddedConfig(**change)
    with pytest.raises(SceneError, match="such as home-train-42"):
        blocks.load("kitchen 3")
    with pytest.raises(SceneError, match="this backend makes 'blocks'"):
        blocks.load("home-train-1")
    blocks.load("blocks-train-1")
    with pytest.raises(SceneError, match="valid: room-0"):
        blocks.sample_navigable(1, generator(0), room_id="attic")


def test_splits_share_no_scene(blocks: EmbeddedBackend) -> None:
    train, test = blocks.scenes("train"), blocks.scenes("test")
    assert len(train) == len(test) > 10**6 and set(train[:100]).isdisjoint(test[:100])
    assert train[-1] == train[len(train) - 1]
    with pytest.raises(IndexError):
        train[len(train)]
    seeds = {blocks.load(scene_id).seed for scene_id in (*train[:20], *test[:20])}
    assert len(seeds) == 40


def test_edits_change_the_pictures_only_inside_the_block(blocks: EmbeddedBackend) -> None:
    info = blocks.load("blocks-train-8")
    solid = next(thing for thing in blocks.objects() if not thing.is_structure)
    x, y, _ = solid.centre
    camera = Camera(CameraPose((x, y, 2.0), 0.0, -np.pi / 2), 64, 64, 90)

    def pixels() -> int:
        return int((blocks.render([camera], ("instance",))[0].instance == solid.index).sum())

    before = pixels()
    assert before > 30
    with blocks.edited([SceneEdit("remove", solid.id)]):
        assert pixels() == 0
    with blocks.edited([SceneEdit("move", solid.id, (30.0, 0.0, 0.0))]):
        assert pixels() == 0
    with blocks.edited([SceneEdit("add", solid.id, (0.0, 0.0, 0.05))]):
        assert pixels() > before
    assert pixels() == before and len(blocks.objects()) == len(blocks.scene.objects) and info.scene_id
    with pytest.raises(SceneError, match="valid: "), blocks.edited([SceneEdit("remove", "no such thing")]):
        pass


def test_closing_and_loading_again_works(blocks: EmbeddedBackend) -> None:
    blocks.load("blocks-train-1")
    camera = Camera(CameraPose((0, 0, 1.2), 0.5), 64, 64)
    before = blocks.render([camera])[0]
    blocks.close()
    with pytest.raises(SceneError, match="call load"):
        blocks.objects()
    blocks.load("blocks-train-1")
    assert np.array_equal(before.rgb, blocks.render([camera])[0].rgb)


def test_solids_are_counted_by_shape_or_by_shape_and_colour() -> None:
    kinds = BlocksConfig(min_solids=6, max_solids=6, repeat_names=True, shapes=("cylinder",), colours=("green", "blue"))
    for count_colours, expected in ((False, {"cylinder"}), (True, {"green cylinder", "blue cylinder"})):
        scene = make_blocks("room", 3, replace(kinds, count_colours=count_colours))
        solids = [thing for thing in scene.objects if not thing.is_structure]
        assert {thing.category for thing in solids} == expected
        assert all(thing.obb is not None and np.array_equal(thing.obb.rotation, np.eye(3)) for thing in solids)
