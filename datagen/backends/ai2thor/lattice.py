"""AI2-THOR's free space: the lattice of positions that its agent reaches, as it reports them.

``GetReachablePositions`` sweeps the agent's capsule (0.2 m radius) along a grid, so every lattice point has that much
clearance. More is asked of the lattice itself: a point keeps its place if all points around it are reachable too.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from datagen.backends.base import Floats, SceneError
from datagen.backends.space import GridSpace

AGENT_RADIUS = 0.2


class Lattice(GridSpace):
    """Reachable floor points (n, 2) at multiples of ``grid_size`` metres from each other, on a floor at ``floor_z``."""

    def __init__(self, scene_id: str, points: Floats, grid_size: float, floor_z: float) -> None:
        if len(points) == 0:
            raise SceneError(f"scene {scene_id}: AI2-THOR reports no reachable position")
        low = points.min(axis=0)
        columns, rows = np.rint((points - low) / grid_size).astype(int).T
        open_cells = np.zeros((rows.max() + 1, columns.max() + 1), bool)
        open_cells[rows, columns] = True
        distance = ndimage.distance_transform_edt(np.pad(open_cells, 1))[1:-1, 1:-1] * grid_size
        clearance = np.where(open_cells, np.maximum(distance - grid_size, 0) + AGENT_RADIUS, 0.0)
        origin = (float(low[0] - grid_size / 2), float(low[1] - grid_size / 2))
        super().__init__(scene_id, clearance, origin, grid_size, floor_z, spread=False)
