"""Floor plans: rectangular rooms by recursive splitting, the doors that join them, and windows to the outside.

Plan coordinates are metres with the house's south-west corner at the origin. A room's ``rectangle`` runs along the
centre lines of its walls; ``inner`` is its floor. Walls are WALL thick, half of it on each side of the centre line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

Rectangle = tuple[float, float, float, float]
Rng = np.random.Generator
SideName = Literal["south", "east", "north", "west"]
SIDES: tuple[SideName, ...] = ("south", "east", "north", "west")
INWARD: dict[SideName, tuple[int, int]] = {"south": (0, 1), "east": (-1, 0), "north": (0, -1), "west": (1, 0)}

WALL = 0.14
DOOR_HEIGHT = 2.05
SPLITS = 200
OPEN_PLAN = 3.0  # metres
ROOM_KINDS = ("living room", "kitchen", "bedroom", "bathroom", "office", "hallway", "dining room")

# Floor area in m2 (from, to): the middle half of European and American homes.
_AREAS = {
    "living room": (18, 32),
    "kitchen": (10, 17),
    "bedroom": (12, 19),
    "bathroom": (5.5, 8.5),
    "office": (9, 16),
    "hallway": (5, 9),
    "dining room": (12, 19),
}
_NARROWEST = {"hallway": 1.3, "bathroom": 1.75, "office": 2.4, "kitchen": 2.35, "living room": 3.1}
# How willingly other rooms open onto a room of this kind.
_HUB = {"hallway": 6, "living room": 5, "dining room": 3, "kitchen": 2, "office": 1, "bedroom": 1, "bathroom": 0}
_MIXES: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (
        ("living room",),
        ("bedroom",),
        ("kitchen",),
        ("living room",),
        ("office",),
        ("kitchen",),
        ("bathroom",),
        ("dining room",),
    ),
    2: (
        ("living room", "kitchen"),
        ("living room", "bedroom"),
        ("bedroom", "bathroom"),
        ("living room", "kitchen"),
        ("kitchen", "dining room"),
        ("living room", "office"),
    ),
    3: (
        ("living room", "kitchen", "bedroom"),
        ("living room", "bedroom", "bathroom"),
        ("living room", "kitchen", "dining room"),
        ("hallway", "bedroom", "bathroom"),
        ("living room", "kitchen", "office"),
        ("hallway", "living room", "kitchen"),
    ),
    4: (
        ("living room", "kitchen", "bedroom", "bathroom"),
        ("hallway", "living room", "bedroom", "bathroom"),
        ("living room", "kitchen", "dining room", "bedroom"),
        ("hallway", "living room", "kitchen", "bedroom"),
        ("living room", "kitchen", "office", "bathroom"),
    ),
    5: (
        ("hallway", "living room", "kitchen", "bedroom", "bathroom"),
        ("living room", "kitchen", "dining room", "bedroom", "bathroom"),
        ("hallway", "living room", "kitchen", "bedroom", "office"),
        ("living room", "kitchen", "bedroom", "bedroom", "bathroom"),
        ("hallway", "living room", "dining room", "bedroom", "bathroom"),
        ("hallway", "living room", "kitchen", "bedroom", "bathroom"),
    ),
}


@dataclass(frozen=True)
class Opening:
    """A hole in the wall on ``side`` of a room, from ``start`` to ``end`` along x or y and from ``low`` to ``high``."""

    kind: Literal["door", "passage", "entrance", "window"]
    side: SideName
    start: float
    end: float
    low: float
    high: float
    to_room: int | None = None

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Leaf:
    """An open door leaf in a room: hinged at ``hinge`` along the wall, standing at right angles to it."""

    opening: Opening
    hinge: float
    towards: int


@dataclass
class PlannedRoom:
    """A room of the plan; ``exterior`` names the sides that face outdoors."""

    index: int
    kind: str
    rectangle: Rectangle
    exterior: tuple[SideName, ...]
    openings: list[Opening] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"room-{self.index}"

    @cached_property
    def inner(self) -> Rectangle:
        x0, y0, x1, y1 = self.rectangle
        return (x0 + WALL / 2, y0 + WALL / 2, x1 - WALL / 2, y1 - WALL / 2)

    def span(self, side: SideName) -> tuple[float, float]:
        """First and last coordinate of the floor along ``side``."""
        x0, y0, x1, y1 = self.inner
        return (x0, x1) if side in ("south", "north") else (y0, y1)

    def face(self, side: SideName) -> float:
        """Coordinate of the wall's inner face across ``side``."""
        return self.inner[{"west": 0, "south": 1, "east": 2, "north": 3}[side]]

    def point(self, side: SideName, along: float, depth: float) -> tuple[float, float]:
        """Plan point ``depth`` metres into the room from the wall on ``side``, at ``along`` on it."""
        x, y = INWARD[side]
        face = self.face(side) + depth * (x + y)
        return (along, face) if side in ("south", "north") else (face, along)


