"""Annotations of a scene, and separate objects in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from habitat_sim.assets import Asset, SemanticThing
from habitat_sim.values import Quaternion, Range3D, Vector3, rotation_matrix


class SemanticCategory:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self, mapping: str = "") -> str:
        return self._name


@dataclass
class OBB:
    center: Vector3
    half_extents: Vector3
    rotation: np.ndarray

    @property
    def sizes(self) -> Vector3:
        return Vector3(2 * np.array(list(self.half_extents)))

    def corners(self) -> np.ndarray:
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        return list(self.center) + signs * list(self.half_extents) @ rotation_matrix(self.rotation).T

    def upright(self) -> OBB:
        """The box along the world's axes around this one."""
        low, high = self.corners().min(axis=0), self.corners().max(axis=0)
        return OBB(Vector3((low + high) / 2), Vector3((high - low) / 2), np.array([0, 0, 0, 1], np.float32))


@dataclass
class SemanticObject:
    """``aabb`` includes the world's origin, as recorded; ``obb`` is tight."""

    id: str
    semantic_id: int
    category: SemanticCategory
    obb: OBB

    @property
    def aabb(self) -> Range3D:
        corners = self.obb.corners()
        low, high = np.minimum(corners.min(axis=0), 0), np.maximum(corners.max(axis=0), 0)
        return Range3D(Vector3(low), Vector3(high))


@dataclass
class CCSemanticObject:
    """A connected component of an annotation; its box lies along the world's axes."""

    obb: OBB
    num_src_verts: int


class SemanticScene:
    def __init__(self, things: list[SemanticThing]) -> None:
        unknown = SemanticThing(0, "Unknown", -1, np.zeros(3), np.zeros(3), [0, 0, 0, 1])
        self.objects = [
            SemanticObject(
                f"{thing.category}_{thing.semantic_id}",
                thing.semantic_id,
                SemanticCategory(thing.category),
                OBB(Vector3(thing.centre), Vector3(thing.half_size), np.asarray(thing.rotation_xyzw, np.float32)),
            )
            for thing in [unknown, *things]
        ]


@dataclass
class ManagedRigidObject:
    """A kinematic cube; its semantic id is a class, its object id its own."""

    handle: str
    object_id: int
    translation: Vector3
    semantic_id: int = 0
    half: float = 0.1
    rotation: Quaternion = field(default_factory=lambda: Quaternion([0.0, 0.0, 0.0], 1.0))

    @property
    def aabb(self) -> Range3D:
        return Range3D(Vector3([-self.half] * 3), Vector3([self.half] * 3))

    def triangles(self) -> np.ndarray:
        faces = []
        for axis in range(3):
            for side in (-1.0, 1.0):
                square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
                corners = np.insert(square, axis, side, axis=1) * self.half + list(self.translation)
                faces += [corners[[0, 1, 2]], corners[[0, 2, 3]]]
        return np.array(faces)


class RigidObjectManager:
    def __init__(self) -> None:
        self._things: dict[str, ManagedRigidObject] = {}

    def add_object_by_template_handle(self, handle: str) -> ManagedRigidObject:
        number = len(self._things) + 1
        thing = ManagedRigidObject(f"{handle}_:{number - 1:04d}", number, Vector3(0, 0, 0))
        self._things[thing.handle] = thing
        return thing

    def get_objects_by_handle_substring(self, search_str: str = "") -> dict[str, ManagedRigidObject]:
        return {handle: thing for handle, thing in self._things.items() if search_str in handle}

    def merged(self, asset: Asset) -> Asset:
        """The stage's triangles followed by those of the objects."""
        if not self._things:
            return asset
        things = list(self._things.values())
        soup = [thing.triangles() for thing in things]
        ids = np.repeat([thing.semantic_id for thing in things], [len(faces) for faces in soup])
        white = np.full((sum(map(len, soup)), 3), 255, np.uint8)
        return replace(
            asset,
            triangles=np.concatenate([asset.triangles, *soup]),
            colour=np.concatenate([asset.colour, white]),
            semantic_id=np.concatenate([asset.semantic_id, ids]),
        )

    def owner_of(self, triangles: np.ndarray) -> np.ndarray:
        """Object id of each triangle; 0 is the stage."""
        counts = [len(thing.triangles()) for thing in self._things.values()]
        owners = np.repeat([thing.object_id for thing in self._things.values()], counts)
        return np.concatenate([np.zeros(len(triangles) - len(owners), int), owners]).astype(int)
