"""L-shaped rooms: their plans, and that walls, floors, free space, light, furniture, exports and both renderers know of them."""

from pathlib import Path

import numpy as np
import pytest

from datagen.backends.base import SceneError
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.export import write_glb, write_mjcf
from datagen.backends.embedded.free_space import FreeSpace
from datagen.backends.embedded.house import HouseConfig, make_house
from datagen.backends.embedded.import_scene import import_scene
from datagen.backends.embedded.layout import WING, draw_layout
from datagen.backends.embedded.lighting import lamp_of
from datagen.backends.embedded.placement import Placed, RoomSpace
from datagen.backends.embedded.rooms import OUTER, Layout, PlannedRoom
from datagen.backends.embedded.scene import Scene
from datagen.backends.embedded.style import STYLES
from datagen.backends.space import in_polygon
from ipt.common.seeding import derived_seed, generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.embedded import test_house
from tests.datagen.embedded.geometry import coplanar_overlaps, footprints, penetrations

KINDS = ("living room", "kitchen", "bedroom", "bathroom")
#: 6 x 5 m between centre lines, without a corner of 2.5 x 2 m.
CORNERS = {
    ("south", "west"): (0.0, 0.0, 2.5, 2.0),
    ("south", "east"): (3.5, 0.0, 6.0, 2.0),
    ("north", "east"): (3.5, 3.0, 6.0, 5.0),
    ("north", "west"): (0.0, 3.0, 2.5, 5.0),
}
each_corner = pytest.mark.parametrize("corner", CORNERS)
all_l = HouseConfig(l_rooms=1.0)


def l_room(corner: tuple[str, str]) -> PlannedRoom:
    return PlannedRoom(0, "living room", (0.0, 0.0, 6.0, 5.0), (), notch=CORNERS[corner])


def plan(seed: int, kinds: tuple[str, ...] = KINDS, bent: bool = True) -> Layout:
    layout = draw_layout(generator(seed, "plan"), kinds, bent=bent)
    assert layout is not None
    return layout


@each_corner
def test_the_walls_of_an_l_run_along_its_outline(corner: tuple[str, str]) -> None:
    room = l_room(corner)
    outline = np.array(room.outline)
    assert room.corner == corner and len(outline) == len(room.sides) == 6
    edges = {
        frozenset((tuple(np.round(a, 6)), tuple(np.round(b, 6))))
        for a, b in zip(outline, np.roll(outline, -1, 0), strict=True)
    }
    x, y = outline.T
    assert np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) == pytest.approx(2 * room.area), "counter-clockwise"
    assert room.area == pytest.approx(5.86 * 4.86 - (2.5 * 2.0))
    for side in room.sides:
        start, end = (room.point(side, along, 0.0) for along in room.span(side))
        assert frozenset((tuple(np.round(start, 6)), tuple(np.round(end, 6)))) in edges
        middle = sum(room.span(side)) / 2
        assert in_polygon(np.array(room.point(side, middle, 0.1)), outline)
        assert not in_polygon(np.array(room.point(side, middle, -0.1)), outline)
        other, distance = room.across(side, middle)
        assert room.point(side, middle, distance) == pytest.approx(room.point(other, middle, 0.0))
        assert all(end is None or OUTER[end] != OUTER[side] for end in room.ends(side))
    assert sum(end is None for side in room.sides for end in room.ends(side)) == 2, "both inner walls end at the tip"
    assert in_polygon(np.array(room.middle), outline)
    assert all((b[2] - b[0]) * (b[3] - b[1]) < room.area for b in room.wings)


@each_corner
def test_furniture_keeps_out_of_what_an_l_lacks(corner: tuple[str, str]) -> None:
    room = l_room(corner)
    space = RoomSpace(room, 2.6, STYLES[0], generator(0, *corner))
    for category in ("bookshelf", "armchair", "wardrobe", "painting", "clock", "rug", "stool"):
        for _ in range(4):
            if category in ("painting", "clock"):
                space.hang(category)
            elif category == "stool":
                space.freestanding(category)
            elif category == "rug" and (shelf := space.of("armchair")):
                space.lay_rug(shelf[:1], (1.0, 1.0))
            else:
                space.against_wall(category)
    assert len(space.placed) > 12
    for item in space.placed:
        x0, y0, _, x1, y1, _ = item.bounds
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        assert in_polygon(corners, np.array(room.outline)).all(), item.category
    inner = [side for side in room.sides if side.startswith("inner")]
    assert any(item.side in inner for item in space.placed), "inner walls have furniture, too"
    piece = space.of("clock")[0].furniture
    for side in inner:
        tip = room.span(side)[room.ends(side).index(None)]
        hung: list[Placed | None] = [space.hang("clock", side, tip, raise_by=z, furniture=piece) for z in (0.0, 0.3)]
        assert hung == [None, None], "nothing hangs in the air beyond the tip"


