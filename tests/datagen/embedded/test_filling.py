"""Kitchens and offices use their floor, and leave the ways through them free."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from datagen.backends.base import Room, SceneObject
from datagen.backends.embedded import filling, house
from datagen.backends.embedded.filling import AISLE, COVERED, LONGEST, MOST_SHELVES
from datagen.backends.embedded.furniture import build
from datagen.backends.embedded.house import HouseConfig, make_house
from datagen.backends.embedded.placement import RoomSpace
from datagen.backends.embedded.rooms import PlannedRoom
from datagen.backends.embedded.scene import Scene
from datagen.backends.embedded.style import STYLES, Kit
from datagen.backends.space import in_polygon
from ipt.common.seeding import generator
from tests.datagen.embedded.test_house import facing

ROOMS = 12


@cache
def homes(kind: str) -> list[tuple[Scene, Room]]:
    """Homes of one room of a kind."""
    return [(scene, scene.rooms[0]) for scene in (make_house("home", seed, only(kind)) for seed in range(ROOMS))]


def only(kind: str, **settings: object) -> HouseConfig:
    return HouseConfig(1, 1, require_rooms=(kind,), **settings)  # type: ignore[arg-type]


def standing(scene: Scene) -> Iterator[SceneObject]:
    """What stands on the floor and is higher than a rug."""
    return (t for t in scene.objects if not t.is_structure and t.aabb_min[2] < 0.05 < t.aabb_max[2])


def covered(scene: Scene, room: Room) -> float:
    """Share of a room's floor with something on it, counted in cells of 5 cm."""
    low, high = room.polygon.min(axis=0), room.polygon.max(axis=0)
    cells = np.stack(np.meshgrid(*(np.arange(a, b, 0.05) + 0.025 for a, b in zip(low, high, strict=True))), axis=-1)
    taken = np.zeros(cells.shape[:2], bool)
    for thing in standing(scene):
        assert thing.obb is not None
        taken |= in_polygon(cells, thing.obb.corners()[[0, 4, 6, 2], :2])
    floor = in_polygon(cells, room.polygon)
    return float((taken & floor).sum() / floor.sum())