@dataclass(frozen=True)
class Layout:
    """Rooms of one house and its ceiling height in metres."""

    rooms: tuple[PlannedRoom, ...]
    height: float

    @property
    def extent(self) -> tuple[float, float]:
        return max(room.rectangle[2] for room in self.rooms), max(room.rectangle[3] for room in self.rooms)


def draw_kinds(rng: Rng, low: int, high: int, required: Sequence[str]) -> tuple[str, ...]:
    """Room kinds of a house with ``low``..``high`` rooms that contains ``required`` (which may exceed a usual mix)."""
    count = int(rng.integers(max(low, len(required)), high + 1))
    mixes = [mix for mix in _MIXES[count] if all(mix.count(kind) >= required.count(kind) for kind in required)]
    if mixes:
        return mixes[int(rng.integers(len(mixes)))]
    usual = [kind for kind in _MIXES[max(4, count)][0] if kind not in required]
    return (*required, *usual[: count - len(required)])


def draw_layout(rng: Rng, kinds: Sequence[str], scale: float = 1.0) -> Layout | None:
    """A plan with rooms of ``kinds``, their areas times ``scale``; None where SPLITS tries left a room too narrow."""
    return next((layout for _ in range(SPLITS) if (layout := _try_layout(rng, kinds, scale))), None)


def _try_layout(rng: Rng, kinds: Sequence[str], scale: float) -> Layout | None:
    areas = {index: float(rng.uniform(*_AREAS[kind])) * scale for index, kind in enumerate(kinds)}
    corridor = next((index for index, kind in enumerate(kinds) if kind == "hallway"), None)
    if corridor is not None and len(kinds) > 1:
        rectangles, extent = _along_corridor(rng, areas, corridor)
    else:
        total, aspect = sum(areas.values()), float(rng.uniform(1.0, {1: 1.35, 2: 2.4, 3: 1.9}.get(len(kinds), 1.6)))
        extent = (round((total * aspect) ** 0.5, 2), round((total / aspect) ** 0.5, 2))
        rectangles = _split(rng, list(areas), areas, (0.0, 0.0, *extent))
    if rng.random() < 0.5:
        rectangles = {index: (y0, x0, y1, x1) for index, (x0, y0, x1, y1) in rectangles.items()}
        extent = (extent[1], extent[0])
    rooms = tuple(_room(index, kind, rectangles[index], extent) for index, kind in enumerate(kinds))
    if any(not _well_shaped(room) for room in rooms):
        return None
    layout = Layout(rooms, round(float(rng.uniform(2.45, 2.8)), 2))
    if not _join(rng, layout):
        return None
    for room in rooms:
        _add_windows(rng, room)
    return layout


def open_up(rng: Rng, layout: Layout, share: float) -> None:
    """Make ``share`` of the passages between living rooms, kitchens and the like into open plans: as wide as the wall
    between the rooms lets them be, up to OPEN_PLAN metres, and higher than doors."""
    for room in layout.rooms:
        for place, ours in enumerate(room.openings):
            if ours.kind != "passage" or ours.to_room is None or ours.to_room < room.index:
                continue
            other = layout.rooms[ours.to_room]
            shared = _shared(room, other)
            assert shared is not None
            width = float(rng.uniform(1.6, OPEN_PLAN))
            if rng.random() >= share:
                continue
            low, high = shared[2] + 0.13, shared[3] - 0.13
            taken = [o for o in room.openings if o.side == ours.side and o is not ours]
            taken += [o for o in other.openings if o.side == shared[1] and o.to_room != room.index]
            low = max([low, *(o.end + 0.3 for o in taken if o.end <= ours.start)])
            high = min([high, *(o.start - 0.3 for o in taken if o.start >= ours.end)])
            start = round(max(low, min(ours.middle - width / 2, high - width)), 3)
            end = round(min(high, start + width), 3)
            if end - start <= ours.end - ours.start:
                continue
            top = round(layout.height - 0.25, 2)
            room.openings[place] = replace(ours, start=start, end=end, high=top)
            back = next(index for index, o in enumerate(other.openings) if o.to_room == room.index)
            other.openings[back] = replace(other.openings[back], start=start, end=end, high=top)
    for room in layout.rooms:
        room.leaves = [leaf for leaf in room.leaves if not _in_a_doorway(room, leaf)]


