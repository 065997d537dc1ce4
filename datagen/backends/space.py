"""Free space on a grid: where one may stand, points drawn from it, walks through it; and points in polygons.

Every backend knows for the cells of a grid how far the nearest obstacle is: from the outlines of furniture, from reachable
positions or from a navmesh. A place is free for a clearance if it is at least that far from obstacles; free space is the
largest connected region of such places, so any two free points are reachable from each other.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from datagen.backends.base import Floats, FreeMap, Path, SceneError

TOLERANCE_M = 1e-6
#: A step's cost grows by this over the squared distance (metres) to the nearest obstacle: one walks in the middle of a
#: corridor. At 0.2 m a step costs double, at 1 m 4 % more.
WALL_COST_M2 = 0.04
SAMPLE_STEP_M = 0.025  # along a walk that is looked at for obstacles: half a cell of the finest grid
MARGIN_CELLS = (
    0.1  # that a shortcut keeps from blocked cells on both sides, so that it does not slip between two corners
)
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the eight neighbours, each pair once


class GridSpace:
    """Free space of one floor at height ``floor_z``.

    ``clearance`` (rows, columns) is the distance of every cell to the nearest obstacle in metres, 0 or less where one cannot
    stand; cell [j, i] covers ``origin + resolution * ([i, i + 1], [j, j + 1])``. ``spread``: points are drawn anywhere in
    their cells, else at the centres. Maps and graphs are made when first asked for and kept per clearance.
    """

    def __init__(
        self,
        scene_id: str,
        clearance: Floats,
        origin: tuple[float, float],
        resolution: float,
        floor_z: float,
        spread: bool = True,
    ) -> None:
        self.scene_id, self.clearance, self.origin, self.resolution = scene_id, clearance, origin, resolution
        self.floor_z, self._spread = floor_z, spread
        self._maps: dict[float, FreeMap] = {}
        self._graphs: dict[float, tuple[csr_array, NDArray[np.int64]]] = {}

    def map(self, clearance: float) -> FreeMap:
        """The largest connected region with at least ``clearance`` metres to any obstacle."""
        if clearance not in self._maps:
            open_cells = (self.clearance > 0) & (self.clearance > clearance - TOLERANCE_M)
            self._maps[clearance] = FreeMap(largest_region(open_cells), self.origin, self.resolution)
        return self._maps[clearance]

    def sample(self, count: int, rng: np.random.Generator, clearance: float, outline: Floats | None = None) -> Floats:
        """Floor points (count, 3) of the free map, drawn evenly with repetition, within ``outline`` (n, 2) if given."""
        free = self.map(clearance)
        rows, columns = np.nonzero(free.grid)
        if outline is not None:
            inside = in_polygon(free.centre_of(rows, columns), outline)
            rows, columns = rows[inside], columns[inside]
        if not len(rows):
            where = "in that room" if outline is not None else "anywhere"
            raise SceneError(f"scene {self.scene_id}: no floor point has {clearance:.2f} m of clearance {where}")
        chosen = rng.integers(len(rows), size=count)
        points = free.centre_of(rows[chosen], columns[chosen])
        if self._spread:
            points = points + self.resolution * rng.uniform(-0.5, 0.5, (count, 2))
        return np.column_stack([points, np.full(count, self.floor_z)])

    def shortest_path(self, start: Floats, goal: Floats, clearance: float) -> Path | None:
        """The shortest walk between two floor points with that clearance, a little longer where it keeps off walls; None
        where one of them is not free."""
        free = self.map(clearance)
        ends = np.stack([np.asarray(start, dtype=np.float64)[:2], np.asarray(goal, dtype=np.float64)[:2]])
        if not free.contains(ends).all():
            return None
        graph, node_of_cell = self._graph(clearance)
        first, last = (int(node) for node in node_of_cell[free.cell_of(ends)])
        _, previous = dijkstra(graph, directed=False, indices=first, return_predecessors=True)
        nodes = [last]
        while nodes[-1] != first:
            nodes.append(int(previous[nodes[-1]]))
        rows, columns = np.nonzero(free.grid)
        cells = free.centre_of(rows[nodes[::-1]], columns[nodes[::-1]])
        return self.path(pull_taut(np.vstack([ends[:1], cells[1:-1], ends[1:]]), free))

    def path(self, corners: Floats) -> Path:
        """The walk along floor points (n, 2)."""
        length = float(np.linalg.norm(np.diff(corners, axis=0), axis=1).sum())
        return Path(np.column_stack([corners, np.full(len(corners), self.floor_z)]), length)

    def walkable(self, corners: Floats, clearance: float) -> bool:
        """Whether a polyline of floor points (n, 2) stays in the free map."""
        free = self.map(clearance)
        return all(is_clear(start, end, free) for start, end in itertools.pairwise(corners))

    def _graph(self, clearance: float) -> tuple[csr_array, NDArray[np.int64]]:
        """Neighbours of the free cells with the cost of the step, and the node number of every cell (-1: none).

        No diagonal step cuts a corner: both cells beside it are free, too.
        """
        if clearance not in self._graphs:
            grid = self.map(clearance).grid
            node = np.full(grid.shape, -1, np.int64)
            node[grid] = np.arange(grid.sum())
            cost = 1 + WALL_COST_M2 / np.square(np.maximum(self.clearance, self.resolution))
            rows, columns, weights = [], [], []
            for down, right in STEPS:
                here, there = shifted(node, down, right)
                both = (here >= 0) & (there >= 0)
                if down and right:
                    beside = corners_between(node, right)
                    both &= (beside[0] >= 0) & (beside[1] >= 0)
                cost_here, cost_there = shifted(cost, down, right)
                rows.append(here[both])
                columns.append(there[both])
                weights.append(self.resolution * math.hypot(down, right) * (cost_here[both] + cost_there[both]) / 2)
            size = int(grid.sum())
            data = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
            self._graphs[clearance] = (csr_array(data, shape=(size, size)), node)
        return self._graphs[clearance]


def largest_region(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest set of cells that are connected by their edges; nothing where there is none."""
    labels, count = ndimage.label(cells)
    if not count:
        return np.zeros_like(cells)
    region: NDArray[np.bool_] = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return region


