"""One lamp per room casts shadows: away from the lamp, in the room of the camera, and only where the setting says so."""

from dataclasses import replace

import numpy as np
import pytest

from datagen.backends.base import TOP_DOWN_HIDES
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import RENDERERS, EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.lighting import Lamp, lamp_of
from datagen.backends.embedded.meshes import box, gridded
from datagen.backends.embedded.scene import Part, Scene
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.embedded.scenes import room_scene

needs_gl = pytest.mark.skipif(
    gl.prepare_gl() is None, reason="no OpenGL on this machine: `make setup` says how to get it"
)
RENDERER = pytest.mark.parametrize("renderer", ["ray", pytest.param("mujoco", marks=needs_gl)])
ROOM = (-3.0, -2.5, 3.0, 2.5)


def scene_with_pillar(lamp_x: float) -> Scene:
    """A grey room with a pillar in its middle and the lamp ``lamp_x`` metres east of it."""
    room = room_scene(furniture=0)
    floor = gridded(box((6, 5, 0.1), (0, 0, -0.1)), 0.7, facing=2)
    parts = [replace(part, material="white") for part in room.parts]
    parts[0] = replace(parts[0], mesh=floor)
    pillar = Part(box((0.3, 0.3, 1.2)), "white", 0)
    return replace(room, parts=(*parts, pillar), lamps=(Lamp((lamp_x, 0.0, 2.4), (ROOM,)),))


def brightness(renderer, scene: Scene, points: list[tuple[float, float]]) -> list[float]:
    """Mean grey of the floor at (x, y) ``points``, seen from the south side of the room."""
    renderer.load(scene)
    camera = Camera(CameraPose((0.0, -2.3, 2.2), np.pi / 2, -0.75), 160, 120, 85)
    frame = renderer.render([camera], ("rgb",), ())[0]
    pixels, _ = camera.project(np.array([[x, y, 0.0] for x, y in points]))
    return [float(frame.rgb[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2].mean()) for u, v in pixels]


@RENDERER
@pytest.mark.parametrize("lamp_x", [-1.2, 1.2])
def test_a_shadow_falls_on_the_side_away_from_the_lamp(renderer: str, lamp_x: float) -> None:
    drawing = RENDERERS[renderer]()
    away, beside = np.sign(-lamp_x) * 0.7, (np.sign(-lamp_x) * 0.7, 0.9)
    near = -away
    scene = scene_with_pillar(lamp_x)
    shadow, clear, towards = brightness(drawing, scene, [(away, 0.0), beside, (near, 0.0)])
    assert shadow < 0.8 * clear and shadow < 0.8 * towards
    dark, fair = brightness(drawing, replace(scene, lamps=()), [(away, 0.0), beside])
    assert dark == pytest.approx(fair, rel=0.02), "the fixed lights cast none"


@RENDERER
def test_the_setting_decides_about_shadows_and_about_nothing_else(renderer: str) -> None:
    """Colours in rooms differ; depth, instances and the plan from above are the same."""
    frames = {}
    for shadows in (True, False):
        with EmbeddedBackend(EmbeddedConfig(renderer=renderer, shadows=shadows)) as backend:
            info = backend.load("home-train-3")
            x, y = info.rooms[0].polygon.mean(axis=0)
            inside = Camera(CameraPose((float(x), float(y), 1.5), 0.3, -0.3), 64, 64, 80)
            low, high = info.bounds_min, info.bounds_max
            plan = backend.render_top_down((low[0], low[1], high[0], high[1]), 64)
            frames[shadows] = (backend.render([inside])[0], plan)
    (lit, plan), (plain, same_plan) = frames[True], frames[False]
    assert np.abs(lit.rgb.astype(int) - plain.rgb).mean() > 4
    assert np.array_equal(lit.depth, plain.depth) and np.array_equal(lit.instance, plain.instance)
    assert np.array_equal(plan.rgb, same_plan.rgb)


def test_the_room_of_the_camera_is_lit() -> None:
    lamps = (Lamp((0.0, 0.0, 2.4), ((-2, -2, 2, 2),)), Lamp((4.1, 0.0, 2.4), ((2.14, -2, 6, 2),)))

    def lit(x: float, y: float, z: float = 1.4) -> Lamp | None:
        return lamp_of(lamps, Camera(CameraPose((x, y, z), 0.0), 8, 8))

    assert lit(-1, 1) is lamps[0] and lit(5, -1) is lamps[1]
    assert lit(2.05, 0) is lamps[0] and lit(2.1, 0) is lamps[1], "in the doorway"
    assert lit(-2.5, 0) is None and lit(0, 0, 20.0) is None, "outside, and above"
    assert lamp_of((), Camera(CameraPose((0.0, 0.0, 1.4), 0.0), 8, 8)) is None


def test_what_is_hidden_does_not_decide_about_the_light() -> None:
    """With the ceiling left out a camera inside still has its lamp."""
    drawing, scene = RENDERERS["ray"](), scene_with_pillar(1.2)
    drawing.load(scene)
    camera = Camera(CameraPose((0.0, -2.3, 2.2), np.pi / 2, -0.75), 48, 48, 85)
    shown, cut = (drawing.render([camera], ("rgb",), hide)[0].rgb for hide in ((), TOP_DOWN_HIDES))
    assert np.array_equal(shown, cut)


def test_a_gridded_surface_is_the_same_surface() -> None:
    whole = box((3.0, 2.0, 0.5))
    cut = gridded(whole, 0.7, facing=2)
    assert len(cut.faces) == 2 * (4 + 2 * 4 * 3), "top and bottom in 4 x 3 pieces, the sides whole"
    corners = cut.vertices[cut.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(2 * (3 * 2 + 3 * 0.5 + 2 * 0.5))
    assert (np.einsum("fk,fk->f", normals, cut.normals[cut.faces[:, 0]]) > 0).all(), "wound as before"
    top = cut.normals[:, 2] > 0.5
    assert np.allclose(cut.uv[top], cut.vertices[top, :2], atol=1e-6), "texture coordinates follow the place"
