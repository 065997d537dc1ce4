"""From a furnished plan to a :class:`Scene`: finishes per room, structure and furniture as parts and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import Layer, Room, SceneObject
from datagen.backends.embedded import structure
from datagen.backends.embedded.lighting import Lamp
from datagen.backends.embedded.materials import material, shaded_floor, wall_material
from datagen.backends.embedded.placement import Placed, RoomSpace
from datagen.backends.embedded.rooms import WALL, Layout, Leaf, Opening, PlannedRoom
from datagen.backends.embedded.scene import Material, Part, Scene, object_from_parts
from datagen.backends.embedded.structure import StructurePiece
from datagen.backends.embedded.style import WHITE, Kit, Look, Rgb, Style, shade

_TOO_HIGH = 1.3  # metres; what hangs higher does not block a walker
_TOO_FLAT = 0.03
LENT = "generated, with models under CC0 and CC BY; see credits"
_LAMP_DROP = 0.12  # metres below the ceiling: just under the lamps that hang in the middle of a room
_WOODEN = ("planks", "wide planks", "parquet")
_FLOORS: dict[str, tuple[str, ...]] = {
    "bathroom": ("small tiles", "tiles", "checker", "marble tiles"),
    "kitchen": ("tiles", "large tiles", "terrazzo", "checker", "planks"),
    "hallway": ("planks", "parquet", "large tiles"),
    "bedroom": ("carpet", "wide planks", "planks", "parquet"),
}
_STONE_TINTS: tuple[Rgb, ...] = ((0.86, 0.84, 0.80), (0.72, 0.73, 0.74), (0.80, 0.72, 0.62), (0.62, 0.60, 0.58))
_BATH_WALLS: tuple[Rgb, ...] = ((0.94, 0.95, 0.95), (0.78, 0.88, 0.90), (0.86, 0.90, 0.84), (0.93, 0.89, 0.82))
_PAPERS = ("plaster", "plaster", "plaster", "stripes", "dots", "diamonds", "leaves", "rings", "boards")
_ACCENT_PAPERS = ("brick", "white brick", "leaves", "diamonds", "stripes", "plaster")


@dataclass(frozen=True)
class RoomFinish:
    """Floor style and colour; wall style and colour per side of the room, in the order of its ``sides``."""

    floor: str
    floor_rgb: Rgb
    walls: tuple[tuple[str, Rgb], ...]


@dataclass(frozen=True)
class Finishes:
    """How one house looks: trim, doors, window views, and each room."""

    trim: Rgb
    door: Look
    sill: Look
    view: str
    rooms: tuple[RoomFinish, ...]


def choose_finishes(layout: Layout, style: Style, rng: np.random.Generator) -> Finishes:
    """Finishes in the house's style: the same wooden floor in all dry rooms, tiles in wet ones, one accent wall at most."""
    kit = Kit(style, rng)
    wooden, wood_rgb = kit.pick(_WOODEN), shade(kit.pick((style.wood, style.wood, style.dark_wood)), 1.05)
    trim = kit.pick((WHITE, WHITE, (0.90, 0.87, 0.80)))
    door = kit.pick(
        (
            Look("panel.pair", WHITE),
            Look("panel.pair", style.wood),
            Look("panel", WHITE),
            Look("panel", style.dark_wood),
        )
    )
    rooms = tuple(_room_finish(kit, room, wooden, wood_rgb) for room in layout.rooms)
    return Finishes(
        trim, door, Look("wood", style.dark_wood), kit.variant(f"view.{kit.pick(structure.WINDOW_VIEWS)}", 2), rooms
    )