def _room(index: int, kind: str, rectangle: Rectangle, extent: tuple[float, float]) -> PlannedRoom:
    x0, y0, x1, y1 = rectangle
    touching = {"west": x0 <= 0, "south": y0 <= 0, "east": x1 >= extent[0], "north": y1 >= extent[1]}
    return PlannedRoom(index, kind, rectangle, tuple(side for side in SIDES if touching[side]))


def _split(rng: Rng, members: list[int], areas: dict[int, float], box: Rectangle) -> dict[int, Rectangle]:
    """Cut ``box`` across its longer side in proportion to the areas of two groups of rooms, and so on."""
    if len(members) == 1:
        return {members[0]: box}
    order = [members[int(place)] for place in rng.permutation(len(members))]
    cut = len(order) // 2 if len(order) != 3 else int(rng.integers(1, 3))
    first, second = order[:cut], order[cut:]
    share = sum(areas[index] for index in first) / sum(areas[index] for index in members)
    x0, y0, x1, y1 = box
    if x1 - x0 >= y1 - y0:
        line = round(x0 + share * (x1 - x0), 2)
        parts = ((x0, y0, line, y1), (line, y0, x1, y1))
    else:
        line = round(y0 + share * (y1 - y0), 2)
        parts = ((x0, y0, x1, line), (x0, line, x1, y1))
    return _split(rng, first, areas, parts[0]) | _split(rng, second, areas, parts[1])


def _along_corridor(
    rng: Rng, areas: dict[int, float], corridor: int
) -> tuple[dict[int, Rectangle], tuple[float, float]]:
    """Rooms in one row (up to two) or in two rows along a corridor that runs the length of the house."""
    others = [index for index in areas if index != corridor]
    others = [others[int(place)] for place in rng.permutation(len(others))]
    total, breadth = sum(areas[index] for index in others), round(float(rng.uniform(1.5, 1.9)), 2)
    if len(others) <= 2:
        rows = [others]
    else:
        half = len(others) // 2
        rows = [others[:half], others[half:]]
    length = round((total * float(rng.uniform(0.9, 2.2))) ** 0.5, 2)
    rectangles: dict[int, Rectangle] = {}
    low = 0.0
    for number, row in enumerate(rows):
        area = sum(areas[index] for index in row)
        depth, left = round(area / length, 2), 0.0
        for place, index in enumerate(row):
            right = length if place == len(row) - 1 else round(left + areas[index] / depth, 2)
            rectangles[index] = (left, low, right, round(low + depth, 2))
            left = right
        low = round(low + depth, 2)
        if number == 0:
            rectangles[corridor] = (0.0, low, length, round(low + breadth, 2))
            low = round(low + breadth, 2)
    return rectangles, (length, low)


def _well_shaped(room: PlannedRoom) -> bool:
    x0, y0, x1, y1 = room.inner
    short, long = sorted((x1 - x0, y1 - y0))
    return short >= _NARROWEST.get(room.kind, 2.65) and (room.kind == "hallway" or long / short < 2.2)


def _shared(first: PlannedRoom, second: PlannedRoom) -> tuple[SideName, SideName, float, float] | None:
    """The wall between two rooms: its side in each, and the stretch of floor that both have along it."""
    a, b = first.rectangle, second.rectangle
    for side, opposite, ours, theirs, axis in (
        ("east", "west", 2, 0, 1),
        ("west", "east", 0, 2, 1),
        ("north", "south", 3, 1, 0),
        ("south", "north", 1, 3, 0),
    ):
        if abs(a[ours] - b[theirs]) < 1e-6:
            start = max(first.inner[axis], second.inner[axis])
            end = min(first.inner[axis + 2], second.inner[axis + 2])
            if end - start > 1.2:
                return side, opposite, start, end  # type: ignore[return-value]
    return None


def _join(rng: Rng, layout: Layout) -> bool:
    """Doors along a spanning tree that prefers hallways and living rooms, some passages, and a front door."""
    rooms = layout.rooms
    start = max(rooms, key=lambda room: (_HUB[room.kind], -room.index))
    joined, pending = [start.index], {room.index for room in rooms} - {start.index}
    while pending:
        options = [(i, j) for i in joined for j in sorted(pending) if _shared(rooms[i], rooms[j])]
        if not options:
            return False
        near, far = max(options, key=lambda pair: (_HUB[rooms[pair[0]].kind], _HUB[rooms[pair[1]].kind], -pair[1]))
        if not _add_door(rng, rooms[near], rooms[far]):
            return False
        joined.append(far)
        pending.discard(far)
    _add_entrance(rng, start)
    for room in rooms:
        room.leaves = [leaf for leaf in room.leaves if not _in_a_doorway(room, leaf)]
    return True


