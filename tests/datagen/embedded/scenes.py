"""Small hand-made scenes for tests: known geometry, no generator involved."""

from dataclasses import replace

import numpy as np

from datagen.backends.base import OrientedBox, Room, triple
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.backends.embedded.scene import Material, Mesh, Part, Scene, object_from_parts

OUTWARD = ((0, 1, 2), (0, -1, 2), (1, 2, 0), (1, -2, 0), (2, 1, 0), (2, -1, 0))


def box(size, centre=(0.0, 0.0, 0.0)) -> Mesh:
    """Axis-aligned box around ``centre`` with one texture repeat per metre, faces outward."""
    vertices, normals, uv, faces = [], [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = [(1, 2), (2, 0), (0, 1)][axis]
            corners = np.zeros((4, 3))
            corners[:, axis] = sign
            corners[:, u], corners[:, v] = (-1, 1, 1, -1), (-1, -1, 1, 1)
            normal = np.zeros(3)
            normal[axis] = sign
            order = (0, 1, 2, 3) if sign > 0 else (3, 2, 1, 0)
            base = len(vertices)
            vertices += list(corners[list(order)])
            normals += [normal] * 4
            uv += list(corners[list(order)][:, [u, v]])
            faces += [(base, base + 1, base + 2), (base, base + 2, base + 3)]
    half = np.asarray(size) / 2
    return Mesh(
        (np.array(vertices) * half + centre).astype(np.float32),
        np.array(normals, np.float32),
        (np.array(uv) * half.max()).astype(np.float32),
        np.array(faces, np.int32),
    )


def checker() -> np.ndarray:
    """A texture whose orientation shows: dark and light squares, one red corner at the top left."""
    tiles = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))[..., None]
    texture = np.where(tiles > 0, 200, 90).astype(np.uint8).repeat(3, axis=2)
    texture[:12, :12] = (220, 30, 30)
    return texture


def room_scene(furniture: int = 8, seed: int = 0, template: str | None = None) -> Scene:
    """A 6 x 5 m room, 2.5 m high, with boxes along its walls; the middle is free."""
    rng = np.random.default_rng(seed)
    materials = {
        "checker": Material("checker", texture=checker()),
        "plain": Material("plain", (0.8, 0.3, 0.2)),
        "white": Material("white", (0.9, 0.9, 0.9), emission=0.1),
    }
    meshes = [
        (box((6, 5, 0.1), (0, 0, -0.05)), "checker", "floor", None),
        (box((6, 5, 0.1), (0, 0, 2.55)), "white", "ceiling", "ceiling"),
    ]
    meshes += [(box((6.2, 0.1, 2.5), (0, side * 2.55, 1.25)), "white", "wall", None) for side in (-1, 1)]
    meshes += [(box((0.1, 5.0, 2.5), (side * 3.05, 0, 1.25)), "plain", "wall", None) for side in (-1, 1)]
    parts = [Part(mesh, material, index, layer) for index, (mesh, material, _, layer) in enumerate(meshes)]
    objects = [
        object_from_parts(i, category, [parts[i]], is_structure=True, movable=False)
        for i, (_, _, category, _) in enumerate(meshes)
    ]
    shared = box((0.5, 0.4, 0.6), (0, 0, 0.3))
    obstacles = []
    for slot in range(furniture):
        angle = 2 * np.pi * slot / furniture
        position = (2.3 * np.cos(angle), 1.9 * np.sin(angle), 0.004 + 0.0)
        yaw = float(rng.uniform(-3, 3))
        index = len(objects)
        part = Part(
            shared, "checker" if slot % 2 else "plain", index, None, position, yaw, tuple(rng.uniform(0.4, 1.0, 3))
        )
        parts.append(part)
        objects.append(object_from_parts(index, "box", [part], yaw=yaw))
        obstacles.append(counter_clockwise(objects[-1].obb.corners()[[0, 2, 6, 4], :2]))
    outline = np.array([[-3, -2.5], [3, -2.5], [3, 2.5], [-3, 2.5]], dtype=float)
    return Scene(
        scene_id=f"room-{seed}", seed=seed, parts=tuple(parts), materials=materials, objects=tuple(objects),
        rooms=(Room("room-0", "living room", outline),), obstacles=tuple(obstacles), walkable=(outline,),
        bounds_min=(-3.1, -2.6, -0.1), bounds_max=(3.1, 2.6, 2.6), template=template,
    )  # fmt: skip


class RaisedBackend(EmbeddedBackend):
    """The embedded simulator, but every scene's floor lies ``lift`` metres above the world's zero."""

    lift = 3.0

    def _make(self, scene_id: str) -> Scene:
        return raised(super()._make(scene_id), self.lift)


def raised(scene: Scene, by: float) -> Scene:
    """The same scene, everything in it ``by`` metres higher."""
    up = np.array([0.0, 0.0, by])
    objects = []
    for thing in scene.objects:
        box = thing.obb and OrientedBox(thing.obb.centre + up, thing.obb.half_size, thing.obb.rotation)
        low, high = (triple(np.add(corner, up)) for corner in (thing.aabb_min, thing.aabb_max))
        objects.append(replace(thing, aabb_min=low, aabb_max=high, obb=box))
    return replace(
        scene,
        parts=tuple(replace(part, position=triple(np.add(part.position, up))) for part in scene.parts),
        objects=tuple(objects),
        bounds_min=triple(np.add(scene.bounds_min, up)),
        bounds_max=triple(np.add(scene.bounds_max, up)),
        floor_z=scene.floor_z + by,
        lamps=tuple(replace(lamp, position=triple(np.add(lamp.position, up))) for lamp in scene.lamps),
    )


def counter_clockwise(outline: np.ndarray) -> np.ndarray:
    """The outline (n, 2) turned so that its area is positive."""
    x, y = outline.T
    return outline if np.dot(x, np.roll(y, -1)) > np.dot(y, np.roll(x, -1)) else outline[::-1]