@pytest.mark.parametrize("seed", range(12))
def test_one_room_is_bent_around_another(seed: int) -> None:
    layout = plan(seed)
    bent = [room for room in layout.rooms if room.notch]
    if not bent:
        pytest.skip("no two rooms of this plan fill a rectangle that leaves wings")
    (room,) = bent
    (inside,) = (other for other in layout.rooms if other.rectangle == room.notch)
    assert room.kind not in ("bathroom", "hallway") and inside.kind != "hallway"
    assert not set(room.exterior) & set(room.sides[4:]), "the inner walls lie indoors"
    assert min(min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in room.wings) >= WING
    lots = [(r.rectangle, -1.0 if r is room else 0.0) for r in layout.rooms]
    areas = sum((x1 - x0) * (y1 - y0) for (x0, y0, x1, y1), _ in lots)
    x0, y0, x1, y1 = room.notch
    assert areas - (x1 - x0) * (y1 - y0) == pytest.approx(np.prod(layout.extent), abs=0.2), "rooms tile the house"
    for place in layout.rooms:
        for opening in place.openings:
            low, high = place.span(opening.side)
            assert low < opening.start < opening.end < high
            if opening.to_room is not None:
                (back,) = (o for o in layout.rooms[opening.to_room].openings if o.to_room == place.index)
                assert (back.start, back.end) == (opening.start, opening.end)
                assert place.line(opening.side) == pytest.approx(layout.rooms[opening.to_room].line(back.side))


def test_plans_are_bent_where_that_is_asked_for() -> None:
    asked = [any(room.notch for room in plan(seed).rooms) for seed in range(40)]
    assert sum(asked) > 24
    assert not any(room.notch for seed in range(40) for room in plan(seed, bent=False).rooms)
    alone = plan(3, ("bedroom",)).rooms[0]
    assert alone.notch and set(alone.exterior) == set(alone.sides) and 11 < alone.area < 20
    kinds = [
        len(room.polygon) for seed in range(24) for room in make_house("home", seed, HouseConfig(1, 2, density=0)).rooms
    ]
    assert 0 < kinds.count(6) < 0.4 * len(kinds), "by default in a quarter of homes"
    with pytest.raises(SceneError, match=r"house\.l_rooms is a share, 0 to 1, got -1"):
        HouseConfig(l_rooms=-1)


@pytest.fixture(scope="module", params=(1, 6, 7), ids=("three rooms", "two rooms", "one room"))
def home(request: pytest.FixtureRequest) -> Scene:
    scene = make_house("home", request.param, all_l)
    assert any(len(room.polygon) == 6 for room in scene.rooms)
    return scene


