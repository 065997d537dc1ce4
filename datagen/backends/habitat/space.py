"""Free space of one floor, from habitat-sim's navmesh: which levels there are, where one may stand.

The navmesh is what is left of the floor after shrinking it by the agent's radius. A place with less clearance than that
radius lies near the navmesh, one with more lies deep inside it; so both come from distances on one grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datagen.backends.base import Floats, SceneError
from datagen.backends.space import GridSpace

RESOLUTION = 0.05
STOREY = 1.2  # metres: parts of the navmesh that are further apart in height belong to different levels


def floor_levels(vertices: Floats, triangles: NDArray[np.int32]) -> list[tuple[float, float]]:
    """Levels of a navmesh (our frame) from the bottom up: (height that halves the level's area, its area in m^2)."""
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    height = corners[:, :, 2].mean(axis=1)
    order = np.argsort(height)
    height, area = height[order], area[order]
    levels = []
    for part in np.split(np.arange(len(height)), np.flatnonzero(np.diff(height) > STOREY) + 1):
        middle = np.searchsorted(np.cumsum(area[part]), area[part].sum() / 2)
        levels.append((float(height[part][min(middle, len(part) - 1)]), float(area[part].sum())))
    return levels


def under_the_roof(
    vertices: Floats, triangles: NDArray[np.int32], top: float, agent_height: float
) -> NDArray[np.int32]:
    """The triangles over which an agent still fits below ``top``, the highest point of the scene (our frame): one can walk on a
    closed ceiling, too, and it is larger than the floor."""
    return triangles[vertices[triangles][:, :, 2].mean(axis=1) <= top - agent_height]


def height_spread(vertices: Floats, triangles: NDArray[np.int32]) -> float:
    """Metres between the lowest and the highest walkable place, leaving out the outermost hundredths of the area."""
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    height = corners[:, :, 2].mean(axis=1)
    order = np.argsort(height)
    share = np.cumsum(area[order]) / area.sum()
    low, high = np.searchsorted(share, [0.01, 0.99])
    return float(height[order][min(high, len(order) - 1)] - height[order][low])


def choose_level(
    levels: list[tuple[float, float]], spread: float, wanted: str, max_spread: float, scene_id: str
) -> float:
    """Height of the level that ``wanted`` names: "single", "largest" or a number counted from the bottom."""
    if wanted == "single":
        if spread >= max_spread:
            raise SceneError(
                f"scene {scene_id} has {len(levels)} levels, {spread:.1f} m between the lowest and the highest floor; "
                f"floor=single takes scenes below {max_spread} m (or set backend.floor=largest, or 0, 1, ...)"
            )
        wanted = "largest"
    if wanted == "largest":
        return max(levels, key=lambda level: level[1])[0]
    if int(wanted) >= len(levels):
        raise SceneError(
            f"scene {scene_id} has levels 0 to {len(levels) - 1}, backend.floor={wanted} is not one of them"
        )
    return levels[int(wanted)][0]


class NavmeshSpace(GridSpace):
    """Free space of one level. ``islands`` (rows of habitat's z, columns of x) are the navmesh's islands, -1 elsewhere.

    habitat-sim samples cell corners: value [row, column] belongs to (x_min + column * r, z_min + row * r). Our cells are
    moved by half a cell, so that these samples are their centres.
    """

    def __init__(
        self, islands: NDArray[np.int32], x_min: float, z_min: float, radius: float, scene_id: str, margin: float = 0.5
    ) -> None:
        self.radius = radius
        numbers = islands[islands >= 0]
        if not numbers.size:
            raise SceneError(f"scene {scene_id}: the navmesh is empty on this level; lower backend.agent_radius")
        pad = round(margin / RESOLUTION)
        self.on_mesh = np.pad((islands == np.bincount(numbers).argmax())[::-1], pad)
        y_min = -(z_min + (len(islands) - 1) * RESOLUTION)
        origin = (x_min - (pad + 0.5) * RESOLUTION, y_min - (pad + 0.5) * RESOLUTION)
        outside: Floats = ndimage.distance_transform_edt(~self.on_mesh)
        inside: Floats = ndimage.distance_transform_edt(self.on_mesh)
        # The outermost cells of the navmesh are as far from obstacles as its radius says.
        clearance = radius + (np.maximum(inside - 1, 0) - outside) * RESOLUTION
        super().__init__(scene_id, clearance, origin, RESOLUTION, floor_z=0.0)
