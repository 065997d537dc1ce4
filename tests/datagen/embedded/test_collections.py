"""Several of a thing in a room: for counting, of different kinds and all around; not in homes for other tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import SceneError
from datagen.backends.embedded import house, repeats
from datagen.backends.embedded.furniture import Furniture
from datagen.backends.embedded.house import NEEDS, HouseConfig, make_house
from datagen.backends.embedded.placement import RoomSpace
from datagen.config import run_config


def most_of_a_category(collections: str, homes: int = 12) -> list[int]:
    """In each room, how often its most frequent category of the floor stands there."""
    found = []
    for seed in range(homes):
        scene = make_house(f"home-{seed}", seed, HouseConfig(collections=collections))
        rooms = {thing.room_id for thing in scene.objects}
        skip = ("chair", "books", "kitchen counter", "wall cabinet", "painting", "curtain", "towel", "window", "door")
        for room in sorted(room for room in rooms if room):
            inside = [t.category for t in scene.objects if t.room_id == room and not t.is_structure]
            found.append(max(Counter(c for c in inside if c not in skip).values(), default=0))
    return found


def test_rooms_hold_several_of_a_thing_only_where_they_are_counted() -> None:
    counted, others = most_of_a_category("on"), most_of_a_category("off")
    assert np.mean([most >= 4 for most in counted]) > 0.25
    assert np.mean([most >= 4 for most in others]) < 0.08
    assert most_of_a_category("auto", 4) == most_of_a_category("off", 4)


@pytest.mark.parametrize(
    ("task", "setting", "resolved"),
    [("mvc", "auto", "on"), ("pet", "auto", "off"), ("pt", "on", "on"), ("mvc", "off", "off")],
)
def test_auto_means_what_the_task_needs(task: str, setting: str, resolved: str) -> None:
    config = run_config({"task": {"name": task}, "backend": {"name": "embedded", "house": {"collections": setting}}})
    assert config.backend_config.house.collections == resolved


def test_an_unknown_way_to_collect_is_refused() -> None:
    with pytest.raises(SceneError, match=r"unknown house\.collections 'rows'; valid: auto, off, on"):
        HouseConfig(collections="rows")


def nearest_wall(place: np.ndarray, polygon: np.ndarray) -> int:
    """The number of the edge of a room that a point (2,) is nearest to."""
    steps = np.roll(polygon, -1, axis=0) - polygon
    share = np.clip(((place - polygon) * steps).sum(axis=1) / (steps * steps).sum(axis=1), 0, 1)
    return int(np.argmin(np.linalg.norm(polygon + share[:, None] * steps - place, axis=1)))


def test_most_collections_stand_all_around_the_room() -> None:
    """Of collections with four pieces or more, most are at three walls or more."""
    walls = []
    for seed in range(24):
        scene = make_house(f"home-{seed}", seed, HouseConfig(collections="on"))
        for room in scene.rooms:
            counts = Counter(t.category for t in scene.objects if t.room_id == room.id and not t.is_structure)
            for category in ("potted plant", "box", "stool", "basket", "ottoman", "bookshelf", "suitcase", "trash bin"):
                if counts[category] >= 4:
                    places = [t.centre[:2] for t in scene.objects if t.room_id == room.id and t.category == category]
                    walls.append(len({nearest_wall(place, room.polygon) for place in places}))
    assert len(walls) >= 5 and np.mean([number >= 3 for number in walls]) > 0.4


def test_one_room_of_a_home_holds_several_of_a_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two rooms held several of, places would show in part; the next home may hold the same."""
    gathered: list[str] = []
    pieces, furnished = repeats._pieces, house._furnished
    homes = []

    def gathering(space: RoomSpace, chosen: repeats.Collection, count: int) -> list[Furniture]:
        gathered.append(chosen.category)
        return pieces(space, chosen, count)

    def one_home(*arguments: Any) -> list[RoomSpace]:
        gathered.clear()
        spaces = furnished(*arguments)
        homes.append(list(gathered))
        return spaces

    monkeypatch.setattr(repeats, "_pieces", gathering)
    monkeypatch.setattr(house, "_furnished", one_home)
    for seed in range(8):
        make_house(f"home-{seed}", seed, HouseConfig(collections="on"))
    assert all(len(home) == len(set(home)) for home in homes) and max(map(len, homes)) > 4
    assert sum(map(len, homes)) > len(set().union(*homes)), "two homes hold several of the same"


