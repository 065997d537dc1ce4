"""Floor plans: rooms by recursive splitting, some bent to an L, the doors that join them, and windows to the outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from datagen.backends.embedded.rooms import (
    OPPOSITE,
    OUTER,
    SIDES,
    WALL,
    Layout,
    Leaf,
    Opening,
    PlannedRoom,
    Rectangle,
    SideName,
)

Rng = np.random.Generator

DOOR_HEIGHT = 2.05
SPLITS = 200
OPEN_PLAN = 3.0  # metres
WING = 1.75  # metres; how narrow a wing of an L may be
OUTDOORS = (0.12, 0.24)  # share of the rectangle around a home of one L-shaped room that it leaves out
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
# Kinds that may be an L, and those that may fill the corner it leaves.
_BENT = ("living room", "kitchen", "dining room", "bedroom", "office")
_IN_A_CORNER = (*_BENT, "bathroom")
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


def draw_kinds(rng: Rng, low: int, high: int, required: Sequence[str]) -> tuple[str, ...]:
    """Room kinds of a house with ``low``..``high`` rooms that contains ``required`` (which may exceed a usual mix)."""
    count = int(rng.integers(max(low, len(required)), high + 1))
    mixes = [mix for mix in _MIXES[count] if all(mix.count(kind) >= required.count(kind) for kind in required)]
    if mixes:
        return mixes[int(rng.integers(len(mixes)))]
    usual = [kind for kind in _MIXES[max(4, count)][0] if kind not in required]
    return (*required, *usual[: count - len(required)])


def draw_layout(rng: Rng, kinds: Sequence[str], scale: float = 1.0, bent: bool = False) -> Layout | None:
    """A plan with rooms of ``kinds``, their areas times ``scale``; None where SPLITS tries left a room too narrow.

    ``bent``: one of the rooms is an L, where half of the tries find one that can be.
    """
    tries = (_try_layout(rng, kinds, scale, bent and number < SPLITS // 2) for number in range(SPLITS))
    return next((layout for layout in tries if layout), None)


def _try_layout(rng: Rng, kinds: Sequence[str], scale: float, bent: bool) -> Layout | None:
    areas = {index: float(rng.uniform(*_AREAS[kind])) * scale for index, kind in enumerate(kinds)}
    outdoors = float(rng.uniform(*OUTDOORS)) if bent and len(kinds) == 1 else 0.0
    corridor = next((index for index, kind in enumerate(kinds) if kind == "hallway"), None)
    if corridor is not None and len(kinds) > 1:
        rectangles, extent = _along_corridor(rng, areas, corridor)
    else:
        total, aspect = sum(areas.values()), float(rng.uniform(1.0, {1: 1.35, 2: 2.4, 3: 1.9}.get(len(kinds), 1.6)))
        total /= 1 - outdoors
        extent = (round((total * aspect) ** 0.5, 2), round((total / aspect) ** 0.5, 2))
        rectangles = _split(rng, list(areas), areas, (0.0, 0.0, *extent))
    if rng.random() < 0.5:
        rectangles = {index: (y0, x0, y1, x1) for index, (x0, y0, x1, y1) in rectangles.items()}
        extent = (extent[1], extent[0])
    notches: dict[int, Rectangle] = {}
    if bent:
        found = _bend(rng, kinds, rectangles, outdoors)
        if found is None:
            return None
        rectangles, notches = found
    rooms = tuple(
        _room(index, kind, rectangles[index], extent, notches.get(index), outdoors > 0)
        for index, kind in enumerate(kinds)
    )
    if any(not _well_shaped(room) for room in rooms):
        return None
    layout = Layout(rooms, round(float(rng.uniform(2.45, 2.8)), 2))
    if not _join(rng, layout):
        return None
    for room in rooms:
        _add_windows(rng, room)
    return layout


def _bend(
    rng: Rng, kinds: Sequence[str], rectangles: dict[int, Rectangle], outdoors: float
) -> tuple[dict[int, Rectangle], dict[int, Rectangle]] | None:
    """Make one room an L: a neighbour moves, with its area, into a corner of the rectangle that the two fill together, or,
    in homes of one room, a share of ``outdoors`` is left out. Rectangles of all rooms and the notch of the L; None where no
    room can be bent."""
    pairs = [
        (first, second)
        for first in rectangles
        for second in rectangles
        if first != second and kinds[first] in _BENT and kinds[second] in _IN_A_CORNER
    ]
    if outdoors and kinds[0] in _BENT:
        pairs = [(0, 0)]
    for number in rng.permutation(len(pairs)):
        first, second = pairs[int(number)]
        whole = _union(rectangles[first], rectangles[second])
        if whole is None:
            continue
        x0, y0, x1, y1 = whole
        moving = rectangles[second]
        area = (moving[2] - moving[0]) * (moving[3] - moving[1]) * (outdoors or 1.0)
        width = round(float(np.sqrt(area * np.exp(rng.uniform(-0.5, 0.5)))), 2)
        depth = round(area / width, 2)
        if x1 - x0 - width < WING + WALL or y1 - y0 - depth < WING + WALL:
            continue
        # The neighbour stays at its end of the two, in either corner; what is left out may be any corner.
        free = (rng.random(2) < 0.5).tolist()
        east = free[0] if outdoors or moving[2] - moving[0] > x1 - x0 - 0.01 else moving[0] > x0 + 0.01
        north = free[1] if outdoors or moving[3] - moving[1] > y1 - y0 - 0.01 else moving[1] > y0 + 0.01
        left, low = (x1 - width if east else x0), (y1 - depth if north else y0)
        notch = (round(left, 2), round(low, 2), round(left + width, 2), round(low + depth, 2))
        corner = {} if outdoors else {second: notch}
        return {**rectangles, first: whole, **corner}, {first: notch}
    return None


def _union(first: Rectangle, second: Rectangle) -> Rectangle | None:
    """The rectangle that two fill together; None where they leave something of it out."""
    low, high = np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in {first, second}]
    if abs(float(np.prod(high - low)) - sum(areas)) > 1e-6:
        return None
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


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


def _room(
    index: int,
    kind: str,
    rectangle: Rectangle,
    extent: tuple[float, float],
    notch: Rectangle | None = None,
    open_air: bool = False,
) -> PlannedRoom:
    """A room; ``open_air``: its notch lies outdoors."""
    x0, y0, x1, y1 = rectangle
    touching = {"west": x0 <= 0, "south": y0 <= 0, "east": x1 >= extent[0], "north": y1 >= extent[1]}
    room = PlannedRoom(index, kind, rectangle, tuple(side for side in SIDES if touching[side]), notch=notch)
    if open_air:
        room.exterior = room.sides
    return room


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
    """Whether a rectangle, or the larger wing of an L, is wide enough for its kind and not too long; wings hold a walk."""
    (short, long), *wings = (sorted((x1 - x0, y1 - y0)) for x0, y0, x1, y1 in (room.inner, *room.wings))
    if room.notch is not None and min(width for width, _ in wings) < WING:
        return False
    return wings[0][0] >= _NARROWEST.get(room.kind, 2.65) and (room.kind == "hallway" or long / short < 2.2)


def _shared(first: PlannedRoom, second: PlannedRoom) -> tuple[SideName, SideName, float, float] | None:
    """The wall between two rooms, the longer one where an L has two: its side in each, and the stretch of floor that both
    have along it."""
    found = []
    for side in first.sides:
        for opposite in second.sides:
            if OUTER[opposite] != OPPOSITE[OUTER[side]] or abs(first.line(side) - second.line(opposite)) > 1e-6:
                continue
            (a, b), (c, d) = first.span(side), second.span(opposite)
            if min(b, d) - max(a, c) > 1.2:
                found.append((side, opposite, max(a, c), min(b, d)))
    return max(found, key=lambda wall: wall[3] - wall[2], default=None)


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
