"""A scene as plain data: what generators and importers write, and what both renderers draw.

Every surface is a triangle mesh with its own texture coordinates (MuJoCo's primitives smear textures). A part is one
mesh with one material that belongs to one instance. Two scenes with the same ``template`` have the same meshes and
materials in the same order and differ only in the pose, tint, visibility and instance of their parts, so a renderer
re-poses the compiled model instead of building another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import Layer, OrientedBox, Room, SceneObject
from datagen.backends.embedded.lighting import Lamp

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles: vertices (v, 3) metres, unit normals (v, 3), uv (v, 2), faces (f, 3) counter-clockwise seen from outside.

    One unit of uv is one repeat of the texture; v grows upwards in the picture. Vertices are shared between faces only
    where the surface is smooth. ``colours`` (v, 3), RGB in 0..1, multiply the material's: of scanned surfaces, which only the
    ray caster draws.
    """

    vertices: Floats32
    normals: Floats32
    uv: Floats32
    faces: NDArray[np.int32]
    colours: Floats32 | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """Surface look: texture (h, w, 3) uint8 with the top row first or None, times ``rgb``; emission and specular in 0..1."""

    name: str
    rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: NDArray[np.uint8] | None = None
    emission: float = 0.0
    specular: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mesh placed in the world: turned by ``yaw`` radians about z, then moved to ``position`` (metres).

    ``instance`` is the index of its object; ``tint`` multiplies the material; ``layer`` marks what top-down views hide.
    """

    mesh: Mesh
    material: str
    instance: int
    layer: Layer | None = None
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    visible: bool = True

    def world_vertices(self) -> Floats32:
        """Vertices in the world frame, (v, 3)."""
        return (self.mesh.vertices @ yaw_matrix(self.yaw).T + np.asarray(self.position, np.float32)).astype(np.float32)

    def world_normals(self) -> Floats32:
        """Unit normals in the world frame, (v, 3)."""
        return (self.mesh.normals @ yaw_matrix(self.yaw).T).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scene:
    """A complete scene in the world frame (z up, metres).

    ``obstacles`` are the floor outlines (n, 2), convex and counter-clockwise, that an agent cannot cross, walls included;
    ``walkable`` are the outlines that it may stand on (room floors and doorways), all at height ``floor_z``. ``closed``: no
    camera ever sees the back of a face, so a renderer may leave backs out. ``lamps`` cast shadows, each in its
    room. ``credits``: one line per model of somebody else's that stands there, as its licence asks.
    """

    scene_id: str
    seed: int | None
    parts: tuple[Part, ...]
    materials: dict[str, Material]
    objects: tuple[SceneObject, ...]
    rooms: tuple[Room, ...]
    obstacles: tuple[NDArray[np.float64], ...]
    walkable: tuple[NDArray[np.float64], ...]
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    template: str | None = None
    floor_z: float = 0.0
    closed: bool = False
    lamps: tuple[Lamp, ...] = ()
    licence: str = "generated; no restrictions"
    credits: tuple[str, ...] = ()
    notes: dict[str, object] = field(default_factory=dict)


def yaw_matrix(yaw: float) -> Floats32:
    """Rotation about z by ``yaw`` radians, (3, 3)."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=np.float32)


def merge_meshes(meshes: Iterable[Mesh]) -> Mesh:
    """One mesh of all triangles, in order."""
    items = list(meshes)
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in items[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in items]),
        np.concatenate([mesh.normals for mesh in items]),
        np.concatenate([mesh.uv for mesh in items]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(items, offsets, strict=True)]).astype(np.int32),
    )


def object_from_parts(
    index: int,
    category: str,
    parts: Sequence[Part],
    *,
    yaw: float = 0.0,
    name: str | None = None,
    raw_category: str | None = None,
    room_id: str | None = None,
    is_structure: bool = False,
    movable: bool = True,
) -> SceneObject:
    """The object that ``parts`` make up: its axis-aligned box, and its box along ``yaw``, are exact."""
    vertices = np.concatenate([part.world_vertices() for part in parts]).astype(np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    rotation = yaw_matrix(yaw).astype(np.float64)
    local = vertices @ rotation
    local_low, local_high = local.min(axis=0), local.max(axis=0)
    box = OrientedBox((local_low + local_high) / 2 @ rotation.T, (local_high - local_low) / 2, rotation)
    return SceneObject(
        id=f"{category.replace(' ', '_')}-{index}",
        index=index,
        category=category,
        raw_category=raw_category or category,
        name=name or category,
        aabb_min=(float(low[0]), float(low[1]), float(low[2])),
        aabb_max=(float(high[0]), float(high[1]), float(high[2])),
        obb=box,
        room_id=room_id,
        is_structure=is_structure,
        movable=movable,
    )