def shifted(cells: NDArray[Any], down: int, right: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The overlap of a grid with itself moved by ``down`` >= 0 rows and ``right`` columns: (here, there)."""
    height, width = cells.shape
    left, end = max(0, -right), width - max(0, right)
    return cells[: height - down, left:end], cells[down:, left + right : end + right]


def corners_between(cells: NDArray[Any], right: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two cells beside each diagonal step one row down and ``right`` (1 or -1) columns across."""
    across, below = cells[:-1], cells[1:]
    return (across[:, 1:], below[:, :-1]) if right > 0 else (across[:, :-1], below[:, 1:])


def pull_taut(points: Floats, free: FreeMap) -> Floats:
    """Drop the corners of a polyline (n, 2) that a straight walk through free cells can skip."""
    kept, current = [0], 0
    while current < len(points) - 1:
        reach = current + 1
        step = len(points) - 1 - current
        while step > 0:
            candidate = min(reach + step, len(points) - 1)
            if candidate > reach and is_clear(points[current], points[candidate], free, MARGIN_CELLS):
                reach = candidate
            else:
                step //= 2
        kept.append(reach)
        current = reach
    return points[kept]


def is_clear(start: Floats, end: Floats, free: FreeMap, margin_cells: float = 0.0) -> bool:
    """Whether the straight segment between two (2,) points stays in free cells, and its parallels at ``margin_cells``."""
    step = end - start
    length = float(np.linalg.norm(step))
    count = max(2, math.ceil(length / SAMPLE_STEP_M) + 1)
    aside = margin_cells * free.resolution / max(length, 1e-9) * np.array([-step[1], step[0]])
    points = start + np.linspace(0, 1, count)[:, None] * step
    shifts = (-aside, aside) if margin_cells else (0 * aside,)
    return all(bool(free.contains(points + shift).all()) for shift in shifts)


def in_polygon(points: Floats, polygon: Floats) -> NDArray[np.bool_]:
    """Whether points (..., 2) lie in a simple polygon (n, 2), by the even-odd rule."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    x, y = points[..., 0, None], points[..., 1, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    hits = ((y0 > y) != (y1 > y)) & (x < crossing)
    inside: NDArray[np.bool_] = np.count_nonzero(hits, axis=-1) % 2 == 1
    return inside
