"""Where furniture may stand: one room's free space, and the moves that fill it.

Every move (against a wall, in front of something, on a surface, on a wall) tries a bounded number of poses and returns
the placed piece, or None where nothing fits; a piece that fits touches no other, stays inside the room, leaves doors
free and does not stand in front of a window it is taller than. Boxes are (x0, y0, z0, x1, y1, z1) in world metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embedded.furniture import Furniture, Surface, build
from datagen.backends.embedded.models.shop import Shop
from datagen.backends.embedded.rooms import INWARD, Opening, PlannedRoom, Rectangle, SideName, along_x
from datagen.backends.embedded.style import Kit, Style

Box = tuple[float, float, float, float, float, float]

WALL_GAP = 0.02
BASEBOARD = 0.018  # thickness of the skirting and a little air
WALL_CLEARANCE = 0.002  # an end face in the plane of the next wall would flicker
CONTACT = 0.001  # things rest this far above what carries them, so that no two faces coincide
DOOR_DEPTH = 0.75
CELL = 0.05  # metres to which the covered floor is counted
FLAT = 0.03  # metres; what is lower, a rug, leaves the floor free


@dataclass(eq=False)
class Placed:
    """A piece in its room: pose, what it stands on, and the world box of each of its solids (n, 6)."""

    furniture: Furniture
    x: float
    y: float
    z: float
    yaw: float
    parent: Placed | None = None
    relation: str = "in"
    taken: dict[int, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    side: SideName | None = None

    def __post_init__(self) -> None:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        centre = self.furniture.centres @ turn + (self.x, self.y, self.z)
        half = self.furniture.halves @ np.abs(turn)
        self.boxes: NDArray[np.float64] = np.concatenate([centre - half, centre + half], axis=1)
        x0, y0, z0 = self.boxes[:, :3].min(axis=0).tolist()
        x1, y1, z1 = self.boxes[:, 3:].max(axis=0).tolist()
        self.bounds: Box = (x0, y0, z0, x1, y1, z1)

    @property
    def category(self) -> str:
        return self.furniture.category

    def world(self, x: float, y: float) -> tuple[float, float]:
        """Plan position of the local point (x, y)."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * x - sin * y, self.y + sin * x + cos * y

    def lift(self, height: float) -> None:
        """Raise the piece (something was laid under it)."""
        self.z += height
        self.boxes[:, [2, 5]] += height
        x0, y0, z0, x1, y1, z1 = self.bounds
        self.bounds = (x0, y0, z0 + height, x1, y1, z1 + height)


def overlap(a: Box, b: Box, gap: float = 0.0) -> bool:
    """Whether two boxes come closer than ``gap`` in plan and touch in height."""
    return (
        a[0] < b[3] + gap
        and b[0] < a[3] + gap
        and a[1] < b[4] + gap
        and b[1] < a[4] + gap
        and a[2] < b[5]
        and b[2] < a[5]
    )


def solid(rectangle: Rectangle) -> Box:
    """A rectangle of the plan as a box of any height."""
    x0, y0, x1, y1 = rectangle
    return (x0, y0, -1.0, x1, y1, 10.0)


_APART = np.array([0.004, 0.004, CONTACT / 2])


def interpenetrate(a: Placed, b: Placed) -> bool:
    """Whether any solid of ``a`` touches one of ``b`` (4 mm in plan, resting contact in height apart): a chair's seat
    may lie under a table top, books between shelf boards."""
    first, second = a.boxes[:, None, :], b.boxes[None, :, :]
    apart = (first[..., :3] >= second[..., 3:] + _APART) | (second[..., :3] >= first[..., 3:] + _APART)
    return bool((~apart.any(axis=-1)).any())