def _room_finish(kit: Kit, room: PlannedRoom, wooden: str, wood_rgb: Rgb) -> RoomFinish:
    floor = kit.pick(_FLOORS[room.kind]) if room.kind in _FLOORS else wooden
    if floor in _WOODEN:
        floor, floor_rgb = wooden, wood_rgb
    elif floor == "carpet":
        floor_rgb = kit.pick(
            ((0.74, 0.70, 0.64), (0.60, 0.62, 0.66), (0.70, 0.66, 0.70), shade(kit.pick(kit.style.upholstery), 1.1))
        )
    else:
        floor_rgb = (0.95, 0.95, 0.94) if floor in ("checker", "terrazzo") else kit.pick(_STONE_TINTS)
    if room.kind == "bathroom" or (room.kind == "kitchen" and kit.chance(0.4)):
        paper, rgb = kit.pick(("half tiles", "wall tiles", "half tiles")), kit.pick(_BATH_WALLS)
    else:
        paper, rgb = kit.pick(_PAPERS), kit.pick(kit.style.walls)
    walls = [(paper, rgb)] * len(room.sides)
    if room.kind not in ("bathroom", "kitchen") and kit.chance(0.35):
        accent = kit.pick(_ACCENT_PAPERS)
        colour: Rgb = (1.0, 1.0, 1.0) if accent == "brick" else kit.pick((*kit.style.walls, shade(kit.accent(), 1.1)))
        walls[int(kit.rng.integers(4))] = (accent, colour)
    return RoomFinish(floor, floor_rgb, tuple(walls))


def build_shell(layout: Layout, finishes: Finishes) -> list[StructurePiece]:
    """All structural pieces of the house."""
    pieces: list[StructurePiece] = []
    for room, finish in zip(layout.rooms, finishes.rooms, strict=True):
        pieces.append(structure.floor(room, f"floor:{room.id}", finish.floor_rgb))
        pieces.append(structure.ceiling(room, layout.height))
        for side, (paper, rgb) in zip(room.sides, finish.walls, strict=True):
            pieces.append(structure.wall(room, side, paper, rgb, layout.height))
        pieces.append(structure.baseboard(room, finishes.trim))
        for opening in room.openings:
            if opening.kind == "window":
                pieces.append(structure.window(room, opening, finishes.view, finishes.trim))
            elif opening.to_room is None or opening.to_room > room.index:
                leaf, leaf_room = _leaf(layout, room, opening)
                pieces.append(
                    structure.door(room, opening, leaf, leaf_room, finishes.trim, finishes.door, finishes.sill)
                )
    return pieces


def _leaf(layout: Layout, room: PlannedRoom, opening: Opening) -> tuple[Leaf | None, PlannedRoom | None]:
    """The open leaf of a door and the room that it stands in; two rooms share at most one door."""
    for candidate in () if opening.to_room is None else (room, layout.rooms[opening.to_room]):
        for leaf in candidate.leaves:
            if {candidate.index, leaf.opening.to_room} == {room.index, opening.to_room}:
                return leaf, candidate
    return None, None


def bounds(layout: Layout) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Lowest and highest corner of the house, outer walls included."""
    width, depth = layout.extent
    return (-WALL / 2, -WALL / 2, -0.05), (width + WALL / 2, depth + WALL / 2, layout.height + 0.06)


def in_the_way(item: Placed) -> bool:
    """Whether a walker has to go round a piece."""
    return item.bounds[2] < _TOO_HIGH and item.bounds[5] > _TOO_FLAT and item.relation not in ("on", "on wall")


def furniture_outlines(spaces: Sequence[RoomSpace]) -> list[NDArray[np.float64]]:
    """Floor rectangles of what stands in the way, along each piece's own axes, counter-clockwise, (4, 2) each."""
    outlines = []
    for item in (item for space in spaces for item in space.placed if in_the_way(item)):
        low, high = item.furniture.low, item.furniture.high
        corners = ((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))
        outlines.append(np.array([item.world(float(x), float(y)) for x, y in corners]))
    return outlines


def walkable_outlines(layout: Layout) -> list[NDArray[np.float64]]:
    """Room floors and doorways."""
    floors = [structure.rectangle_outline(floor) for room in layout.rooms for floor in room.floors()]
    return floors + [
        structure.doorway(room, o) for room in layout.rooms for o in room.openings if o.to_room is not None
    ]


