"""A model of a furniture library as a piece of ours: meshes by material, boxes that it fills, surfaces that carry things.

Models stand with y up and their front towards +z; the catalogue's size, which the mesh must have the proportions of, is
exact. What a piece fills is measured on its triangles, column by column, so that a chair's seat goes under a table top and a
lamp stands on it.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from datagen.backends.embedded.furniture.base import Furniture, Surface
from datagen.backends.embedded.import_scene import mesh_of
from datagen.backends.embedded.models.catalogue import MOST_FACES, Entry
from datagen.backends.embedded.scene import Material, Mesh, merge_meshes
from datagen.backends.embedded.style import Look
from ipt.common.images import flatten

Floats = NDArray[np.float64]
MOST_BYTES = 8_000_000  # of an OBJ file; one of 30,000 faces has 4 to 6 million
PROPORTION = 0.1  # share by which a side of a mesh may differ from the catalogue's proportions,
SLACK = 0.01  # or metres, whichever is more
TEXTURE_SIDE = 256
SPACING = 0.016  # metres between the points that stand for the surface
COLUMNS = 8  # boxes across and along, at most
CELL = 0.04
#: Columns whose bottoms and tops agree within this are one box.
LEVEL = 0.03
#: Categories that carry things, and how far above the floor.
CARRIES = {
    "dining table": (0.6, 0.85),
    "coffee table": (0.25, 0.55),
    "side table": (0.35, 0.7),
    "desk": (0.6, 0.85),
    "nightstand": (0.3, 0.7),
    "dresser": (0.5, 1.25),
    "cabinet": (0.5, 1.25),
    "tv stand": (0.25, 0.7),
    "washing machine": (0.7, 1.0),
    "wardrobe": (1.5, 2.5),
}
HEADROOM = 0.6
Y_UP_Z_FRONT_TO_OURS = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=np.float64)


class UnfitModel(Exception):
    """Why a model cannot be used."""


def load_piece(entry: Entry, most_faces: int = MOST_FACES) -> Furniture:
    """The model of ``entry``; ``UnfitModel`` says why it cannot be used."""
    scene = read_obj(entry)
    surfaces = [surface for surface in scene.dump() if isinstance(surface, trimesh.Trimesh) and len(surface.faces)]
    if not surfaces:
        raise UnfitModel("holds no triangles")
    faces = sum(len(surface.faces) for surface in surfaces)
    if faces > most_faces:
        raise UnfitModel(f"has {faces} faces, more than {most_faces}")
    matrix, offset = fitted(np.concatenate([surface.vertices for surface in surfaces]), entry)
    pieces: dict[str, tuple[list[Mesh], Material]] = {}
    for surface in surfaces:
        mesh = sound(moved(mesh_of(surface), matrix, offset))
        if not len(mesh.faces):
            continue
        material = material_of(entry, surface)
        pieces.setdefault(material.name, ([], material))[0].append(mesh)
    if not pieces:
        raise UnfitModel("holds no triangles with an area")
    if doubly_covered({name: merge_meshes(found) for name, (found, _) in pieces.items()}):
        raise UnfitModel("has two materials on the same triangles, which would flicker")
    points = surface_points([mesh for found, _ in pieces.values() for mesh in found])
    return Furniture(
        entry.category,
        tuple((merge_meshes(map(both_sided, found)), Look(name)) for name, (found, _) in pieces.items()),
        column_boxes(points),
        carrying(entry.category, points),
        tuple(material for _, material in pieces.values()),
        entry.credit,
    )


def read_obj(entry: Entry) -> trimesh.Scene:
    """The OBJ model with its materials, read inside of its library."""
    with zipfile.ZipFile(entry.library) as archive:
        if entry.model not in archive.namelist():
            raise UnfitModel(f"{entry.model} is not in {entry.library.name}")
        if archive.getinfo(entry.model).file_size > MOST_BYTES:
            raise UnfitModel(f"is larger than {MOST_BYTES // 1_000_000} MB: more than {MOST_FACES} faces")
        resolver = neighbours(archive, entry.model.rpartition("/")[0])
        try:
            return trimesh.load_scene(
                io.BytesIO(archive.read(entry.model)), file_type="obj", resolver=resolver, process=False
            )
        except Exception as error:  # trimesh raises whatever its parsers raise
            raise UnfitModel(f"cannot be read: {error!r}") from error


def neighbours(archive: zipfile.ZipFile, folder: str) -> Any:
    """The files beside a model in its library, for trimesh."""
    start = f"{folder}/"
    names = [name for name in archive.namelist() if name.startswith(start) and not name.endswith((".obj", "/"))]
    found = {name.removeprefix(start): io.BytesIO(archive.read(name)) for name in names}
    return trimesh.resolvers.ZipResolver(found)


def fitted(vertices: Floats, entry: Entry) -> tuple[Floats, Floats]:
    """Linear map (3, 3) and offset (3,) that bring a model into our frame, at the catalogue's size, standing on its lift."""
    turn = np.reshape(entry.turn, (3, 3)) if len(entry.turn) == 9 else np.eye(3)
    matrix = Y_UP_Z_FRONT_TO_OURS @ turn
    placed = vertices @ matrix.T
    low, high = placed.min(axis=0), placed.max(axis=0)
    extent = np.maximum(high - low, 1e-9)
    scale = np.asarray(entry.size) / extent
    wrong = np.abs(extent * np.median(scale) - entry.size)
    if (wrong > np.maximum(PROPORTION * np.asarray(entry.size), SLACK)).any():
        raise UnfitModel(
            f"has other proportions than the catalogue says (scales {', '.join(f'{s:.3g}' for s in scale)})"
        )
    centre = (low + high) / 2 * scale
    return np.diag(scale) @ matrix, np.array([-centre[0], -centre[1], entry.lift - low[2] * scale[2]])


