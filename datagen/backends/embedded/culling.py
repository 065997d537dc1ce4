"""What a camera cannot see and what cannot cast a shadow there: a renderer leaves it out, and the picture is the same.

OpenGL in software pays for every part of a home in each of its passes, and a camera in one room of five sees a fraction of
them. A part is left out where its box lies outside one of the camera's planes; where a lamp is lit, only if the same holds of
the shadow that the box may cast, which reaches from the box away from the lamp without end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipt.samples.camera import Camera

Floats = NDArray[np.float64]

MARGIN = 0.05  # metres outside of a plane: shadows have soft edges


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Oriented boxes, metres: ``centres`` (n, 3), and ``edges`` (n, 3, 3), whose rows lead from there to three of the sides."""

    centres: Floats
    edges: Floats

    def reach(self, normals: Floats) -> Floats:
        """The largest ``normal @ point`` over the points of each box, (n, planes), for ``normals`` (planes, 3)."""
        wide = np.abs(self.edges.reshape(-1, 3) @ normals.T).reshape(-1, 3, len(normals)).sum(axis=1)
        reached: Floats = self.centres @ normals.T + wide
        return reached


def planes_of(camera: Camera) -> tuple[Floats, Floats]:
    """Unit normals (6, 3) and offsets (6,): a point is in view where ``normals @ point + offsets >= 0`` for all."""
    matrix, high = camera.pose.camera_to_world, camera.half_height
    wide = high * camera.width / camera.height
    parallel = camera.ortho_height_m is not None
    sides = [(1.0, 0.0, wide), (-1.0, 0.0, wide), (0.0, 1.0, high), (0.0, -1.0, high)]
    # in the camera's axes, right, up and backward: a pinhole's sides lean outwards by ``half`` for each metre ahead
    local = [(x, y, 0.0 if parallel else -half, half if parallel else 0.0) for x, y, half in sides]
    local += [(0.0, 0.0, -1.0, -camera.near), (0.0, 0.0, 1.0, camera.far)]
    table = np.array(local)
    table /= np.linalg.norm(table[:, :3], axis=1, keepdims=True)
    normals = table[:, :3] @ matrix[:3, :3].T
    return normals, table[:, 3] - normals @ matrix[:3, 3]


def needed(boxes: Boxes, camera: Camera, lamp: tuple[float, float, float] | None) -> NDArray[np.bool_]:
    """Of which boxes the camera may see something, or of which a shadow that ``lamp`` (3,) makes them cast, (n,)."""
    normals, offsets = planes_of(camera)
    distances = boxes.reach(normals) + offsets
    outside = distances < -MARGIN
    if lamp is not None:  # no shadow enters where its box is further out than the lamp, which it moves away from
        outside &= distances <= np.asarray(lamp) @ normals.T + offsets
    return np.asarray(~outside.any(axis=1))
