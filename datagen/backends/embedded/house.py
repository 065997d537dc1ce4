"""``home``: furnished houses of one to five rooms, a pure function of seed and configuration.

A house is drawn in three steps, each from its own named streams: floor plan, furniture room by room, colours. A plan
whose rooms cannot all be reached, or which lacks a category that was asked for, is drawn again, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datagen.backends.base import SceneError
from datagen.backends.embedded.assembly import (
    assemble,
    bounds,
    build_shell,
    choose_finishes,
    furniture_outlines,
    in_the_way,
    walkable_outlines,
)
from datagen.backends.embedded.free_space import FreeSpace
from datagen.backends.embedded.furnishing import furnish
from datagen.backends.embedded.furniture import FURNITURE
from datagen.backends.embedded.layout import ROOM_KINDS, draw_kinds, draw_layout, open_up
from datagen.backends.embedded.models.shop import Shop
from datagen.backends.embedded.placement import Placed, RoomSpace
from datagen.backends.embedded.rooms import Layout
from datagen.backends.embedded.scene import Scene
from datagen.backends.embedded.structure import StructurePiece
from datagen.backends.embedded.style import STYLES, Style
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator

CLEARANCE = 0.2
TRIES = 24
LENIENT = (
    4  # last tries of a house, in which a room may lack what it needs: small or odd plans may have no place for it
)
NEEDS = {
    "bedroom": "bed",
    "bathroom": "toilet",
    "kitchen": "sink",
    "dining room": "dining table",
    "office": "desk",
    "living room": "sofa",
}
COLLECTIONS = ("auto", "on", "off")
REMOVALS = 12
REACHED = 0.75  # share of a room's free floor that must be connected to the rest of the house
# What makes a room what it is; a plan that has no place for it is drawn again rather than stripped of it.
_ESSENTIAL = frozenset(
    [
        *(
            "bed",
            "wardrobe",
            "toilet",
            "bathroom sink",
            "bathtub",
            "shower",
            "sofa",
            "tv stand",
            "dining table",
            "desk",
        ),
        *("sink", "stove", "fridge", "kitchen counter", "dishwasher"),
    ]
)


@dataclass(frozen=True, slots=True)
class HouseConfig:
    """Which houses to draw.

    ``min_rooms``..``max_rooms`` of 1..5; ``require_rooms`` are kinds that must exist; ``density`` in 0..1 scales how
    often optional furniture stands there; ``include`` and ``exclude`` are object categories that must or must not occur;
    ``area_scale`` multiplies floor areas. ``open_plans``: share of the passages between living room, kitchen and the like
    that are open plans, up to three metres wide. ``l_rooms``: share of homes with an L-shaped room, where the plan has a
    place for one; a home of one room is then L-shaped itself. ``collections``: whether rooms hold several of a thing
    (``on``, ``off``), or do so for the task that counts (``auto``). ``mirrors``: whether they hang there; they are panes of
    glass that reflect nothing, because a room seen twice makes questions about it ambiguous. Unknown names and impossible
    ranges are a ``SceneError``.
    """

    min_rooms: int = 1
    max_rooms: int = 5
    require_rooms: tuple[str, ...] = ()
    density: float = 1.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    area_scale: float = 1.0
    open_plans: float = 0.0
    l_rooms: float = 0.25
    collections: str = "auto"
    mirrors: bool = False

    @property
    def ruled_out(self) -> frozenset[str]:
        """Categories that stand nowhere: those excluded, and mirrors unless they are wanted or asked for by name."""
        mirrors = self.mirrors or "mirror" in self.include
        return frozenset(self.exclude) | (frozenset() if mirrors else {"mirror"})

    def __post_init__(self) -> None:
        if self.collections not in COLLECTIONS:
            raise SceneError(unknown_name("house.collections", self.collections, COLLECTIONS))
        if not 1 <= self.min_rooms <= self.max_rooms <= 5:
            raise SceneError(f"houses have 1 to 5 rooms, got min_rooms={self.min_rooms}, max_rooms={self.max_rooms}")
        for kind in self.require_rooms:
            if kind not in ROOM_KINDS:
                raise SceneError(unknown_name("room kind", kind, ROOM_KINDS))
        if len(self.require_rooms) > self.max_rooms:
            raise SceneError(f"{len(self.require_rooms)} required rooms do not fit max_rooms={self.max_rooms}")
        for category in (*self.include, *self.exclude):
            if category not in FURNITURE:
                raise SceneError(unknown_name("object category", category, FURNITURE))
        if both := set(self.include) & set(self.exclude):
            raise SceneError(f"categories both included and excluded: {', '.join(sorted(both))}")
        if not (0 <= self.density <= 1 and self.area_scale > 0):
            raise SceneError(f"need 0 <= density <= 1 and area_scale > 0, got {self.density} and {self.area_scale}")
        for name in ("open_plans", "l_rooms"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise SceneError(f"house.{name} is a share, 0 to 1, got {share}")


def make_house(scene_id: str, seed: int, config: HouseConfig | None = None, shop: Shop | None = None) -> Scene:
    """The furnished house of ``seed``; the same in every process. ``shop``: models that stand beside ours.

    ``SceneError`` if no plan satisfied the configuration in TRIES tries.
    """
    config = config or HouseConfig()
    missing: set[str] = set()
    for attempt in range(TRIES):
        rng = generator(seed, "house", attempt)
        kinds = draw_kinds(rng, config.min_rooms, config.max_rooms, config.require_rooms)
        bent = bool(generator(seed, "l rooms", attempt).random() < config.l_rooms)
        layout = draw_layout(rng, kinds, config.area_scale, bent)
        if layout is None:
            missing = {f"rooms {', '.join(kinds)} at area_scale {config.area_scale}"}
            continue
        if config.open_plans:
            open_up(generator(seed, "open plans", attempt), layout, config.open_plans)
        style = STYLES[int(rng.integers(len(STYLES)))]
        spaces = _furnished(seed, attempt, layout, style, config, shop)
        finishes = choose_finishes(layout, style, generator(seed, "finishes", attempt))
        shell = build_shell(layout, finishes)
        if not _open_up(layout, shell, spaces, _ESSENTIAL.union(config.include)):
            missing = {"every room reachable"}
            continue
        bare = lacking(spaces)
        if bare and attempt < TRIES - LENIENT and config.density == 1:
            missing = {f"a {what} in the {room}" for room, what in bare}
            continue
        missing = set(config.include) - {item.category for space in spaces for item in space.placed}
        if missing:
            continue
        return assemble(scene_id, seed, layout, finishes, shell, spaces)
    raise SceneError(
        f"scene {scene_id}: no layout satisfied {', '.join(sorted(missing))} in {TRIES} tries; "
        "allow more or other rooms, a larger area_scale, or fewer included categories"
    )


def lacking(spaces: Sequence[RoomSpace]) -> list[tuple[str, str]]:
    """Kinds of rooms without the piece that makes them so, unless that was ruled out: a bedroom without a bed."""
    return [
        (space.room.kind, NEEDS[space.room.kind])
        for space in spaces
        if space.room.kind in NEEDS
        and NEEDS[space.room.kind] not in space.exclude
        and not space.of(NEEDS[space.room.kind])
    ]


def _furnished(
    seed: int, attempt: int, layout: Layout, style: Style, config: HouseConfig, shop: Shop | None
) -> list[RoomSpace]:
    dining_apart = any(room.kind == "dining room" for room in layout.rooms)
    spaces: list[RoomSpace] = []
    collections: set[str] | None = set() if config.collections == "on" else None
    # Kitchens first: where one has a table, the living room does without.
    for room in sorted(layout.rooms, key=lambda room: (room.kind != "kitchen", room.index)):
        rng = generator(seed, "furniture", attempt, room.index)
        space = RoomSpace(
            room, layout.height, style, rng, config.density, frozenset(config.include), config.ruled_out, shop
        )
        space.collections = collections
        space.dines = not (dining_apart or any(other.of("dining table") for other in spaces))
        furnish(space)
        spaces.append(space)
    return sorted(spaces, key=lambda space: space.room.index)


def _open_up(
    layout: Layout, shell: Sequence[StructurePiece], spaces: Sequence[RoomSpace], keep: frozenset[str]
) -> bool:
    """Remove furniture from rooms that cannot be reached, last placed first; False if that does not help."""
    blocks = [outline for piece in shell for outline in piece.blocks]
    for _ in range(REMOVALS):
        walkable, furniture = walkable_outlines(layout), furniture_outlines(spaces)
        low, high = bounds(layout)
        probe = Scene("", None, (), {}, (), (), (*blocks, *furniture), tuple(walkable), low, high)
        floor = FreeSpace(probe)
        shut = [space for space in spaces if not _reached(floor, space)]
        if not shut:
            return True
        for space in shut:
            movable = [item for item in space.placed if in_the_way(item) and item.category not in keep]
            if not movable:
                return False
            _remove(space, movable[-1])
    return False


def _reached(floor: FreeSpace, space: RoomSpace) -> bool:
    """Whether most of the room's free floor, and a fifth of a square metre of it, belongs to the connected region."""
    free = floor.map(CLEARANCE)
    inside = np.zeros(free.grid.shape, bool)
    for x0, y0, x1, y1 in space.room.floors():
        (low_row, high_row), (low_column, high_column) = free.cell_of(np.array([[x0, y0], [x1, y1]]))
        inside[max(low_row, 0) : high_row, max(low_column, 0) : high_column] = True
    reached, open_floor = int((free.grid & inside).sum()), int(((floor.clearance > CLEARANCE) & inside).sum())
    return reached * free.resolution**2 > 0.2 and reached > REACHED * open_floor


def _remove(space: RoomSpace, item: Placed) -> None:
    """Take a piece away with everything that stands on it."""
    gone = {id(item)}
    for other in space.placed:
        if other.parent is not None and id(other.parent) in gone and other.relation == "on":
            gone.add(id(other))
    space.placed = [other for other in space.placed if id(other) not in gone]
