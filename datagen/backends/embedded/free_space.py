"""Where an agent can stand and walk: an occupancy grid, distances to obstacles, shortest paths.

The grid covers the floor in cells of ``RESOLUTION`` metres. A place is free if no obstacle outline comes within the
asked clearance; free space is the largest connected region, so any two free points are reachable from each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from datagen.backends.base import FreeMap, Path, SceneError
from datagen.backends.embedded.scene import Scene

Floats = NDArray[np.float64]
RESOLUTION = 0.05
WALL_FEAR = 0.04  # metres^2: extra cost of a step is this over the squared distance to the nearest obstacle
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


class FreeSpace:
    """Free space of one scene; grids are made when first asked for and kept per clearance (metres)."""

    def __init__(self, scene: Scene) -> None:
        self.scene_id = scene.scene_id
        low, high = np.asarray(scene.bounds_min[:2]) - RESOLUTION, np.asarray(scene.bounds_max[:2]) + RESOLUTION
        columns, rows = np.ceil((high - low) / RESOLUTION).astype(int)
        open_floor = np.zeros((rows, columns), bool)
        for outline in scene.walkable:
            paint(open_floor, low, outline, 0.0, True)
        for outline in scene.obstacles:
            paint(open_floor, low, outline, RESOLUTION / 2, False)
        self._origin = (float(low[0]), float(low[1]))
        # Cells outside the grid are not free; padding makes the border count as an obstacle.
        self.distance: Floats = ndimage.distance_transform_edt(np.pad(open_floor, 1))[1:-1, 1:-1] * RESOLUTION
        self._maps: dict[float, FreeMap] = {}
        self._graphs: dict[float, tuple[csr_array, NDArray[np.int64]]] = {}

    def map(self, clearance: float) -> FreeMap:
        """Largest connected region at least ``clearance`` metres from obstacles."""
        if clearance not in self._maps:
            labels, count = ndimage.label(self.distance > max(clearance, 1e-9))
            grid = np.zeros(labels.shape, bool)
            if count:
                grid = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
            self._maps[clearance] = FreeMap(grid, self._origin, RESOLUTION)
        return self._maps[clearance]

    def sample(self, count: int, rng: np.random.Generator, clearance: float, outline: Floats | None = None) -> Floats:
        """Uniform floor points (count, 3) of the free map, within ``outline`` (convex, (n, 2)) if given."""
        free = self.map(clearance)
        grid = free.grid
        if outline is not None:
            inside = np.zeros_like(grid)
            paint(inside, np.asarray(self._origin), outline, 0.0, True)
            grid = grid & inside
        rows, columns = np.nonzero(grid)
        if not len(rows):
            where = "in that room" if outline is not None else "anywhere"
            raise SceneError(f"scene {self.scene_id}: no floor point has {clearance:.2f} m of clearance {where}")
        chosen = rng.integers(len(rows), size=count)
        points = free.centre_of(rows[chosen], columns[chosen]) + RESOLUTION * rng.uniform(-0.5, 0.5, (count, 2))
        return np.column_stack([points, np.zeros(count)])

    def shortest_path(self, start: Floats, goal: Floats, clearance: float) -> Path | None:
        """Walkable polyline from ``start`` to ``goal``, keeping away from walls where that costs little; None if apart."""
        free = self.map(clearance)
        ends = [self._cell(point, free) for point in (start, goal)]
        if ends[0] is None or ends[1] is None:
            return None
        graph, node_of_cell = self._graph(clearance)
        first, last = node_of_cell[ends[0]], node_of_cell[ends[1]]
        cost, previous = dijkstra(graph, directed=False, indices=int(first), return_predecessors=True)
        if not np.isfinite(cost[last]):
            return None
        nodes = [int(last)]
        while nodes[-1] != first:
            nodes.append(int(previous[nodes[-1]]))
        rows, columns = np.nonzero(free.grid)
        cells = free.centre_of(rows[nodes[::-1]], columns[nodes[::-1]])
        corners = np.vstack([np.asarray(start)[:2], cells[1:-1], np.asarray(goal)[:2]])
        points = pull_taut(corners, free)
        length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        return Path(np.column_stack([points, np.zeros(len(points))]), length)

    def _cell(self, point: Floats, free: FreeMap) -> tuple[int, int] | None:
        row, column = free.cell_of(np.asarray(point, dtype=np.float64))
        inside = 0 <= row < free.grid.shape[0] and 0 <= column < free.grid.shape[1]
        return (int(row), int(column)) if inside and free.grid[row, column] else None

    def _graph(self, clearance: float) -> tuple[csr_array, NDArray[np.int64]]:
        """Weighted 8-neighbour graph of the free cells, and the node number of every cell."""
        if clearance not in self._graphs:
            grid = self.map(clearance).grid
            node = np.full(grid.shape, -1, np.int64)
            node[grid] = np.arange(grid.sum())
            fear = 1 + WALL_FEAR / np.square(np.maximum(self.distance, RESOLUTION))
            rows, columns, weights = [], [], []
            for down, right in STEPS:
                here, there = shifted(node, down, right)
                both = (here >= 0) & (there >= 0)
                fear_here, fear_there = shifted(fear, down, right)
                rows.append(here[both])
                columns.append(there[both])
                weights.append(RESOLUTION * math.hypot(down, right) * (fear_here[both] + fear_there[both]) / 2)
            size = int(grid.sum())
            data = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
            self._graphs[clearance] = (csr_array(data, shape=(size, size)), node)
        return self._graphs[clearance]


def shifted(cells: NDArray[Any], down: int, right: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The overlap of a grid with itself moved by ``down`` >= 0 rows and ``right`` columns: (here, there)."""
    height, width = cells.shape
    left, end = max(0, -right), width - max(0, right)
    return cells[: height - down, left:end], cells[down:, left + right : end + right]


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


def pull_taut(points: Floats, free: FreeMap) -> Floats:
    """Drop the corners of a polyline (n, 2) that a straight walk through free cells can skip."""
    kept, current = [0], 0
    while current < len(points) - 1:
        reach = current + 1
        step = len(points) - 1 - current
        while step > 0:
            candidate = min(reach + step, len(points) - 1)
            if candidate > reach and walkable(points[current], points[candidate], free):
                reach = candidate
            else:
                step //= 2
        kept.append(reach)
        current = reach
    return points[kept]


def walkable(start: Floats, end: Floats, free: FreeMap) -> bool:
    """Whether the straight segment between two (2,) points stays in free cells."""
    count = max(2, math.ceil(float(np.linalg.norm(end - start)) / (free.resolution / 2)) + 1)
    points = start + np.linspace(0, 1, count)[:, None] * (end - start)
    rows, columns = free.cell_of(points)
    return bool(free.grid[rows, columns].all())


def outline_of(points: Floats) -> Floats:
    """Convex outline (m, 2), counter-clockwise, of footprint points (n, >=2)."""
    flat = sorted({(round(float(x), 6), round(float(y), 6)) for x, y in np.asarray(points)[:, :2]})
    return np.array(half_hull(flat)[:-1] + half_hull(flat[::-1])[:-1] if len(flat) > 2 else flat)


def half_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower hull of points sorted by x (Andrew's monotone chain)."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull
