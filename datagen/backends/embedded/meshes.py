"""Low-poly solids with texture coordinates in metres: the vocabulary in which furniture and rooms are written.

Every builder returns a closed :class:`Mesh` in its own frame, faces counter-clockwise seen from outside. On upright
faces u runs horizontally and v up; on level faces u follows x and v follows y. Flat faces are shaded flat, curved
surfaces smoothly. ``centre`` is the middle of the footprint and the *bottom* of the solid, as furniture is thought of.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embedded.scene import Floats32, Mesh, merge_meshes

Vector = tuple[float, float, float]
FACES = ("+x", "-x", "+y", "-y", "+z", "-z")

# Per face of FACES: outward axis, its sign, and the axes (with signs) along which u and v grow.
_FRAMES = (
    (0, 1, 1, 1, 2, 1),
    (0, -1, 1, -1, 2, 1),
    (1, 1, 0, -1, 2, 1),
    (1, -1, 0, 1, 2, 1),
    (2, 1, 0, 1, 1, 1),
    (2, -1, 0, 1, 1, -1),
)


@cache
def _box_template() -> tuple[Floats32, Floats32, NDArray[np.int32]]:
    """Corners in [-1, 1] (24, 3), normals (24, 3) and faces (12, 3) of a box, four vertices per face in FACES order."""
    corners, normals, faces = np.zeros((24, 3)), np.zeros((24, 3)), []
    for face, (axis, sign, u_axis, u_sign, v_axis, v_sign) in enumerate(_FRAMES):
        for corner, (u, v) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
            row = 4 * face + corner
            corners[row, axis], corners[row, u_axis], corners[row, v_axis] = sign, u * u_sign, v * v_sign
            normals[row, axis] = sign
        faces += [[4 * face, 4 * face + 1, 4 * face + 2], [4 * face, 4 * face + 2, 4 * face + 3]]
    return corners.astype(np.float32), normals.astype(np.float32), np.array(faces, np.int32)


@cache
def _kept_faces(skip: tuple[str, ...]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Vertex rows and renumbered faces of a box without the faces in ``skip``."""
    kept = [face for face, name in enumerate(FACES) if name not in skip]
    rows = np.concatenate([np.arange(4 * face, 4 * face + 4) for face in kept])
    quad = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return rows, np.concatenate([quad + 4 * place for place in range(len(kept))]).astype(np.int32)


# Per vertex of a box: its row, and the axes and signs of u and v.
_ROWS = np.arange(24)[:, None]
_UV_AXES = np.repeat([[frame[2], frame[4]] for frame in _FRAMES], 4, axis=0)
_UV_SIGNS = np.repeat([[frame[3], frame[5]] for frame in _FRAMES], 4, axis=0).astype(np.float32)


def _box_uv(vertices: Floats32, size: Vector, grain: bool) -> Floats32:
    """Metric texture coordinates of the 24 box vertices; with ``grain`` u follows the longer side of each face."""
    axes, signs = _UV_AXES, _UV_SIGNS
    if grain:
        turned = np.asarray(size)[axes[:, 1]] > np.asarray(size)[axes[:, 0]]
        axes, signs = (np.where(turned[:, None], pair[:, ::-1], pair) for pair in (axes, signs))
    uv: Floats32 = vertices[_ROWS, axes] * signs
    return uv


def box(
    size: Vector, centre: Vector = (0, 0, 0), *, grain: bool = False, fit: bool = False, skip: tuple[str, ...] = ()
) -> Mesh:
    """Cuboid of ``size`` metres. ``fit`` maps the whole texture once onto every face; ``skip`` leaves faces out."""
    corners, normals, faces = _box_template()
    half = np.array(size, np.float32) / 2
    offset = np.array((centre[0], centre[1], centre[2] + size[2] / 2), np.float32)
    vertices = (corners * half + offset).astype(np.float32)
    uv = np.tile(_UNIT_QUAD, (6, 1)) if fit else _box_uv(vertices, size, grain)
    if not skip:
        return Mesh(vertices, normals, uv, faces)
    rows, kept = _kept_faces(skip)
    return Mesh(vertices[rows], normals[rows], uv[rows], kept)


_UNIT_QUAD = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


@cache
def _chamfer_faces() -> NDArray[np.int32]:
    """Faces of a box whose 24 vertices are drawn in from the edges: 6 quads, 12 edge quads, 8 corner triangles."""
    corners, normals, faces = _box_template()
    rows_of = {tuple(corner): [r for r in range(24) if tuple(corners[r]) == tuple(corner)] for corner in corners}

    def row(corner: NDArray[np.float32], axis: int) -> int:
        return next(r for r in rows_of[tuple(corner)] if normals[r, axis] != 0)

    result = faces.tolist()
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for a in (-1, 1):
            for b in (-1, 1):
                low, high = np.zeros(3, np.float32), np.zeros(3, np.float32)
                low[[axis, first, second]], high[[axis, first, second]] = (-1, a, b), (1, a, b)
                quad = [row(low, first), row(high, first), row(high, second), row(low, second)]
                if a * b < 0:
                    quad.reverse()
                result += [[quad[0], quad[2], quad[1]], [quad[0], quad[3], quad[2]]]
    for corner, rows in rows_of.items():
        ordered = [next(r for r in rows if normals[r, axis] != 0) for axis in range(3)]
        result.append(ordered if math.prod(corner) > 0 else ordered[::-1])
    return np.array(result, np.int32)


def rounded_box(size: Vector, centre: Vector = (0, 0, 0), radius: float = 0.04, puff: float = 0.0) -> Mesh:
    """Cuboid with soft edges (44 triangles, normals flow over the edges): upholstery, pillows, appliances.

    ``puff`` in 0..1 leans the normals of the faces outwards so that flat cushions look stuffed.
    """
    corners, normals, _ = _box_template()
    half = np.array(size, np.float32) / 2
    soft = np.minimum(np.float32(radius), 0.95 * half)
    inset = half - soft * (1 - np.abs(normals))
    vertices = corners * inset + np.array((centre[0], centre[1], centre[2] + size[2] / 2), np.float32)
    leaning = normals + np.float32(puff) * corners * (1 - np.abs(normals))
    leaning /= np.linalg.norm(leaning, axis=1, keepdims=True)
    return Mesh(vertices, leaning.astype(np.float32), _box_uv(vertices, size, False), _chamfer_faces())