def moved(mesh: Mesh, matrix: Floats, offset: Floats) -> Mesh:
    """``mesh`` under a linear map with positive determinant and an offset."""
    normals = mesh.normals @ np.linalg.inv(matrix)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    vertices = mesh.vertices @ matrix.T + offset
    return replace(mesh, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))


def sound(mesh: Mesh) -> Mesh:
    """``mesh`` without triangles of no area, normals turned to the side that their triangle is seen from."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(flat, axis=1)
    kept = size > 1e-9
    flat = flat[kept] / size[kept, None]
    rows = mesh.faces[kept].ravel()
    normals, faced = mesh.normals[rows], np.repeat(flat, 3, axis=0).astype(np.float32)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0.5, normals, faced)
    normals = np.where((np.einsum("nk,nk->n", normals, faced) < 0)[:, None], -normals, normals)
    faces = np.arange(len(rows), dtype=np.int32).reshape(-1, 3)
    return Mesh(mesh.vertices[rows], normals.astype(np.float32), mesh.uv[rows], faces)


def doubly_covered(meshes: dict[str, Mesh]) -> bool:
    """Whether more than a hundredth of the area belongs to two materials at once (z-fighting)."""
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in meshes.values()]).astype(np.float64)
    owner = np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes.values()])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    _, place = np.unique(np.rint(corners.mean(axis=1) * 1e4), axis=0, return_inverse=True)
    place = place.reshape(-1)
    first, last = np.full(place.max() + 1, len(meshes)), np.full(place.max() + 1, -1)
    np.minimum.at(first, place, owner)
    np.maximum.at(last, place, owner)
    return bool(area[(first < last)[place]].sum() > 0.01 * area.sum())


def both_sided(mesh: Mesh) -> Mesh:
    """``mesh`` with each triangle a second time, seen from its back, unless the surface is closed and turned outwards."""
    places, corner = np.unique(np.rint(mesh.vertices * 1e5), axis=0, return_inverse=True)
    shape = trimesh.Trimesh(places / 1e5, corner.reshape(-1)[mesh.faces], process=False)
    if shape.is_watertight and shape.is_winding_consistent and shape.volume > 0:
        return mesh
    back = replace(mesh, normals=-mesh.normals, faces=np.ascontiguousarray(mesh.faces[:, ::-1]))
    return merge_meshes([mesh, back])


def material_of(entry: Entry, surface: trimesh.Trimesh) -> Material:
    """Diffuse colour and texture of a surface; names carry the model's id, so that no two models share one.

    A texture that cuts out leaves by its transparency makes the model unfit: it would be drawn as boards.
    """
    source: Any = getattr(surface.visual, "material", None)
    colour = np.asarray(getattr(source, "diffuse", (200, 200, 200)), dtype=np.float64)[:3] / 255
    picture = getattr(source, "image", None)
    texture = None
    if picture is not None and getattr(surface.visual, "uv", None) is not None:
        if "A" in picture.getbands() and (np.asarray(picture.getchannel("A")) < 128).mean() > 0.05:
            raise UnfitModel("has a texture with holes")
        picture = flatten(picture)
        picture.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE))
        texture = np.asarray(picture).copy()
        colour = np.ones(3)
    red, green, blue = (float(np.round(channel, 4)) for channel in colour)
    return Material(f"{entry.key}/{getattr(source, 'name', '') or 'plain'}", (red, green, blue), texture)


def surface_points(meshes: list[Mesh]) -> Floats:
    """Points (n, 3) on the triangles and their edges, about ``SPACING`` metres apart; the corners are among them."""
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in meshes]).astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(first, second), axis=1) / 2
    row, number, _ = spread(area / SPACING**2)
    # An additive sequence that fills the square evenly; what lies beyond its diagonal is folded back into the triangle.
    u, v = (0.5 + number * 0.7548776662) % 1, (0.5 + number * 0.5698402910) % 1
    u, v = np.where(u + v > 1, 1 - u, u)[:, None], np.where(u + v > 1, 1 - v, v)[:, None]
    found = [corners.reshape(-1, 3), corners[row, 0] + u * first[row] + v * second[row]]
    for start, end in ((0, 1), (1, 2), (2, 0)):
        along = corners[:, end] - corners[:, start]
        row, number, count = spread(np.linalg.norm(along, axis=1) / SPACING)
        found.append(corners[row, start] + (number / count)[:, None] * along[row])
    return np.concatenate(found)


def spread(counts: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Row, number within the row, and how many the row has, of ``counts`` (f,) things per row, rounded up.

    >>> [list(map(int, found)) for found in spread(np.array([1.5, 1.0]))]
    [[0, 0, 1], [0, 1, 0], [2, 2, 1]]
    """
    whole = np.ceil(counts).astype(np.intp)
    row = np.repeat(np.arange(len(whole)), whole)
    return row, np.arange(len(row)) - (np.cumsum(whole) - whole)[row], whole[row]


