"""What a navmesh is made of: the recorded triangles of the golden room, or the free cells of an embedded home."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datagen.backends.embedded.free_space import FreeSpace

REACH = np.float32(2.0)  # metres to each side within which points snap to the navmesh


class TriangleSurface:
    """A flat mesh in habitat's frame; plane coordinates are (x, z)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.vertices = np.load(folder / f"{name}.verts.npy")
        self.triangles = np.load(folder / f"{name}.tris.npy")
        self.height = float(self.vertices[0, 1])
        self.corners = self.vertices[self.triangles][:, :, [0, 2]].astype(float)
        keys = [
            frozenset((tuple(np.round(a, 4)), tuple(np.round(b, 4))))
            for triangle in self.corners
            for a, b in itertools.pairwise([*triangle, triangle[0]])
        ]
        self.border = np.array([[list(end) for end in key] for key in keys if keys.count(key) == 1])
        self.nodes = np.unique(np.round(self.corners.reshape(-1, 2), 4), axis=0)

    @property
    def area(self) -> float:
        one, other = self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0]
        return float(np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum() / 2)

    def nearest(self, point: np.ndarray) -> np.ndarray | None:
        """The closest place (x, z), or None if it is out of reach."""
        if not np.isfinite(point).all():
            return None
        if any(inside(point, triangle) for triangle in self.corners):
            return point
        closest = closest_on_segments(point, self.border)
        place = closest[np.argmin(np.linalg.norm(closest - point, axis=1))]
        return place if np.abs(place - point).max() <= REACH else None

    def to_border(self, point: np.ndarray) -> float:
        return float(np.linalg.norm(closest_on_segments(point, self.border) - point, axis=1).min())

    def island(self, points: np.ndarray) -> np.ndarray:
        """Island index of plane points (n, 2) that are on the mesh up to a centimetre, else -1."""
        on = np.zeros(len(points), bool)
        for triangle in self.corners:
            on |= inside(points, triangle)
        off = np.flatnonzero(~on)
        for index in off:
            closest = closest_on_segments(points[index], self.border)
            on[index] = np.linalg.norm(closest - points[index], axis=1).min() < 0.01
        return np.where(on, 0, -1)

    def shortest(self, start: np.ndarray, end: np.ndarray) -> np.ndarray | None:
        """The shortest plane path (n, 2) along straight lines between mesh vertices that stay on the mesh."""
        from scipy.sparse.csgraph import dijkstra

        if np.allclose(start, end):
            return np.stack([start, end])
        nodes = np.vstack([start, end, self.nodes])
        weights = np.zeros((len(nodes), len(nodes)))
        for i, j in itertools.combinations(range(len(nodes)), 2):
            if self.covers(nodes[i], nodes[j]):
                weights[i, j] = max(np.linalg.norm(nodes[i] - nodes[j]), 1e-6)  # 0 would mean no edge
        cost, before = dijkstra(weights, directed=False, indices=0, return_predecessors=True)
        if not np.isfinite(cost[1]):
            return None
        chain = [1]
        while chain[-1] != 0:
            chain.append(int(before[chain[-1]]))
        return nodes[chain[::-1]]

    def covers(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Whether the mesh covers the whole segment: the parts that each triangle covers leave no gap."""
        parts = sorted(part for triangle in self.corners if (part := clip(start, end, triangle)) is not None)
        reached = 0.0
        for low, high in parts:
            if low > reached + 1e-4:
                return False
            reached = max(reached, high)
        return reached > 1 - 1e-4


class GridSurface:
    """The free cells of an embedded home at a clearance."""

    def __init__(self, space: FreeSpace, radius: float) -> None:
        self.space, self.radius = space, round(radius, 6)
        self.free = space.map(self.radius)
        self.height = space.floor_z + 0.1
        rows, columns = np.nonzero(self.free.grid)
        self.centres = y_down(self.free.centre_of(rows, columns))
        squares = self.centres[:, None] + self.free.resolution / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        flat = squares.reshape(-1, 2)
        self.vertices = np.column_stack([flat[:, 0], np.full(len(flat), self.height), flat[:, 1]]).astype(np.float32)
        first = 4 * np.arange(len(squares))[:, None]
        self.triangles = np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])]).astype(np.int32)

    @property
    def area(self) -> float:
        return float(self.free.grid.sum() * self.free.resolution**2)

    def nearest(self, point: np.ndarray) -> np.ndarray | None:
        if not np.isfinite(point).all():
            return None
        if self.island(point[None])[0] >= 0:
            return point
        place = self.centres[np.argmin(np.linalg.norm(self.centres - point, axis=1))]
        return place if np.abs(place - point).max() <= REACH else None

    def to_border(self, point: np.ndarray) -> float:
        from scipy import ndimage

        rows, columns = self.free.cell_of(y_down(point[None]))
        return float(ndimage.distance_transform_edt(self.free.grid)[rows[0], columns[0]] * self.free.resolution)

    def island(self, points: np.ndarray) -> np.ndarray:
        rows, columns = self.free.cell_of(y_down(points))
        shape = self.free.grid.shape
        within = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
        on = within & self.free.grid[np.where(within, rows, 0), np.where(within, columns, 0)]
        return np.where(on, 0, -1)

    def shortest(self, start: np.ndarray, end: np.ndarray) -> np.ndarray | None:
        path = self.space.shortest_path(*(np.array([*y_down(point), 0.0]) for point in (start, end)), self.radius)
        return None if path is None else y_down(path.points[:, :2])


def y_down(points: np.ndarray) -> np.ndarray:
    """Between (x, y) of a z-up plan and (x, z) of a y-up one: the same flip both ways."""
    return points * np.array([1.0, -1.0])


def inside(points: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Whether plane points (..., 2) lie in a triangle (3, 2), its border included."""
    signs = []
    for a, b in itertools.pairwise([*triangle, triangle[0]]):
        signs.append((b[0] - a[0]) * (points[..., 1] - a[1]) - (b[1] - a[1]) * (points[..., 0] - a[0]))
    return (np.min(signs, axis=0) >= -1e-7) | (np.max(signs, axis=0) <= 1e-7)


def closest_on_segments(point: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """The point of each segment (n, 2, 2) that is closest to ``point``, (n, 2)."""
    along = segments[:, 1] - segments[:, 0]
    share = np.einsum("ij,ij->i", point - segments[:, 0], along) / np.einsum("ij,ij->i", along, along)
    return segments[:, 0] + np.clip(share, 0, 1)[:, None] * along


def clip(start: np.ndarray, end: np.ndarray, triangle: np.ndarray) -> tuple[float, float] | None:
    """The part (from, to) in 0..1 of a segment that lies in a triangle, or None."""
    low, high = 0.0, 1.0
    turn = np.sign(np.linalg.det([triangle[1] - triangle[0], triangle[2] - triangle[0]]))
    for a, b in itertools.pairwise([*triangle, triangle[0]]):
        edge = (b - a) * turn / np.linalg.norm(b - a)
        at_start = edge[0] * (start[1] - a[1]) - edge[1] * (start[0] - a[0]) + 1e-5
        at_end = edge[0] * (end[1] - a[1]) - edge[1] * (end[0] - a[0]) + 1e-5
        if at_start < 0 and at_end < 0:
            return None
        if at_start < 0 or at_end < 0:
            crossing = at_start / (at_start - at_end)
            low, high = (max(low, crossing), high) if at_start < 0 else (low, min(high, crossing))
    return (low, high) if low <= high else None
