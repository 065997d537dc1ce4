"""Independent checks of a scene's triangles: nothing here uses what the generator knows about its own solids."""

from collections import defaultdict

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datagen.backends.embedded.scene import Mesh, Scene, yaw_matrix

SAME_PLANE = 6e-4
DEPTH = 2e-3  # metres by which solids may touch before it counts


def numbered(rows: np.ndarray) -> np.ndarray:
    """The number (n,) of each of the rows (n, k) among the different ones."""
    order = np.lexsort(rows.T)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum(np.concatenate([[False], (rows[order[1:]] != rows[order[:-1]]).any(axis=1)]))
    return number


def solids(meshes: list[Mesh]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each mesh, the low and high corners (n, 3) of its connected solids; corners at the same place are one."""
    sizes = [len(mesh.vertices) for mesh in meshes]
    first = np.cumsum([0, *sizes])
    owner = np.repeat(np.arange(len(meshes)), sizes)
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    corner = numbered(np.column_stack([owner, np.round(vertices, 5)]))
    faces = corner[np.concatenate([mesh.faces + start for mesh, start in zip(meshes, first, strict=False)])]
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    size = int(corner.max()) + 1
    _, label = connected_components(coo_array((np.ones(len(edges)), edges.T), shape=(size, size)), directed=False)
    of_vertex = label[corner]
    order = np.argsort(of_vertex, kind="stable")
    starts = np.searchsorted(of_vertex[order], np.arange(int(label.max()) + 1))
    low, high = (extreme.reduceat(vertices[order], starts) for extreme in (np.minimum, np.maximum))
    mesh_of = owner[order[starts]]
    return [(low[mesh_of == number], high[mesh_of == number]) for number in range(len(meshes))]


def footprints(scene: Scene) -> dict[int, list[tuple[np.ndarray, float, float]]]:
    """Per object, for each solid: its rectangle along the object's axes (4, 2) in the world, and its low and high z."""
    result: dict[int, list[tuple[np.ndarray, float, float]]] = defaultdict(list)
    meshes = list({id(part.mesh): part.mesh for part in scene.parts}.values())  # copies of a piece share them
    extents = {id(mesh): extent for mesh, extent in zip(meshes, solids(meshes), strict=True)}
    for part in scene.parts:
        (x0, y0, z0), (x1, y1, z1) = (corner.T for corner in extents[id(part.mesh)])
        plans = np.stack([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]).transpose(2, 0, 1)
        plans = plans @ yaw_matrix(part.yaw)[:2, :2].T + part.position[:2]
        result[part.instance] += zip(plans, z0 + part.position[2], z1 + part.position[2], strict=True)
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
    near = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).min(axis=2) > 0
    found = []
    for i, j in np.argwhere(np.triu(near, k=1)):
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
    position = numbered(np.round(normal * 100)) * 1e4 + offset
    order = np.argsort(position)
    reach = np.searchsorted(position[order], position[order] + SAME_PLANE, side="right")
    count = reach - np.arange(len(order)) - 1
    first = np.repeat(np.arange(len(order)), count)
    second = first + 1 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    i, j = order[first], order[second]
    low, high = corners.min(axis=1), corners.max(axis=1)
    near = np.ones(len(i), dtype=bool)
    for axis in range(3):
        a, b = low[:, axis], high[:, axis] + SAME_PLANE
        near &= (a[i] <= b[j]) & (a[j] <= b[i])
    i, j = i[near], j[near]
    flat = np.abs(np.einsum("pkc,pc->pk", corners[j] - corners[i][:, :1], normal[i])).max(axis=1) < SAME_PLANE
    i, j = i[flat], j[flat]
    plane = np.array([[1, 2], [0, 2], [0, 1]])[np.argmax(np.abs(normal[i]), axis=1)][:, None]
    meet = triangles_meet(*(np.take_along_axis(corners[one], plane, axis=2) for one in (i, j)))
    pairs = np.unique(np.stack([owner[i[meet]], owner[j[meet]]], axis=1), axis=0)
    return [(scene.objects[a].id, scene.objects[b].id) for a, b in pairs]