@pytest.mark.parametrize(("kind", "least", "gain"), [("kitchen", 0.33, 0.02), ("office", 0.27, 0.06)])
def test_a_stated_share_of_the_floor_is_covered(
    kind: str, least: float, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On average; a room in which not everything fits stays below ``COVERED``, which no room exceeds by much."""
    shares = [covered(scene, room) for scene, room in homes(kind)]
    assert least < np.mean(shares) < COVERED[kind] + 0.05 and min(shares) > least - 0.12
    monkeypatch.setitem(filling.COVERED, kind, 0.0)
    bare = [make_house("home", seed, only(kind)) for seed in range(ROOMS // 2)]
    assert np.mean([covered(scene, scene.rooms[0]) for scene in bare]) < np.mean(shares[: len(bare)]) - gain


def test_a_sparse_home_is_filled_less() -> None:
    sparse = [make_house("home", seed, only("office", density=0.4)) for seed in range(6)]
    assert np.mean([covered(scene, scene.rooms[0]) for scene in sparse]) < 0.6 * COVERED["office"]


def test_a_room_counts_what_covers_its_floor() -> None:
    room = PlannedRoom(0, "office", (0.0, 0.0, 4.14, 3.14), ())
    space = RoomSpace(room, 2.6, STYLES[0], generator(0, "space"))
    assert space.covered() == 0
    desk = space.against_wall("desk")
    assert desk is not None
    depth, width, _ = desk.furniture.size
    assert space.covered() == pytest.approx(depth * width / 12, abs=0.006)
    for category in ("painting", "clock"):
        space.hang(category)
    space.on_top(desk, "laptop")
    assert space.covered() == pytest.approx(depth * width / 12, abs=0.006), (
        "what hangs or lies on things covers no floor"
    )
    assert space.room_around(desk, 0.0) and not space.room_around(desk, 0.1), "it stands at a wall"


def islands() -> list[Scene]:
    found = (make_house("home", seed, only("kitchen", include=("kitchen island",))) for seed in range(2))
    return list(found)


def test_islands_are_walked_around_and_sat_at() -> None:
    seats = 0
    for scene in islands():
        (island,) = (t for t in scene.objects if t.category == "kitchen island")
        low, high = np.array(island.aabb_min[:2]), np.array(island.aabb_max[:2])
        room = scene.rooms[0].polygon
        corners = np.array(
            [low - AISLE, (high[0] + AISLE, low[1] - AISLE), high + AISLE, (low[0] - AISLE, high[1] + AISLE)]
        )
        assert in_polygon(corners * 0.999 + 0.001 * room.mean(axis=0), room).all(), "no wall is nearer than an aisle"
        by_id = {thing.id: thing for thing in scene.objects}
        mine = {first for first, relation, second in scene.notes["relations"] if second == island.id}
        for stool in (by_id[one] for one in mine if by_id[one].category == "stool"):
            seats += 1
            assert facing(scene, stool, island) > 0.9
        stove = next(t for t in scene.objects if t.category == "stove")
        yaw = scene.notes["yaw"][island.id]
        to_stove = stove.obb.centre[:2] - island.obb.centre[:2]
        assert to_stove @ (np.cos(yaw), np.sin(yaw)) > AISLE, "its doors open towards the cook"
        for other in standing(scene):
            if other is not island and other.id not in mine and other.category in ("dining table", "cabinet", "sink"):
                gap = np.maximum(np.array(other.aabb_min[:2]) - high, low - np.array(other.aabb_max[:2])).max()
                assert gap > AISLE - 0.03, other.id
    assert seats > 0


def test_a_second_row_of_counters_is_one_piece_and_leaves_an_aisle() -> None:
    rows = 0
    for scene, _ in homes("kitchen"):
        yaw = scene.notes["yaw"]
        stove = next(t for t in scene.objects if t.category == "stove")
        for counter in (t for t in scene.objects if t.category == "kitchen counter" and yaw[t.id] != yaw[stove.id]):
            rows += 1
            width = 2 * max(counter.obb.half_size[:2])
            assert 0.85 < width < LONGEST + 0.01
            front = counter.obb.half_size[0] + AISLE / 2
            ahead = counter.obb.centre[:2] + front * np.array([np.cos(yaw[counter.id]), np.sin(yaw[counter.id])])
            for other in standing(scene):
                inside = (ahead > other.aabb_min[:2]).all() and (ahead < other.aabb_max[:2]).all()
                assert not inside, (counter.id, other.id)
    assert rows > ROOMS // 3


def test_long_counters_have_more_doors() -> None:
    def solids(width: float) -> int:
        return len(build("kitchen counter", Kit(STYLES[0], np.random.default_rng(1)), width=width).centres)

    assert solids(0.8) == solids(1.05) < solids(1.5) < solids(2.3)


def test_offices_have_desks_tables_and_shelves_but_no_rows() -> None:
    seen: dict[str, int] = {}
    for scene, _ in homes("office"):
        count = {
            name: sum(t.category == name for t in scene.objects)
            for name in ("desk", "meeting table", "bookshelf", "sofa")
        }
        assert 1 <= count["desk"] <= 2 and count["bookshelf"] <= MOST_SHELVES and count["meeting table"] <= 1
        seen = {name: seen.get(name, 0) + (number > (name == "desk")) for name, number in count.items()}
    assert all(seen.values()), seen
    asked = make_house("home", 1, only("office", include=("meeting table",)))
    table = next(t for t in asked.objects if t.category == "meeting table")
    chairs = [
        first for first, relation, second in asked.notes["relations"] if second == table.id and relation == "faces"
    ]
    assert len(chairs) >= 2 and all(name.startswith("chair") for name in chairs)
    without = only("office", exclude=("meeting table", "sofa"))
    assert not {t.category for t in make_house("home", 1, without).objects} & {"meeting table", "sofa"}
    assert house.NEEDS["office"] == "desk"
