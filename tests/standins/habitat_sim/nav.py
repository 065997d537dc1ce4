"""The navmesh: queries, paths and views from above. Without one, most of them end the process."""

from __future__ import annotations

from typing import Any

import numpy as np
from habitat_sim.assets import Asset
from habitat_sim.death import abort, segfault
from habitat_sim.settings import NavMeshSettings
from habitat_sim.surfaces import GridSurface, TriangleSurface
from habitat_sim.values import Vector3, to_vector3

#: Recorded navmeshes of the golden room: (agent radius, cell height) -> file name.
RECORDED = {(0.1, 0.2): "golden_default", (0.2, 0.1): "golden_r02", (0.5, 0.1): "golden_r05"}


class ShortestPath:
    def __init__(self) -> None:
        self.requested_start = [0.0, 0.0, 0.0]
        self.requested_end = [0.0, 0.0, 0.0]
        self.points: list[Vector3] = []
        self.geodesic_distance = 0.0

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, to_vector3(value, "ShortestPath") if name.startswith("requested") else value)


class PathFinder:
    def __init__(self) -> None:
        self._surface: TriangleSurface | GridSurface | None = None
        self._bounds = (Vector3(0, 0, 0), Vector3(0, 0, 0))
        self._random = np.random.default_rng(0)
        self.nav_mesh_settings: NavMeshSettings | None = None

    def build(self, asset: Asset, settings: NavMeshSettings) -> bool:
        """What Simulator.recompute_navmesh does."""
        if settings.cell_size <= 0 or settings.cell_height <= 0:
            segfault()
        self._surface = None
        if settings.agent_height <= 0:
            return False
        if asset.golden is not None:
            key = (round(settings.agent_radius, 4), round(settings.cell_height, 4))
            self._surface = TriangleSurface(asset.golden, RECORDED.get(key, "golden_default"))
        else:
            assert asset.space is not None
            self._surface = GridSurface(asset.space, settings.agent_radius)
        corners = asset.triangles.reshape(-1, 3)
        self._bounds = (Vector3(corners.min(axis=0)), Vector3(corners.max(axis=0)))
        self.nav_mesh_settings = settings
        return True

    @property
    def is_loaded(self) -> bool:
        return self._surface is not None

    def _mesh(self) -> TriangleSurface | GridSurface:
        return self._surface if self._surface is not None else segfault()

    @property
    def navigable_area(self) -> float:
        return self._mesh().area

    @property
    def num_islands(self) -> int:
        self._mesh()
        return 1

    def island_area(self, island_index: int = -1) -> float:
        if island_index > 0:
            abort(f"{island_index}  not a valid index for this island system.")
        return self._mesh().area

    def get_bounds(self) -> tuple[Vector3, Vector3]:
        return self._bounds

    def load_nav_mesh(self, path: str) -> bool:
        return False

    def seed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def snap_point(self, point: Any) -> Vector3:
        mesh, place = self._mesh(), np.array(list(to_vector3(point, "PathFinder")))
        nearest = mesh.nearest(place[[0, 2]])
        return Vector3(np.nan, np.nan, np.nan) if nearest is None else Vector3(nearest[0], mesh.height, nearest[1])

    def is_navigable(self, pt: Any, max_y_delta: float = 0.5) -> bool:
        mesh, place = self._mesh(), to_vector3(pt, "PathFinder")
        level = abs(np.float32(place[1]) - np.float32(mesh.height)) <= np.float32(max_y_delta)
        return bool(level and mesh.island(np.array([[place[0], place[2]]]))[0] >= 0)

    def get_island(self, point: Any) -> int:
        nearest = self._mesh().nearest(np.array(list(to_vector3(point, "PathFinder")))[[0, 2]])
        return -1 if nearest is None else 0

    def distance_to_closest_obstacle(self, pt: Any, max_search_radius: float = 2.0) -> float:
        mesh = self._mesh()
        nearest = mesh.nearest(np.array(list(to_vector3(pt, "PathFinder")))[[0, 2]])
        return float("inf") if nearest is None else min(mesh.to_border(nearest), max_search_radius)

    def get_random_navigable_point(self, max_tries: int = 10, island_index: int = -1) -> Vector3:
        mesh = self._mesh()
        if island_index > 0:
            abort(f"{island_index}  not a valid index for this island system.")
        corners = mesh.vertices[mesh.triangles].astype(float)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        weights = self._random.dirichlet(np.ones(3))
        return Vector3(weights @ corners[self._random.choice(len(corners), p=area / area.sum())])

    def find_path(self, path: ShortestPath) -> bool:
        """Both ends snap before the search; ends over the mesh keep the requested place, height included."""
        mesh = self._mesh()
        requested = [np.array(list(end)) for end in (path.requested_start, path.requested_end)]
        snapped = [mesh.nearest(end[[0, 2]]) for end in requested]
        found = None
        if snapped[0] is not None and snapped[1] is not None:
            found = mesh.shortest(snapped[0], snapped[1])
        if found is None:
            path.points, path.geodesic_distance = [], float("inf")
            return False
        points = np.column_stack([found[:, 0], np.full(len(found), mesh.height), found[:, 1]])
        same = np.allclose(requested[0], requested[1])
        for index, end, place in zip((0, -1), requested, snapped, strict=True):
            if np.allclose(end[[0, 2]], place) and not same:
                points[index] = end
        path.points = [Vector3(point) for point in points]
        path.geodesic_distance = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        return True

    def get_topdown_island_view(self, meters_per_pixel: float, height: float, eps: float = 0.5) -> np.ndarray:
        """Island index at cell corners, (z, x), int32."""
        if self._surface is None:
            return np.zeros((0, 0), np.int32)
        if meters_per_pixel <= 0:
            raise ValueError("negative dimensions are not allowed")
        low, high = (np.array(list(corner)) for corner in self._bounds)
        columns, rows = ((high - low)[[0, 2]] / meters_per_pixel).astype(int)
        x, z = np.meshgrid(low[0] + meters_per_pixel * np.arange(columns), low[2] + meters_per_pixel * np.arange(rows))
        level = abs(np.float32(height) - np.float32(self._surface.height)) <= np.float32(eps)
        islands = self._surface.island(np.column_stack([x.ravel(), z.ravel()])).reshape(rows, columns)
        return np.where(level, islands, -1).astype(np.int32)

    def get_topdown_view(self, meters_per_pixel: float, height: float, eps: float = 0.5) -> np.ndarray:
        return self.get_topdown_island_view(meters_per_pixel, height, eps) >= 0

    def build_navmesh_vertices(self, island_index: int = -1) -> list[Vector3]:
        return [Vector3(vertex) for vertex in self._mesh().vertices]

    def build_navmesh_vertex_indices(self, island_index: int = -1) -> list[int]:
        return [int(index) for index in self._mesh().triangles.ravel()]
