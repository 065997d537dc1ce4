"""Every filter and balance rule of Path Tracing, switched off one at a time, is noticed: made-up scenes, no pictures."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Frame, OrientedBox, Path, top_down_camera
from datagen.tasks import path_tracing
from datagen.tasks.base import ViewFilter
from datagen.tasks.path_questions import PathTracingSelector
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.path_tracing import PathTracing
from datagen.tasks.paths import (
    BINS,
    FromAbove,
    OnMap,
    Sight,
    Walk,
    best_instances,
    find_walks,
    footprint_width,
    middle,
    sights,
)
from datagen.tasks.puzzles import Puzzle
from datagen.tasks.side_views import Lens, Presentation, SideViewSearch
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.samples.sample import SampleImage
from tests.datagen.made_up import EYE, LAMP, made_up, measures, thing
from tests.datagen.test_annotate import floor_frame
from tests.datagen.test_puzzles import ANY_SCENE, told


def straight_walk(heading: float = 0.0) -> Walk:
    points = np.array([[-2.0, 0, 0], [2.0, 0, 0]])
    return Walk(Path(points, 4.0), np.zeros(2), heading, "long", "")


@pytest.mark.parametrize(
    ("degrees", "metres", "clear"),
    [
        (29, 2, False), (31, 2, True), (90, 2, True), (119, 2, True), (121, 2, False), (-90, 2, False), (90, 6.1, False),
        (90, 5.9, True),
    ],
)  # fmt: skip
def test_an_object_stands_clearly_on_one_side(degrees: float, metres: float, clear: bool) -> None:
    angle = math.radians(degrees)
    scene = made_up([thing(0, "lamp", (metres * math.cos(angle), metres * math.sin(angle), 1.0))], PathTracingConfig())
    for side, sees in (("left", clear), ("right", degrees == -90)):
        assert bool(best_instances(scene, straight_walk(), side, np.array([0.01]), PathTracingConfig())) is sees, side
    back = best_instances(scene, straight_walk(math.pi), "right", np.array([0.01]), PathTracingConfig(), forward=False)
    assert bool(back) is clear, "the same for someone who comes from 2 on a walk from the other end"
    assert not best_instances(scene, straight_walk(), "left", np.array([0.0039]), PathTracingConfig()), "too small"
    everywhere = PathTracingConfig(bearing_deg=(1, 179))
    assert bool(best_instances(scene, straight_walk(), "left", np.array([0.01]), everywhere)) is (
        degrees > 0 and metres < 6
    )


def test_of_several_instances_the_largest_speaks_for_a_noun() -> None:
    objects = [
        thing(0, "lamp", (0.0, 2.0, 1.0)),
        thing(1, "lamp", (0.5, 2.0, 1.0)),
        thing(2, "wall", (0.0, 3.0, 1.0), True),
    ]
    scene = made_up(objects, PathTracingConfig())
    assert best_instances(scene, straight_walk(), "left", np.array([0.01, 0.02, 0.5]), PathTracingConfig()) == {
        "lamp": 1
    }


@pytest.mark.parametrize(("bend", "kept"), [(0, True), (30, True), (40, False), (-40, False), (90, False)])
def test_m1_lies_on_a_straight_stretch(bend: float, kept: bool) -> None:
    turn = math.radians(bend)
    points = np.array([[-1.0, 0, 0], [0, 0, 0], [math.cos(turn), math.sin(turn), 0]])
    walk = middle(made_up([], PathTracingConfig()), Path(points, 2.0), "medium")
    assert (walk is not None) is kept
    if walk is not None:
        assert math.degrees(walk.heading) == pytest.approx(bend / 2, abs=1.0)


def test_a_side_view_shows_its_answer_and_nothing_of_the_other_side() -> None:
    """The answer large enough, not a pixel of a noun of the opposite side."""
    names = ["lamp", "sofa", "desk", "rug"]
    scene = made_up([thing(index, name, LAMP) for index, name in enumerate(names)], PathTracingConfig())
    search = SideViewSearch(scene, PathTracingConfig(), {}, Yields())
    puzzle = Puzzle(Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"})), "lamp", frozenset({"sofa"}))

    def shows(*area: float) -> bool:
        return search.shows(puzzle, measures(list(area), [(0.5, 0.5)] * 4))

    assert shows(0.0016, 0.0, 0.0, 0.5) and not shows(0.0014, 0.0, 0.0, 0.5)
    assert not shows(0.01, 0.0001, 0.0, 0.0), "a pixel of the opposite side"
    assert shows(0.01, 0.0, 0.0001, 0.0)


def test_a_walk_round_obstacles_asks_for_its_clearance() -> None:
    asked: list[float] = []
    config = PathTracingConfig(clearance_m=0.33)
    scene = made_up([], config)

    def plan(start: np.ndarray, goal: np.ndarray, clearance: float = 0.2) -> Path:
        asked.append(clearance)
        return Path(np.stack([start, goal]), float(np.linalg.norm(goal - start)))

    scene.backend.is_free = lambda points, clearance: np.zeros(len(points), bool)
    scene.backend.shortest_path = plan
    scene.backend.sample_navigable = lambda count, rng, clearance, room=None: np.column_stack(
        [rng.uniform(-3, 3, (count, 2)), np.zeros(count)]
    )
    walks = find_walks(scene, (1.0, 2.0, 4.0), 2, np.random.default_rng(0), Yields())
    assert len(walks) >= 3 and set(asked) == {0.33}


@pytest.mark.parametrize(("half", "expected"), [(0.3, 0.0), (30.0, 0.6)])
def test_places_of_the_side_view_off_m1_are_worth_less(half: float, expected: float) -> None:
    """A box that looks a little larger from 0.6 m on: taken from there only where offsets cost nothing."""
    angle = math.radians(60)
    config = PathTracingConfig(offset_half_m=half, sweep_yaw_deg=(0.0, 30.0), sweep_pitch_deg=(-10.0,))
    lamp = thing(0, "lamp", (2.0 * math.cos(angle), 2.0 * math.sin(angle), 1.0))
    scene = made_up([lamp], config)
    sight = Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"}))
    presentation = Presentation(True, "td_path", Lens(1.5, 90.0, 0.0))
    search = SideViewSearch(scene, config, {sight.walk: presentation}, Yields())
    best = search._best_cameras(Puzzle(sight, "lamp", frozenset()), presentation)
    assert best[0].pose.position[0] == pytest.approx(expected, abs=0.21)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_opposite": 4}, "task.min_opposite must lie in 0..3, got 4"),
        ({"answers_per_view": 0}, "task.answers_per_view must be at least 1, got 0"),
        ({"bearing_deg": (90.0, 30.0)}, "task.bearing_deg must be two angles"),
        ({"offset_half_m": 0.0}, "task.offset_half_m must be positive"),
        ({"vertical_fov_deg": 60.0}, "task.vertical_fov_deg has no effect on Path Tracing.*fov_deg"),
        ({"pitch_range_deg": (-9.0, 9.0)}, "task.pitch_range_deg has no effect on Path Tracing"),
    ],
)
def test_settings_that_no_walk_can_keep_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PathTracingConfig(**changes)


def test_a_dollhouse_is_seen_from_where_its_pointer_is_whole() -> None:
    """A wall of 1.2 m south of M1 hides the pointer from the lowest view; none is drawn where every view is hidden."""
    walk = straight_walk()
    facts = {"variant": "dh_midpoint", "heading_deg": 0.0, "side": "left"}
    taken: list[float] = []

    def rendered(scene: Any, from_degrees: float) -> Any:
        def render(cameras: Any, *_: Any) -> list[Frame]:
            frame = floor_frame(cameras[0])
            taken.append(round(math.degrees(cameras[0].pose.pitch)))
            hidden = taken[-1] > from_degrees
            return [replace(frame, depth=frame.depth * np.float32(0.5)) if hidden else frame]

        scene.backend.render = render
        return PathTracing(PathTracingConfig())._map(scene, walk, facts)

    scene = made_up([], PathTracingConfig())
    image = rendered(scene, -60)
    assert taken == [-55, -65] and image is not None and round(math.degrees(image.camera.pose.pitch)) == -65
    taken.clear()
    assert rendered(scene, -80) is None and taken == [-55, -65, -75]


def test_a_narrow_thing_that_stands_askew_is_narrow() -> None:
    turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    mirror = replace(thing(0, "mirror", LAMP), obb=OrientedBox(np.array(LAMP), np.array([0.02, 0.5, 0.4]), turn))
    assert footprint_width(mirror) == pytest.approx(0.04) and footprint_width(thing(0, "box", LAMP)) == pytest.approx(
        0.4
    )


class FlatView:
    """A map of 6 m by 6 m, 60 pixels wide, with squares of an object's number."""

    def __init__(self, squares: dict[int, tuple[float, float, float, float]]) -> None:
        self.camera = top_down_camera((-3, -3, 3, 3), 60, 0.0)
        self.instance = np.full((60, 60), -1, np.int32)
        for index, (x0, y0, x1, y1) in squares.items():
            rows, columns = (
                slice(round(30 - 10 * y1), round(30 - 10 * y0)),
                slice(round(30 + 10 * x0), round(30 + 10 * x1)),
            )
            self.instance[rows, columns] = index


