"""Things that homes hold several of: a row of bookshelves, plants by the window, moving boxes, stools, ottomans.

Each room draws from the collections of its kind how many of a thing it holds, evenly from two up, so that counting
questions meet high numbers of many nouns about as often as low ones. Most are set all around the room, each piece its own,
so that no single view shows them all; some stand together. What does not fit is left out. Homes for other tasks have none
(``HouseConfig.collections``): six identical bins in a row do not look lived in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from datagen.backends.embedded.furniture import Furniture, build
from datagen.backends.embedded.placement import CONTACT, WALL_GAP, Placed, RoomSpace
from datagen.backends.embedded.rooms import SideName

GAP = 0.05
SPREAD_GAP = 0.35  # metres between what is spread and everything else: room to pass
SPREAD_TRIES = 20
SQUARE_M_PER_COLLECTION = 6.0
MOST_COLLECTIONS = 4
APART = 0.7  # of the collections are set around the room instead of together


@dataclass(frozen=True, slots=True)
class Collection:
    """Up to ``most`` of a category, placed by ``move``; ``alike`` pieces are copies. ``weight``: how common it is.

    ``row``: shoulder to shoulder along a wall; ``heap``: close together at a wall or in a corner; ``spread``: here and
    there on the floor.
    """

    category: str
    most: int
    move: Literal["row", "heap", "spread"]
    weight: float = 1.0
    alike: bool = True


_PLANTS = Collection("potted plant", 7, "heap", alike=False)
_BOXES = Collection("box", 7, "heap", 0.6, alike=False)
_SHELVES = Collection("bookshelf", 5, "row", 0.6)
_SUITCASES = Collection("suitcase", 6, "row", 1.3, alike=False)
_STOOLS = Collection("stool", 7, "row", 0.7)
_GUITARS = Collection("guitar", 6, "heap", 0.7, alike=False)
_BACKPACKS = Collection("backpack", 6, "heap", 0.7, alike=False)
_ARMCHAIRS = Collection("armchair", 5, "spread", 0.7)
_SPEAKERS = Collection("speaker", 6, "spread", 0.6)
_FANS = Collection("fan", 5, "spread", 0.8)
_LAMPS = Collection("floor lamp", 5, "spread", 0.8)
_BINS = Collection("trash bin", 6, "row")
_BENCHES = Collection("bench", 5, "row", 0.8)
_DESKS = Collection("desk", 5, "row", 0.8)
_CABINETS = Collection("cabinet", 5, "row", 0.4)
_CHAIRS = Collection("chair", 7, "row", 0.5)
_OTTOMANS = Collection("ottoman", 6, "spread", 0.7)
_COATS = Collection("coat rack", 5, "spread", 0.5)
_SHOES = Collection("shoe rack", 5, "row")
_BASKETS = Collection("basket", 6, "heap", 0.4)
_LAUNDRY = Collection("laundry basket", 5, "row", 0.5)

#: Weights are such that counting questions come of many nouns: what is rarely all in view, or is taken for something else, is
#: drawn more often than what is; what hardly ever fits, or is too small to be seen from afar, is not among them.
COLLECTIONS: Mapping[str, Sequence[Collection]] = {
    "living room": (
        *(_PLANTS, _SHELVES, _BOXES, _STOOLS, _OTTOMANS, _ARMCHAIRS, _CABINETS, _DESKS, _CHAIRS, _LAMPS, _GUITARS),
        *(_SPEAKERS, _BENCHES, _FANS, _COATS),
    ),
    "kitchen": (_PLANTS, _BOXES, _BASKETS, _STOOLS, _BINS, _CHAIRS, _FANS, _BENCHES),
    "dining room": (*(_PLANTS, _STOOLS, _CABINETS, _CHAIRS, _ARMCHAIRS, _BENCHES, _LAMPS, _SPEAKERS, _GUITARS, _FANS),),
    "bedroom": (
        *(
            _PLANTS,
            _BOXES,
            _SHELVES,
            _SUITCASES,
            _BASKETS,
            _OTTOMANS,
            _GUITARS,
            _DESKS,
            _BACKPACKS,
            _LAUNDRY,
            _SPEAKERS,
        ),
        *(_SHOES, _FANS, _BINS, _LAMPS, _COATS, Collection("teddy bear", 7, "heap", 0.3)),
    ),
    "office": (
        *(_PLANTS, _BOXES, _SHELVES, _DESKS, _CABINETS, _BINS, _ARMCHAIRS, _SPEAKERS, _FANS, _LAMPS),
        Collection("office chair", 6, "spread", 1.2),
    ),
    "bathroom": (_PLANTS, _BASKETS, _LAUNDRY, _BINS),
    "hallway": (_PLANTS, _BOXES, _SUITCASES, _SHOES, _BACKPACKS, _BENCHES, _CHAIRS, _COATS),
}


def repeat(space: RoomSpace) -> None:
    """Add collections to a furnished room, the more the larger it is; a dense house has them all, a sparse one few.

    One of which no two found a place does not count.
    """
    if space.collections is None:
        return
    ruled_out = space.exclude | space.collections
    offered = [entry for entry in COLLECTIONS[space.room.kind] if entry.category not in ruled_out]
    left = min(MOST_COLLECTIONS, 1 + int(space.area / SQUARE_M_PER_COLLECTION))
    while left and offered and space.rng.random() < space.density:
        weights = np.array([entry.weight for entry in offered])
        chosen = offered.pop(int(space.rng.choice(len(offered), p=weights / weights.sum())))
        space.collections.add(chosen.category)
        wanted = int(space.rng.integers(2, chosen.most + 1)) - len(space.of(chosen.category))
        if wanted > 0 and space.rng.random() < APART:
            around(space, _pieces(space, replace(chosen, alike=False), wanted))
        elif wanted > 0:
            MOVES[chosen.move](space, list(_pieces(space, chosen, wanted)))
        left -= len(space.of(chosen.category)) > 1


def _pieces(space: RoomSpace, chosen: Collection, count: int) -> Iterator[Furniture]:
    """``count`` pieces, copies of one or each its own; where some stand already, copies of those."""
    options: dict[str, Any] = {}
    if chosen.category == "potted plant":
        options["scale"] = space.kit.between(0.5, 0.75)
    there = space.of(chosen.category)
    if chosen.alike:
        yield from [there[0].furniture if there else build(chosen.category, space.kit, **options)] * count
    else:
        yield from (build(chosen.category, space.kit, **options) for _ in range(count))


def around(space: RoomSpace, pieces: Iterable[Furniture]) -> None:
    """Each at another wall than the one before, wherever there is room, else here and there on the floor; up to the first for
    which there is none."""
    sides = space.shuffled_sides()
    for number, piece in enumerate(pieces):
        turned = sides[number % len(sides) :] + sides[: number % len(sides)]
        poses = (
            space.wall_pose(side, piece, middle)
            for side in turned
            for middle in space.spots(side, piece.size[1] + 2 * GAP, "any")[:4]
        )
        place = next((pose for pose in poses if space.fits(pose, gap=GAP)), None)
        if place is not None:
            space.add(place)
        elif not spread(space, [piece]):
            break


def row(space: RoomSpace, pieces: Sequence[Furniture]) -> None:
    """Shoulder to shoulder with their backs to one wall: as many as some wall takes."""
    widths = [piece.size[1] + GAP for piece in pieces]
    for count in sorted({len(pieces), len(pieces) - 1, (len(pieces) + 1) // 2, 1} - {0}, reverse=True):
        for side in space.shuffled_sides():
            for middle in space.spots(side, sum(widths[:count]), "any")[:4]:
                items: list[Placed] = []
                start = middle - sum(widths[:count]) / 2
                for piece, width in zip(pieces[:count], widths, strict=False):
                    item = space.wall_pose(side, piece, start + width / 2)
                    if not space.fits(item):
                        break
                    items.append(item)
                    start += width
                else:
                    for item in items:
                        space.add(item)
                    return


def heap(space: RoomSpace, pieces: Sequence[Furniture]) -> None:
    """Close together, in two rows at a wall, each turned a little: at the first place that takes most of them."""
    pitch = max(max(piece.size[:2]) for piece in pieces) + 2 * GAP
    best: list[Placed] = []
    for side in space.shuffled_sides():
        for middle in space.spots(side, pitch, "any")[:2]:
            found = _heap_at(space, side, middle, pieces, pitch)
            if len(found) > len(best):
                best = found
        if len(best) > 0.6 * len(pieces):
            break
    for item in best:
        space.add(item)


def _heap_at(
    space: RoomSpace, side: SideName, middle: float, pieces: Sequence[Furniture], pitch: float
) -> list[Placed]:
    """What fits of a heap whose middle is at ``middle`` along the wall; pieces keep ``pitch`` metres from each other."""
    waiting, found = list(pieces), []
    for step in (0, 1, -1, 2, -2, 3, -3):
        for deep in range(2):
            if not waiting:
                break
            piece, turn = waiting[-1], float(space.rng.uniform(-0.3, 0.3))
            reach = math.hypot(*piece.size[:2]) / 2 - piece.size[0] / 2  # a turned footprint reaches further back
            pose = space.wall_pose(side, piece, middle + step * pitch, WALL_GAP + reach + deep * pitch)
            item = Placed(piece, pose.x, pose.y, CONTACT, pose.yaw + turn)
            if space.fits(item, gap=0.04):
                found.append(item)
                waiting.pop()
    return found


def spread(space: RoomSpace, pieces: Sequence[Furniture]) -> int:
    """Here and there on the floor, turned towards the middle of the room; how many found a place."""
    x0, y0, x1, y1 = space.room.inner
    placed = 0
    for piece in pieces:
        for _ in range(SPREAD_TRIES):
            x, y = float(space.rng.uniform(x0 + 0.3, x1 - 0.3)), float(space.rng.uniform(y0 + 0.3, y1 - 0.3))
            yaw = math.atan2(space.room.middle[1] - y, space.room.middle[0] - x) + float(space.rng.uniform(-0.4, 0.4))
            item = Placed(piece, x, y, CONTACT, yaw)
            if space.fits(item, gap=SPREAD_GAP):
                space.add(item)
                placed += 1
                break
    return placed


MOVES: Mapping[str, Callable[[RoomSpace, Sequence[Furniture]], object]] = {"row": row, "heap": heap, "spread": spread}
