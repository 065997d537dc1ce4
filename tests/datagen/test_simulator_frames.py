"""One house, three conventions: a camera sees the same point in the same pixel whichever simulator's frame it is told in.

Ours is z up and right-handed, habitat-sim's y up and right-handed, Unity's y up and left-handed. The two foreign cameras
are written out here from their simulators' documentation, with nothing of the adapters.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.backends.ai2thor.frames import camera_to_thor, from_thor, to_thor
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.habitat import frames
from ipt.samples.camera import Camera, CameraPose

angles = st.floats(-math.pi, math.pi)
places = st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(-1, 8))
poses = st.builds(CameraPose, places, angles, st.floats(-math.pi / 2, math.pi / 2), angles)
pinholes = st.builds(Camera, poses, st.integers(8, 900), st.integers(8, 900), st.floats(20, 120))
parallels = st.builds(
    lambda pose, width, height, span: Camera(pose, width, height, ortho_height_m=span),
    poses,
    st.integers(8, 900),
    st.integers(8, 900),
    st.floats(0.1, 50),
)
cameras = pinholes | parallels


@pytest.fixture(scope="module")
def corners() -> np.ndarray:
    """Box corners of everything in an embedded home, (n, 3)."""
    with EmbeddedBackend(EmbeddedConfig(renderer="ray")) as backend:
        backend.load("home-train-3")
        return np.concatenate([thing.corners() for thing in backend.objects()])


def habitat_pixels(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As habitat-sim draws: quaternion x, y, z, w; hfov or ortho_scale over the width; looks along -z."""
    x, y, z, w = frames.quaternion_to_habitat(camera.pose.camera_to_world[:3, :3])
    assert x * x + y * y + z * z + w * w == pytest.approx(1)
    offset = frames.points_to_habitat(points) - frames.points_to_habitat(camera.pose.position)
    axis = -np.array([x, y, z])  # the inverse rotation takes the world to the camera
    local = offset + 2 * np.cross(axis, np.cross(axis, offset) + w * offset)
    depth = -local[:, 2]
    if camera.ortho_height_m is None:
        focal = camera.width / 2 / math.tan(math.radians(frames.horizontal_fov_deg(camera)) / 2)
        scale = focal / depth
    else:
        scale = np.full_like(depth, camera.width * frames.ortho_scale(camera))
    return np.column_stack([camera.width / 2 + scale * local[:, 0], camera.height / 2 - scale * local[:, 1]]), depth


def unity_pixels(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As Unity draws: degrees, turned by z, then x, then y; vertical field of view; looks along +z."""
    told = camera_to_thor(camera)
    ax, ay, az = (math.radians(told["rotation"][name]) for name in "xyz")
    about_x = np.array([[1, 0, 0], [0, math.cos(ax), -math.sin(ax)], [0, math.sin(ax), math.cos(ax)]])
    about_y = np.array([[math.cos(ay), 0, math.sin(ay)], [0, 1, 0], [-math.sin(ay), 0, math.cos(ay)]])
    about_z = np.array([[math.cos(az), -math.sin(az), 0], [math.sin(az), math.cos(az), 0], [0, 0, 1]])
    unity = np.array([[record[name] for name in "xyz"] for record in map(to_thor, points)])
    local = (unity - [told["position"][name] for name in "xyz"]) @ (about_y @ about_x @ about_z)
    depth = local[:, 2]
    if camera.ortho_height_m is None:
        scale = camera.height / 2 / math.tan(math.radians(told["fieldOfView"]) / 2) / depth
    else:
        scale = np.full_like(depth, camera.height / 2 / told["orthographicSize"])
    return np.column_stack([camera.width / 2 + scale * local[:, 0], camera.height / 2 - scale * local[:, 1]]), depth


@settings(max_examples=60)
@given(cameras)
def test_three_simulators_see_the_same_picture(corners: np.ndarray, camera: Camera) -> None:
    pixels, depth = camera.project(corners)
    ahead = depth > 0.05
    for see in (habitat_pixels, unity_pixels):
        theirs, their_depth = see(camera, corners)
        assert np.allclose(their_depth, depth, atol=1e-9 * max(1, np.abs(depth).max()) + 1e-8)
        assert np.allclose(theirs[ahead], pixels[ahead], rtol=1e-6, atol=1e-3)


@given(places)
def test_points_come_back(point: tuple[float, float, float]) -> None:
    assert np.allclose(frames.points_to_ours(frames.points_to_habitat(point)), point)
    assert np.allclose(from_thor(to_thor(point)), point)


@given(poses)
def test_rotations_come_back(pose: CameraPose) -> None:
    rotation = pose.camera_to_world[:3, :3]
    assert np.allclose(frames.rotation_to_ours(frames.quaternion_to_habitat(rotation)), rotation, atol=1e-9)


@given(pinholes)
def test_the_horizontal_field_of_view_is_as_wide_as_the_picture(camera: Camera) -> None:
    """A point on the right border, half way up, is half the horizontal field of view off the axis."""
    half = math.radians(frames.horizontal_fov_deg(camera)) / 2
    pose = camera.pose.camera_to_world
    border = pose[:3, 3] + math.cos(half) * -pose[:3, 2] + math.sin(half) * pose[:3, 0]
    pixel, _ = camera.project(border)
    assert pixel == pytest.approx([camera.width, camera.height / 2])


@given(st.floats(0.01, 1.0), st.floats(5.0, 1000.0), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_orthographic_depth_is_metric_again(near: float, far: float, shares: list[float]) -> None:
    """From distance to what habitat-sim reports, by the README's formulas, and back."""
    metres = near + np.array(shares) * (far - near)
    p22, p23 = -2 / (far - near), -(far + near) / (far - near)
    buffer = (-p22 * metres + p23 + 1) / 2
    with np.errstate(divide="ignore", over="ignore"):
        reported = (p23 / 2 / (buffer + (p22 - 1) / 2)).astype(np.float32)
    back = frames.metric_ortho_depth(np.append(reported, np.float32(0)), near, far)
    assert back[-1] == 0 and np.allclose(back[:-1], metres, atol=2e-7 * far + 1e-5)


def test_yaw_zero_of_habitat_is_our_north() -> None:
    """An agent at rest looks along -z there, which is +y here; a left turn is positive in both."""
    assert np.allclose(frames.quaternion_to_habitat(CameraPose((0, 0, 0), math.pi / 2).camera_to_world[:3, :3])[:3], 0)
    x, y, z, w = frames.quaternion_to_habitat(CameraPose((0, 0, 0), math.pi / 2 + 0.2).camera_to_world[:3, :3])
    assert np.allclose([x, z], 0) and y / w == pytest.approx(math.tan(0.1))
