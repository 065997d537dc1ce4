"""Free space and walks on a grid against slow, obvious ones; points in polygons against their definition."""

from __future__ import annotations

import heapq
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.base import FreeMap, SceneError
from datagen.backends.space import WALL_COST_M2, GridSpace, in_polygon, largest_region
from ipt.common.seeding import generator


def random_space(seed: int, shape: tuple[int, int] = (9, 12), floor_z: float = 0.0) -> GridSpace:
    """Cells of 0.25 m, three of four open, all as far from obstacles."""
    rng = generator(seed, "space")
    cells = rng.uniform(size=shape) < 0.75
    cells[0, 0] = True
    return GridSpace("made up", np.where(cells, 0.3, 0.0), (1.0, 2.0), 0.25, floor_z, spread=False)


def cheapest(free: FreeMap, start: tuple[int, int]) -> dict[tuple[int, int], float]:
    """Metres from a cell to all others in eight directions, no diagonal between blocked cells: Dijkstra by the book."""
    known, queue = {start: 0.0}, [(0.0, start)]
    while queue:
        so_far, (row, column) = heapq.heappop(queue)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                there = (row + down, column + right)
                around = ((row + down, column), (row, column + right), there)
                if not all(0 <= r < free.grid.shape[0] and 0 <= c < free.grid.shape[1] for r, c in around):
                    continue
                if all(free.grid[place] for place in around):
                    total = so_far + free.resolution * math.hypot(down, right)
                    if total < known.get(there, math.inf) - 1e-12:
                        known[there] = total
                        heapq.heappush(queue, (total, there))
    return known


@given(st.integers(0, 10_000))
def test_walks_are_no_longer_than_the_best_over_cells_and_stay_free(seed: int) -> None:
    space = random_space(seed)
    start, goal = space.sample(2, generator(seed, "ends"), 0.2)
    free = space.map(0.2)
    path = space.shortest_path(start, goal, 0.2)
    assert path is not None
    np.testing.assert_allclose(path.points[[0, -1]], [start, goal])
    cells = [tuple(int(value) for value in free.cell_of(end)) for end in (start, goal)]
    best = cheapest(free, cells[0])[cells[1]]  # type: ignore[index,arg-type]
    assert np.linalg.norm(goal - start) - 1e-9 <= path.length_m <= best + 1e-9
    for a, b in pairwise(path.points):
        points = a + np.linspace(0.001, 0.999, 400)[:, None] * (b - a)  # a cut corner would show as a blocked cell
        assert all(free.contains(points) | touches_corner(points, free))
    assert space.shortest_path(start, np.array([90.0, 0.0, 0.0]), 0.2) is None
    assert space.shortest_path(start, goal, 0.5) is None, "no cell has that much clearance"


def touches_corner(points: np.ndarray, free: FreeMap) -> np.ndarray:
    """Whether points (n, 3) are closer to a corner of the grid than what the sampling along a walk can tell."""
    offset = (points[:, :2] - np.asarray(free.origin)) / free.resolution
    return np.abs(offset - np.rint(offset)).max(axis=1) * free.resolution < 0.02


def test_a_diagonal_never_passes_between_two_blocked_cells() -> None:
    cells = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=float) * 0.3
    cells[0, 0] = 0.3
    space = GridSpace("steps", cells, (0.0, 0.0), 1.0, 0.0, spread=False)
    path = space.shortest_path(np.array([0.5, 0.5]), np.array([2.5, 2.5]), 0.2)
    assert path is not None and path.length_m > 3.0 > math.sqrt(8), "round the corners, not through them"
    blocked = GridSpace("apart", np.eye(3) * 0.3, (0.0, 0.0), 1.0, 0.0)
    assert blocked.map(0.2).grid.sum() == 1, "cells that touch in a corner are not connected"
    assert blocked.shortest_path(np.array([0.5, 0.5]), np.array([1.5, 1.5]), 0.2) is None


