"""Where an agent can stand in an embedded scene: an occupancy grid of its outlines in cells of ``RESOLUTION`` metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datagen.backends.base import Floats
from datagen.backends.embedded.scene import Scene
from datagen.backends.space import TOLERANCE_M, GridSpace

RESOLUTION = 0.05


class FreeSpace(GridSpace):
    """Free space of one scene: a place is free if no obstacle outline comes within the asked clearance."""

    def __init__(self, scene: Scene) -> None:
        low, high = np.asarray(scene.bounds_min[:2]) - RESOLUTION, np.asarray(scene.bounds_max[:2]) + RESOLUTION
        columns, rows = np.ceil((high - low) / RESOLUTION).astype(int)
        open_floor = np.zeros((rows, columns), bool)
        for outline in scene.walkable:
            paint(open_floor, low, outline, 0.0, True)
        for outline in scene.obstacles:
            paint(open_floor, low, outline, RESOLUTION / 2, False)
        # Cells outside the grid are not free; padding makes the border count as an obstacle.
        distance: Floats = ndimage.distance_transform_edt(np.pad(open_floor, 1))[1:-1, 1:-1] * RESOLUTION
        # An outline may pass through the cell that a distance ends at, so that exactly the clearance is not enough.
        clearance = distance - 2 * TOLERANCE_M
        super().__init__(scene.scene_id, clearance, (float(low[0]), float(low[1])), RESOLUTION, scene.floor_z)


def paint(grid: NDArray[np.bool_], origin: Floats, outline: Floats, margin: float, value: bool) -> None:
    """Set the cells whose centre lies within ``margin`` metres of a convex outline (n, 2), in place."""
    outline = np.asarray(outline, dtype=np.float64)
    low = np.floor((outline.min(axis=0) - margin - origin) / RESOLUTION).astype(int).clip(0)
    high = np.ceil((outline.max(axis=0) + margin - origin) / RESOLUTION).astype(int)
    window = grid[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if not window.size:
        return
    x = origin[0] + RESOLUTION * (low[0] + np.arange(window.shape[1]) + 0.5)
    y = origin[1] + RESOLUTION * (low[1] + np.arange(window.shape[0]) + 0.5)
    edges = np.roll(outline, -1, axis=0) - outline
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    real = lengths > 1e-9
    (dx, dy), (x0, y0), length = edges[real].T[..., None], outline[real].T[..., None], lengths[real, None, None]
    left_of_edge = ((dx * (y - y0))[:, :, None] - (dy * (x - x0))[:, None, :]) / length
    inside = (left_of_edge >= -margin).all(axis=0)
    window[inside] = value
