"""``blocks``: one room with coloured walls and a few coloured solids, what a tiny model can learn on a CPU in minutes.

All scenes share one template: the same pool of meshes in the same order, of which a scene shows some, placed, turned and
tinted. A renderer therefore compiles once and re-poses (about 1 CPU-ms a scene against 30 for a compile).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import Layer, OrientedBox, Room, SceneError, SceneObject
from datagen.backends.embedded import meshes
from datagen.backends.embedded.scene import Material, Mesh, Part, Scene, yaw_matrix
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator

Floats = NDArray[np.float64]
RGB = tuple[float, float, float]
Key = tuple[str | float, ...]

COLOURS: dict[str, RGB] = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.12, 0.24, 0.86),
    "yellow": (0.96, 0.84, 0.10),
    "purple": (0.52, 0.14, 0.66),
    "orange": (0.98, 0.50, 0.06),
    "cyan": (0.10, 0.76, 0.80),
    "white": (0.96, 0.96, 0.96),
}
#: Pale, so that no wall is taken for a solid; a view's walls tell which way it looks.
WALL_COLOURS: tuple[RGB, ...] = (
    (0.80, 0.62, 0.58), (0.62, 0.74, 0.62), (0.60, 0.66, 0.82), (0.84, 0.80, 0.60), (0.74, 0.62, 0.78), (0.62, 0.78, 0.80),
)  # fmt: skip
SIZES = (0.42, 0.58)  # footprint of a solid, metres
HEIGHTS = {"cube": 1.0, "cylinder": 1.5, "sphere": 1.0, "cone": 1.8, "pyramid": 1.5}  # in footprints
COPIES = 4  # solids of one shape and size that a scene may hold
ROOMS = ((5.0, 4.0), (5.0, 5.0), (6.0, 5.0), (6.0, 6.0))
WALL_HEIGHT, WALL_THICKNESS = 2.2, 0.4  # thick enough for a map of 32 pixels to show whose colour a wall has
WALL_GAP, SOLID_GAP = 0.20, 0.25  # free metres between a solid and a wall, and between solids
TRIES = 200


@dataclass(frozen=True, slots=True)
class BlocksConfig:
    """How many solids stand in a room, and whether names ("red cube") may repeat, as counting needs.

    ``shapes`` and ``colours`` restrict the vocabulary; unknown names are errors that list the valid ones. ``count_colours``:
    solids are counted by shape and colour ("green cylinders"), not by shape alone, which small pictures do not show.
    """

    min_solids: int = 4
    max_solids: int = 8
    repeat_names: bool = False
    count_colours: bool = False
    shapes: tuple[str, ...] = tuple(HEIGHTS)
    colours: tuple[str, ...] = tuple(COLOURS)

    def __post_init__(self) -> None:
        for kind, names, valid in (("shape", self.shapes, HEIGHTS), ("colour", self.colours, COLOURS)):
            for name in names:
                if name not in valid:
                    raise SceneError(unknown_name(kind, name, valid))
        most = len(self.shapes) * (
            len(SIZES) * COPIES if self.repeat_names else min(len(self.colours), COPIES * len(SIZES))
        )
        if not 1 <= self.min_solids <= self.max_solids <= most:
            raise SceneError(
                f"blocks: need 1 <= min_solids <= max_solids <= {most} (what the shapes and colours allow), "
                f"got {self.min_solids} and {self.max_solids}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A place in the template: its mesh, and which shape and size, or which piece of which room, it is."""

    mesh: Mesh
    key: Key
    layer: Layer | None = None


def solid_mesh(shape: str, size: float) -> Mesh:
    """A solid standing on the origin with a footprint of ``size`` metres."""
    height = HEIGHTS[shape] * size
    if shape == "cube":
        return meshes.box((size, size, height))
    if shape == "cylinder":
        return meshes.cylinder(size / 2, height, segments=20)
    if shape == "cone":
        return meshes.cylinder(size / 2, height, top_radius=0.0, segments=20)
    if shape == "sphere":
        return meshes.sphere(size / 2, segments=20)
    half = size / 2
    corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0], [0, 0, height]])
    faces = [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 2, 1], [0, 3, 2]]
    return meshes.flat_mesh(corners[faces].astype(np.float32))


