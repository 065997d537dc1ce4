"""The two renderers draw the same scene, and what they draw is where geometry says it is."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.base import TOP_DOWN_HIDES, BackendUnavailable, Frame, top_down_camera
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import make_renderer
from datagen.backends.embedded.free_space import FreeSpace
from datagen.backends.embedded.house import make_house
from datagen.backends.embedded.meshes import flat_mesh
from datagen.backends.embedded.mujoco_renderer import MujocoRenderer
from datagen.backends.embedded.ray_caster import RayRenderer
from datagen.backends.embedded.scene import Scene, yaw_matrix
from ipt.common.seeding import derived_seed, generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.embedded.scenes import room_scene

ALL = ("rgb", "depth", "instance")
needs_gl = pytest.mark.skipif(
    gl.prepare_gl() is None, reason="no OpenGL on this machine: `make setup` says how to get it"
)
CAMERAS = [
    Camera(CameraPose((0.3, -0.2, 1.4), 0.5, -0.2), 128, 96, 70),
    Camera(CameraPose((-1.0, 0.5, 1.7), 2.5, -0.5, 0.3), 96, 128, 100),
    Camera(CameraPose((0.0, 0.0, 0.5), -1.6, 0.1), 128, 128, 40, near=0.2, far=2.2),
    top_down_camera((-3.5, -3.5, 3.5, 3.5), 128, 0.0),
]


@pytest.fixture(scope="module")
def mujoco() -> MujocoRenderer:
    return MujocoRenderer()


def draw(renderer, scene: Scene, cameras=CAMERAS) -> list[Frame]:
    renderer.load(scene)
    return [
        renderer.render([camera], ALL, TOP_DOWN_HIDES if camera.projection == "orthographic" else ())[0]
        for camera in cameras
    ]


def assert_same_geometry(one: Frame, other: Frame) -> None:
    """Same ids in all but 1e-4 of the pixels; where they agree, the same depth to a tenth of a millimetre."""
    same = one.instance == other.instance
    assert (~same).mean() <= 1e-4 + 1 / same.size
    assert np.median(np.abs(one.depth - other.depth)) < 1e-4
    assert np.abs(one.depth - other.depth)[same].max() < 2e-3


@needs_gl
@pytest.mark.parametrize("seed", range(3))
def test_both_renderers_agree(mujoco: MujocoRenderer, seed: int) -> None:
    scene = room_scene(seed=seed)
    for one, other in zip(draw(mujoco, scene), draw(RayRenderer(), scene), strict=True):
        assert_same_geometry(one, other)
        difference = np.abs(one.rgb.astype(int) - other.rgb)
        assert difference.mean() < 4, "same textures, same light"
        assert np.percentile(difference, 95) < 24


@needs_gl
@pytest.mark.parametrize("homes", [4, pytest.param(50, marks=pytest.mark.long)])
def test_both_renderers_agree_on_random_homes(mujoco: MujocoRenderer, homes: int) -> None:
    """Over all frames: median depth difference 0 (to 0.1 mm) and under 1e-4 of the pixels with another instance."""
    ray, differing, pixels, depths = RayRenderer(), 0, 0, []
    for index in range(homes):
        scene = make_house(f"home-test-{index}", derived_seed(index, "renderers"))
        points = FreeSpace(scene).sample(3, generator(index, "views"), 0.25)
        cameras = [
            Camera(CameraPose((x, y, 1.4), yaw, -0.2), 160, 120, 75)
            for (x, y, _), yaw in zip(points, (0.4, 2.5, -1.5), strict=True)
        ]
        (x0, y0, _), (x1, y1, _) = scene.bounds_min, scene.bounds_max
        plan = top_down_camera((x0, y0, x1, y1), 128, 0.0)
        # OpenGL snaps vertices to 1/256 of a pixel: an edge along a pixel column flips all of it at once, or nothing.
        cameras.append(replace(plan, pose=plan.pose.turned(0.12)))
        for one, other in zip(draw(mujoco, scene, cameras), draw(ray, scene, cameras), strict=True):
            same = one.instance == other.instance
            differing, pixels = differing + int((~same).sum()), pixels + same.size
            depths.append(float(np.median(np.abs(one.depth - other.depth))))
            assert np.percentile(np.abs(one.depth - other.depth)[same], 99.9) < 2e-3, scene.scene_id
            assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 8, scene.scene_id
    assert np.median(depths) < 1e-4 and max(depths) < 1e-4
    assert differing < 1e-4 * pixels, f"{differing} of {pixels} pixels show another instance"


def test_depth_is_planar_and_metric() -> None:
    """A wall 3 m ahead has depth 3 everywhere, not only at the centre."""
    renderer = RayRenderer()
    renderer.load(room_scene(furniture=0))
    frame = renderer.render([Camera(CameraPose((0, 0, 1.2), 0.0), 101, 101, 60)], ALL, ())[0]
    wall = frame.instance == frame.instance[50, 50]
    assert wall.mean() > 0.3 and np.allclose(frame.depth[wall], 3.0, atol=1e-4)


def test_near_and_far_planes_clip() -> None:
    renderer = RayRenderer()
    frames = draw(renderer, room_scene())
    clipped = frames[2]
    assert (clipped.instance < 0).any() and (clipped.depth[clipped.instance < 0] == 0).all()
    assert clipped.depth[clipped.instance >= 0].min() >= 0.2 and clipped.depth.max() <= 2.2


@needs_gl
def test_a_template_is_reposed_to_the_same_pixels_as_compiled_anew(mujoco: MujocoRenderer) -> None:
    first, second = room_scene(seed=1, template="t"), room_scene(seed=2, template="t")
    second = replace(
        second,
        parts=tuple(replace(part, mesh=old.mesh) for part, old in zip(second.parts, first.parts, strict=True)),
    )
    hidden = replace(second, parts=(*second.parts[:-1], replace(second.parts[-1], visible=False)))
    mujoco.load(first)
    model = mujoco._model
    for scene in (second, hidden):
        reposed = draw(mujoco, scene)
        assert mujoco._model is model, "the model is kept"
        for one, other in zip(reposed, draw(MujocoRenderer(), replace(scene, template=None)), strict=True):
            assert np.array_equal(one.instance, other.instance)
            assert np.abs(one.depth - other.depth).max() < 1e-5 and np.abs(one.rgb.astype(int) - other.rgb).mean() < 0.5
    assert any((frame.instance == len(scene.objects) - 1).any() for frame in draw(mujoco, second))
    assert not any((frame.instance == len(scene.objects) - 1).any() for frame in draw(mujoco, hidden))


def test_layers_can_be_hidden() -> None:
    renderer, scene = RayRenderer(), room_scene()
    renderer.load(scene)
    camera = Camera(CameraPose((0, 0, 1.2), 0, 1.2), 64, 64, 80)
    ceiling = next(thing.index for thing in scene.objects if thing.category == "ceiling")
    shown, hidden = (renderer.render([camera], ALL, hide)[0] for hide in ((), ("ceiling",)))
    assert (shown.instance == ceiling).mean() > 0.5 and not (hidden.instance == ceiling).any()


@needs_gl
def test_backs_of_faces_are_left_out_of_closed_scenes_only(mujoco: MujocoRenderer) -> None:
    """One sheet, seen from both sides."""
    scene = room_scene(seed=0)
    sheet = flat_mesh(np.array([[[2, -1, 0], [2, 0, 2], [2, 1, 0]], [[2, -1, 0], [2, -1, 2], [2, 0, 2]]], np.float32))
    scene = replace(scene, parts=(replace(scene.parts[0], mesh=sheet, layer=None, position=(0, 0, 0), yaw=0.0),))
    cameras = [Camera(CameraPose((x, 0.0, 0.5), yaw), 32, 32, 60) for x, yaw in ((0.0, 0.0), (4.0, math.pi))]

    def seen(closed: bool) -> list[bool]:
        return [bool((frame.depth > 0).any()) for frame in draw(mujoco, replace(scene, closed=closed), cameras)]

    assert seen(closed=False) == [True, True] and sorted(seen(closed=True)) == [False, True]


def test_parts_turn_counter_clockwise() -> None:
    assert np.allclose(yaw_matrix(np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-6)


def test_without_opengl_the_ray_caster_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gl.PROBED, gl.NO_PLATFORM)
    monkeypatch.setenv("MUJOCO_GL", "")
    assert make_renderer("auto").name == "ray"
    with pytest.raises(BackendUnavailable, match="apt-get install -y libosmesa6"):
        make_renderer("mujoco")


def test_with_neither_renderer_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['embreex'] = None\n"
        "from datagen.backends.base import BackendUnavailable\n"
        "from datagen.backends.embedded.backend import make_renderer\n"
        "try: make_renderer('auto')\n"
        "except BackendUnavailable as error: print(error)"
    )
    environment = {**os.environ, gl.PROBED: gl.NO_PLATFORM}
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True)
    assert "libosmesa6" in result.stdout and "pip install embreex" in result.stdout, result.stderr


@pytest.mark.parametrize("wished", ["nonsense", "osmesa", ""])
def test_the_probe_survives_a_wrong_wish(monkeypatch: pytest.MonkeyPatch, wished: str) -> None:
    monkeypatch.setenv("MUJOCO_GL", wished)
    gl.probe.cache_clear()
    assert gl.probe() in ("egl", "osmesa", None)
