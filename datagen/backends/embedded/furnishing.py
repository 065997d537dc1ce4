"""What stands in each kind of room, how many and how often: the statistics of real homes as programs.

A program places the pieces that make the room what it is first, then storage along walls, then pictures and plants, then
small things. ``furnish`` runs the program of a room's kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datagen.backends.embedded import filling, groups, repeats
from datagen.backends.embedded.furniture import build
from datagen.backends.embedded.furniture.kitchen import KitchenLook
from datagen.backends.embedded.placement import Placed, RoomSpace
from datagen.backends.embedded.rooms import along_x
from ipt.common.registry import Registry

PROGRAMS: Registry[Callable[[RoomSpace], None]] = Registry("room kind")


def furnish(space: RoomSpace) -> None:
    """Furnish an empty room."""
    PROGRAMS[space.room.kind](space)
    groups.curtains(space)
    _ceiling_lamp(space)
    requested(space)


def requested(space: RoomSpace) -> None:
    """Try to place the categories the user asked for that no program has placed in this room."""
    for category in sorted(space.include - {item.category for item in space.placed}):
        if category in _FLOOR_EXTRAS:
            space.freestanding(category)
        elif category in _WALL_EXTRAS:
            space.hang(category)
        else:
            for parent in list(space.placed):
                if category in _TOP_EXTRAS and space.on_top(parent, category):
                    break


_FLOOR_EXTRAS = frozenset(
    {
        "stool",
        "ottoman",
        "trash bin",
        "box",
        "basket",
        "laundry basket",
        "potted plant",
        "floor lamp",
        "fan",
        "guitar",
        "basketball",
        "backpack",
        "suitcase",
        "toy blocks",
        "armchair",
        "coat rack",
        "speaker",
    }
)
_WALL_EXTRAS = frozenset({"painting", "mirror", "clock", "wall shelf", "towel"})
_TOP_EXTRAS = frozenset(
    {
        "books",
        "vase",
        "bowl",
        "cup",
        "plate",
        "bottle",
        "fruit bowl",
        "table lamp",
        "teddy bear",
        "laptop",
        "kettle",
        "toaster",
        "microwave",
        "pot",
        "coffee machine",
        "knife block",
    }
)


def _ceiling_lamp(space: RoomSpace) -> None:
    if space.of("ceiling lamp") or not space.wants("ceiling lamp", 0.85):
        return
    item = Placed(build("ceiling lamp", space.kit), *space.room.middle, space.height - 0.005, 0.0)
    if space.fits(item, ignore_blocked=True):
        space.add(item)


def _plants(space: RoomSpace, chance: float, most: int = 2) -> None:
    for _ in range(most):
        if space.wants("potted plant", chance):
            space.in_corner("potted plant")


def _pictures(space: RoomSpace, chance: float, most: int = 3) -> None:
    for _ in range(most):
        if space.wants("painting", chance):
            space.hang("painting")


def _above(space: RoomSpace, below: Placed, category: str, **options: Any) -> Placed | None:
    """Hang something over a piece that stands at a wall."""
    if below.side is None:
        return None
    low, high = below.furniture.low, below.furniture.high
    x, y = below.world(0.0, float(low[1] + high[1]) / 2)
    return space.hang(category, below.side, x if along_x(below.side) else y, **options)


@PROGRAMS.register("living room")
def living_room(space: RoomSpace) -> None:
    """Television corner, bookshelves, cabinet, plants, pictures, an instrument."""
    couch = groups.television_corner(space) if space.wants("sofa") else None
    if couch is None and space.wants("sofa"):
        couch = space.against_wall("sofa", where="middle", zone=0.5)
    if couch and couch.side and space.wants("painting", 0.7):
        _above(space, couch, "painting", width=0.9)
    if space.dines and space.area > 17:
        groups.dining_group(space, 8 if space.area > 28 else 6 if space.area > 22 else 4, centred=False)
    repeats.repeat(space)
    for _ in range(2):
        if space.wants("bookshelf", 0.55):
            shelf = space.against_wall("bookshelf", zone=0.45)
            if shelf:
                groups.fill_shelf(space, shelf)
    if space.wants("cabinet", 0.4):
        cabinet = space.against_wall("cabinet", zone=0.45)
        if cabinet:
            groups.scatter(space, cabinet, ("vase", "table lamp", "books", "bowl", "potted plant"), 3)
            if space.wants("mirror", 0.4):
                _above(space, cabinet, "mirror")
    if space.area > 18 and space.wants("piano", 0.18):
        piano = space.against_wall("piano", zone=0.75)
        if piano and space.wants("stool", 0.9):
            space.facing(piano, "stool", float(piano.furniture.high[0]) + 0.3)
    if space.wants("armchair", 0.35):
        space.in_corner("armchair")
    _plants(space, 0.6)
    for category, chance in (
        ("floor lamp", 0.3),
        ("guitar", 0.2),
        ("ottoman", 0.3),
        ("basket", 0.25),
        ("fan", 0.1),
        ("toy blocks", 0.15),
        ("basketball", 0.12),
    ):
        if space.wants(category, chance):
            place = space.in_corner if category in ("floor lamp", "guitar", "fan") else space.freestanding
            place(category)
    _pictures(space, 0.6)
    if space.wants("wall shelf", 0.3):
        shelf = space.hang("wall shelf")
        if shelf:
            groups.scatter(space, shelf, ("books", "vase", "potted plant", "cup"), 3, "shelf")
    if space.wants("clock", 0.4):
        space.hang("clock")


@PROGRAMS.register("kitchen")
def kitchen(space: RoomSpace) -> None:
    """The run first, an island or a table where there is room; what fills the floor; appliances and food on the worktops."""
    look = KitchenLook(space.kit)
    run = groups.kitchen_run(space, look)
    island = filling.island(space, run, look) if run and space.wants("kitchen island", 0.5) else None
    if space.dines or (space.area > 10 and space.wants("dining table", 0.5)):
        groups.dining_group(space, 6 if space.area > 14.5 else 4 if space.area > 11 else 2, centred=False)
    repeats.repeat(space)
    worktops = [*filling.fill_kitchen(space, run, look), *([island] if island else [])]
    counters = [
        item for item in (*run, *worktops) if item.furniture.surfaces and item.category not in ("fridge", "stove")
    ]
    appliances = (
        "microwave",
        "kettle",
        "toaster",
        "coffee machine",
        "knife block",
        "fruit bowl",
        "bottle",
        "bowl",
        "pot",
        "cup",
        "plate",
    )
    chances = (0.6, 0.8, 0.6, 0.5, 0.4, 0.4, 0.6, 0.4, 0.2, 0.5, 0.4)
    for category, chance in zip(appliances, chances, strict=True):
        if counters and space.wants(category, chance):
            for place in space.rng.permutation(len(counters)):
                if space.on_top(counters[int(place)], category, turn=float(space.rng.uniform(-0.15, 0.15))):
                    break
    for stove in (item for item in run if item.category == "stove"):
        if space.wants(vessel := space.kit.pick(("pot", "pan")), 0.8):
            space.on_top(stove, vessel, use="hob", turn=0.5)
    if space.area < 9.5 and space.wants("stool", 0.3):
        space.freestanding("stool")
    if space.wants("trash bin", 0.8):
        space.in_corner("trash bin")
    _plants(space, 0.3, 1)
    if space.wants("cabinet", 0.25 if space.of("dining table") else 0.7):
        item = space.against_wall("cabinet", zone=0.5)
        if item:
            groups.scatter(space, item, ("bowl", "fruit bowl", "bottle", "vase"), 2)
    if space.wants("clock", 0.5):
        space.hang("clock")
    if space.wants("wall shelf", 0.3):
        shelf = space.hang("wall shelf")
        if shelf:
            groups.scatter(space, shelf, ("cup", "bowl", "potted plant", "bottle"), 3, "shelf")
    _pictures(space, 0.4, 1)


@PROGRAMS.register("dining room")
def dining_room(space: RoomSpace) -> None:
    """Table in the middle, sideboard, plants, pictures."""
    groups.dining_group(space, 8 if space.area > 15 else 6 if space.area > 12.5 else 4)
    repeats.repeat(space)
    for _ in range(2):
        if space.wants("cabinet", 0.65):
            item = space.against_wall("cabinet", where="middle", zone=0.5)
            if item:
                groups.scatter(space, item, ("vase", "table lamp", "bowl", "bottle", "fruit bowl", "plate"), 3)
                if space.wants("painting", 0.6):
                    _above(space, item, "painting", raise_by=0.12)
    if space.wants("bench", 0.25):
        space.against_wall("bench")
    _plants(space, 0.6)
    _pictures(space, 0.6)
    if space.wants("mirror", 0.25):
        space.hang("mirror")
    if space.wants("clock", 0.3):
        space.hang("clock")


@PROGRAMS.register("bedroom")
def bedroom(space: RoomSpace) -> None:
    """Bed, wardrobe, dresser, perhaps with a mirror, perhaps a desk or an armchair, and clothes baskets."""
    bed = groups.sleeping_group(space)
    if space.wants("wardrobe", 0.95):
        item = space.against_wall("wardrobe", where="corner", zone=0.6) or space.against_wall(
            "wardrobe", where="corner", zone=0.5, width=0.95
        )
        if item and space.wants("box", 0.4):
            space.on_top(item, "box", use="high")
    repeats.repeat(space)
    if space.wants("dresser", 0.6):
        dresser = space.against_wall("dresser", zone=0.55)
        if dresser:
            if space.wants("mirror", 0.5):
                _above(space, dresser, "mirror", raise_by=0.1)
            groups.scatter(space, dresser, ("vase", "table lamp", "books", "potted plant", "teddy bear"), 2)
    if space.area > 11 and space.wants("desk", 0.4):
        groups.workplace(space)
    if space.wants("bookshelf", 0.2):
        shelf = space.against_wall("bookshelf", zone=0.45)
        if shelf:
            groups.fill_shelf(space, shelf)
    if space.wants("armchair", 0.25):
        space.in_corner("armchair")
    if bed and space.wants("rug", 0.55):
        _bedside_rug(space, bed)
    _plants(space, 0.4, 1)
    for category, chance in (
        ("laundry basket", 0.4),
        ("ottoman", 0.15),
        ("backpack", 0.25),
        ("suitcase", 0.12),
        ("toy blocks", 0.12),
        ("basketball", 0.15),
        ("guitar", 0.12),
        ("floor lamp", 0.15),
        ("fan", 0.1),
        ("box", 0.1),
    ):
        if space.wants(category, chance):
            space.freestanding(category, margin=0.05)
    _pictures(space, 0.45, 2)
    if space.wants("clock", 0.2):
        space.hang("clock")


def _bedside_rug(space: RoomSpace, bed: Placed) -> None:
    """A runner along one side of the bed."""
    width = bed.furniture.size[1]
    for side in (1, -1):
        for breadth in (0.8, 0.6):
            rug = build("rug", space.kit, depth=breadth, width=1.5)
            x, y = bed.world(0.2, side * (width / 2 + breadth / 2 + 0.1))
            item = Placed(rug, x, y, 0.001, bed.yaw + 1.5707963267948966)
            if space.fits(item, around=[bed], ignore_blocked=True):
                space.add(item)
                return


@PROGRAMS.register("bathroom")
def bathroom(space: RoomSpace) -> None:
    """Tub or shower in a corner, toilet, basin with a mirror or a cabinet over it, towels, perhaps the washing machine."""
    long_wall = max(space.room.span(side)[1] - space.room.span(side)[0] for side in ("south", "west"))
    basin_first = space.rng.random() < 0.5
    wet = None
    if long_wall > 2.1 and space.wants("bathtub", 0.6):
        wet = space.against_wall("bathtub", where="corner", zone=0.5, width=1.7) or space.against_wall(
            "bathtub", where="corner", width=1.5
        )
    if (wet is None and space.wants("shower", 0.95)) or "shower" in space.include:
        wet = space.in_corner("shower") or wet
    for category in ("bathroom sink", "toilet") if basin_first else ("toilet", "bathroom sink"):
        if not space.wants(category):
            continue
        item = space.against_wall(category, zone=0.5) or space.against_wall(category, zone=0.4)
        if item and category == "bathroom sink":
            if space.wants("mirror", 0.9):
                _above(space, item, "mirror", raise_by=0.05, width=0.55)
            elif space.wants("wall cabinet", 0.7):
                _above(space, item, "wall cabinet", width=0.55)
            groups.scatter(space, item, ("cup", "vase"), 2)
    if space.wants("washing machine", 0.5):
        item = space.against_wall("washing machine", where="corner", zone=0.45)
        if item:
            groups.scatter(space, item, ("basket", "box", "potted plant"), 1)
    for _ in range(2):
        if space.wants("towel", 0.7):
            space.hang("towel")
    if wet and wet.category == "bathtub" and space.wants("bath mat", 0.7):
        mat = Placed(build("bath mat", space.kit), *wet.world(0.68, 0.0), 0.001, wet.yaw)
        if space.fits(mat, around=[wet], ignore_blocked=True):
            space.add(mat)
    for category, chance in (("laundry basket", 0.5), ("trash bin", 0.5), ("basket", 0.25), ("stool", 0.2)):
        if space.wants(category, chance) and space.in_corner(category) is None:
            space.freestanding(category, margin=0.03)
    repeats.repeat(space)
    _plants(space, 0.25, 1)


@PROGRAMS.register("office")
def office(space: RoomSpace) -> None:
    """Desk with its chair, bookshelves; what fills the floor; a reading chair, boxes."""
    groups.workplace(space)
    repeats.repeat(space)
    filling.fill_office(space)
    for category, chance in (
        ("trash bin", 0.7),
        ("box", 0.4),
        ("floor lamp", 0.35),
        ("guitar", 0.15),
        ("backpack", 0.3),
        ("fan", 0.15),
        ("basketball", 0.08),
    ):
        if space.wants(category, chance):
            place = space.in_corner if category in ("floor lamp", "guitar") else space.freestanding
            place(category)
    _plants(space, 0.55, 1)
    _pictures(space, 0.55, 2)
    if space.wants("wall shelf", 0.4):
        item = space.hang("wall shelf")
        if item:
            groups.scatter(space, item, ("books", "potted plant", "vase"), 2, "shelf")
    if space.wants("clock", 0.4):
        space.hang("clock")


@PROGRAMS.register("hallway")
def hallway(space: RoomSpace) -> None:
    """Console, perhaps with a mirror, shoe rack, coats; everything shallow, along the walls."""
    console = space.against_wall("console table") if space.wants("console table", 0.6) else None
    if console:
        if space.wants("mirror", 0.7):
            _above(space, console, "mirror", raise_by=0.05)
        groups.scatter(space, console, ("vase", "table lamp", "bowl", "books"), 2)
        groups.scatter(space, console, ("basket", "box"), 1, "shelf")
    repeats.repeat(space)
    for category, chance in (("shoe rack", 0.7), ("bench", 0.3)):
        if space.wants(category, chance):
            item = space.against_wall(category)
            if item and category == "shoe rack":
                groups.scatter(space, item, ("vase", "bowl", "box"), 1)
    for category, chance in (("coat rack", 0.6), ("backpack", 0.3), ("suitcase", 0.2)):
        if space.wants(category, chance):
            space.in_corner(category)
    _plants(space, 0.35, 1)
    _pictures(space, 0.7, 3)
    if space.wants("clock", 0.25):
        space.hang("clock")