@cache
def template() -> tuple[Slot, ...]:
    """Every mesh a scene may show: floor, ceiling and four walls of each room size, then the solids."""
    slots = []
    for room, (width, depth) in enumerate(ROOMS):
        slab = (width + 2 * WALL_THICKNESS, depth + 2 * WALL_THICKNESS, 0.1)
        slots.append(Slot(meshes.box(slab, (0, 0, -0.1)), ("floor", room)))
        slots.append(Slot(meshes.box(slab, (0, 0, WALL_HEIGHT)), ("ceiling", room), "ceiling"))
        out = WALL_THICKNESS / 2
        for side in (-1, 1):
            along = meshes.box((width, WALL_THICKNESS, WALL_HEIGHT), (0, side * (depth / 2 + out), 0))
            across = meshes.box(
                (WALL_THICKNESS, depth + 2 * WALL_THICKNESS, WALL_HEIGHT), (side * (width / 2 + out), 0, 0)
            )
            slots += [Slot(along, ("wall", room)), Slot(across, ("wall", room))]
    for shape, size in product(HEIGHTS, SIZES):
        mesh = solid_mesh(shape, size)
        slots += [Slot(mesh, (shape, size, copy)) for copy in range(COPIES)]
    return tuple(slots)


@cache
def materials() -> dict[str, Material]:
    return {"matt": Material("matt"), "ceiling": Material("ceiling", (0.92, 0.92, 0.92), emission=0.2)}


@cache
def bounds(mesh_index: int) -> tuple[Floats, Floats]:
    """Lowest and highest corner of a template mesh in its own frame."""
    vertices = template()[mesh_index].mesh.vertices.astype(np.float64)
    return vertices.min(axis=0), vertices.max(axis=0)


def make_blocks(scene_id: str, seed: int, config: BlocksConfig | None = None) -> Scene:
    """The block room of ``seed``; the same in every process. ``SceneError`` if the solids do not fit."""
    config = config or BlocksConfig()
    rng = generator(seed, "blocks")
    room = int(rng.integers(len(ROOMS)))
    width, depth = ROOMS[room]
    walls = list(rng.permutation(len(WALL_COLOURS))[:4])
    floor = float(rng.uniform(0.45, 0.75))
    chosen = choose_solids(rng, config)
    places = place_solids(scene_id, rng, chosen, width, depth)
    parts: list[Part] = []
    objects: list[SceneObject] = []
    obstacles: list[Floats] = []
    for index, slot in enumerate(template()):
        kind, which = slot.key[0], slot.key[1]
        if kind in ("floor", "ceiling", "wall") and which == room:
            tint = (floor, floor, floor) if kind == "floor" else (1.0, 1.0, 1.0)
            if kind == "wall":
                tint = WALL_COLOURS[walls.pop()]
            parts.append(
                Part(slot.mesh, "ceiling" if kind == "ceiling" else "matt", len(objects), slot.layer, tint=tint)
            )
            objects.append(make_object(len(objects), index, str(kind), str(kind), (0.0, 0.0, 0.0), 0.0, structure=True))
        elif slot.key in places:
            colour, (x, y, yaw) = chosen[slot.key], places[slot.key]
            parts.append(Part(slot.mesh, "matt", len(objects), None, (x, y, 0.0), yaw, COLOURS[colour]))
            name = f"{colour} {kind}"
            category = name if config.count_colours else str(kind)
            thing = make_object(len(objects), index, category, name, (x, y, 0.0), yaw)
            objects.append(thing)
            box = thing.obb
            assert box is not None
            obstacles.append(box.corners()[[0, 4, 6, 2], :2])
        else:
            material = "ceiling" if kind == "ceiling" else "matt"
            parts.append(Part(slot.mesh, material, -1, slot.layer, visible=False))
    outline = np.array([[-width, -depth], [width, -depth], [width, depth], [-width, depth]]) / 2
    edge = WALL_THICKNESS
    return Scene(
        scene_id=scene_id,
        seed=seed,
        parts=tuple(parts),
        materials=materials(),
        objects=tuple(objects),
        rooms=(Room("room-0", "room", outline),),
        obstacles=tuple(obstacles),
        walkable=(outline,),
        bounds_min=(-width / 2 - edge, -depth / 2 - edge, -0.1),
        bounds_max=(width / 2 + edge, depth / 2 + edge, WALL_HEIGHT + 0.1),
        template="blocks",
        closed=True,
    )