@cache
def _circle(segments: int) -> tuple[Floats32, Floats32]:
    """Cosines and sines at ``segments`` + 1 angles, the last repeating the first so that textures close."""
    angles = np.linspace(0, 2 * math.pi, segments + 1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@cache
def _lathe_faces(segments: int, on_axis: tuple[bool, ...]) -> NDArray[np.int32]:
    """Faces of all bands, each of two rings of ``segments`` + 1 vertices; ``on_axis`` marks rings that are points."""
    low = np.arange(segments)
    high = low + segments + 1
    faces = []
    for band, (low_is_point, high_is_point) in enumerate(itertools.pairwise(on_axis)):
        start = 2 * band * (segments + 1)
        if not low_is_point:
            faces.append(start + np.stack([low, low + 1, high + (0 if high_is_point else 1)], axis=1))
        if not high_is_point:
            faces.append(start + np.stack([low, high + 1, high], axis=1))
    return np.concatenate(faces).astype(np.int32)


def lathe(
    profile: Sequence[tuple[float, float]], centre: Vector = (0, 0, 0), segments: int = 12, smooth: bool = False
) -> Mesh:
    """Surface of revolution about z of ``profile``, a list of (radius, height) from bottom to top along the outside.

    A profile that starts and ends at radius 0 is closed. ``smooth`` shades across the corners of the profile (spheres,
    vases); otherwise each band is shaded by itself (cylinders, cones).
    """
    points = np.asarray(profile, np.float32)
    cos, sin = _circle(segments)
    steps = points[1:] - points[:-1]
    lengths = np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-9)
    slopes = np.stack([steps[:, 1], -steps[:, 0]], axis=1) / lengths[:, None]
    ends = np.stack([points[:-1], points[1:]], axis=1)
    leaning = np.repeat(slopes[:, None], 2, axis=1)
    if smooth:
        padded = np.concatenate([slopes[:1], slopes, slopes[-1:]])
        rings = padded[:-1] + padded[1:]
        rings /= np.maximum(np.linalg.norm(rings, axis=1, keepdims=True), 1e-9)
        leaning = np.stack([rings[:-1], rings[1:]], axis=1)
    vertices, normals = _revolve(ends, cos, sin), _revolve(leaning, cos, sin)
    run = np.concatenate([[0], np.cumsum(lengths)])
    uv = np.empty((*vertices.shape[:3], 2), np.float32)
    uv[..., 0] = np.linspace(0, 2 * math.pi * float(points[:, 0].max()), segments + 1)
    uv[..., 1] = np.stack([run[:-1], run[1:]], axis=1)[..., None]
    flat = np.abs(slopes[:, 1]) > 0.9
    uv[flat] = vertices[flat][..., :2]
    faces = _lathe_faces(segments, tuple((points[:, 0] < 1e-6).tolist()))
    return Mesh(
        vertices.reshape(-1, 3) + np.asarray(centre, np.float32), normals.reshape(-1, 3), uv.reshape(-1, 2), faces
    )


def _revolve(profile: Floats32, cos: Floats32, sin: Floats32) -> Floats32:
    """(radius, height) pairs (bands, 2, 2) carried round the axis, (bands, 2, segments + 1, 3)."""
    result = np.empty((*profile.shape[:2], len(cos), 3), np.float32)
    result[..., 0] = profile[..., :1] * cos
    result[..., 1] = profile[..., :1] * sin
    result[..., 2] = profile[..., 1:]
    return result


def cylinder(
    radius: float, height: float, centre: Vector = (0, 0, 0), *, top_radius: float | None = None, segments: int = 12
) -> Mesh:
    """Cylinder, or a frustum with ``top_radius``, or a cone with ``top_radius`` 0."""
    top = radius if top_radius is None else top_radius
    profile = [(0, 0), (radius, 0), (top, height)] + ([(0, height)] if top > 1e-6 else [])
    return lathe(profile, centre, segments)