def test_a_walks_map_measures_what_it_shows_and_nothing_beyond_its_margin() -> None:
    """Two chairs and a lamp around the path; the sofa stands beyond the margin, the cup is too small to be found."""
    config = PathTracingConfig(map_margin_m=1.0, min_map_area_m2=0.05)
    things = [
        ("chair", (0.0, 0.5)),
        ("chair", (1.2, 0.5)),
        ("lamp", (-0.5, -0.8)),
        ("sofa", (0.0, 2.5)),
        ("cup", (0.0, -0.5)),
    ]
    scene = made_up([thing(index, name, (x, y, 0.5)) for index, (name, (x, y)) in enumerate(things)], config)
    squares = {
        0: (-0.1, 0.4, 0.2, 0.7), 1: (1.0, 0.4, 1.4, 0.8), 2: (-0.7, -1.0, -0.3, -0.6), 3: (-0.5, 2.2, 0.5, 2.8),
        4: (0.0, -0.6, 0.1, -0.5),
    }  # fmt: skip
    scene.backend.render_top_down = lambda *_: FlatView(squares)
    walk = Walk(Path(np.array([[-1.0, 0, 0], [1.0, 0, 0]]), 2.0), np.zeros(2), 0.0, "medium", "")
    shown, on_map = FromAbove(scene).nouns(walk)
    assert shown == {0, 1, 2} and set(on_map) == {"chair", "lamp"}
    assert on_map["chair"] == OnMap(0.5, 0.5, pytest.approx(0.16, abs=0.01), 2)
    assert on_map["lamp"].from_m1_m == pytest.approx(math.hypot(0.5, 0.8)) and on_map["lamp"].from_path_m == 0.8
    narrow = made_up(list(scene.objects), replace(config, min_map_width_m=0.41))
    narrow.backend.render_top_down = scene.backend.render_top_down
    assert not FromAbove(narrow).nouns(walk)[0], "of a mirror on a wall, a map shows a line"
    wide = made_up(list(scene.objects), PathTracingConfig(map_margin_m=2.9, min_map_area_m2=0.001))
    wide.backend.render_top_down = scene.backend.render_top_down
    assert set(FromAbove(wide).nouns(walk)[1]) == {"chair", "lamp", "sofa", "cup"}


