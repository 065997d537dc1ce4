"""Where an agent can stand in an embedded scene: an occupancy grid of its outlines in cells of ``RESOLUTION`` metres.

Measured on a file of 160,000 triangles: 0.35 CPU-s. A run passes over a folder of scenes again and again, so a process keeps
the grids of the last ``KEPT`` files (``Measured``), by what they are computed from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datagen.backends.base import Floats
from datagen.backends.embedded.scene import Scene
from datagen.backends.space import TOLERANCE_M, GridSpace

RESOLUTION = 0.05
KEPT = 64  # scenes; a house of 20 x 15 m takes a megabyte
CHUNK = 1 << 20  # cells that are looked at together


class FreeSpace(GridSpace):
    """Free space of one scene: a place is free if no obstacle outline comes within the asked clearance.

    ``measured``: where its grid may be known already, and is kept.
    """

    def __init__(self, scene: Scene, measured: Measured | None = None) -> None:
        clearance = measured.of(scene) if measured is not None else clearance_of(scene)
        low = lowest(scene)
        super().__init__(scene.scene_id, clearance, (float(low[0]), float(low[1])), RESOLUTION, scene.floor_z)


class Measured:
    """Clearance grids of the scenes that this process met last."""

    def __init__(self) -> None:
        self._grids: dict[bytes, Floats] = {}

    def of(self, scene: Scene) -> Floats:
        """The grid of a scene, computed where none of the last ``KEPT`` had the same outlines and bounds."""
        key = fingerprint(scene)
        grid = self._grids.pop(key, None)
        self._grids[key] = grid = clearance_of(scene) if grid is None else grid
        if len(self._grids) > KEPT:
            del self._grids[next(iter(self._grids))]
        return grid


def fingerprint(scene: Scene) -> bytes:
    """SHA-256 of all that a scene's clearances are computed from."""
    digest = hashlib.sha256(np.array([scene.bounds_min, scene.bounds_max]).tobytes())
    for outlines in (scene.walkable, scene.obstacles):
        digest.update(np.array([len(outline) for outline in outlines]).tobytes())
        digest.update(np.concatenate([np.zeros((0, 2)), *outlines]).tobytes())
    return digest.digest()


def lowest(scene: Scene) -> Floats:
    """The corner of a scene's grid, (2,): a cell beyond its bounds."""
    return np.asarray(scene.bounds_min[:2]) - RESOLUTION


def clearance_of(scene: Scene) -> Floats:
    """The distance of each cell to the nearest obstacle, (rows, columns) metres."""
    low, high = lowest(scene), np.asarray(scene.bounds_max[:2]) + RESOLUTION
    columns, rows = np.ceil((high - low) / RESOLUTION).astype(int)
    open_floor = np.zeros((rows, columns), bool)
    paint(open_floor, low, scene.walkable, 0.0, True)
    paint(open_floor, low, scene.obstacles, RESOLUTION / 2, False)
    # Cells outside the grid are not free; padding makes the border count as an obstacle.
    distance: Floats = ndimage.distance_transform_edt(np.pad(open_floor, 1))[1:-1, 1:-1] * RESOLUTION
    # An outline may pass through the cell that a distance ends at, so that exactly the clearance is not enough.
    return distance - 2 * TOLERANCE_M


def paint(grid: NDArray[np.bool_], origin: Floats, outlines: Sequence[Floats], margin: float, value: bool) -> None:
    """Set the cells whose centre lies within ``margin`` metres of one of the convex outlines (n, 2), in place."""
    if not len(outlines):
        return
    corners = alike(outlines)
    low, high = (
        np.clip(edge((extreme - origin) / RESOLUTION).astype(int), 0, grid.shape[::-1])
        for edge, extreme in ((np.floor, corners.min(axis=1) - margin), (np.ceil, corners.max(axis=1) + margin))
    )
    cells = (high - low).prod(axis=1)
    chunk = np.cumsum(cells) // CHUNK
    for rows in np.split(np.arange(len(cells)), np.flatnonzero(np.diff(chunk)) + 1):
        _paint_together(grid, origin, corners[rows], low[rows], (high - low)[rows], margin, value)


def _paint_together(
    grid: NDArray[np.bool_],
    origin: Floats,
    corners: Floats,
    low: NDArray[np.int64],
    size: NDArray[np.int64],
    margin: float,
    value: bool,
) -> None:
    """``paint`` for outlines (n, k, 2), the windows of which begin at cell ``low`` and have ``size`` (n, 2) (x, y) cells."""
    cells = size.prod(axis=1)
    owner = np.repeat(np.arange(len(cells)), cells)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(cells) - cells, cells)
    column, row = low[owner, 0] + number % size[owner, 0], low[owner, 1] + number // size[owner, 0]
    x, y = origin[0] + RESOLUTION * (column + 0.5), origin[1] + RESOLUTION * (row + 0.5)
    edges = np.roll(corners, -1, axis=1) - corners
    lengths = np.hypot(edges[..., 0], edges[..., 1])
    real = lengths > 1e-9
    lengths = np.where(real, lengths, 1.0)
    inside = np.ones(len(owner), bool)
    for side in range(corners.shape[1]):
        (dx, dy), (x0, y0) = edges[owner, side].T, corners[owner, side].T
        left_of_edge = (dx * (y - y0) - dy * (x - x0)) / lengths[owner, side]
        inside &= (left_of_edge >= -margin) | ~real[owner, side]
    grid[row[inside], column[inside]] = value


def alike(outlines: Sequence[Floats]) -> Floats:
    """Outlines of any number of corners as one array (n, k, 2); the last corner of shorter ones is repeated."""
    counts = np.array([len(outline) for outline in outlines])
    stacked = np.concatenate(outlines, dtype=np.float64)
    corner = np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    return np.asarray(stacked[(np.cumsum(counts) - counts)[:, None] + corner])
