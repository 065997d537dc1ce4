"""The light that both renderers use: fixed lights that reach everywhere, and one lamp per room that casts shadows.

OpenGL's fixed-function model, evaluated at vertices (colours are RGB in 0..1):
``emission + ambient * rgb + sum over lights of diffuse * rgb * max(0, n.l)``, times the texture. The headlight shines
along the camera's viewing direction, the others along fixed world directions; neither casts a shadow. In a scene with
lamps the one of the camera's room is lit, on top of dimmed fixed lights, wherever it is seen from (its room's walls keep
it in). Views from outside of all rooms, such as those from above, have the fixed lights alone, at full strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipt.samples.camera import Camera

Floats32 = NDArray[np.float32]

BACKGROUND = (0.82, 0.84, 0.86)  # where nothing is hit: neutral, so that a plan reads like paper
AMBIENT = 0.46
HEADLIGHT = 0.20
#: Under a lamp the ambient and the other lights are multiplied by these.
DIMMED_AMBIENT, DIMMED_LIGHTS = 0.92, 0.40
LAMP = 0.64
#: The lamp shines down: by cosine of the angle to the vertical, to this many degrees from it.
LAMP_CUTOFF_DEG = 72.0
_DOORWAY = 0.25  # metres; a camera this far out of a room, in its door, is still lit by its lamp


@dataclass(frozen=True, slots=True)
class DirectionalLight:
    """A light from infinitely far: ``direction`` (3,) is where it shines to, in the world frame."""

    direction: tuple[float, float, float]
    diffuse: float


LIGHTS = (DirectionalLight((0.35, 0.62, -0.70), 0.34), DirectionalLight((-0.78, -0.28, -0.56), 0.22))


@dataclass(frozen=True, slots=True)
class Lamp:
    """The lamp of one room, at ``position`` (3,) below its ceiling; ``floor`` is made up of rectangles (x0, y0, x1, y1);
    metres."""

    position: tuple[float, float, float]
    floor: tuple[tuple[float, float, float, float], ...]

    def outside(self, x: float, y: float) -> float:
        """How far a point of the plan lies out of the room; 0 inside."""
        return min(max(x0 - x, x - x1, y0 - y, y - y1, 0.0) for x0, y0, x1, y1 in self.floor)

    def irradiance(self, vertices: Floats32, normals: Floats32) -> Floats32:
        """Grey irradiance of ``vertices`` (n, 3) with unit ``normals`` (n, 3) where nothing is in the way, (n,)."""
        towards = np.asarray(self.position, np.float32) - vertices
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-6)
        down = towards[:, 2]
        spread = np.where(down >= np.cos(np.radians(LAMP_CUTOFF_DEG)), down, 0)
        lit: Floats32 = np.float32(LAMP) * spread * np.maximum(0, np.einsum("nk,nk->n", normals, towards))
        return lit


def lamp_of(lamps: Sequence[Lamp], camera: Camera) -> Lamp | None:
    """The lamp of the room that the camera is in, or whose door it stands in; None outside of the rooms."""
    x, y, z = camera.pose.position
    near = min(lamps, key=lambda lamp: lamp.outside(x, y), default=None)
    if near is None or near.outside(x, y) > _DOORWAY or z > near.position[2] + _DOORWAY:
        return None
    return near


def irradiance(normals: Floats32, view_direction: NDArray[np.float64], dimmed: bool = False) -> Floats32:
    """Grey irradiance by the fixed lights of surfaces with unit ``normals`` (n, 3) seen along ``view_direction`` (3,), (n,).

    ``dimmed``: as they are where a lamp is lit.
    """
    ambient, share = (DIMMED_AMBIENT, DIMMED_LIGHTS) if dimmed else (1.0, 1.0)
    total = np.full(len(normals), AMBIENT * ambient, np.float32)
    total += HEADLIGHT * share * np.maximum(0, -(normals @ np.asarray(view_direction, np.float32)))
    for light in LIGHTS:
        direction = np.asarray(light.direction, np.float32)
        total += light.diffuse * share * np.maximum(0, -(normals @ (direction / np.linalg.norm(direction))))
    return total