def pt_facts(noun: str, **changes: Any) -> dict[str, Any]:
    facts = {"distance_bin": "short", "room": "kitchen", "answer": noun, "in_view": [noun], "opposite": []}
    names = [noun, *(f"noun {number}" for number in range(9) if f"noun {number}" != noun)]
    return told({**facts, "chances": {name: 1 / len(names) for name in names}, "options": names, **changes})


def test_distance_bins_of_path_tracing_are_equal() -> None:
    rng = np.random.default_rng(0)
    selector = PathTracingSelector(ANY_SCENE, 60, np.random.default_rng(1))
    bins = Counter[str]()
    for number in range(1200):
        name = ("short", "medium", "long")[int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
        facts = pt_facts(f"noun {number % 9}", distance_bin=name)
        bins.update(q.facts["distance_bin"] for q in selector.offer(str(number), facts))
    assert bins == {"short": 20, "medium": 20, "long": 20} and selector.remaining == 0


def test_a_common_kind_of_room_waits_for_the_others_in_a_short_queue() -> None:
    """One bathroom, then kitchens only: they may lead by three, eight more wait, the next one lets the first of these go."""
    selector = PathTracingSelector(PathTracingConfig(), 300, np.random.default_rng(0))
    counts = []
    selector.offer("b", pt_facts("lamp", room="bathroom"))
    for number in range(14):
        selector.offer(str(number), pt_facts("lamp", room="kitchen"))
        counts.append(300 - selector.remaining)
    assert counts == [2, 3, 4, 5, *[5] * 8, 6, 7]
    assert len(selector.pending()) == 7 + 8


def test_a_noun_that_is_nearly_always_in_view_is_seldom_asked_for() -> None:
    """Without options of their own, questions need a noun out of view three times as often as it is the answer."""
    selector = PathTracingSelector(ANY_SCENE, 45, np.random.default_rng(0))
    rng, asked = np.random.default_rng(1), Counter[str]()
    names = [f"noun {number}" for number in range(12)]
    for number in range(900):
        noun = "window" if rng.random() < 0.6 else names[int(rng.integers(12))]
        facts = pt_facts(noun, distance_bin=("short", "medium", "long")[number % 3], in_view=[noun, "window"])
        facts |= {"chances": {name: 1 / 12 for name in names}, "options": [noun, *(n for n in names if n != noun)]}
        asked.update(question.facts["answer"] for question in selector.offer(str(number), facts))
    assert asked.total() == 45 and asked["window"] <= 2


def test_walks_keep_the_lengths_of_their_bins() -> None:
    """A way that is longer than it seemed falls into the next bin, or out of all."""
    scene = made_up([], PathTracingConfig())
    scene.backend.is_free = lambda points, clearance: np.zeros(len(points), bool)
    scene.backend.shortest_path = lambda start, goal, _: Path(
        np.stack([start, goal]), 1.6 * float(np.linalg.norm(goal - start))
    )
    scene.backend.sample_navigable = lambda count, rng, clearance, room=None: np.column_stack(
        [rng.uniform(-3, 3, (count, 2)), np.zeros(count)]
    )
    yields = Yields()
    walks = find_walks(scene, (1.0, 2.0, 4.0), 6, np.random.default_rng(0), yields)
    edges = dict(zip(BINS, ((1.0, 2.0), (2.0, 4.0), (4.0, math.inf)), strict=True))
    assert len(walks) >= 10 and all(edges[walk.bin][0] <= walk.path.length_m < edges[walk.bin][1] for walk in walks)
    assert yields.rejected["walk.short"] and yields.rejected["walk.medium"]


def test_a_side_shows_clearly_what_only_it_shows_and_the_map_too() -> None:
    """Of four things left of M1 the mirror is seen on the right, too, the curtain is not on the map, the cup is tiny."""
    names = ["lamp", "mirror", "curtain", "cup", "sofa"]
    places = [(0.0, 2.0), (0.5, 2.0), (-0.5, 2.0), (0.2, 2.0), (0.0, -2.0)]
    config = PathTracingConfig()
    seen = [[0.01, 0.01, 0.01, 0.001, 0.0], [0.0] * 5, [0.0, 0.0002, 0.0, 0.0, 0.02], [0.0] * 5]
    yaws: list[float] = []

    def render(cameras: Any, _: Any) -> list[int]:
        yaws.extend(camera.pose.yaw for camera in cameras)
        return list(range(4))

    objects = [thing(index, name, (*place, 0.5)) for index, (name, place) in enumerate(zip(names, places, strict=True))]
    scene = made_up(objects, config, render=render, stats=lambda view: measures(seen[view], [(0.5, 0.5)] * 5))
    on_map = {"lamp": OnMap(2.0, 2.0, 1.0, 1)}
    above: Any = SimpleNamespace(nouns=lambda walk: (frozenset({0, 1, 3, 4}), on_map))
    left, right = sights(scene, straight_walk(), config, above)
    assert left.clear == {"lamp": 0} and right.clear == {"sofa": 4} and left.on_map is on_map
    assert left.any == {"lamp", "mirror", "curtain", "cup"} and right.any == {"mirror", "sofa"}
    assert [yaw > 0 for yaw in yaws] == [True, True, False, False], "two views to the left, two to the right"


def test_a_side_view_is_taken_where_one_can_stand() -> None:
    config = PathTracingConfig()
    scene = made_up([thing(0, "lamp", (0.0, 2.0, 1.0))], config)
    sight = Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"}))
    search = SideViewSearch(scene, config, {}, Yields())
    presentation = Presentation(True, "td_path", Lens(1.5, 90.0, 0.0))
    for free, count in (((-0.4, 0.2), 2), ((), 0)):
        scene.backend.is_free = lambda points, _, free=free: np.isin(points[:, 0].round(6), free)
        cameras = search._best_cameras(Puzzle(sight, "lamp", frozenset()), presentation)
        assert len(cameras) == count and {round(camera.pose.position[0], 6) for camera in cameras} == set(free)


@pytest.mark.parametrize(
    ("metres", "variant", "found"), [(0.61, "td_ego_dir", 1), (0.59, "td_ego_dir", 0), (0.59, "td_path", 1)]
)
def test_the_views_at_the_waypoints_look_at_more_than_a_wall(metres: float, variant: str, found: int) -> None:
    class Found(SideViewSearch):
        def _search(self, puzzle: Puzzle) -> Any:
            return 1

    def render(cameras: Any, _: Any) -> list[Frame]:
        return [Frame(camera, None, np.full((4, 4), metres), np.zeros((4, 4), int)) for camera in cameras]

    sight = Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"}))
    presentation = Presentation(True, variant, Lens(1.5, 90.0, 0.0))
    scene = made_up([], PathTracingConfig(), render=render)
    search = Found(scene, PathTracingConfig(), {sight.walk: presentation}, Yields())
    assert (search.find(Puzzle(sight, "lamp", frozenset())) or 0) == found


@pytest.mark.parametrize(
    ("most", "in_all", "given"),
    [((1, 2, 3), 12, (1, 2, 3)), ((9, 9, 9), 5, None), ((0, 9, 9), 12, (0, 4, 4))],
)
def test_a_scene_gives_so_many_questions_of_a_bin_and_in_all(
    most: tuple[int, int, int], in_all: int, given: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = [replace(straight_walk(), bin=name) for _ in range(4) for name in BINS]
    on_map = {noun: OnMap(2.0, 2.0, 1.0, 1) for noun in ("lamp", "rug", "sofa", "desk")}
    monkeypatch.setattr(path_tracing, "find_walks", lambda *_: walks)
    monkeypatch.setattr(
        path_tracing, "sights", lambda _, walk, *__: [Sight(walk, "left", {"lamp": 0}, frozenset({"lamp"}), on_map)] * 2
    )
    task = PathTracing(PathTracingConfig(most_per_bin=most, samples_per_scene=in_all, min_opposite=0))
    monkeypatch.setattr(task, "_finish", lambda scene, puzzle, *_: [puzzle.sight.walk.bin] * 2)  # of one view
    found = Counter(task.propose(made_up([], task.config), np.random.default_rng(0), Yields()))
    views = tuple(found[name] / 2 for name in BINS)
    assert sum(views) == in_all if given is None else views == given


@pytest.mark.parametrize(
    ("opposite", "enough"),
    [({"sofa", "desk", "bed"}, True), ({"sofa", "desk"}, False), ({"sofa", "desk", "television"}, False)],
)
def test_a_question_needs_options_that_nothing_in_view_may_be_taken_for(opposite: set[str], enough: bool) -> None:
    """The side view shows a monitor, for which a television may be taken: it is no option, and two are too few."""
    config = PathTracingConfig(view=ViewFilter(0.0, 0, 0.0, 1.0, 1.0))
    names = ["lamp", "monitor", *sorted(opposite)]
    seen = measures([0.1, 0.01] + [0.0] * len(opposite), [(0.5, 0.5)] * len(names))
    frame = Frame(EYE, None, np.ones((8, 8)), np.zeros((8, 8), int))
    scene = made_up(
        [thing(i, name, (0.0, 2.0, 1.0)) for i, name in enumerate(names)],
        config,
        render=lambda *_: [frame],
        stats=lambda _: seen,
    )
    on_map = {name: OnMap(2.0, 2.0, 1.0, 1) for name in names}
    sight = Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"}), on_map)
    search: Any = SimpleNamespace(find=lambda _: EYE, shows=lambda *_: True)
    presentation, yields = Presentation(True, "td_path", Lens(1.5, 90.0, 0.0)), Yields()
    puzzle = Puzzle(sight, "lamp", frozenset(opposite))
    facts = PathTracing(config)._facts(scene, puzzle, frame, seen, presentation)
    assert set(facts["options"]) == {"lamp", *opposite} - {"television"} and "television" in facts["in_view"]
    assert not PathTracing(config)._finish(scene, puzzle, presentation, search, "00", yields), "it has no colours"
    assert yields.rejected["options.enough_out_of_view"] == (not enough)


@pytest.mark.parametrize(
    ("source", "most", "asked"),
    [
        ("same_scene", 6, ["lamp", "sofa", "desk"]),
        ("same_scene", 2, ["lamp", "sofa"]),
        ("same_scene", 1, ["lamp"]),
        ("any_scene", 6, ["lamp"]),
    ],
)
def test_what_a_side_view_shows_clearly_may_be_asked_for(
    source: str, most: int, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sofa and desk are as clear as the lamp; of the vase a corner is seen, the bed is not clear from M1."""
    nouns = ("lamp", "sofa", "vase", "desk", "bed")
    config = PathTracingConfig(options=source, answers_per_view=most, view=ViewFilter(0.0, 0, 0.0, 1.0, 1.0))
    across = ("chair", "rug", "plant")
    names, least = (*nouns, *across), config.min_coverage
    seen = measures([0.1, least, 0.9 * least, 0.1, 0.1, 0.0, 0.0, 0.0], [(0.5, 0.5)] * len(names))
    frame = Frame(EYE, np.zeros((8, 8, 3), np.uint8), np.ones((8, 8)), np.zeros((8, 8), int))
    scene = made_up(
        [thing(i, name, (0.0, 2.0, 1.0)) for i, name in enumerate(names)],
        config,
        render=lambda *_: [frame],
        stats=lambda _: seen,
        encode=lambda _, role, camera: SampleImage(b"", role, camera),
    )
    on_map = {name: OnMap(2.0, 2.0, 1.0, 1) for name in names}
    clear = {noun: nouns.index(noun) for noun in ("lamp", "sofa", "vase", "desk")}
    puzzle = Puzzle(Sight(straight_walk(), "left", clear, frozenset(nouns), on_map), "lamp", frozenset(across))
    task, presentation = PathTracing(config), Presentation(True, "td_path", Lens(1.5, 90.0, 0.0))
    search = SideViewSearch(scene, config, {}, Yields())
    monkeypatch.setattr(search, "find", lambda _: EYE)
    monkeypatch.setattr(path_tracing.verify, "agrees", lambda *_: True)
    monkeypatch.setattr(task, "_map", lambda *_: SampleImage(b"", "map", EYE))
    found = task._finish(scene, puzzle, presentation, search, "07", Yields())
    assert [one.facts["answer"] for one in found] == asked == [one.facts["object"]["name"] for one in found]
    assert [one.key for one in found] == ([f"07-{noun}" for noun in asked] if source == "same_scene" else ["07"])
    assert len({id(one.imagination) for one in found}) == 1, "of one picture"
    assert all(set(one.facts["options"]) == {one.facts["answer"], *across} for one in found if source == "same_scene")
