"""Kitchens and offices that use their floor: more of what belongs there until a share of it is covered.

The share (``COVERED``) is ours, by eye; without this step furniture covered 29 % of kitchens and 18 % of offices on average.
Everything keeps clear of doors, of the way to a chair and of what others need in front of them; walkways stay
``AISLE`` wide. Pieces that do not fit are left out, so some rooms stay below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from datagen.backends.embedded import groups
from datagen.backends.embedded.furniture import build
from datagen.backends.embedded.furniture.kitchen import DEPTH, OVERHANG, KitchenLook
from datagen.backends.embedded.placement import CONTACT, WALL_GAP, Placed, RoomSpace
from datagen.backends.embedded.rooms import INWARD, SideName, along_x

#: Share of the floor that furniture covers when a room is full.
COVERED = {"kitchen": 0.38, "office": 0.30}
AISLE = 0.8  # metres
LONGEST = 2.4  # metres; a second row of counters, which is one piece
MOST_SHELVES = 3
Move = Callable[[RoomSpace], object]


def fill(space: RoomSpace, moves: Sequence[Move]) -> None:
    """Make ``moves`` until the floor is covered as far as the density asks for."""
    for move in moves:
        if space.covered() >= COVERED[space.room.kind] * min(1.0, space.density):
            return
        move(space)


def shuffled(space: RoomSpace, moves: Sequence[Move]) -> list[Move]:
    """The moves in random order."""
    return [moves[int(place)] for place in space.rng.permutation(len(moves))]


def fill_kitchen(space: RoomSpace, run: Sequence[Placed], look: KitchenLook) -> list[Placed]:
    """A second row of counters around the corner or across, an island, a table, a sideboard; the new worktops."""
    if not run:
        return []
    worktops: list[Placed] = []

    def work(place: Callable[[RoomSpace, Sequence[Placed], KitchenLook], Placed | None]) -> Move:
        return lambda space: worktops.extend(filter(None, [place(space, run, look)]))

    large = [work(second_row), work(island)]
    if not space.of("dining table"):
        large.append(lambda space: groups.dining_group(space, 4 if space.area > 11 else 2, centred=False))
    fill(space, [*shuffled(space, large), sideboard, work(second_row), sideboard])
    return worktops


def second_look(moves: Sequence[Move]) -> Move:
    """Once more what found no place or was not reached at first."""

    def again(space: RoomSpace) -> None:
        fill(space, shuffled(space, moves))

    return again


def island(space: RoomSpace, run: Sequence[Placed], look: KitchenLook) -> Placed | None:
    """An island before the run, its doors towards it, with stools on the far side."""
    side = run[0].side
    if side is None or space.of("kitchen island") or "kitchen island" in space.exclude:
        return None
    ix, iy = INWARD[side]
    along = [item.x if along_x(side) else item.y for item in run]
    middle = (min(along) + max(along)) / 2
    for width in (2.0, 1.6, 1.3):
        piece = build("kitchen island", space.kit, look=look, width=width)
        for aisle in (1.2, 1.0, 0.9):
            for shift in (0.0, 0.4, -0.4, 0.8, -0.8):
                x, y = space.room.point(side, middle + shift, DEPTH + WALL_GAP + aisle + float(piece.high[0]))
                item = Placed(piece, x, y, CONTACT, math.atan2(-iy, -ix))
                if space.fits(item, gap=AISLE) and space.room_around(item, AISLE):
                    space.add(item)
                    _stools(space, item, width)
                    return item
    return None


def _stools(space: RoomSpace, at: Placed, width: float) -> None:
    """Equal bar stools under the overhang of an island."""
    if not space.wants("stool", 0.8):
        return
    stool = build("stool", space.kit, height=0.65)
    count = min(3, int(width / 0.55))
    for number in range(count):
        x, y = at.world(-DEPTH / 2 - OVERHANG, (number - (count - 1) / 2) * width / count)
        item = Placed(stool, x, y, CONTACT, at.yaw, at, "faces")
        if space.fits(item, around=[at], gap=0.02):
            space.add(item)


def second_row(space: RoomSpace, run: Sequence[Placed], look: KitchenLook) -> Placed | None:
    """One long counter along another wall: from the corner on where the run ends in a counter, else where there is room."""
    if not space.wants("kitchen counter"):
        return None
    for side in space.shuffled_sides():
        if side == run[0].side:
            continue
        if any(o.side == side and o.kind == "window" and o.low < 1.0 for o in space.room.openings):
            continue
        corner = next(
            (item for item in run if item.category == "kitchen counter" and _touches(space, item, side)), None
        )
        start, length = groups.longest_free(space, side)
        width = min(LONGEST, length - 0.04)
        while width >= 0.9:
            piece = build("kitchen counter", space.kit, look=look, width=round(width, 2))
            ends = (start + width / 2 + 0.02, start + length - width / 2 - 0.02)
            for middle in sorted(ends, key=lambda at: _off(corner, at, side)):
                item = space.wall_pose(side, piece, middle)
                friends = [corner] if corner else []
                if space.fits(item, around=friends, gap=0.0) and space.zone_free(item, AISLE):
                    space.add(item, AISLE)
                    if space.wants("wall cabinet", 0.5):
                        space.hang("wall cabinet", side, middle, look=look, width=min(1.0, round(width, 2)), gap=0.0)
                    return item
            width -= 0.3
    return None


def _touches(space: RoomSpace, item: Placed, side: SideName) -> bool:
    """Whether a piece stands in the corner with the wall on ``side``."""
    x, y = space.room.point(side, 0.0, 0.0)
    near = (
        min(abs(item.bounds[1] - y), abs(item.bounds[4] - y))
        if along_x(side)
        else min(abs(item.bounds[0] - x), abs(item.bounds[3] - x))
    )
    return near < 0.06


def _off(corner: Placed | None, along: float, side: SideName) -> float:
    """How far a place along a wall is from the piece in its corner; 0 without one."""
    if corner is None:
        return 0.0
    return abs((corner.x if along_x(side) else corner.y) - along)


def sideboard(space: RoomSpace) -> None:
    """A cabinet with something on it."""
    if space.wants("cabinet") and (item := space.against_wall("cabinet", zone=0.6)):
        groups.scatter(space, item, ("bowl", "fruit bowl", "bottle", "vase", "books"), 2)


def fill_office(space: RoomSpace) -> None:
    """A second desk, a table to meet at and a corner to read in, then shelves and cabinets along the walls."""
    large: list[Move] = [second_desk, meeting, reading_corner]
    if "meeting table" in space.include:
        meeting(space)
    fill(space, [*shuffled(space, large), shelf, sideboard, shelf, second_look(large), sideboard, shelf])


def second_desk(space: RoomSpace) -> None:
    """Another workplace, in offices for two."""
    if space.area > 11 and len(space.of("desk")) < 2:
        groups.workplace(space)


def meeting(space: RoomSpace) -> None:
    """A table for four, or for two, with chairs."""
    if not space.of("meeting table"):
        seats = 4 if space.area > 13.5 else 2
        groups.dining_group(space, seats, category="meeting table", seat="chair")


def reading_corner(space: RoomSpace) -> None:
    """A sofa with a low table before it, or an armchair with one beside it."""
    if space.area > 11 and not space.of("sofa") and space.wants("sofa"):
        sofa = space.against_wall("sofa", zone=0.7)
        if sofa:
            if space.wants("side table", 0.7):
                space.beside(sofa, "side table")
            return
    chair = space.in_corner("armchair") if space.wants("armchair") and len(space.of("armchair")) < 2 else None
    if chair and space.wants("side table", 0.7):
        space.beside(chair, "side table")


def shelf(space: RoomSpace) -> None:
    """A bookshelf with books, up to ``MOST_SHELVES`` of them."""
    if len(space.of("bookshelf")) < MOST_SHELVES and space.wants("bookshelf"):
        item = space.against_wall("bookshelf", zone=0.6)
        if item:
            groups.fill_shelf(space, item)