def column_boxes(points: Floats) -> Floats:
    """Boxes (n, 2, 3) that hold all ``points``: upright columns between the lowest and the highest of them, merged where
    neighbours have the same bottom and top."""
    low, high = points.min(axis=0), points.max(axis=0)
    counts = np.clip(np.rint((high - low)[:2] / 0.06), 1, COLUMNS).astype(int)
    step = (high - low)[:2] / counts
    cell = np.minimum(((points[:, :2] - low[:2]) / np.maximum(step, 1e-9)).astype(int), counts - 1)
    flat = cell[:, 0] * counts[1] + cell[:, 1]
    bottom, top = np.full(counts.prod(), np.inf), np.full(counts.prod(), -np.inf)
    np.minimum.at(bottom, flat, points[:, 2])
    np.maximum.at(top, flat, points[:, 2])
    bottom, top = bottom.reshape(counts), top.reshape(counts)
    free = np.isfinite(bottom)
    boxes = []
    for i, j in zip(*np.nonzero(free), strict=True):
        if not free[i, j]:
            continue
        alike = free & (np.abs(bottom - bottom[i, j]) < LEVEL) & (np.abs(top - top[i, j]) < LEVEL)
        wide = j + 1
        while wide < counts[1] and alike[i, wide]:
            wide += 1
        deep = i + 1
        while deep < counts[0] and alike[deep, j:wide].all():
            deep += 1
        free[i:deep, j:wide] = False
        block = (slice(i, deep), slice(j, wide))
        corner = low[:2] + (i, j) * step
        boxes.append(([*corner, bottom[block].min()], [*(low[:2] + (deep, wide) * step), top[block].max()]))
    return np.array(boxes, np.float64)


def carrying(category: str, points: Floats) -> tuple[Surface, ...]:
    """The level rectangle on which things stand, if the category carries any and the model has one."""
    if category not in CARRIES:
        return ()
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    counts = np.maximum(np.floor((high - low) / CELL).astype(int), 1)
    cell = np.minimum(((points[:, :2] - low) / (high - low) * counts).astype(int), counts - 1)
    top = np.full(counts.prod(), -np.inf)
    np.maximum.at(top, cell[:, 0] * counts[1] + cell[:, 1], points[:, 2])
    lowest, highest = CARRIES[category]
    heights = top[(top >= lowest) & (top <= highest)]
    if not len(heights):
        return ()
    levels, votes = np.unique(np.rint(heights / 0.01).astype(int), return_counts=True)
    level = float(np.median(heights[np.abs(heights - levels[np.argmax(votes)] * 0.01) < 0.01]))
    row0, column0, row1, column1 = largest_rectangle((np.abs(top - level) < 0.012).reshape(counts))
    step = (high - low) / counts
    x0, y0 = low + (row0, column0) * step + 0.02
    x1, y1 = low + (row1, column1) * step - 0.02
    if min(x1 - x0, y1 - y0) < 0.12:
        return ()
    height = float(top.reshape(counts)[row0:row1, column0:column1].max())
    use = "high" if category == "wardrobe" else "top"
    return (Surface((float(x0), float(y0), float(x1), float(y1)), height, HEADROOM, use),)


def largest_rectangle(grid: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest all-true rectangle (row0, column0, row1, column1), ends excluded, of a grid of cells.

    >>> largest_rectangle(np.array([[1, 0, 0], [1, 1, 1], [0, 1, 1]], bool))
    (1, 1, 3, 3)
    """
    rows, columns = grid.shape
    heights = np.zeros(columns, int)
    best, found = 0, (0, 0, 0, 0)
    for row in range(rows):
        heights = np.where(grid[row], heights + 1, 0)
        for start in range(columns):
            least = int(heights[start])
            for end in range(start, columns):
                least = min(least, int(heights[end]))
                if not least:
                    break
                if least * (end + 1 - start) > best:
                    best, found = least * (end + 1 - start), (row + 1 - least, start, row + 1, end + 1)
    return found
