"""Between habitat-sim's conventions and ours (:mod:`ipt.samples.camera`). Pure functions, metres and radians.

habitat-sim: right-handed, **y up**, an agent at rest looks along -z, x to its right; quaternions here are (x, y, z, w), as
its API reads them from lists. Both cameras are OpenGL cameras, so only the world frame turns:
``(x, y, z)_ours = (x, -z, y)_habitat``; habitat's yaw 0 is our yaw 90 degrees. Its field of view is always horizontal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ipt.samples.camera import Camera

Floats = NDArray[np.float64]

#: Rotation that takes habitat's world axes to ours, (3, 3).
TO_OURS: Floats = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def points_to_ours(points: ArrayLike) -> Floats:
    """World points (..., 3) from habitat's frame to ours."""
    return np.asarray(points, dtype=np.float64) @ TO_OURS.T


def points_to_habitat(points: ArrayLike) -> Floats:
    """World points (..., 3) from our frame to habitat's."""
    return np.asarray(points, dtype=np.float64) @ TO_OURS


def rotation_to_ours(quaternion_xyzw: ArrayLike) -> Floats:
    """Rotation (3, 3) into our world frame of what habitat turns by a quaternion (x, y, z, w)."""
    return TO_OURS @ Rotation.from_quat(np.asarray(quaternion_xyzw, dtype=np.float64)).as_matrix()


def quaternion_to_habitat(rotation: ArrayLike) -> tuple[float, float, float, float]:
    """Habitat's unit quaternion (x, y, z, w) of a rotation (3, 3) into our world frame."""
    x, y, z, w = Rotation.from_matrix(TO_OURS.T @ np.asarray(rotation, dtype=np.float64)).as_quat()
    return float(x), float(y), float(z), float(w)


def horizontal_fov_deg(camera: Camera) -> float:
    """Habitat's ``hfov`` in degrees of a pinhole camera."""
    return math.degrees(2 * math.atan(camera.half_height * camera.width / camera.height))


def ortho_scale(camera: Camera) -> float:
    """Habitat's ``ortho_scale`` (1 / metres that the image is wide) of an orthographic camera."""
    assert camera.ortho_height_m is not None, "a pinhole camera has no scale"
    return camera.height / (camera.ortho_height_m * camera.width)


def sensor(camera: Camera, near: float) -> dict[str, Any]:
    """A camera in the worker's terms: world pose, size in pixels, clipping planes in metres, ``hfov`` or ``ortho_scale``."""
    matrix = camera.pose.camera_to_world
    lens = (
        {"hfov": horizontal_fov_deg(camera)} if camera.ortho_height_m is None else {"ortho_scale": ortho_scale(camera)}
    )
    return {
        "position": points_to_habitat(matrix[:3, 3]).tolist(),
        "rotation_xyzw": quaternion_to_habitat(matrix[:3, :3]),
        "width": camera.width,
        "height": camera.height,
        "near": near,
        "far": camera.far,
        **lens,
    }


def metric_ortho_depth(reported: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """Metres from what habitat-sim reports as orthographic depth; 0 stays 0 (nothing drawn).

    habitat-sim inverts the perspective projection even where there is none: from the depth buffer value b it reports
    ``u1 / (b + u0)`` with ``u0 = (P22 - 1) / 2`` and ``u1 = P23 / 2`` of the projection matrix P, which is negative in the
    far half of the range. Source: the README of the recorded fixtures.
    """
    p22, p23 = np.float32(-2 / (far - near)), np.float32(-(far + near) / (far - near))
    u0, u1 = (float(p22) - 1) / 2, float(p23) / 2
    drawn = reported != 0
    buffer = u1 / np.where(drawn, reported, 1).astype(np.float64) - u0
    return np.where(drawn, near + buffer * (far - near), 0).astype(np.float32)