def sphere(radius: float, centre: Vector = (0, 0, 0), segments: int = 12, stretch: float = 1.0) -> Mesh:
    """Ball resting on ``centre``; ``stretch`` scales its height."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, max(4, segments // 2) + 1)
    profile = [(radius * math.cos(a), radius * stretch * (1 + math.sin(a))) for a in angles]
    profile[0], profile[-1] = (0, 0), (0, 2 * radius * stretch)
    return lathe(profile, centre, segments, smooth=True)


def prism(outline: Sequence[tuple[float, float]], height: float, centre: Vector = (0, 0, 0)) -> Mesh:
    """Extrusion along z of a counter-clockwise ``outline`` that is star-shaped about its mean point."""
    ring = np.asarray(outline, np.float32)
    count = len(ring)
    following = np.roll(ring, -1, axis=0)
    edges = following - ring
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    outward = np.stack([edges[:, 1], -edges[:, 0], np.zeros(count)], axis=1) / lengths[:, None]
    run = np.concatenate([[0], np.cumsum(lengths)])
    vertices, normals, uv, faces = [], [], [], []
    for level, sign in ((0.0, -1), (height, 1)):
        disc = np.concatenate([ring, ring.mean(axis=0, keepdims=True)])
        vertices.append(np.column_stack([disc, np.full(count + 1, level)]))
        normals.append(np.tile([0.0, 0.0, sign], (count + 1, 1)))
        uv.append(disc * [1, sign])
        fan = [[k, (k + 1) % count, count] for k in range(count)]
        faces.append(np.array(fan)[:, ::sign] + (count + 1) * (sign > 0))
    for k in range(count):
        quad = [(*ring[k], 0), (*following[k], 0), (*following[k], height), (*ring[k], height)]
        vertices.append(np.array(quad))
        normals.append(np.tile(outward[k], (4, 1)))
        uv.append(np.array([[run[k], 0], [run[k + 1], 0], [run[k + 1], height], [run[k], height]]))
        faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + 2 * (count + 1) + 4 * k)
    stacked = np.concatenate(vertices) + np.asarray(centre)
    return Mesh(
        stacked.astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(uv).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
    )


def leaf(length: float, width: float, thickness: float = 0.006) -> Mesh:
    """A flat eight-sided blade from the origin along +x: leaves (two coplanar sides would flicker)."""
    mid = 0.45 * length
    points = np.array(
        [
            [0, 0, 0],
            [mid, -width / 2, 0],
            [length, 0, 0],
            [mid, width / 2, 0],
            [mid, 0, thickness],
            [mid, 0, -thickness],
        ],
        np.float32,
    )
    corners = [[a, b, 4] for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))] + [
        [b, a, 5] for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))
    ]
    return flat_mesh(points[np.array(corners)])


def gridded(mesh: Mesh, step: float, facing: int | None = None) -> Mesh:
    """``mesh``, made of rectangles of four vertices each, with rectangles cut into pieces of about ``step`` metres.

    Light is computed at vertices, so a lamp's light needs some in the middle of a wall. ``facing``: only those whose normal
    lies along that axis. Normals and texture coordinates are interpolated, so nothing else changes.
    """
    pieces: list[Mesh] = []
    for start in range(0, len(mesh.vertices), 4):
        rows = slice(start, start + 4)
        corners, uv, normal = mesh.vertices[rows], mesh.uv[rows], mesh.normals[start]
        columns, lines = (
            max(1, round(float(np.linalg.norm(corners[end] - corners[0])) / step))
            if facing is None or abs(normal[facing]) > 0.5
            else 1
            for end in (1, 3)
        )
        s, t = (
            axis.ravel()[:, None] for axis in np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, lines + 1))
        )
        weights = np.concatenate([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1).astype(np.float32)
        first = (np.arange(lines)[:, None] * (columns + 1) + np.arange(columns)).ravel()
        up = columns + 1
        cut = np.stack([first, first + 1, first + up + 1, first, first + up + 1, first + up], axis=1).reshape(-1, 3)
        pieces.append(
            Mesh(weights @ corners, np.repeat(normal[None], len(weights), 0), weights @ uv, cut.astype(np.int32))
        )
    return merge_meshes(pieces)


def flat_mesh(triangles: NDArray[np.float32]) -> Mesh:
    """Mesh of ``triangles`` (f, 3, 3), counter-clockwise from outside, each shaded flat; uv follow x and y."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    vertices = triangles.reshape(-1, 3).astype(np.float32)
    faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    return Mesh(vertices, np.repeat(normals, 3, axis=0).astype(np.float32), vertices[:, :2].copy(), faces)


def rotation(axis: str, degrees: float) -> Floats32:
    """Rotation by ``degrees`` counter-clockwise about ``axis`` ("x", "y" or "z"), (3, 3)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3, dtype=np.float32)
    matrix[first, first], matrix[first, second], matrix[second, first], matrix[second, second] = cos, -sin, sin, cos
    return matrix


def turned(mesh: Mesh, matrix: Floats32, pivot: Vector = (0, 0, 0)) -> Mesh:
    """``mesh`` rotated by ``matrix`` about ``pivot``."""
    centre = np.asarray(pivot, np.float32)
    vertices = ((mesh.vertices - centre) @ matrix.T + centre).astype(np.float32)
    return Mesh(vertices, mesh.normals @ matrix.T, mesh.uv, mesh.faces)
