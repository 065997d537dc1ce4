"""Independent checks of a scene's triangles: nothing here uses what the generator knows about its own solids."""

from collections import defaultdict
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datagen.backends.embedded.scene import Mesh, Scene, yaw_matrix

SAME_PLANE = 6e-4
DEPTH = 2e-3  # metres by which solids may touch before it counts


def solids(mesh: Mesh) -> list[np.ndarray]:
    """Vertices (v, 3) of each connected solid of a mesh; corners at the same place are one."""
    _, corner = np.unique(np.round(mesh.vertices, 5), axis=0, return_inverse=True)
    faces = corner.ravel()[mesh.faces]
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    size = int(corner.max()) + 1
    _, label = connected_components(coo_array((np.ones(len(edges)), edges.T), shape=(size, size)), directed=False)
    of_vertex = label[corner.ravel()]
    return [mesh.vertices[of_vertex == index] for index in range(int(of_vertex.max()) + 1)]


def footprints(scene: Scene) -> dict[int, list[tuple[np.ndarray, float, float]]]:
    """Per object, for each solid: its rectangle along the object's axes (4, 2) in the world, and its low and high z."""
    result: dict[int, list[tuple[np.ndarray, float, float]]] = defaultdict(list)
    extents: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # copies of a piece share their meshes
    for part in scene.parts:
        turn = yaw_matrix(part.yaw)[:2, :2]
        if id(part.mesh) not in extents:
            extents[id(part.mesh)] = [(points.min(axis=0), points.max(axis=0)) for points in solids(part.mesh)]
        for (x0, y0, z0), (x1, y1, z1) in extents[id(part.mesh)]:
            plan = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) @ turn.T + part.position[:2]
            result[part.instance].append((plan, z0 + part.position[2], z1 + part.position[2]))
    return result


def rectangles_meet(a: np.ndarray, b: np.ndarray, depth: float) -> bool:
    """Whether two rectangles (4, 2) overlap by more than ``depth`` along every edge direction of both."""
    for box in (a, b):
        for edge in (box[1] - box[0], box[3] - box[0]):
            axis = edge / np.linalg.norm(edge)
            p, q = a @ axis, b @ axis
            if min(p.max(), q.max()) - max(p.min(), q.min()) <= depth:
                return False
    return True


def penetrations(scene: Scene, boxes: dict[int, list[tuple[np.ndarray, float, float]]]) -> list[tuple[str, str]]:
    """Ids of pairs of objects (walls, floors and ceilings aside) of which solids, ``boxes``, reach into each other."""
    things = [thing for thing in scene.objects if thing.category not in ("wall", "floor", "ceiling")]
    low, high = np.array([t.aabb_min for t in things]), np.array([t.aabb_max for t in things])
    found = []
    for i, j in combinations(range(len(things)), 2):
        if (np.minimum(high[i], high[j]) - np.maximum(low[i], low[j])).min() <= 0:
            continue
        if {things[i].category, things[j].category} == {"baseboard"}:
            continue
        pairs = ((p, q) for p in boxes[things[i].index] for q in boxes[things[j].index])
        if any(min(p[2], q[2]) - max(p[1], q[1]) > 1e-4 and rectangles_meet(p[0], q[0], DEPTH) for p, q in pairs):
            found.append((things[i].id, things[j].id))
    return found


def triangles_meet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether the triangles (n, 3, 2) of one plane share more than a sliver with their partners, (n,)."""
    meet = np.ones(len(a), dtype=bool)
    for triangle in (a, b):
        for k in range(3):
            edge = triangle[:, (k + 1) % 3] - triangle[:, k]
            length = np.linalg.norm(edge, axis=1)
            normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / np.maximum(length, 1e-12)[:, None]
            p, q = (np.einsum("nkc,nc->nk", corners, normal) for corners in (a, b))
            shared = np.minimum(p.max(axis=1), q.max(axis=1)) - np.maximum(p.min(axis=1), q.min(axis=1))
            meet &= (length > 1e-9) & (shared > 8e-4)
    return meet


def coplanar_overlaps(scene: Scene) -> list[tuple[str, str]]:
    """Ids of the objects of every pair of overlapping triangles that lie in one plane, whichever way they face."""
    corners = np.concatenate([part.world_vertices()[part.mesh.faces] for part in scene.parts]).astype(np.float64)
    owner = np.concatenate([np.full(len(part.mesh.faces), part.instance) for part in scene.parts])
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    corners, owner, normal = corners[area > 1e-6], owner[area > 1e-6], normal[area > 1e-6] / area[area > 1e-6, None]
    leading = np.take_along_axis(normal, np.argmax(np.abs(normal) > 1e-3, axis=1)[:, None], axis=1)
    normal *= np.sign(leading)
    offset = np.einsum("ij,ij->i", normal, corners[:, 0])
    _, direction = np.unique(np.round(normal * 100).astype(int), axis=0, return_inverse=True)
    position = direction.ravel() * 1e4 + offset
    order = np.argsort(position)
    reach = np.searchsorted(position[order], position[order] + SAME_PLANE, side="right")
    count = reach - np.arange(len(order)) - 1
    first = np.repeat(np.arange(len(order)), count)
    second = first + 1 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    i, j = order[first], order[second]
    low, high = corners.min(axis=1), corners.max(axis=1)
    near = (low[i] <= high[j] + SAME_PLANE).all(axis=1) & (low[j] <= high[i] + SAME_PLANE).all(axis=1)
    i, j = i[near], j[near]
    flat = np.abs(np.einsum("pkc,pc->pk", corners[j] - corners[i][:, :1], normal[i])).max(axis=1) < SAME_PLANE
    i, j = i[flat], j[flat]
    plane = np.array([[1, 2], [0, 2], [0, 1]])[np.argmax(np.abs(normal[i]), axis=1)][:, None]
    meet = triangles_meet(*(np.take_along_axis(corners[one], plane, axis=2) for one in (i, j)))
    pairs = np.unique(np.stack([owner[i[meet]], owner[j[meet]]], axis=1), axis=0)
    return [(scene.objects[a].id, scene.objects[b].id) for a, b in pairs]
