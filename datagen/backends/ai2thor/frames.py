"""Between AI2-THOR's world and ours: positions, camera poses, depth and instance colours.

AI2-THOR (Unity) is left-handed with y up, in metres and degrees: yaw 0 looks along +z and grows clockwise seen from
above, a positive rotation about x looks down, and Euler angles apply as Ry Rx Rz. Exchanging y and z gives our
right-handed frame with z up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datagen.backends.base import OrientedBox, SceneError
from ipt.samples.camera import Camera, CameraPose

Floats = NDArray[np.float64]
Vector = Mapping[str, float]


def from_thor(vector: Vector) -> Floats:
    """A Unity vector {x, y, z} in our frame, (3,) metres."""
    return np.array([vector["x"], vector["z"], vector["y"]], dtype=np.float64)


def to_thor(point: ArrayLike) -> dict[str, float]:
    """A point (3,) of our frame as a Unity vector {x, y, z}."""
    x, y, z = (float(value) for value in np.asarray(point))
    return {"x": x, "y": z, "z": y}


def rotation_to_thor(pose: CameraPose) -> dict[str, float]:
    """Unity Euler angles in degrees of a camera pose."""
    return {"x": -math.degrees(pose.pitch), "y": 90.0 - math.degrees(pose.yaw), "z": math.degrees(pose.roll)}


def camera_to_thor(camera: Camera) -> dict[str, Any]:
    """Arguments of ``AddThirdPartyCamera`` and ``UpdateThirdPartyCamera``.

    Unity's field of view is vertical, as ours; ``orthographicSize`` is half the height and may only be named with
    ``orthographic``.
    """
    arguments: dict[str, Any] = {
        "position": to_thor(camera.pose.position),
        "rotation": rotation_to_thor(camera.pose),
        "fieldOfView": camera.vertical_fov_deg,
        "nearClippingPlane": camera.near,
        "farClippingPlane": camera.far,
        "orthographic": camera.ortho_height_m is not None,
    }
    if camera.ortho_height_m is not None:
        arguments["orthographicSize"] = camera.ortho_height_m / 2
    return arguments


def without_ceiling(camera: Camera, cut: float, ceiling: float) -> Camera:
    """A camera that shows a scene without what hides its rooms from above; heights in metres of the world frame.

    AI2-THOR cannot hide objects of its structure. For a parallel view straight down the near plane is a horizontal cut,
    here at height ``cut``. Above ``ceiling`` a perspective needs none: Unity draws ceilings from below only.
    """
    height = camera.pose.position[2]
    if camera.ortho_height_m is None and height > ceiling:
        return camera
    if camera.ortho_height_m is None or camera.pose.forward[2] > -1 + 1e-9:
        raise SceneError(
            f"AI2-THOR leaves out ceilings only in orthographic views straight down (render_top_down) and from above "
            f"{ceiling:.2f} m, this camera is at {height:.2f} m"
        )
    if height - cut >= camera.far:
        raise SceneError(
            f"a top-down camera at {height:.2f} m with far={camera.far} m does not reach down to {cut:.2f} m"
        )
    return replace(camera, near=max(camera.near, height - cut))


def planar_depth(reported: NDArray[np.float32], camera: Camera, as_perspective: bool) -> NDArray[np.float32]:
    """Planar metres, 0 where nothing was hit, from the depth (h, w) that AI2-THOR reports.

    Unity's depth shader linearises the buffer as for a perspective. For orthographic cameras that is wrong, and
    ``as_perspective`` inverts it: the buffer value is linear in depth there.
    """
    depth = reported
    if camera.ortho_height_m is not None and as_perspective:
        exact = np.maximum(reported.astype(np.float64), camera.near)
        buffer = (1 / exact - 1 / camera.far) / (1 / camera.near - 1 / camera.far)
        depth = (camera.far - (camera.far - camera.near) * buffer).astype(np.float32)
    return np.where(depth < np.float32(camera.far * (1 - 1e-3)), depth, np.float32(0))


def linearised_as_perspective(reported: NDArray[np.float32], camera: Camera, bounds_z: tuple[float, float]) -> bool:
    """Whether a build reports the depth of orthographic cameras through the perspective formula.

    Decided from one view straight down with planes far apart: the right reading puts the surfaces between the heights
    ``bounds_z`` (metres) of the scene. ``SceneError`` if neither reading does.
    """
    heights = []
    for as_perspective in (True, False):
        depth = planar_depth(reported, camera, as_perspective)
        heights.append(float(camera.pose.position[2] - np.median(depth[depth > 0])) if depth.any() else math.nan)
        if bounds_z[0] - 0.3 <= heights[-1] <= bounds_z[1] + 0.3:
            return as_perspective
    raise SceneError(
        f"orthographic depth cannot be read: it puts surfaces at heights {heights} m in a scene that spans "
        f"{bounds_z[0]:.2f}..{bounds_z[1]:.2f} m; use the player build that belongs to ai2thor 5.0"
    )


def colour_key(colour: Sequence[int]) -> int:
    """A colour (3,) in 0..255 as the integer that a little-endian RGBA pixel without its alpha is."""
    red, green, blue = colour
    return red | green << 8 | blue << 16


def box_of_corners(points: Sequence[Sequence[float]]) -> OrientedBox | None:
    """The oriented box whose eight corners are given in Unity's frame in any order; None for a degenerate one."""
    corners = np.asarray(points, dtype=np.float64)[:, [0, 2, 1]]
    centre = corners.mean(axis=0)
    edges = corners[1:] - corners[0]
    lengths = np.linalg.norm(edges, axis=1)
    for chosen in (list(three) for three in combinations(range(7), 3)):
        if lengths[chosen].min() < 1e-6 or not np.allclose(edges[chosen].sum(0), 2 * (centre - corners[0]), atol=1e-3):
            continue
        axes = edges[chosen] / lengths[chosen][:, None]
        if np.allclose(axes @ axes.T, np.eye(3), atol=1e-3):
            rotation = np.column_stack([axes[0], axes[1], np.cross(axes[0], axes[1])])
            return OrientedBox(centre, lengths[chosen] / 2, rotation)
    return None