def _strip(room: PlannedRoom, side: SideName, start: float, end: float, depth: float) -> Rectangle:
    """Floor along the wall on ``side``, ``depth`` metres wide."""
    (xa, ya), (xb, yb) = room.point(side, start, 0.0), room.point(side, end, depth)
    return (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))


def _in_a_doorway(room: PlannedRoom, leaf: Leaf) -> bool:
    """Whether an open leaf would stand in front of another door of the room."""
    a = _strip(room, leaf.opening.side, leaf.hinge - 0.1, leaf.hinge + 0.1, 1.0)
    zones = (
        _strip(room, o.side, o.start, o.end, 0.9) for o in room.openings if o.kind != "window" and o != leaf.opening
    )
    return any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in zones)


def _add_door(rng: Rng, first: PlannedRoom, second: PlannedRoom) -> bool:
    """A door or passage between two rooms that share a wall; False where other doors leave no place for it."""
    shared = _shared(first, second)
    assert shared is not None
    side, opposite, start, end = shared
    social = {"living room", "kitchen", "dining room", "hallway"}
    open_plan = {first.kind, second.kind} <= social and rng.random() < 0.55
    width = float(rng.uniform(0.95, 1.3)) if open_plan else float(rng.choice([0.8, 0.85, 0.9]))
    width = min(width, end - start - 0.3)
    low, high = start + 0.13, end - 0.13 - width
    taken = [(o.start, o.end) for o in (*first.openings, *second.openings) if o.side in (side, opposite)]
    for _ in range(8):
        draw = rng.random()
        left = low if draw < 0.35 else high if draw < 0.7 else float(rng.uniform(low, high))
        if all(left + width + 0.3 < a or left - 0.3 > b for a, b in taken):
            break
    else:
        return False
    left = round(left, 3)
    kind: Literal["door", "passage"] = "passage" if open_plan else "door"
    ours = Opening(kind, side, left, left + width, 0.0, DOOR_HEIGHT, second.index)
    theirs = Opening(kind, opposite, left, left + width, 0.0, DOOR_HEIGHT, first.index)
    first.openings.append(ours)
    second.openings.append(theirs)
    if kind == "door" and rng.random() < 0.8:
        into, opening = (second, theirs) if _HUB[second.kind] <= _HUB[first.kind] else (first, ours)
        near, far = into.span(opening.side)
        towards = -1 if opening.start - near < far - opening.end else 1
        hinge = opening.start if towards < 0 else opening.end
        into.leaves.append(Leaf(opening, hinge, towards))
    return True


def _free_stretch(room: PlannedRoom, side: SideName, width: float) -> tuple[float, float] | None:
    """Where an opening of ``width`` may start on ``side``: clear of corners; None where the side already has one."""
    start, end = room.span(side)
    if any(opening.side == side for opening in room.openings) or end - start < width + 0.7:
        return None
    return start + 0.35, end - 0.35 - width


def _add_entrance(rng: Rng, room: PlannedRoom) -> None:
    """The front door, closed, on an outer wall of the room that the others open onto."""
    sides = sorted(room.exterior, key=lambda side: room.span(side)[1] - room.span(side)[0])
    for side in sides:
        start, end = room.span(side)
        if any(opening.side == side for opening in room.openings) or end - start < 1.25:
            continue
        low, high = start + 0.15, end - 1.05
        left = round(float(rng.choice([low, high])), 3)
        room.openings.append(Opening("entrance", side, left, left + 0.9, 0.0, DOOR_HEIGHT))
        return


def _add_windows(rng: Rng, room: PlannedRoom) -> None:
    """Windows on outer walls: one or two per room, small and high in bathrooms, over the worktop in kitchens."""
    wanted = {"living room": 2, "dining room": 2, "bathroom": 1, "hallway": 1}.get(room.kind, int(rng.integers(1, 3)))
    sides = room.exterior
    for place in rng.permutation(len(sides)):
        side = sides[int(place)]
        start, end = room.span(side)
        width = float(
            rng.uniform(0.6, 0.8)
            if room.kind in ("bathroom", "hallway")
            else rng.uniform(1.0, min(2.0, max(1.05, 0.45 * (end - start))))
        )
        stretch = _free_stretch(room, side, width)
        if stretch is None or wanted == 0:
            continue
        low = {"bathroom": 1.35, "kitchen": 1.2, "hallway": 1.2}.get(room.kind, float(rng.choice([0.5, 0.85, 0.9])))
        middle = (start + end - width) / 2
        left = middle if rng.random() < 0.6 else float(rng.uniform(*stretch))
        room.openings.append(Opening("window", side, round(left, 3), round(left + width, 3), low, 2.1))
        wanted -= 1
