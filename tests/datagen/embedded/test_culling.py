"""What a camera cannot see is left out: of boxes by arithmetic, and of homes without any pixel being another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from datagen.backends.base import TOP_DOWN_HIDES, top_down_camera
from datagen.backends.embedded import culling, gl
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.culling import MARGIN, Boxes, needed, planes_of
from datagen.backends.embedded.mujoco_renderer import MujocoRenderer
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.embedded.test_shadows import scene_with_pillar

EAST = Camera(CameraPose((0.0, 0.0, 1.5), 0.0), 120, 80, 60.0, near=0.1, far=10.0)
PLAN = Camera(CameraPose((0.0, 0.0, 5.0), 0.0, -np.pi / 2), 100, 100, ortho_height_m=4.0, near=0.1, far=4.0)


def cubes(*centres: tuple[float, float, float], half: float = 0.1, yaw: float = 0.0) -> Boxes:
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return Boxes(np.array(centres, float), np.tile(half * turn, (len(centres), 1, 1)))


@pytest.mark.parametrize("camera", [EAST, PLAN, Camera(CameraPose((1.0, 2.0, 0.5), 2.0, 0.3, 0.4), 64, 64, 100.0)])
def test_a_point_is_between_the_planes_where_its_pixel_is_in_the_picture(camera: Camera) -> None:
    points = np.random.default_rng(0).uniform(-6, 6, (5000, 3))
    pixels, depth = camera.project(points)
    size = np.array([camera.width, camera.height])
    seen = ((pixels >= 0) & (pixels <= size)).all(axis=1) & (depth >= camera.near) & (depth <= camera.far)
    normals, offsets = planes_of(camera)
    np.testing.assert_array_equal((points @ normals.T + offsets >= 0).all(axis=1), seen)
    assert 20 < seen.sum() < 4000 and np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(6))


@pytest.mark.parametrize(
    ("centre", "half", "yaw", "kept"),
    [
        ((3.0, 0.0, 1.5), 0.1, 0.0, True),
        ((-3.0, 0.0, 1.5), 0.1, 0.0, False),  # behind
        ((3.0, 3.2, 1.5), 0.1, 0.0, False),  # to the left of a view that is 40.9 degrees wide to a side
        ((3.0, 3.2, 1.5), 0.9, 0.0, True),  # a large one reaches into it
        ((3.0, 3.2, 1.5), 0.33, 0.0, True),  # the corner of this one does
        ((3.0, 3.2, 1.5), 0.33, np.pi / 4, False),  # turned, it has none there
        ((12.0, 0.0, 1.5), 0.1, 0.0, False),  # beyond the far plane
        ((3.0, 0.0, 4.0), 0.1, 0.0, False),  # above
    ],
)
def test_boxes_outside_of_the_view_are_left_out(
    centre: tuple[float, float, float], half: float, yaw: float, kept: bool
) -> None:
    assert needed(cubes(centre, half=half, yaw=yaw), EAST, None).tolist() == [kept]


def test_what_casts_a_shadow_into_the_view_stays() -> None:
    """Behind the camera are a cube whose shadow falls forwards, since the lamp is further back, and one whose shadow does not."""
    boxes = cubes((-1.0, 0.0, 1.7), (-6.0, 0.0, 1.7))
    assert needed(boxes, EAST, None).tolist() == [False, False]
    assert needed(boxes, EAST, (-4.0, 0.0, 2.4)).tolist() == [True, False]
    near = cubes((EAST.near - 0.1 - MARGIN / 2, 0.0, 1.5))
    assert needed(near, EAST, (3.0, 0.0, 2.4)).tolist() == [True], "edges of shadows are soft"


needs_gl = pytest.mark.skipif(
    gl.prepare_gl() is None, reason="no OpenGL on this machine: `make setup` says how to get it"
)


@needs_gl
def test_the_shadow_of_what_stands_behind_the_camera_is_drawn() -> None:
    drawing = MujocoRenderer()
    scene = scene_with_pillar(-1.2)
    camera = Camera(CameraPose((0.4, 0.0, 2.0), 0.0, -0.9), 96, 72, 70.0)
    pictures = []
    for one in (scene, replace(scene, parts=scene.parts[:-1])):
        drawing.load(one)
        frame = drawing.render([camera], ("rgb", "instance"), ())[0]
        assert frame.rgb is not None and frame.instance is not None
        pictures.append((frame.rgb.astype(int), set(np.unique(frame.instance))))
    assert pictures[0][1] == pictures[1][1], "the pillar itself is not seen"
    assert (pictures[0][0] < pictures[1][0] - 20).mean() > 0.05


@needs_gl
@pytest.mark.parametrize("shadows", [True, False])
def test_pictures_are_those_of_all_parts(shadows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours, depths and instances of views from places in a home of several rooms, and from above, to the last bit."""
    backend = EmbeddedBackend(EmbeddedConfig(renderer="mujoco", shadows=shadows))
    info = backend.load("home-train-4")
    assert len(info.rooms) > 2
    rng = np.random.default_rng(1)
    views = [
        Camera(CameraPose((x, y, 1.5), rng.uniform(-3, 3), rng.uniform(-0.6, 0.2)), 96, 72, 80.0)
        for x, y, _ in backend.sample_navigable(8, rng)
    ]
    (x0, y0, _), (x1, y1, _) = info.bounds_min, info.bounds_max
    plans = [top_down_camera(box, 96, info.floor_z) for box in ((x0, y0, x1, y1), (x0 + 1, y0 + 1, x0 + 4, y0 + 4))]
    drawn: list[float] = []
    of_all, renderer = culling.needed, cast(MujocoRenderer, backend._renderer)

    def all_of(boxes: Boxes, *_: Any) -> Any:
        return np.ones(len(boxes.centres), bool)

    def counted(*arguments: Any) -> Any:
        drawn.append(float(of_all(*arguments).mean()))
        return of_all(*arguments)

    for cameras, hidden in ((views, ()), (plans, TOP_DOWN_HIDES)):
        monkeypatch.setattr(culling, "needed", all_of)
        whole = backend.render(cameras, ("rgb", "depth", "instance"), hidden)
        parts = renderer._scene.ngeom
        monkeypatch.setattr(culling, "needed", counted)
        for one, other in zip(backend.render(cameras, ("rgb", "depth", "instance"), hidden), whole, strict=True):
            np.testing.assert_array_equal(one.rgb, other.rgb)
            np.testing.assert_array_equal(one.depth, other.depth)
            np.testing.assert_array_equal(one.instance, other.instance)
        assert renderer._scene.ngeom < parts
    assert np.mean(drawn) < 0.7, "and most of the home is left out of most of them"