def choose_solids(rng: np.random.Generator, config: BlocksConfig) -> dict[Key, str]:
    """Template keys of the solids to show, and their colours."""
    count = int(rng.integers(config.min_solids, config.max_solids + 1))
    pairs = list(product(config.shapes, config.colours))
    picked = rng.choice(len(pairs), size=count * 4 if config.repeat_names else len(pairs), replace=config.repeat_names)
    chosen: dict[Key, str] = {}
    used = dict.fromkeys(product(config.shapes, SIZES), 0)
    for shape, colour in (pairs[index] for index in picked):
        sizes = [size for size in SIZES if used[shape, size] < COPIES]
        if sizes and len(chosen) < count:
            size = sizes[int(rng.integers(len(sizes)))]
            chosen[shape, size, used[shape, size]] = colour
            used[shape, size] += 1
    return chosen


def place_solids(
    scene_id: str, rng: np.random.Generator, chosen: dict[Key, str], width: float, depth: float
) -> dict[Key, tuple[float, float, float]]:
    """Position (x, y) in metres and yaw of each solid, apart from each other and from the walls."""
    for _ in range(TRIES):
        taken: list[tuple[float, float, float]] = []
        places: dict[Key, tuple[float, float, float]] = {}
        for key in chosen:
            radius = float(key[1]) / np.sqrt(2)
            for _ in range(30):
                x, y = (float(rng.uniform(-1, 1) * (side / 2 - WALL_GAP - radius)) for side in (width, depth))
                if all(np.hypot(x - u, y - v) > radius + r + SOLID_GAP for u, v, r in taken):
                    taken.append((x, y, radius))
                    places[key] = (x, y, float(rng.uniform(-np.pi, np.pi)))
                    break
        if len(places) == len(chosen):
            return places
    raise SceneError(
        f"scene {scene_id}: no layout satisfied 'solids {SOLID_GAP} m apart' in {TRIES} tries "
        f"({len(chosen)} solids in {width} x {depth} m); ask for fewer with max_solids"
    )


def make_object(
    index: int,
    slot: int,
    category: str,
    name: str,
    position: tuple[float, float, float],
    yaw: float,
    structure: bool = False,
) -> SceneObject:
    """The object of a placed template mesh, boxed without touching its vertices."""
    low, high = bounds(slot)
    rotation = yaw_matrix(yaw).astype(np.float64)
    box = OrientedBox((low + high) / 2 @ rotation.T + position, (high - low) / 2, rotation)
    if name.endswith(("cylinder", "sphere", "cone")):
        box = OrientedBox(box.centre, box.half_size, np.eye(3))
    corners = box.corners()
    return SceneObject(
        id=f"{name.replace(' ', '_')}-{index}",
        index=index,
        category=category,
        raw_category=category,
        name=name,
        aabb_min=(float(corners[:, 0].min()), float(corners[:, 1].min()), float(corners[:, 2].min())),
        aabb_max=(float(corners[:, 0].max()), float(corners[:, 1].max()), float(corners[:, 2].max())),
        obb=box,
        room_id="room-0",
        is_structure=structure,
        movable=not structure,
    )