def _shadows(space: RoomSpace) -> list[tuple[float, float, float, float, float]]:
    """Floor rectangles that furniture keeps the light from, darker the lower its solids hang."""
    result = []
    for item in space.placed:
        if item.bounds[2] > 0.1 or item.bounds[5] < _TOO_FLAT:
            continue
        for x0, y0, z0, x1, y1, _ in item.boxes.tolist():
            if z0 < 0.9 and (x1 - x0) * (y1 - y0) > 0.02:
                result.append((x0, y0, x1, y1, float(np.exp(-z0 / 0.45))))
    return result


def _lamp(room: PlannedRoom, height: float) -> Lamp:
    """The lamp in the middle of a room's ceiling, whether a fitting hangs there or not."""
    return Lamp((*room.middle, height - _LAMP_DROP), tuple(room.floors()))


def _lights(room: PlannedRoom) -> list[tuple[float, float]]:
    return [room.point(o.side, o.middle, 1.1) for o in room.openings if o.kind == "window"]


def assemble(
    scene_id: str,
    seed: int,
    layout: Layout,
    finishes: Finishes,
    shell: Sequence[StructurePiece],
    spaces: Sequence[RoomSpace],
) -> Scene:
    """The scene: structure first, then furniture room by room; relations between pieces are in ``notes``."""
    parts: list[Part] = []
    objects: list[SceneObject] = []
    for piece in shell:
        index = len(objects)
        own = [Part(mesh, look.finish, index, layer, tint=look.rgb) for mesh, look, layer in piece.meshes]
        parts += own
        objects.append(
            object_from_parts(index, piece.category, own, room_id=piece.room_id, is_structure=True, movable=False)
        )
    index_of: dict[int, int] = {}
    placed = [(space.room.id, item) for space in spaces for item in space.placed]
    for room_id, item in placed:
        index = index_of[id(item)] = len(objects)
        layer: Layer | None = "ceiling" if item.category == "ceiling lamp" else None
        own = [
            Part(mesh, look.finish, index, layer, (item.x, item.y, item.z), item.yaw, look.rgb)
            for mesh, look in item.furniture.pieces
        ]
        parts += own
        objects.append(object_from_parts(index, item.category, own, yaw=item.yaw, room_id=room_id))
    relations = [
        (objects[index_of[id(item)]].id, item.relation, objects[index_of[id(item.parent)]].id)
        for _, item in placed
        if item.parent is not None and id(item.parent) in index_of
    ]
    low, high = bounds(layout)
    lent = sorted({item.furniture.credit for _, item in placed if item.furniture.credit})
    return Scene(
        scene_id=scene_id,
        seed=seed,
        parts=tuple(parts),
        materials=_materials(parts, finishes, spaces),
        objects=tuple(objects),
        rooms=tuple(Room(room.id, room.kind, np.array(room.outline)) for room in layout.rooms),
        obstacles=(*(outline for piece in shell for outline in piece.blocks), *furniture_outlines(spaces)),
        walkable=tuple(walkable_outlines(layout)),
        bounds_min=low,
        bounds_max=high,
        closed=True,
        **({"licence": LENT, "credits": tuple(lent)} if lent else {}),  # type: ignore[arg-type]
        lamps=tuple(_lamp(room, layout.height) for room in layout.rooms),
        notes={"relations": tuple(relations), "yaw": {objects[index_of[id(item)]].id: item.yaw for _, item in placed}},
    )


def _materials(parts: Sequence[Part], finishes: Finishes, spaces: Sequence[RoomSpace]) -> dict[str, Material]:
    """Library materials in use, and one shaded floor per room."""
    floors = {f"floor:{space.room.id}": space for space in spaces}
    brought = {one.name: one for space in spaces for item in space.placed for one in item.furniture.materials}
    result: dict[str, Material] = {}
    for name in dict.fromkeys(part.material for part in parts):
        if name in floors:
            space = floors[name]
            look = finishes.rooms[space.room.index]
            result[name] = shaded_floor(
                name, look.floor, space.room.inner, _shadows(space), _lights(space.room), space.room.cut
            )
        elif name in brought:
            result[name] = brought[name]
        else:
            result[name] = wall_material(name[5:]) if name.startswith("wall:") else material(name)
    return result
