"""The light that both renderers use: no cast shadows, so nothing shines through walls; contact shading is in the textures.

OpenGL's fixed-function model, evaluated at vertices (colours are RGB in 0..1):
``emission + ambient * rgb + sum over lights of diffuse * rgb * max(0, n.l)``, times the texture. The headlight shines
along the camera's viewing direction, the others along fixed world directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BACKGROUND = (0.82, 0.84, 0.86)  # where nothing is hit: neutral, so that a plan reads like paper
AMBIENT = 0.46
HEADLIGHT = 0.20


@dataclass(frozen=True, slots=True)
class DirectionalLight:
    """A light from infinitely far: ``direction`` (3,) is where it shines to, in the world frame."""

    direction: tuple[float, float, float]
    diffuse: float


LIGHTS = (DirectionalLight((0.35, 0.62, -0.70), 0.34), DirectionalLight((-0.78, -0.28, -0.56), 0.22))


def irradiance(normals: NDArray[np.float32], view_direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Grey irradiance of surfaces with unit ``normals`` (n, 3) seen along ``view_direction`` (3,), (n,)."""
    total = np.full(len(normals), AMBIENT, np.float32)
    total += HEADLIGHT * np.maximum(0, -(normals @ np.asarray(view_direction, np.float32)))
    for light in LIGHTS:
        direction = np.asarray(light.direction, np.float32)
        total += light.diffuse * np.maximum(0, -(normals @ (direction / np.linalg.norm(direction))))
    return total
