"""Rooms of a floor plan: rectangles, or L's, which lack a corner of theirs; their walls, openings and floors.

Plan coordinates are metres with the house's south-west corner at the origin. A room's ``rectangle`` runs along the
centre lines of its walls; ``inner`` is its floor. Walls are WALL thick, half of it on each side of the centre line.

An L has six walls. The two around the corner that it lacks, its ``notch``, are called ``inner``: of a room without its
north-east corner, the ``inner north`` wall is south of the notch and the ``inner east`` wall is west of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Rectangle = tuple[float, float, float, float]
OuterSide = Literal["south", "east", "north", "west"]
SideName = Literal["south", "east", "north", "west", "inner south", "inner east", "inner north", "inner west"]
SIDES: tuple[OuterSide, ...] = ("south", "east", "north", "west")
INNER: dict[OuterSide, SideName] = {
    "south": "inner south",
    "east": "inner east",
    "north": "inner north",
    "west": "inner west",
}
OUTER: dict[SideName, OuterSide] = {side: side for side in SIDES} | {inner: side for side, inner in INNER.items()}
OPPOSITE: dict[OuterSide, OuterSide] = {"south": "north", "north": "south", "east": "west", "west": "east"}
_INTO: dict[OuterSide, tuple[int, int]] = {"south": (0, 1), "east": (-1, 0), "north": (0, -1), "west": (1, 0)}
#: Where a room lies as seen from its wall.
INWARD: dict[SideName, tuple[int, int]] = {side: _INTO[outer] for side, outer in OUTER.items()}
_PLACE = {"west": 0, "south": 1, "east": 2, "north": 3}  # of a side's coordinate in a rectangle

WALL = 0.14


def along_x(side: SideName) -> bool:
    """Whether a wall runs along x."""
    return OUTER[side] in ("south", "north")


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
    """A room of the plan; ``exterior`` names the sides that face outdoors, ``notch`` is the corner that an L lacks, between
    centre lines."""

    index: int
    kind: str
    rectangle: Rectangle
    exterior: tuple[SideName, ...]
    openings: list[Opening] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    notch: Rectangle | None = None

    @property
    def id(self) -> str:
        return f"room-{self.index}"

    @cached_property
    def corner(self) -> tuple[OuterSide, ...]:
        """The two sides that meet in the corner that an L lacks: (south or north, east or west); () for a rectangle."""
        if self.notch is None:
            return ()
        return (
            "south" if self.notch[1] <= self.rectangle[1] else "north",
            "west" if self.notch[0] <= self.rectangle[0] else "east",
        )

    @cached_property
    def sides(self) -> tuple[SideName, ...]:
        """The four walls of a rectangle or the six of an L."""
        return (*SIDES, *(INNER[side] for side in self.corner))

    @cached_property
    def inner(self) -> Rectangle:
        """The rectangle around the floor."""
        x0, y0, x1, y1 = self.rectangle
        return (x0 + WALL / 2, y0 + WALL / 2, x1 - WALL / 2, y1 - WALL / 2)

    @cached_property
    def cut(self) -> Rectangle | None:
        """What an L's floor lacks of ``inner``."""
        if self.notch is None:
            return None
        x0, y0, x1, y1 = self.notch
        grown = (x0 - WALL / 2, y0 - WALL / 2, x1 + WALL / 2, y1 + WALL / 2)
        low, high = self.inner[:2], self.inner[2:]
        return (max(grown[0], low[0]), max(grown[1], low[1]), min(grown[2], high[0]), min(grown[3], high[1]))

    def floors(self, margin: float = 0.0) -> list[Rectangle]:
        """Rectangles that make up the floor, ``margin`` metres larger all around: one, or an L's three, edge to edge."""
        x0, y0, x1, y1 = self.inner
        x0, y0, x1, y1 = x0 - margin, y0 - margin, x1 + margin, y1 + margin
        if self.cut is None:
            return [(x0, y0, x1, y1)]
        vertical, level = self.corner
        x = self.cut[0] + margin if level == "east" else self.cut[2] - margin
        y = self.cut[1] + margin if vertical == "north" else self.cut[3] - margin
        quarters = {
            ("south", "west"): (x0, y0, x, y),
            ("south", "east"): (x, y0, x1, y),
            ("north", "west"): (x0, y, x, y1),
            ("north", "east"): (x, y, x1, y1),
        }
        return [quarter for corner, quarter in quarters.items() if corner != self.corner]

    @cached_property
    def wings(self) -> list[Rectangle]:
        """The largest rectangles of floor, the larger first: one, or the two of an L, which share a corner of it."""
        if self.cut is None:
            return [self.inner]
        x0, y0, x1, y1 = self.inner
        vertical, level = self.corner
        deep = (x0, y0, self.cut[0], y1) if level == "east" else (self.cut[2], y0, x1, y1)
        wide = (x0, y0, x1, self.cut[1]) if vertical == "north" else (x0, self.cut[3], x1, y1)
        return sorted((deep, wide), key=lambda r: -(r[2] - r[0]) * (r[3] - r[1]))

    @property
    def area(self) -> float:
        """Square metres of floor."""
        return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.floors())

    @cached_property
    def middle(self) -> tuple[float, float]:
        """The middle of the floor; of an L, that of the corner which both wings share, so that it is seen from both."""
        x0, y0, x1, y1 = self.inner
        if self.cut is None:
            return (x0 + x1) / 2, (y0 + y1) / 2
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = self.wings
        return (max(ax0, bx0) + min(ax1, bx1)) / 2, (max(ay0, by0) + min(ay1, by1)) / 2

    @cached_property
    def outline(self) -> list[tuple[float, float]]:
        """Corners of the floor, counter-clockwise."""
        x0, y0, x1, y1 = self.inner
        corners = {
            ("south", "west"): (x0, y0),
            ("south", "east"): (x1, y0),
            ("north", "east"): (x1, y1),
            ("north", "west"): (x0, y1),
        }
        if self.cut is None:
            return list(corners.values())
        a0, b0, a1, b1 = self.cut
        around = {
            ("south", "west"): [(x0, b1), (a1, b1), (a1, y0)],
            ("south", "east"): [(a0, y0), (a0, b1), (x1, b1)],
            ("north", "east"): [(x1, b0), (a0, b0), (a0, y1)],
            ("north", "west"): [(a1, y1), (a1, b0), (x0, b0)],
        }
        return [
            point
            for corner, place in corners.items()
            for point in (around[corner] if corner == self.corner else [place])
        ]

    def line(self, side: SideName) -> float:
        """Coordinate of the wall's centre line across ``side``."""
        return _edge(self.rectangle, self.notch, side)

    def span(self, side: SideName) -> tuple[float, float]:
        """First and last coordinate of the floor along ``side``."""
        first = 0 if along_x(side) else 1
        low, high = self.inner[first], self.inner[first + 2]
        if self.cut is None or (side in SIDES and side not in self.corner):
            return low, high
        start, end = self.cut[first], self.cut[first + 2]
        if side not in SIDES:
            return start, end
        return (low, start) if OUTER[self.corner[1 - first]] in ("east", "north") else (end, high)

    def face(self, side: SideName) -> float:
        """Coordinate of the wall's inner face across ``side``."""
        return _edge(self.inner, self.cut, side)

    def ends(self, side: SideName) -> tuple[SideName | None, SideName | None]:
        """The walls that one meets at the low and the high end of ``side``; None where it stops in the room, at the tip of
        the notch."""
        low, high = ("west", "east") if along_x(side) else ("south", "north")
        return self._neighbour(side, low), self._neighbour(side, high)  # type: ignore[arg-type]

    def _neighbour(self, side: SideName, end: OuterSide) -> SideName | None:
        if side in SIDES:
            return INNER[end] if side in self.corner and end in self.corner else end
        return end if end in self.corner else None

    def across(self, side: SideName, along: float) -> tuple[SideName, float]:
        """The wall that one sees from ``along`` on ``side``, and how far away it is."""
        towards = OPPOSITE[OUTER[side]]
        facing = [s for s in self.sides if OUTER[s] == towards and self.span(s)[0] <= along <= self.span(s)[1]]
        other = facing[0] if facing else towards
        return other, abs(self.face(other) - self.face(side))

    def point(self, side: SideName, along: float, depth: float) -> tuple[float, float]:
        """Plan point ``depth`` metres into the room from the wall on ``side``, at ``along`` on it."""
        x, y = INWARD[side]
        face = self.face(side) + depth * (x + y)
        return (along, face) if along_x(side) else (face, along)


def _edge(rectangle: Rectangle, corner: Rectangle | None, side: SideName) -> float:
    """The coordinate of a side in a rectangle that lacks ``corner``."""
    if side in SIDES:
        return rectangle[_PLACE[side]]
    assert corner is not None, f"a rectangle has no {side} wall"
    return corner[_PLACE[OPPOSITE[OUTER[side]]]]


@dataclass(frozen=True)
class Layout:
    """Rooms of one house and its ceiling height in metres."""

    rooms: tuple[PlannedRoom, ...]
    height: float

    @property
    def extent(self) -> tuple[float, float]:
        return max(room.rectangle[2] for room in self.rooms), max(room.rectangle[3] for room in self.rooms)