class RoomSpace:
    """One room while it is being furnished. ``include`` and ``exclude`` are the categories asked for and ruled out."""

    def __init__(
        self,
        room: PlannedRoom,
        height: float,
        style: Style,
        rng: np.random.Generator,
        density: float = 1.0,
        include: frozenset[str] = frozenset(),
        exclude: frozenset[str] = frozenset(),
        shop: Shop | None = None,
    ) -> None:
        self.room, self.height, self.rng, self.density = room, height, rng, density
        self.kit = Kit(style, rng, shop)
        self.include, self.exclude = include, exclude
        self.placed: list[Placed] = []
        self.dines = False  # whether the house eats in this room
        self.collections: set[str] | None = (
            None  # what rooms of this home hold several of, itself included; None: no room shall
        )
        self.blocked: list[Box] = [self._opening_zone(opening) for opening in room.openings]
        self.blocked += [self._leaf_zone(leaf.hinge, leaf.towards, leaf.opening.side) for leaf in room.leaves]
        self.sills = [self._sill(opening) for opening in room.openings if opening.kind == "window"]
        self.blocked += self.sills
        self.zones: list[tuple[Box, Placed]] = []

    def strip(self, side: SideName, start: float, end: float, depth: float, low: float, high: float) -> Box:
        """Box along a wall, ``depth`` metres into the room."""
        (xa, ya), (xb, yb) = self.room.point(side, start, -0.01), self.room.point(side, end, depth)
        return (min(xa, xb), min(ya, yb), low, max(xa, xb), max(ya, yb), high)

    def _opening_zone(self, opening: Opening) -> Box:
        """What must stay free before an opening: the view from a window, the way through a door."""
        start, end, low, high = opening.start, opening.end, opening.low, opening.high
        if opening.kind == "window":
            return self.strip(opening.side, start - 0.03, end + 0.03, 0.3, low + 0.05, high + 0.05)
        return self.strip(opening.side, start - 0.1, end + 0.1, DOOR_DEPTH, 0.0, high + 0.1)

    def _sill(self, opening: Opening) -> Box:
        """The board under a window and the frame above it."""
        return self.strip(
            opening.side, opening.start - 0.045, opening.end + 0.045, 0.055, opening.low - 0.04, opening.high
        )

    def _leaf_zone(self, hinge: float, towards: int, side: SideName) -> Box:
        """The open leaf and the dead corner behind it."""
        near, far = self.room.span(side)
        edge = (
            near
            if towards < 0 and hinge - near < 0.4
            else far
            if towards > 0 and far - hinge < 0.4
            else hinge + towards * 0.09
        )
        inside = hinge - towards * 0.06
        return self.strip(side, min(inside, edge), max(inside, edge), 0.98, 0.0, 2.1)

    @property
    def area(self) -> float:
        return self.room.area

    def covered(self) -> float:
        """Share of the floor on which something stands, from 0 to 1."""
        low = np.array(self.room.inner[:2])
        columns, rows = np.ceil((np.array(self.room.inner[2:]) - low) / CELL).astype(int)
        taken = np.zeros((rows, columns), bool)
        for item in self.placed:
            if item.bounds[2] < 0.1 and item.bounds[5] > FLAT:
                (x0, y0), (x1, y1) = (
                    np.rint((np.array(corner) - low) / CELL).astype(int)
                    for corner in (item.bounds[:2], item.bounds[3:5])
                )
                taken[y0:y1, x0:x1] = True
        return float(taken.sum()) * CELL**2 / self.area

    def room_around(self, item: Placed, margin: float) -> bool:
        """Whether ``item`` has ``margin`` metres of floor to every wall."""
        b, (x0, y0, x1, y1), cut = item.bounds, self.room.inner, self.room.cut
        inside = min(b[0] - x0, b[1] - y0, x1 - b[3], y1 - b[4]) >= margin
        return inside and not (cut is not None and overlap(b, solid(cut), margin))

    def wants(self, category: str, probability: float = 1.0) -> bool:
        """Whether to place ``category``: always if asked for, never if ruled out, else by chance and density."""
        if category in self.exclude:
            return False
        return category in self.include or bool(self.rng.random() < probability * min(1.0, self.density))

    def of(self, category: str) -> list[Placed]:
        return [item for item in self.placed if item.category == category]

    def fits(
        self, item: Placed, around: Iterable[Placed] = (), gap: float = 0.03, ignore_blocked: bool = False
    ) -> bool:
        """Whether ``item`` stands free; it may reach under or over the pieces ``around`` it, and into their zones.

        ``ignore_blocked`` lets it stand before doors and windows, as rugs and things on furniture may.
        """
        x0, y0, x1, y1 = self.room.inner
        b, friends = item.bounds, tuple(around)
        margin = BASEBOARD if b[2] < 0.1 else WALL_CLEARANCE
        if (
            b[0] < x0 + margin
            or b[1] < y0 + margin
            or b[3] > x1 - margin
            or b[4] > y1 - margin
            or b[5] > self.height - 0.004
            or (self.room.cut is not None and self._beyond_a_notch(item, self.room.cut, margin))
        ):
            return False
        if any(overlap(b, zone) for zone in (self.sills if ignore_blocked else self.blocked)):
            return False
        if any(overlap(b, zone) for zone, owner in self.zones if owner not in friends):
            return False
        for other in self.placed:
            if overlap(b, other.bounds, gap) and (other not in friends or interpenetrate(item, other)):
                return False
        return True

    def _beyond_a_notch(self, item: Placed, cut: Rectangle, margin: float) -> bool:
        """Whether a piece reaches into what an L lacks, or past the free end of the wall that it hangs on or stands at."""
        b = item.bounds
        if item.side is not None:
            low, high = self.room.span(item.side)
            axis = 0 if along_x(item.side) else 1
            if b[axis] < low or b[axis + 3] > high:
                return True
        return b[0] < cut[2] + margin and cut[0] - margin < b[3] and b[1] < cut[3] + margin and cut[1] - margin < b[4]

    def add(self, item: Placed, zone: float = 0.0) -> Placed:
        """Keep ``item``, with ``zone`` metres of floor in front of it left free for its use."""
        self.placed.append(item)
        if zone:
            self.zones.append((self.front(item, zone), item))
        return item

    def front(self, item: Placed, depth: float) -> Box:
        """The strip of ``depth`` metres before a piece's front face; the piece is turned by a multiple of 90 degrees."""
        dx, dy = round(math.cos(item.yaw)), round(math.sin(item.yaw))
        x0, y0, _, x1, y1, _ = item.bounds
        if dx:
            return (x1, y0, 0.05, x1 + depth, y1, 1.9) if dx > 0 else (x0 - depth, y0, 0.05, x0, y1, 1.9)
        return (x0, y1, 0.05, x1, y1 + depth, 1.9) if dy > 0 else (x0, y0 - depth, 0.05, x1, y0, 1.9)

    def zone_free(self, item: Placed, depth: float) -> bool:
        """Whether the strip in front of ``item`` holds nothing yet and lies in the room."""
        zone = self.front(item, depth)
        x0, y0, x1, y1 = self.room.inner
        inside = zone[0] >= x0 - 0.01 and zone[1] >= y0 - 0.01 and zone[3] <= x1 + 0.01 and zone[4] <= y1 + 0.01
        if self.room.cut is not None:
            inside = inside and not overlap(zone, solid(self.room.cut), -0.01)
        return inside and not any(overlap(zone, other.bounds) for other in self.placed)

    def wall_pose(self, side: SideName, furniture: Furniture, along: float, gap: float = WALL_GAP) -> Placed:
        """``furniture`` with its back to the wall on ``side``, its middle at ``along`` on it."""
        ix, iy = INWARD[side]
        x, y = self.room.point(side, along, gap - float(furniture.low[0]))
        shift = float(furniture.low[1] + furniture.high[1]) / 2
        return Placed(furniture, x + shift * iy, y - shift * ix, CONTACT, math.atan2(iy, ix), side=side)

    def spots(self, side: SideName, width: float, where: str) -> list[float]:
        """Positions along a wall to try for something ``width`` wide: "corner", "middle" or "any" first; the tip of a
        notch is no corner."""
        start, end = self.room.span(side)
        low, high = start + width / 2 + 0.03, end - width / 2 - 0.03
        if high < low:
            return []
        corners = [low, high] if self.rng.random() < 0.5 else [high, low]
        corners = [at for at in corners if self.room.ends(side)[0 if at == low else 1] is not None]
        middle = [(low + high) / 2, *(float(v) for v in self.rng.uniform(low, high, 4))]
        if where == "corner":
            return corners + middle
        if where == "middle":
            return middle + corners
        return middle[1:3] + corners + middle[3:] + middle[:1]

    def _corners(self, side: SideName) -> int:
        """How many ends of a wall are corners."""
        return sum(end is not None for end in self.room.ends(side))

    def shuffled_sides(self, avoid: Iterable[SideName] = ()) -> list[SideName]:
        """The walls in random order, those in ``avoid`` last."""
        last = set(avoid)
        order = [self.room.sides[int(index)] for index in self.rng.permutation(len(self.room.sides))]
        return sorted(order, key=lambda side: side in last)

    def against_wall(
        self,
        category: str,
        sides: Sequence[SideName] | None = None,
        where: str = "any",
        zone: float = 0.0,
        furniture: Furniture | None = None,
        **options: Any,
    ) -> Placed | None:
        """Stand a piece with its back to a wall."""
        furniture = furniture or build(category, self.kit, **options)
        width = furniture.size[1]
        for side in sides or self.shuffled_sides():
            for along in self.spots(side, width, where):
                item = self.wall_pose(side, furniture, along)
                if self.fits(item) and (not zone or self.zone_free(item, zone)):
                    return self.add(item, zone)
        return None

    def beside(
        self, partner: Placed, category: str, sides: Sequence[int] = (-1, 1), gap: float = 0.05, **options: Any
    ) -> Placed | None:
        """Stand a piece next to ``partner`` with their backs in line, on the first of its sides (+1 left) that is free."""
        furniture = build(category, self.kit, **options)
        for side in sides:
            x = float(partner.furniture.low[0] - furniture.low[0])
            edge = float(partner.furniture.high[1] if side > 0 else partner.furniture.low[1])
            y = edge + side * gap - float(furniture.low[1] if side > 0 else furniture.high[1])
            item = Placed(
                furniture,
                *partner.world(x, y),
                CONTACT,
                partner.yaw,
                relation="beside",
                parent=partner,
                side=partner.side,
            )
            if self.fits(item, around=[partner], gap=0.02):
                return self.add(item)
        return None

    def facing(
        self,
        partner: Placed,
        category: str,
        distance: float,
        offset: float = 0.0,
        turn: float = math.pi,
        furniture: Furniture | None = None,
        around: Sequence[Placed] = (),
        **options: Any,
    ) -> Placed | None:
        """Stand a piece before the front of ``partner``, ``distance`` from its origin, turned by ``turn`` against it."""
        furniture = furniture or build(category, self.kit, **options)
        x, y = partner.world(distance, offset)
        item = Placed(furniture, x, y, CONTACT, partner.yaw + turn, relation="faces", parent=partner)
        if self.fits(item, around=(partner, *around), gap=0.02):
            return self.add(item)
        return None

    def freestanding(
        self,
        category: str,
        margin: float = 0.12,
        tries: int = 12,
        furniture: Furniture | None = None,
        **options: Any,
    ) -> Placed | None:
        """Stand a piece somewhere near a wall, turned towards the room."""
        furniture = furniture or build(category, self.kit, **options)
        width = furniture.size[1]
        for _ in range(tries):
            side = self.room.sides[int(self.rng.integers(len(self.room.sides)))]
            start, end = self.room.span(side)
            if end - start < width + 0.1:
                continue
            along = float(self.rng.uniform(start + width / 2 + 0.03, end - width / 2 - 0.03))
            pose = self.wall_pose(side, furniture, along, WALL_GAP + float(self.rng.uniform(0.0, margin)))
            item = Placed(furniture, pose.x, pose.y, CONTACT, pose.yaw + float(self.rng.uniform(-0.4, 0.4)))
            if self.fits(item, gap=0.05):
                return self.add(item)
        return None

    def in_corner(self, category: str, furniture: Furniture | None = None, **options: Any) -> Placed | None:
        """Stand a piece in a free corner."""
        furniture = furniture or build(category, self.kit, **options)
        for side in self.shuffled_sides():
            for along in self.spots(side, furniture.size[1] + 0.04, "corner")[: self._corners(side)]:
                item = self.wall_pose(side, furniture, along, WALL_GAP + 0.02)
                if self.fits(item):
                    return self.add(item)
        return None

    def hang(
        self,
        category: str,
        side: SideName | None = None,
        along: float | None = None,
        raise_by: float = 0.0,
        furniture: Furniture | None = None,
        gap: float = 0.03,
        **options: Any,
    ) -> Placed | None:
        """Fix a piece to a wall, at ``along`` if given, 3 mm off its surface."""
        furniture = furniture or build(category, self.kit, **options)
        for wall in [side] if side else self.shuffled_sides():
            for position in [along] if along is not None else self.spots(wall, furniture.size[1] + 0.3, "any")[:4]:
                item = self.wall_pose(wall, furniture, position, 0.003)
                item.lift(raise_by - CONTACT)
                item.relation = "on wall"
                if self.fits(item, gap=gap):
                    return self.add(item)
        return None

    def on_top(
        self,
        parent: Placed,
        category: str,
        *,
        use: str = "top",
        at: tuple[float, float] | None = None,
        turn: float | None = None,
        surface: int | None = None,
        **options: Any,
    ) -> Placed | None:
        """Set a piece on a surface of ``parent``: at the local point ``at`` or wherever there is room."""
        furniture = build(category, self.kit, **options)
        indices = [
            i for i, s in enumerate(parent.furniture.surfaces) if s.use == use and (surface is None or i == surface)
        ]
        for index in (indices[int(k)] for k in self.rng.permutation(len(indices))):
            spot = parent.furniture.surfaces[index]
            if furniture.size[2] > spot.headroom:
                continue
            angle = float(self.rng.uniform(-0.35, 0.35)) if turn is None else turn
            item = self._on_surface(parent, index, spot, furniture, angle, at)
            if item:
                return item
        return None

    def _on_surface(
        self,
        parent: Placed,
        index: int,
        spot: Surface,
        furniture: Furniture,
        turn: float,
        at: tuple[float, float] | None,
    ) -> Placed | None:
        probe = Placed(furniture, 0, 0, 0, turn).bounds
        x0, y0, x1, y1 = spot.rectangle
        lows, highs = (x0 - probe[0], y0 - probe[1]), (x1 - probe[3], y1 - probe[4])
        if at is None and (lows[0] > highs[0] or lows[1] > highs[1]):
            return None
        taken = parent.taken.setdefault(index, [])
        for _ in range(1 if at else 5):
            x, y = at or (float(self.rng.uniform(lows[0], highs[0])), float(self.rng.uniform(lows[1], highs[1])))
            foot = (x + probe[0], y + probe[1], x + probe[3], y + probe[4])
            if any(
                foot[0] < b[2] + 0.015 and b[0] < foot[2] + 0.015 and foot[1] < b[3] + 0.015 and b[1] < foot[3] + 0.015
                for b in taken
            ):
                continue
            height = parent.z + spot.height + CONTACT
            item = Placed(furniture, *parent.world(x, y), height, parent.yaw + turn, parent, "on")
            if self.fits(item, around=self._tree(parent), ignore_blocked=True):
                taken.append(foot)
                return self.add(item)
        return None

    def _tree(self, parent: Placed) -> list[Placed]:
        """``parent`` and what already stands around or on it."""
        return [parent, *(item for item in self.placed if item.parent is parent)]

    def lay_rug(self, group: Sequence[Placed], margin: tuple[float, float], category: str = "rug") -> Placed | None:
        """Lay a rug under ``group``, reaching ``margin`` (x, y) metres beyond it; everything on it is lifted."""
        x0, y0 = min(p.bounds[0] for p in group) - margin[0], min(p.bounds[1] for p in group) - margin[1]
        x1, y1 = max(p.bounds[3] for p in group) + margin[0], max(p.bounds[4] for p in group) + margin[1]
        left, low, right, high = self.room.inner
        around = [p.bounds for p in self.placed if p not in group and p.bounds[2] <= 0.05]
        if self.room.cut is not None:
            around.append(solid(self.room.cut))
        for b in around:
            if not overlap((x0, y0, 0, x1, y1, 0.1), b, 0.02):
                continue
            cuts = ((b[3] + 0.02 - x0, 0), (x1 - b[0] + 0.02, 1), (b[4] + 0.02 - y0, 2), (y1 - b[1] + 0.02, 3))
            cut, edge = min(cuts)
            x0, x1 = x0 + cut * (edge == 0), x1 - cut * (edge == 1)
            y0, y1 = y0 + cut * (edge == 2), y1 - cut * (edge == 3)
        x0, y0, x1, y1 = max(x0, left + 0.1), max(y0, low + 0.1), min(x1, right - 0.1), min(y1, high - 0.1)
        if (
            any(p.bounds[0] < x0 or p.bounds[1] < y0 or p.bounds[3] > x1 or p.bounds[4] > y1 for p in group)
            or min(x1 - x0, y1 - y0) < 0.5
        ):
            return None
        deep = (x1 - x0) < (y1 - y0)
        furniture = build(category, self.kit, depth=min(x1 - x0, y1 - y0), width=max(x1 - x0, y1 - y0))
        rug = Placed(furniture, (x0 + x1) / 2, (y0 + y1) / 2, CONTACT, 0.0 if deep else math.pi / 2, relation="under")
        if any(overlap(rug.bounds, b) for b in around):
            return None
        lifted = set(map(id, group))
        for item in self.placed:
            if id(item) in lifted or (item.parent is not None and item.relation == "on" and id(item.parent) in lifted):
                lifted.add(id(item))
                item.lift(float(furniture.high[2]) + CONTACT)
        self.placed.append(rug)
        return rug