@pytest.mark.parametrize("wide", [0, 2])
def test_of_two_ways_of_equal_length_the_one_farther_from_obstacles_is_taken(wide: int) -> None:
    """At 0.2 m from obstacles a step costs double, as documented."""
    clearance = np.full((3, 9), 0.05)
    clearance[1, 1:-1] = 0.0  # two lanes round an island
    clearance[wide] = 0.6
    space = GridSpace("lanes", clearance, (0.0, 0.0), 0.25, 0.0, spread=False)
    path = space.shortest_path(np.array([0.125, 0.375]), np.array([2.125, 0.375]), 0.0)
    assert path is not None
    assert (path.points[:, 1].max() > 0.5) == (wide == 2) and (path.points[:, 1].min() < 0.25) == (wide == 0)
    assert pytest.approx(2.0) == 1 + WALL_COST_M2 / 0.2**2


@given(st.integers(0, 10_000))
def test_regions_are_the_largest_and_connected_by_edges(seed: int) -> None:
    cells = generator(seed, "cells").uniform(size=(8, 8)) < 0.5
    found: list[set[tuple[int, int]]] = []
    left = {(int(row), int(column)) for row, column in np.argwhere(cells)}
    while left:
        region, queue = set(), [left.pop()]
        while queue:
            row, column = queue.pop()
            region.add((row, column))
            for there in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if there in left:
                    left.remove(there)
                    queue.append(there)
        found.append(region)
    largest = {(int(row), int(column)) for row, column in np.argwhere(largest_region(cells))}
    assert largest in [region for region in found if len(region) == max(map(len, found))] or (not found and not largest)


def test_points_lie_in_the_region_in_the_room_and_on_the_floor() -> None:
    space = GridSpace("floor", np.full((10, 10), 0.3), (0.0, 0.0), 0.1, 2.5)
    room = np.array([[0.0, 0.0], [0.45, 0.0], [0.45, 1.0], [0.0, 1.0]])
    points = space.sample(200, np.random.default_rng(0), 0.25, room)
    assert points.shape == (200, 3) and (points[:, 2] == 2.5).all() and points[:, 0].max() < 0.5
    assert points[:, 0].max() > 0.3 and len(np.unique(points[:, 0])) > 150, "anywhere in their cells"
    centres = GridSpace("grid", np.full((4, 4), 0.3), (0.0, 0.0), 0.1, 0.0, spread=False)
    assert set(np.round(centres.sample(50, np.random.default_rng(0), 0.2)[:, 0], 6)) <= {0.05, 0.15, 0.25, 0.35}
    with pytest.raises(SceneError, match=r"0\.40 m of clearance anywhere"):
        space.sample(1, np.random.default_rng(0), 0.4)
    with pytest.raises(SceneError, match="in that room"):
        space.sample(1, np.random.default_rng(0), 0.2, room + 50)


def test_places_beyond_the_grid_are_not_free() -> None:
    free = GridSpace("small", np.full((2, 3), 0.3), (0.0, 0.0), 1.0, 0.0).map(0.2)
    places = np.array([[0.5, 0.5], [2.5, 1.5], [-0.1, 0.5], [0.5, -0.1], [3.1, 0.5], [0.5, 2.1], [1e9, 0.0]])
    assert free.contains(places).tolist() == [True, True, False, False, False, False, False]


L_SHAPE = np.array([[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]], dtype=float)


@pytest.mark.parametrize("turned", [1, -1])
def test_points_in_an_l_shaped_room(turned: int) -> None:
    inside = [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5]]
    outside = [[2.0, 2.0], [-0.5, 0.5], [3.5, 0.5], [0.5, 3.5], [0.5, -0.5]]
    assert in_polygon(np.array(inside + outside), L_SHAPE[::turned]).tolist() == [True] * 3 + [False] * 5
    assert in_polygon(np.array([0.5, 0.5]), L_SHAPE[::turned]).shape == ()