def test_a_home_with_an_l_is_as_sound_as_others(home: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must hold in every home holds here, too, by the very same tests."""
    boxes = footprints(home)
    assert penetrations(home, boxes) == [] and coplanar_overlaps(home) == []
    monkeypatch.setattr(test_house, "house", lambda seed: home)
    monkeypatch.setattr(test_house, "solid_boxes", lambda seed: boxes)
    test_house.test_everything_is_in_its_room_and_rests_on_something(0)
    test_house.test_rooms_are_reachable_through_unobstructed_doors(0)
    test_house.test_furniture_stands_in_the_relations_of_a_home(0)


def test_floor_and_ceiling_cover_an_l_and_nothing_else(home: Scene) -> None:
    room = next(room for room in home.rooms if len(room.polygon) == 6)
    x, y = room.polygon.T
    area = 0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    for category, up in (("floor", 1.0), ("ceiling", -1.0)):
        thing = next(t for t in home.objects if t.category == category and t.room_id == room.id)
        (part,) = (part for part in home.parts if part.instance == thing.index)
        corners = part.world_vertices()[part.mesh.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        seen = normal[:, 2] * up > 1e-6
        assert normal[seen, 2].sum() * up / 2 == pytest.approx(area, rel=0.01)
        inside = in_polygon(corners[seen].mean(axis=1)[:, :2].astype(float), room.polygon)
        assert inside.all()
    free = FreeSpace(home).map(0.2)
    rows, columns = np.nonzero(free.grid)
    points = free.centre_of(rows, columns)
    low, high = room.polygon.min(axis=0), room.polygon.max(axis=0)
    around = (points > low).all(axis=1) & (points < high).all(axis=1)
    elsewhere = around & ~in_polygon(points, room.polygon)
    others = [in_polygon(points[elsewhere], other.polygon) for other in home.rooms if other is not room]
    doors = [
        (np.abs(points[elsewhere] - outline.mean(axis=0)) < 0.5 * np.ptp(outline, axis=0) + 0.06).all(axis=1)
        for outline in test_house.doorways(home)
    ]
    assert np.any([*others, *doors, np.zeros(elsewhere.sum(), bool)], axis=0).all(), (
        "nobody stands in the notch's walls"
    )


def test_the_lamp_of_a_room_in_the_corner_is_lit_there(home: Scene) -> None:
    for room, lamp in zip(home.rooms, home.lamps, strict=True):
        assert in_polygon(np.array(lamp.position[:2]), room.polygon)
        for x, y in FreeSpace(home).sample(20, generator(0, room.id), 0.2, room.polygon)[:, :2]:
            assert lamp_of(home.lamps, Camera(CameraPose((x, y, 1.5), 0.0, 0.0), 8, 8, 60.0)) is lamp


def test_the_floor_is_darker_along_the_inner_walls() -> None:
    home = make_house(
        "home", 7, HouseConfig(l_rooms=1.0, density=0, exclude=("rug", "kitchen counter", "sink", "stove"))
    )
    (room,) = home.rooms
    picture = home.materials["floor:room-0"].texture.astype(float).mean(axis=2)
    low, high = room.polygon.min(axis=0), room.polygon.max(axis=0)
    tip = next(c for c in room.polygon if (c > low + 0.5).all() and (c < high - 0.5).all())
    middle = room.polygon.mean(axis=0)

    def shade(point: np.ndarray) -> float:
        column, row = (point - low) / (high - low) * (picture.shape[1], picture.shape[0])
        row = picture.shape[0] - row
        return float(picture[int(row) - 6 : int(row) + 6, int(column) - 6 : int(column) + 6].mean())

    outward = np.sign(middle - tip)
    assert shade(tip + 0.06 * outward) < shade(tip + 0.7 * outward) - 5


@pytest.mark.skipif(gl.prepare_gl() is None, reason="no OpenGL on this machine")
def test_both_renderers_see_the_same_l() -> None:
    frames = {}
    for name in ("mujoco", "ray"):
        with EmbeddedBackend(EmbeddedConfig(renderer=name, house=all_l)) as backend:
            scene_id = next(i for i in backend.scenes("train")[:9] if len(backend.load(i).rooms) > 1 and bends(backend))
            info = backend.load(scene_id)
            room = next(room for room in info.rooms if len(room.polygon) == 6)
            place = backend.sample_navigable(1, generator(0, "view"), 0.3, room.id)[0]
            low, high = room.polygon.min(axis=0), room.polygon.max(axis=0)
            tip = next(c for c in room.polygon if (c > low + 0.5).all() and (c < high - 0.5).all())
            yaw = float(np.arctan2(*(tip - place[:2])[::-1]))
            camera = Camera(CameraPose((place[0], place[1], 1.4), yaw, -0.3), 96, 96, 75.0)
            frames[name] = backend.render([camera])[0], backend.render_top_down((*low, *high), 64, {"instance", "rgb"})
    for one, other in zip(frames["mujoco"], frames["ray"], strict=True):
        assert (one.instance != other.instance).mean() < 0.02
        assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 9
    assert np.abs(frames["mujoco"][0].depth - frames["ray"][0].depth).mean() < 0.02


def bends(backend: EmbeddedBackend) -> bool:
    return any(len(room.polygon) == 6 for room in backend.scene.rooms)


def test_an_l_is_written_to_files_as_it_stands(home: Scene, tmp_path: Path) -> None:
    """The floor comes back with its shape: where an agent may stand in the room is the same, and so is the notch."""
    write_glb(home, tmp_path)
    read = import_scene(tmp_path / home.scene_id / f"{home.scene_id}.glb")
    room = next(room for room in home.rooms if len(room.polygon) == 6)
    here, there = FreeSpace(home).map(0.2), FreeSpace(read)
    rows, columns = np.nonzero(here.grid)
    points = here.centre_of(rows, columns)
    rows, columns = there.map(0.2).cell_of(points[in_polygon(points, room.polygon)])
    assert (there.clearance[rows, columns] > 0.15).mean() > 0.9
    write_mjcf(home, tmp_path / "mjcf")
    assert (tmp_path / "mjcf" / home.scene_id / "scene.xml").read_text().count("<body") == len(home.objects)


def test_homes_of_equal_seeds_without_an_l_stay_as_they_were() -> None:
    seed = derived_seed(1, "scene", "home", "train")
    homes = [make_house("home", seed, HouseConfig(l_rooms=share)) for share in (0.0, 1e-9)]
    assert test_house.fingerprint(homes[0]) == test_house.fingerprint(homes[1])
