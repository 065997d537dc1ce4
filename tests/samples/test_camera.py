"""Camera geometry: the conventions written in the module's docstring, and round trips."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.samples.camera import Camera, CameraPose, wrap_angle

angles = st.floats(-3.1, 3.1)
poses = st.builds(CameraPose, st.tuples(*[st.floats(-9, 9)] * 3), angles, st.floats(-1.57, 1.57), angles)
cameras = st.builds(
    Camera,
    poses,
    st.integers(2, 40),
    st.integers(2, 40),
    st.floats(20, 120),
    st.one_of(st.none(), st.floats(0.5, 20)),
)


def test_axes_follow_the_stated_convention() -> None:
    level = CameraPose((1, 2, 3), yaw=0.0)
    assert np.allclose(level.forward, (1, 0, 0))
    assert np.allclose(level.camera_to_world[:3, 0], (0, -1, 0)), "right of +x is -y"
    assert np.allclose(CameraPose((0, 0, 0), math.pi / 2).forward, (0, 1, 0)), "yaw is counter-clockwise"
    assert CameraPose((0, 0, 0), 0, pitch=0.3).forward[2] > 0, "positive pitch looks up"
    down = CameraPose((0, 0, 5), math.pi / 2, -math.pi / 2).camera_to_world
    assert np.allclose(down[:3, 0], (1, 0, 0)) and np.allclose(down[:3, 1], (0, 1, 0)), "plan view: +x right, +y up"


def test_a_point_ahead_left_and_above_lands_left_and_above_the_centre() -> None:
    camera = Camera(CameraPose((0, 0, 1.5), 0.0), 200, 100, vertical_fov_deg=90)
    (u, v), depth = camera.project([2.0, 1.0, 2.0])
    assert depth == pytest.approx(2)
    assert (u, v) == pytest.approx((100 - 25, 50 - 12.5)), "focal length is 50 pixels"


@given(cameras, st.floats(0.01, 30))
def test_project_inverts_unproject(camera: Camera, depth: float) -> None:
    pixels = np.array([[0.5, 0.5], [camera.width - 0.5, 1.0], [camera.width / 2, camera.height / 2]])
    again, z = camera.project(camera.unproject(pixels, np.full(3, depth)))
    assert np.allclose(again, pixels, atol=1e-6 * max(camera.width, camera.height) / min(depth, 1))
    assert np.allclose(z, depth, atol=1e-9)


@given(cameras)
def test_rays_pass_through_pixel_centres_with_unit_planar_depth(camera: Camera) -> None:
    origins, directions = camera.rays()
    assert origins.shape == directions.shape == (camera.width * camera.height, 3)
    assert np.allclose(directions @ camera.pose.forward, 1)
    pixels, depth = camera.project(origins + 3 * directions)
    assert np.allclose(pixels[0], (0.5, 0.5), atol=1e-5)
    assert np.allclose(pixels[camera.width - 1], (camera.width - 0.5, 0.5), atol=1e-5)
    assert np.allclose(depth, 3)


@given(cameras)
def test_json_round_trip(camera: Camera) -> None:
    assert Camera.from_json(json.loads(json.dumps(camera.to_json()))) == camera


@given(st.floats(-50, 50))
def test_wrap_angle(angle: float) -> None:
    wrapped = wrap_angle(angle)
    assert -math.pi < wrapped <= math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "size"),
        ({"near": 0}, "near"),
        ({"vertical_fov_deg": 200}, "fov"),
        ({"ortho_height_m": -1}, "ortho"),
    ],
)
def test_impossible_cameras_are_refused(change: dict, message: str) -> None:
    fields = {"pose": CameraPose((0, 0, 0), 0), "width": 8, "height": 8}
    with pytest.raises(ValueError, match=message):
        Camera(**{**fields, **change})
    with pytest.raises(ValueError, match="finite"):
        CameraPose((0, math.nan, 0), 0)
