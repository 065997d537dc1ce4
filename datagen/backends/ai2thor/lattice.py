"""AI2-THOR's free space: the lattice of positions that its agent reaches, as it reports them.

``GetReachablePositions`` sweeps the agent's capsule (0.2 m radius) along a grid, so every lattice point has that much
clearance. More is asked of the lattice itself: a point keeps its place if all points around it are reachable too.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from datagen.backends.base import FreeMap, Path, SceneError

Floats = NDArray[np.float64]
AGENT_RADIUS = 0.2
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


class Lattice:
    """Reachable floor points (n, 2) at multiples of ``grid_size`` metres from each other, on a floor at ``floor_z``."""

    def __init__(self, scene_id: str, points: Floats, grid_size: float, floor_z: float) -> None:
        if len(points) == 0:
            raise SceneError(f"scene {scene_id}: AI2-THOR reports no reachable position")
        self._scene_id, self._grid_size, self._floor_z = scene_id, grid_size, floor_z
        low = points.min(axis=0)
        columns, rows = np.rint((points - low) / grid_size).astype(int).T
        self._open = np.zeros((rows.max() + 1, columns.max() + 1), bool)
        self._open[rows, columns] = True
        self._origin = (float(low[0] - grid_size / 2), float(low[1] - grid_size / 2))
        distance = ndimage.distance_transform_edt(np.pad(self._open, 1))[1:-1, 1:-1] * grid_size
        self._clearance = np.where(self._open, np.maximum(distance - grid_size, 0) + AGENT_RADIUS, 0.0)
        self._maps: dict[float, FreeMap] = {}

    def map(self, clearance: float) -> FreeMap:
        """The largest connected set of lattice cells with that clearance in metres."""
        if clearance not in self._maps:
            labels, count = ndimage.label(self._open & (self._clearance >= clearance - 1e-6))
            grid = np.zeros(labels.shape, bool)
            if count:
                grid = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
            self._maps[clearance] = FreeMap(grid, self._origin, self._grid_size)
        return self._maps[clearance]

    def sample(self, count: int, rng: np.random.Generator, clearance: float, outline: Floats | None = None) -> Floats:
        """Lattice points (count, 3), drawn evenly with repetition, within ``outline`` (n, 2) if given."""
        free = self.map(clearance)
        places = free.centre_of(*np.nonzero(free.grid))
        if outline is not None:
            places = places[Outline(outline).contains_points(places)]
        if not len(places):
            where = "in that room" if outline is not None else "anywhere"
            raise SceneError(
                f"scene {self._scene_id}: no reachable position has {clearance:.2f} m of clearance {where}"
            )
        chosen = places[rng.integers(len(places), size=count)]
        return np.column_stack([chosen, np.full(count, self._floor_z)])

    def contains(self, points: Floats, clearance: float = 0.0) -> bool:
        """Whether all floor points (n, >=2) lie in free cells."""
        free = self.map(clearance)
        rows, columns = free.cell_of(points)
        inside = (rows >= 0) & (columns >= 0) & (rows < free.grid.shape[0]) & (columns < free.grid.shape[1])
        return bool(inside.all() and free.grid[rows, columns].all())

    def shortest_path(self, start: Floats, goal: Floats) -> Path | None:
        """Shortest walk over the lattice, in eight directions, between the cells of two free points; None if apart."""
        if not self.contains(np.stack([start[:2], goal[:2]])):
            return None
        free = self.map(0.0)
        node = np.full(free.grid.shape, -1)
        node[free.grid] = np.arange(free.grid.sum())
        ends = [int(node[free.cell_of(np.asarray(point, dtype=np.float64))]) for point in (start, goal)]
        _, previous = dijkstra(self._graph(node), directed=False, indices=ends[0], return_predecessors=True)
        nodes = [ends[1]]
        while nodes[-1] != ends[0]:
            nodes.append(int(previous[nodes[-1]]))
        rows, columns = np.nonzero(free.grid)
        return self.path(free.centre_of(rows[nodes[::-1]], columns[nodes[::-1]]))

    def _graph(self, node: NDArray[np.int_]) -> csr_array:
        """Neighbours of the free cells with their distance; no diagonal step cuts a corner."""
        rows, columns, weights = [], [], []
        padded = np.pad(node, 1, constant_values=-1)
        here = padded[1:-1, 1:-1]
        for down, right in STEPS:
            there = padded[1 + down : 1 + down + node.shape[0], 1 + right : 1 + right + node.shape[1]]
            beside = (
                padded[1 + down : 1 + down + node.shape[0], 1:-1],
                padded[1:-1, 1 + right : 1 + right + node.shape[1]],
            )
            both = (here >= 0) & (there >= 0) & (beside[0] >= 0) & (beside[1] >= 0)
            rows.append(here[both])
            columns.append(there[both])
            weights.append(np.full(int(both.sum()), self._grid_size * math.hypot(down, right)))
        size = int((node >= 0).sum())
        return csr_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(size, size))

    def path(self, corners: Floats) -> Path:
        """A path along floor points (n, 2), without those in the middle of a straight piece."""
        steps = np.diff(corners, axis=0)
        turns = np.abs(steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]) > 1e-9
        kept = corners[np.concatenate([[True], turns, [True]])] if len(corners) > 1 else np.repeat(corners, 2, axis=0)
        length = float(np.linalg.norm(np.diff(kept, axis=0), axis=1).sum())
        return Path(np.column_stack([kept, np.full(len(kept), self._floor_z)]), length)

    def walkable(self, corners: Floats) -> bool:
        """Whether a polyline of floor points (n, 2) stays in free cells."""
        return all(
            self.contains(
                start + np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / 0.02))[:, None] * (end - start)
            )
            for start, end in pairwise(corners)
        )