def test_a_room_has_what_makes_it_one() -> None:
    """In forty homes every bedroom has its bed, every kitchen its sink; unless that is ruled out."""
    for seed in range(40):
        scene = make_house(f"home-{seed}", seed)
        for room in scene.rooms:
            if room.kind in NEEDS:
                here = {thing.category for thing in scene.objects if thing.room_id == room.id}
                assert NEEDS[room.kind] in here, (seed, room.kind)
    without = make_house("home-1", 1, HouseConfig(require_rooms=("bedroom",), exclude=("bed",)))
    assert "bed" not in {thing.category for thing in without.objects}


def test_a_home_without_a_bed_in_its_bedroom_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def twice(spaces: object) -> list[tuple[str, str]]:
        tried.append(len(tried))
        return [("bedroom", "bed")] if len(tried) < 3 else []

    monkeypatch.setattr(house, "lacking", twice)
    make_house("home-3", 3)
    assert len(tried) == 3
    tried.clear()
    monkeypatch.setattr(house, "lacking", lambda spaces: tried.append(0) or [("bedroom", "bed")])
    make_house("home-3", 3)
    assert 10 < len(tried) <= house.TRIES - house.LENIENT + 1, "at last it may lack one"


def test_a_collection_that_finds_no_place_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing fits, a room tries all it offers; where all fits, as many as its size allows; in a sparse house fewer."""

    def tried(stand: int, density: float = 1.0) -> list[str]:
        names: list[str] = []
        space = SimpleNamespace(
            collections=set(), exclude=frozenset(), room=SimpleNamespace(kind="living room"), area=40.0,
            density=density, rng=np.random.default_rng(0), of=lambda name: [name] * (stand if name in names else 0),
        )  # fmt: skip
        monkeypatch.setattr(repeats, "_pieces", lambda space, chosen, count: names.append(chosen.category) or [])
        monkeypatch.setattr(repeats, "around", lambda *_: None)
        monkeypatch.setattr(repeats, "MOVES", dict.fromkeys(repeats.MOVES, lambda *_: None))
        repeats.repeat(space)  # type: ignore[arg-type]
        return names

    offered = [entry.category for entry in repeats.COLLECTIONS["living room"]]
    assert sorted(tried(1)) == sorted(offered), "one alone is no collection"
    assert len(tried(2)) == repeats.MOST_COLLECTIONS and tried(1, density=0.0) == []


def test_a_collection_ends_with_the_first_piece_that_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def pieces() -> Iterator[Any]:
        for number in range(5):
            built.append(number)
            yield SimpleNamespace(size=(0.4, 0.4, 0.4), number=number)

    monkeypatch.setattr(repeats, "spread", lambda space, some: int(some[0].number < 2))
    space = SimpleNamespace(shuffled_sides=lambda: ["north"], spots=lambda *_: [])
    repeats.around(space, pieces())  # type: ignore[arg-type]
    assert built == [0, 1, 2], "the third fits nowhere, the others are not even built"


def test_counting_homes_hold_several_of_many_things() -> None:
    """Several of no noun are in more than half of the homes, and most of those that are offered are in some."""
    offered = {entry.category for kinds in repeats.COLLECTIONS.values() for entry in kinds}
    several = Counter[str]()
    for seed in range(24):
        scene = make_house(f"home-{seed}", seed, HouseConfig(collections="on"))
        counts = Counter((thing.room_id, thing.category) for thing in scene.objects if not thing.is_structure)
        several.update({category for (_, category), number in counts.items() if number >= 3 and category in offered})
    assert max(several.values()) <= 12 and len(several) > 0.8 * len(offered)
