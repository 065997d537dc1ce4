"""Pieces that belong together: a dining group, a television corner, a bed with nightstands, a desk, a kitchen run.

Each function furnishes one group in a room and returns its main piece, or None where the room has no place for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datagen.backends.embedded.furniture import build
from datagen.backends.embedded.furniture.kitchen import KitchenLook
from datagen.backends.embedded.placement import CONTACT, Placed, RoomSpace
from datagen.backends.embedded.rooms import SideName, along_x
from datagen.backends.embedded.style import shade

STOOLS_AT_TABLE = 0.2
# What stands on a table.
LAID: dict[str, tuple[str, ...]] = {
    "dining table": ("fruit bowl", "vase", "plate", "cup", "bottle", "bowl"),
    "meeting table": ("laptop", "books", "cup", "vase", "bottle"),
}
# Options that make a piece small enough for a board or a table.
_SMALL: dict[str, dict[str, Any]] = {"potted plant": {"scale": 0.4}, "books": {"lying": True}}


def scatter(space: RoomSpace, parent: Placed, categories: Sequence[str], count: int, use: str = "top") -> None:
    """Up to ``count`` different small things on a surface of ``parent``."""
    for place in space.rng.permutation(len(categories))[:count]:
        category = categories[int(place)]
        if not space.wants(category, 0.8):
            continue
        options = _SMALL.get(category, {})
        space.on_top(parent, category, use=use, **options)


def fill_shelf(space: RoomSpace, shelf: Placed) -> None:
    """Books in rows on most boards, a thing of interest on the others and on top."""
    for index, surface in enumerate(shelf.furniture.surfaces):
        if surface.use != "shelf":
            continue
        width = surface.rectangle[3] - surface.rectangle[1]
        left = surface.rectangle[1]
        if space.wants("books", 0.93):
            row = round(width * float(space.rng.uniform(0.45, 0.92)), 2)
            at = (-0.02, left + row / 2 + 0.005)
            space.on_top(shelf, "books", use="shelf", surface=index, at=at, turn=0.0, width=row)
        category = space.kit.pick(("vase", "bowl", "box", "teddy bear", "books", "cup"))
        if space.wants(category, 0.4):
            space.on_top(shelf, category, use="shelf", surface=index, turn=0.0, **_SMALL.get(category, {}))
    scatter(space, shelf, ("vase", "box", "basket"), 1, "top")


def dining_group(
    space: RoomSpace, seats: int, centred: bool = True, category: str = "dining table", seat: str | None = None
) -> Placed | None:
    """Table of ``category`` with chairs that face it (``seat``, or chairs or stools), a lamp above and perhaps a rug below."""
    if not space.wants(category):
        return None
    table = build(category, space.kit, seats=seats)
    x0, y0, x1, y1 = space.room.wings[0]
    depth, width, _ = table.size
    lying = (x1 - x0) > (y1 - y0)
    for attempt in range(20):
        yaw = math.pi / 2 if lying != (attempt % 4 == 3) else 0.0
        reach_x, reach_y = (width / 2, depth / 2) if yaw else (depth / 2, width / 2)
        # The last tries push the table to a wall, in smaller rooms, and do without the chairs of that side.
        margin = 0.75 if attempt < 12 else 0.03
        room_x, room_y = (x1 - x0) / 2 - reach_x - margin, (y1 - y0) / 2 - reach_y - margin
        if min(room_x, room_y) < 0:
            continue
        spread = 0.25 if centred and attempt < 4 else 1.0
        x = (x0 + x1) / 2 + float(space.rng.uniform(-1, 1)) * room_x * spread
        y = (y0 + y1) / 2 + float(space.rng.uniform(-1, 1)) * room_y * spread
        if attempt >= 12:
            x, y = (x, y1 - reach_y - margin) if attempt % 2 else (x1 - reach_x - margin, y)
        item = Placed(table, x, y, CONTACT, yaw)
        if space.fits(item, gap=0.5):
            space.add(item)
            if _seat_around(space, item, seats, seat):
                scatter(space, item, LAID[category], 3)
                return item
            space.placed.remove(item)
    return None


def _seat_around(space: RoomSpace, table: Placed, seats: int, seat: str | None) -> bool:
    """Identical seats tucked in on the sides that have one, then the lamp; False if only one fits.

    Some tables have a chair or two less than places.
    """
    depth, width, _ = table.furniture.size
    drawn = "stool" if space.rng.random() < STOOLS_AT_TABLE and "stool" not in space.exclude else "chair"
    seat = seat or drawn
    chair = build(seat, space.kit)
    front = float(chair.high[0])
    long_side = {2: 1, 4: 2, 6: 2, 8: 3}[seats] if abs(depth - width) > 0.1 else 1
    places: list[tuple[float, float, float]] = []
    for index in range(long_side):
        y = (index - (long_side - 1) / 2) * width / long_side * 0.92
        places += [(1, y, math.pi), (-1, y, 0.0)]
    if seats >= 6 or abs(depth - width) <= 0.1:
        places += [(0, 1, -math.pi / 2), (0, -1, math.pi / 2)]
    placed = []
    missing = int(space.rng.integers(0, max(1, seats - 2))) if space.rng.random() < 0.5 else 0
    for toward, side, turn in places[: seats - missing]:
        for tuck in (0.16, 0.08, -0.02, -0.06):
            distance = (depth / 2 if toward else width / 2) + front - tuck
            x, y = table.world(toward * distance, side if toward else side * distance)
            item = Placed(chair, x, y, CONTACT, table.yaw + turn, table, "faces")
            if space.wants(seat) and space.fits(item, around=[table], gap=0.02):
                placed.append(space.add(item))
                break
    if len(placed) < 2 and seat not in space.exclude:
        space.placed = [item for item in space.placed if item not in placed]
        return False
    if space.wants("rug", 0.4):
        space.lay_rug([table, *placed], (0.15, 0.15))
    if space.wants("ceiling lamp", 0.7):
        lamp = build("ceiling lamp", space.kit, drop=space.height - 1.65)
        item = Placed(lamp, table.x, table.y, space.height - 0.005, 0.0)
        if space.fits(item, ignore_blocked=True):
            space.add(item)
    return True


def television_corner(space: RoomSpace) -> Placed | None:
    """Tv stand on one wall, sofa facing it, coffee table between them on a rug, armchair and lamps beside."""
    stand = build("tv stand", space.kit)
    sofa = build("sofa", space.kit)
    windows = {opening.side for opening in space.room.openings if opening.kind == "window"}
    for side in space.shuffled_sides(windows):
        for along in space.spots(side, max(stand.size[1], sofa.size[1]), "middle"):
            opposite, span = space.room.across(side, along)
            cabinet = space.wall_pose(side, stand, along)
            if not space.fits(cabinet):
                continue
            for distance in (span - sofa.size[0] - 0.06, 3.0, 2.6, 2.3):
                if not 2.2 <= distance <= 3.9 or distance + sofa.size[0] + 0.05 > span:
                    continue
                x, y = space.room.point(side, along, distance + float(sofa.high[0]))
                couch = Placed(sofa, x, y, CONTACT, cabinet.yaw + math.pi, relation="faces", side=opposite)
                if space.fits(couch) and not _walled_in(space, couch, span, distance):
                    return _complete_corner(space, cabinet, couch, distance)
    return None


def _walled_in(space: RoomSpace, couch: Placed, span: float, distance: float) -> bool:
    """A sofa off the wall needs 0.7 m behind it, or it shuts the rest of the room off."""
    behind = span - distance - couch.furniture.size[0]
    return 0.1 < behind < 0.7


def _complete_corner(space: RoomSpace, cabinet: Placed, couch: Placed, distance: float) -> Placed:
    space.add(cabinet)
    space.add(couch)
    if space.wants("television"):
        widest = cabinet.furniture.size[1] * 1.02
        screen = space.on_top(cabinet, "television", at=(0.0, 0.0), turn=0.0, diagonal=min(1.35, widest / 0.872))
        couch.parent = screen or cabinet
    between = distance - cabinet.furniture.size[0]
    if between > 1.5 and space.wants("coffee table", 0.9):
        table = space.facing(
            couch, "coffee table", float(couch.furniture.high[0]) + min(0.75, between / 2), turn=math.pi
        )
        if table:
            scatter(space, table, ("books", "vase", "cup", "bowl", "laptop", "fruit bowl"), 2)
            for offset in (1, -1):
                if space.wants("armchair", 0.45):
                    ahead = float(couch.furniture.high[0]) + between / 2 - 0.1
                    across = offset * (max(table.furniture.size[1] / 2, 0.5) + 0.85)
                    chair = space.facing(couch, "armchair", ahead, across, -offset * math.pi / 2)
                    if chair:
                        chair.parent = table
            if space.wants("rug", 0.75):
                space.lay_rug([table], (0.55, 0.55))
    for category, chance in (("side table", 0.5), ("floor lamp", 0.6)):
        if space.wants(category, chance):
            item = space.beside(couch, category, space.kit.pick(((1, -1), (-1, 1))))
            if item and category == "side table" and space.wants("table lamp", 0.7):
                space.on_top(item, "table lamp")
    for seat in range(len(couch.furniture.surfaces)):
        if space.wants("cushion", 0.55):
            space.on_top(couch, "cushion", use="seat", surface=seat, turn=0.0)
    if space.wants("speaker", 0.25):
        space.beside(cabinet, "speaker")
    return couch


def sleeping_group(space: RoomSpace, width: float = 0.0) -> Placed | None:
    """Bed with its head at a wall, nightstands with lamps, a picture above, a rug beside."""
    if not space.wants("bed"):
        return None
    windows = {opening.side for opening in space.room.openings if opening.kind == "window"}
    bed = None
    for size in (width,) if width else (float(space.kit.pick((1.4, 1.6, 1.8))), 1.4, 0.9):
        bed = space.against_wall(
            "bed", space.shuffled_sides(windows), "corner" if size < 1 else "middle", 0.55, width=size
        )
        if bed:
            break
    if bed is None:
        return None
    for side in (1, -1):
        if space.wants("nightstand", 0.85):
            stand = space.beside(bed, "nightstand", (side,), 0.06)
            if stand and space.wants("table lamp", 0.75):
                space.on_top(stand, "table lamp")
            if stand:
                scatter(space, stand, ("books", "cup", "vase"), 1)
    if bed.side and space.wants("painting", 0.6):
        low, high = bed.furniture.low, bed.furniture.high
        x, y = bed.world(0, float(low[1] + high[1]) / 2)
        space.hang("painting", bed.side, x if along_x(bed.side) else y, raise_by=0.25, width=0.8)
    if space.wants("teddy bear", 0.25):
        space.on_top(bed, "teddy bear", use="seat")
    return bed


def workplace(space: RoomSpace) -> Placed | None:
    """Desk at a wall with a chair that faces it, and a computer."""
    if not space.wants("desk"):
        return None
    desk = space.against_wall("desk", zone=0.7) or space.against_wall("desk", zone=0.6, width=1.1)
    if desk is None:
        return None
    seat = "office chair" if space.wants("office chair", 0.75) else "chair"
    for distance in (0.12, 0.2, 0.3):
        ahead = float(desk.furniture.high[0]) + distance
        if space.wants(seat) and space.facing(desk, seat, ahead + 0.06, float(space.rng.uniform(-0.08, 0.08))):
            break
    back = float(desk.furniture.low[0])
    if space.wants("monitor", 0.7):
        space.on_top(desk, "monitor", at=(back + 0.2, 0.0), turn=0.0)
        if space.wants("keyboard", 0.9):
            space.on_top(desk, "keyboard", at=(back + 0.42, 0.0), turn=0.0)
    elif space.wants("laptop", 0.9):
        space.on_top(desk, "laptop", at=(back + 0.33, 0.0), turn=0.0)
    scatter(space, desk, ("table lamp", "books", "cup", "potted plant", "books"), 3)
    return desk


def kitchen_run(space: RoomSpace, look: KitchenLook) -> list[Placed]:
    """Fridge, counters, sink and stove side by side along one wall, with wall cabinets and a hood above."""
    low_windows = {o.side for o in space.room.openings if o.kind == "window" and o.low < 1.0}
    best: list[Placed] = []
    sides = [side for side in space.shuffled_sides() if side not in low_windows]
    for side in sorted(sides, key=lambda s: -longest_free(space, s)[1]):
        start, length = longest_free(space, side)
        best = _modules(space, look, side, start, length)
        if best:
            break
    for item in best:
        space.zones.append((space.front(item, 0.75), item))
    stove = next((item for item in best if item.category == "stove"), None)
    for item in best:
        if item.category == "fridge" or item.side is None:
            continue
        along = item.x if along_x(item.side) else item.y
        if item is stove:
            if space.wants("range hood", 0.9):
                space.hang("range hood", item.side, along, width=item.furniture.size[1], gap=0.0)
        elif space.wants("wall cabinet", 0.85):
            space.hang("wall cabinet", item.side, along, look=look, width=item.furniture.size[1], gap=0.0)
    return best


def longest_free(space: RoomSpace, side: SideName) -> tuple[float, float]:
    """Start and length of the longest stretch of wall 0.65 m deep that no door zone touches."""
    start, end = space.room.span(side)
    cuts = [(start, start)]
    probe = space.strip(side, start, end, 0.68, 0.0, 0.95)
    axis = 0 if along_x(side) else 1
    for b in (*space.blocked, *(item.bounds for item in space.placed)):
        if b[0] < probe[3] and probe[0] < b[3] and b[1] < probe[4] and probe[1] < b[4] and b[2] < 0.95:
            cuts.append((b[axis], b[axis + 3]))
    cuts = sorted([*cuts, (end, end)])
    best, reach = (start, 0.0), start
    for low, high in cuts:
        if low - reach > best[1]:
            best = (reach, low - reach)
        reach = max(reach, high)
    return best


def _modules(space: RoomSpace, look: KitchenLook, side: SideName, start: float, length: float) -> list[Placed]:
    """Fill a stretch of wall: stove and sink apart, counters between, fridge at one end."""
    usable = length - 0.04
    fridge = build("fridge", space.kit, look=look)
    order: list[tuple[str, float]] = []
    tall = fridge.size[1] + 0.02 if space.wants("fridge") and usable > 2.0 else 0.0
    rest = usable - tall - 0.8 - 0.6
    if rest < 0:
        return []
    count = min(int(rest / 0.5), 4) if rest >= 0.5 else 0
    width = min(0.8, rest / count) if count else 0.0
    fillers = [("kitchen counter", width)] * count
    if count >= 2 and width > 0.55 and space.wants("dishwasher", 0.6):
        fillers[0] = ("dishwasher", width)
    order = [*fillers[:1], ("sink", 0.8), *fillers[1:2], ("stove", 0.6), *fillers[2:]]
    if not space.wants("stove"):
        order = [entry for entry in order if entry[0] != "stove"]
    if tall:
        order.append(("fridge", tall))
    if space.rng.random() < 0.5:
        order.reverse()
    if start + length > space.room.span(side)[1] - 0.01 and start > space.room.span(side)[0] + 0.01:
        reach = start + length - 0.02 - sum(span for _, span in order)
    else:
        reach = start + 0.02
    placed: list[Placed] = []
    for category, span in order:
        furniture = (
            fridge if category == "fridge" else build(category, space.kit, look=look, width=round(span - 0.003, 3))
        )
        item = space.wall_pose(side, furniture, reach + span / 2)
        if not space.fits(item, gap=0.0):
            space.placed = [other for other in space.placed if other not in placed]
            return []
        placed.append(space.add(item))
        reach += span
    return placed


def curtains(space: RoomSpace) -> None:
    """A drawn panel on each side of every large window, all of one cloth."""
    kit = space.kit
    rgb = shade(kit.pick((kit.accent(), kit.pick(kit.style.upholstery), (0.93, 0.91, 0.87))), 1.1)
    for opening in space.room.openings:
        if opening.kind != "window" or opening.end - opening.start < 0.9 or not space.wants("curtain", 0.75):
            continue
        width = round(float(space.rng.uniform(0.24, 0.36)), 2)
        places = (opening.start - width / 2 - 0.08, opening.end + width / 2 + 0.08)
        # Down to the floor, or to below the sill where furniture stands under the window.
        for low in (0.05, opening.low - 0.15):
            panel = build(
                "curtain", kit, width=width, height=min(space.height - 0.1, opening.high + 0.15), low=low, rgb=rgb
            )
            pair = [space.wall_pose(opening.side, panel, along) for along in places]
            if all(space.fits(item, around=space.placed) for item in pair):
                for item in pair:
                    item.relation = "on wall"
                    space.add(item)
                break
