"""Every filter, threshold and balance rule, switched off one at a time, is noticed: made-up scenes and masks, few pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Frame, Path, SceneInfo, SceneObject, top_down_camera
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks import TASK_CONFIGS, TASKS
from datagen.tasks.base import SceneView, TaskConfig, ViewFilter
from datagen.tasks.counting_questions import POOL, MultiviewCountingSelector
from datagen.tasks.multiview_counting import (
    FAINT,
    MultiviewCounting,
    MultiviewCountingConfig,
    Region,
    Spot,
    shows_exactly,
)
from datagen.tasks.path_questions import PathTracingSelector
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.paths import Sight, Walk, best_instances, find_walks, middle
from datagen.tasks.perspective_taking import (
    SUB_CATEGORIES,
    PerspectiveTaking,
    PerspectiveTakingConfig,
    PerspectiveTakingSelector,
    Shot,
    answers,
)
from datagen.tasks.puzzles import Puzzle
from datagen.tasks.side_views import SideViewSearch
from datagen.tasks.vocabulary import Vocabulary
from datagen.visibility import InstanceStats
from datagen.yields import Yields
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.conftest import block_config
from tests.datagen.test_annotate import floor_frame
from tests.datagen.test_plain import PET
from tests.datagen.test_puzzles import told

EYE = Camera(CameraPose((0.0, 0.0, 1.5), 0.0), 100, 100, 75)


def thing(index: int, name: str, centre: tuple[float, float, float], structure: bool = False) -> SceneObject:
    """A cube of 0.4 m."""
    low, high = (tuple(value + side for value in centre) for side in (-0.2, 0.2))
    return SceneObject(f"{name}-{index}", index, name, name, name, low, high, is_structure=structure)  # type: ignore[arg-type]


def made_up(objects: list[SceneObject], config: TaskConfig, **changes: Any) -> Any:
    """A scene that knows its objects; ``changes`` replace what a test needs of it."""
    info = SceneInfo("made up", "embedded", "0", (-5, -5, 0), (5, 5, 2.5))
    backend = SimpleNamespace(
        objects=lambda: tuple(objects), info=info, is_free=lambda points, _: np.ones(len(points), bool)
    )
    scene = SceneView(backend, info, 100, config)  # type: ignore[arg-type]
    for name, value in changes.items():
        object.__setattr__(scene, name, value)
    return scene


def measures(area: list[float], centre: list[tuple[float, float]], median: float = 3.0) -> InstanceStats:
    """Masks of these shares of a picture of 100 x 100 at these places."""
    pixels = np.rint(np.array(area) * 10_000).astype(np.int64)
    return InstanceStats(pixels, np.array(area), np.array(centre, dtype=float), median)


# Perspective Taking


LAMP = (2.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "filter_name"),
    [
        ({}, None),
        ({"area": [0.0039, 0.1]}, "area"),
        ({"place": (3.0, 4.1, 1.5)}, "distance"),
        ({"centre": [(0.14, 0.5), (0.5, 0.5)]}, "edge_margin"),
        ({"centre": [(0.5, 0.86), (0.5, 0.5)]}, "edge_margin"),
        ({"names": ["lamp", "lamp"]}, "unique_name"),
    ],
)
def test_an_object_is_asked_about_only_where_every_limit_is_kept(
    changes: dict[str, Any], filter_name: str | None
) -> None:
    config = PerspectiveTakingConfig()
    names = changes.get("names", ["lamp", "sofa"])
    scene = made_up([thing(0, names[0], changes.get("place", LAMP)), thing(1, names[1], (3.0, 1.0, 0.5))], config)
    shot = Shot(EYE, measures(changes.get("area", [0.0041, 0.1]), changes.get("centre", [(0.16, 0.5), (0.5, 0.5)])))
    yields = Yields()
    assert PerspectiveTaking(config)._askable(scene, shot, 0, yields, "view") is (filter_name is None)
    assert [name for name, count in yields.rejected.items() if count] == (
        [f"view.{filter_name}"] if filter_name else []
    )


@pytest.mark.parametrize(
    ("sides", "change", "found"),
    [
        (("left", "right"), -0.51, [("distance", "closer"), ("from_left", "right")]),
        (("left", "right"), 0.49, [("from_left", "right")]),
        (("right", "right"), 0.5, [("distance", "further"), ("from_right", "right")]),
        ((None, "left"), 0.0, []),
        (("left", None), -0.6, [("distance", "closer")]),
    ],
)
def test_what_a_move_answers(sides: tuple[Any, Any], change: float, found: list[tuple[str, str]]) -> None:
    assert answers(sides, change, PerspectiveTakingConfig()) == found


@pytest.mark.parametrize(("u", "side"), [(0.35, "left"), (0.36, None), (0.5, None), (0.64, None), (0.65, "right")])
def test_sides_keep_off_the_centre_line(u: float, side: str | None) -> None:
    assert PerspectiveTaking(PerspectiveTakingConfig())._side(u) == side


def floor_scene(config: TaskConfig, **changes: Any) -> tuple[Any, Frame]:
    """A floor and a box on it, seen from 1.5 m: the box, 0.3 m high, fills the right of the picture."""
    camera = Camera(CameraPose((0.0, 0.0, 1.5), 0.0, -0.5), 100, 100, 90)
    frame = floor_frame(camera)
    assert frame.depth is not None
    instance = np.where(frame.depth > 0, 0, -1).astype(np.int32)
    raised = floor_frame(replace(camera, pose=CameraPose((0, 0, 1.2), 0.0, -0.5)))
    assert raised.depth is not None
    depth = frame.depth.copy()
    depth[:, 60:] = raised.depth[:, 60:]
    objects = [thing(0, "floor", (0, 0, -0.2), True), thing(1, "rug", (0, 0, 0.0))]
    return made_up(objects, config, **changes), replace(frame, depth=depth, instance=instance)


def test_targets_lie_on_the_floor_within_reach_and_off_the_edges() -> None:
    config = PerspectiveTakingConfig(targets_per_camera=10_000)
    scene, frame = floor_scene(config)
    points = PerspectiveTaking(config)._targets(scene, frame, np.random.default_rng(0))
    steps = np.linalg.norm(points[:, :2], axis=1)
    assert len(points) > 300 and 0.8 <= steps.min() < 0.95 and 4.1 < steps.max() <= 4.5
    assert np.abs(points[:, 2]).max() < 0.2, "what lies 0.3 m high is no floor, whatever its name"
    pixels = frame.camera.project(points)[0]
    assert pixels.min() >= 6 and pixels.max() <= 94
    blocked = SimpleNamespace(
        objects=lambda: scene.objects,
        is_free=lambda where, clearance: where[:, 1] > 0.1 * (clearance == config.clearance_m),
    )
    points = PerspectiveTaking(config)._targets(replace(scene, backend=blocked), frame, np.random.default_rng(0))
    assert len(points) and points[:, 1].min() > 0.1, "only free places"
    few = PerspectiveTakingConfig(targets_per_camera=7)
    assert len(PerspectiveTaking(few)._targets(scene, frame, np.random.default_rng(0))) == 7


@pytest.mark.parametrize(
    ("changes", "filter_name"),
    [
        ({}, None),
        ({"median": 1.19}, "median_depth"),
        ({"area": [0.5, 0.2, 0.004, 0.004]}, "instances"),
        ({"area": [0.3, 0.1, 0.51, 0.01]}, "dominant_instance"),
        ({"area": [0.1, 0.71, 0.1, 0.01]}, "dominant_instance"),
        ({"area": [0.9, 0.05, 0.01, 0.01]}, None),
        ({"area": [0.1, 0.69, 0.1, 0.01]}, None),
    ],
)
def test_views_worth_showing(changes: dict[str, Any], filter_name: str | None) -> None:
    """A floor may fill the view; walls and things may not, and there must be something to see."""
    names = (("floor", True), ("wall", True), ("lamp", False), ("sofa", False))
    scene = made_up([thing(i, name, LAMP, structure) for i, (name, structure) in enumerate(names)], TaskConfig("pet"))
    area = changes.get("area", [0.4, 0.2, 0.1, 0.01])
    yields = Yields()
    stats = measures(area, [(0.5, 0.5)] * 4, changes.get("median", 1.21))
    assert scene.acceptable(stats, yields, "view") is (filter_name is None)
    assert [name for name, count in yields.rejected.items() if count] == (
        [f"view.{filter_name}"] if filter_name else []
    )


IMPOSSIBLE: dict[str, list[dict[str, Any]]] = {
    "pet": [
        {"min_area": 1.1}, {"max_distance_m": 0.0}, {"edge_margin": 0.51}, {"min_step_m": 99.0, "max_step_m": 100.0},
        {"max_step_m": 0.0}, {"floor_tolerance_m": -1.0}, {"min_marker_visible": 1.1}, {"samples_per_scene": 0},
        {"centre_margin": 0.51, "min_distance_change_m": 99.0}, {"cameras_per_scene": 1, "targets_per_camera": 0},
    ],
    "pt": [
        {"min_scan_area": 1.1}, {"min_map_area_m2": 1e4}, {"min_coverage": 1.1}, {"min_ego_depth_m": 99.0},
        {"most_per_bin": (0, 0, 0)}, {"samples_per_scene": 0}, {"distance_bins_m": (90.0, 95.0, 99.0)},
    ],
    "mvc": [
        {"min_area": 1.1}, {"min_best_area": 1.1}, {"samples_per_scene": 0}, {"spots_per_scene": 0},
        {"crop_radius_rotation_m": 0.01, "crop_radius_square_m": 0.01},
    ],
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "pet": {"samples_per_scene": 3, "cameras_per_scene": 24},
    "pt": {"samples_per_scene": 2, "walks_per_bin": 4},
    "mvc": {"samples_per_scene": 1, "spots_per_scene": 8},
}


def proposed(backend: EmbeddedBackend, task: str, scene: int = 1, **changes: Any) -> tuple[list[Any], Yields]:
    config = block_config(task, **{**SMALL[task], **changes})
    yields = Yields()
    view = SceneView(backend, backend.load(backend.scenes("train")[scene]), 64, config)
    return TASKS[task](config).propose(view, generator(3, task), yields), yields


@pytest.mark.parametrize("task", TASKS)
def test_a_small_search_finds_something(task: str, request: pytest.FixtureRequest) -> None:
    """Without which the next test would say nothing."""
    backend = request.getfixturevalue("counting_blocks" if task == "mvc" else "blocks")
    found, yields = proposed(backend, task)
    assert found and any(yields.rejected.values())


@pytest.mark.parametrize(("task", "limit"), [(task, limit) for task, limits in IMPOSSIBLE.items() for limit in limits])
def test_a_limit_that_nothing_meets_leaves_nothing(
    task: str, limit: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    backend = request.getfixturevalue("counting_blocks" if task == "mvc" else "blocks")
    assert proposed(backend, task, **limit)[0] == []


def test_pet_questions_keep_strict_limits_in_both_views(blocks: EmbeddedBackend) -> None:
    """Measured on the full masks, from the stored cameras."""
    limits = {"min_area": 0.008, "max_distance_m": 3.2, "edge_margin": 0.22, "centre_margin": 0.2}
    found = [one for scene in range(3) for one in proposed(blocks, "pet", scene, **limits, samples_per_scene=6)[0]]
    assert len(found) >= 3
    for one in found:
        facts = one.facts
        for when in ("before", "after"):
            assert facts[f"area_{when}"] >= 0.008 and facts[f"distance_{when}_m"] <= 3.2
            u, v = facts[f"position_{when}"]
            assert min(u, v) >= 0.22 and max(u, v) <= 0.78
            if facts["kind"] != "distance":
                assert abs(u - 0.5) >= 0.2
        if facts["kind"] == "distance":
            assert abs(facts["distance_after_m"] - facts["distance_before_m"]) >= 0.5
        assert facts["marker_visible"] >= 0.75


def test_a_scene_asks_about_different_objects_and_from_different_views(blocks: EmbeddedBackend) -> None:
    """Objects asked about least come first, and a view serves one question."""
    nouns, views = Counter[str](), Counter[tuple[float, ...]]()
    for scene in range(2):
        for one in proposed(blocks, "pet", scene, samples_per_scene=6, cameras_per_scene=32)[0]:
            views[(scene, *one.images[0].camera.pose.position)] += 1
            nouns[f"{scene} {one.facts['object']['name']}"] += 1
    assert max(views.values()) == 1 and max(nouns.values()) <= 3 and len(nouns) >= 4


def pet_facts(noun: str, number: int) -> dict[str, Any]:
    sub_category = SUB_CATEGORIES[number % 6]
    *_, before, after = sub_category.split("_")
    kind = "distance" if sub_category.startswith("distance") else f"from_{before}"
    return {**PET, "object": {"name": noun}, "kind": kind, "answer": after, "sub_category": sub_category}


def test_no_object_has_much_more_than_its_share_of_pet() -> None:
    """Three of four offers are about one noun of twenty; the cap is a tenth, and four more at most."""
    selector = PerspectiveTakingSelector(PerspectiveTakingConfig(), 300, np.random.default_rng(0))
    given = Counter[str]()
    rng = np.random.default_rng(1)
    for number in range(6000):
        noun = "cube" if rng.random() < 0.75 else f"noun {int(rng.integers(20))}"
        for question in selector.offer(str(number), pet_facts(noun, int(rng.integers(6)))):
            given[question.facts["object"]["name"]] += 1
    assert given.total() == 300 and given["cube"] <= 0.1 * 300 + 5
    few = PerspectiveTakingSelector(PerspectiveTakingConfig(), 60, np.random.default_rng(0))
    taken = sum(len(few.offer(str(n), pet_facts(("cube", "ball")[n % 2], n // 2))) for n in range(600))
    assert taken == 60, "where a scene has two objects, each may have half"


def test_pet_has_six_equal_quotas() -> None:
    selector = PerspectiveTakingSelector(PerspectiveTakingConfig(), 60, np.random.default_rng(0))
    rng, given = np.random.default_rng(2), Counter[str]()
    for number in range(4000):
        which = int(rng.choice(6, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]))
        for question in selector.offer(str(number), pet_facts(f"noun {int(rng.integers(40))}", which)):
            given[question.question_type] += 1
            assert question.answer_text.lower() == question.facts["answer"]
    assert given == dict.fromkeys(SUB_CATEGORIES, 10) and selector.remaining == 0


# Path Tracing


def straight_walk(heading: float = 0.0) -> Walk:
    points = np.array([[-2.0, 0, 0], [2.0, 0, 0]])
    return Walk(Path(points, 4.0), np.zeros(2), heading, "long", "")


@pytest.mark.parametrize(
    ("degrees", "metres", "clear"),
    [
        (24, 2, False), (26, 2, True), (90, 2, True), (154, 2, True), (156, 2, False), (-90, 2, False), (90, 6.1, False),
        (90, 5.9, True),
    ],
)  # fmt: skip
def test_an_object_stands_clearly_on_one_side(degrees: float, metres: float, clear: bool) -> None:
    angle = math.radians(degrees)
    scene = made_up([thing(0, "lamp", (metres * math.cos(angle), metres * math.sin(angle), 1.0))], PathTracingConfig())
    for side, sees in (("left", clear), ("right", degrees == -90)):
        assert bool(best_instances(scene, straight_walk(), side, np.array([0.01]), 0.004)) is sees, side
    assert not best_instances(scene, straight_walk(), "left", np.array([0.0039]), 0.004), "too small"


def test_of_several_instances_the_largest_speaks_for_a_noun() -> None:
    objects = [
        thing(0, "lamp", (0.0, 2.0, 1.0)),
        thing(1, "lamp", (0.5, 2.0, 1.0)),
        thing(2, "wall", (0.0, 3.0, 1.0), True),
    ]
    scene = made_up(objects, PathTracingConfig())
    assert best_instances(scene, straight_walk(), "left", np.array([0.01, 0.02, 0.5]), 0.004) == {"lamp": 1}


@pytest.mark.parametrize(("bend", "kept"), [(0, True), (30, True), (40, False), (-40, False), (90, False)])
def test_m1_lies_on_a_straight_stretch(bend: float, kept: bool) -> None:
    turn = math.radians(bend)
    points = np.array([[-1.0, 0, 0], [0, 0, 0], [math.cos(turn), math.sin(turn), 0]])
    walk = middle(made_up([], PathTracingConfig()), Path(points, 2.0), "medium")
    assert (walk is not None) is kept
    if walk is not None:
        assert math.degrees(walk.heading) == pytest.approx(bend / 2, abs=1.0)


def test_a_side_view_shows_its_answer_and_nothing_of_the_other_side() -> None:
    """The answer large enough, not a pixel of a noun of the opposite side or of another option."""
    names = ["lamp", "sofa", "desk", "rug"]
    scene = made_up([thing(index, name, LAMP) for index, name in enumerate(names)], PathTracingConfig())
    search = SideViewSearch(scene, PathTracingConfig(), {}, Yields())
    puzzle = Puzzle(Sight(straight_walk(), "left", {"lamp": 0}, frozenset({"lamp"})), "lamp", frozenset({"sofa"}))

    def shows(*area: float, absent: tuple[str, ...] = ()) -> bool:
        return search.shows(puzzle, measures(list(area), [(0.5, 0.5)] * 4), absent)

    assert shows(0.0016, 0.0, 0.0, 0.5) and not shows(0.0014, 0.0, 0.0, 0.5)
    assert not shows(0.01, 0.0001, 0.0, 0.0), "a pixel of the opposite side"
    assert shows(0.01, 0.0, 0.0001, 0.0) and not shows(0.01, 0.0, 0.0001, 0.0, absent=("desk",))


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


def pt_facts(noun: str, **changes: Any) -> dict[str, Any]:
    facts = {"distance_bin": "short", "rooms": ["kitchen"], "room": "kitchen", "answer": noun, "in_view": [noun]}
    facts |= {"opposite": [], "distractors": ["x", "y", "z"]}
    return told({**facts, **changes})


def test_distance_bins_of_path_tracing_are_equal() -> None:
    rng = np.random.default_rng(0)
    selector = PathTracingSelector(60, np.random.default_rng(1))
    bins = Counter[str]()
    for number in range(600):
        name = ("short", "medium", "long")[int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
        bins.update(q.facts["distance_bin"] for q in selector.offer(str(number), pt_facts("lamp", distance_bin=name)))
    assert bins == {"short": 20, "medium": 20, "long": 20} and selector.remaining == 0


def test_a_common_kind_of_room_waits_for_the_others_in_a_short_queue() -> None:
    """One bathroom, then kitchens only: they may lead by three, eight more wait, the next one lets the first of these go."""
    selector = PathTracingSelector(300, np.random.default_rng(0))
    given = len(selector.offer("b", pt_facts("lamp", rooms=["bathroom"] * 4)))
    counts = []
    for number in range(14):
        given += len(selector.offer(str(number), pt_facts("lamp", rooms=["kitchen"] * 3 + ["bathroom"])))
        counts.append(given)
    assert counts == [2, 3, 4, 5, *[5] * 8, 6, 7]
    assert len(selector.pending()) == 8


def test_a_noun_that_is_nearly_always_in_view_is_seldom_asked_for() -> None:
    """Without options of their own, questions need a noun out of view three times as often as it is the answer."""
    selector = PathTracingSelector(45, np.random.default_rng(0))
    rng, asked = np.random.default_rng(1), Counter[str]()
    names = [f"noun {number}" for number in range(12)]
    for number in range(900):
        noun = "window" if rng.random() < 0.6 else names[int(rng.integers(12))]
        facts = pt_facts(noun, distance_bin=("short", "medium", "long")[number % 3], in_view=[noun, "window"])
        del facts["distractors"]
        facts |= {"chances": {name: 1 / 12 for name in names}, "options": [noun, *(n for n in names if n != noun)]}
        asked.update(question.facts["answer"] for question in selector.offer(str(number), facts))
    assert asked.total() == 45 and asked["window"] <= 2


# Multiview Counting


def above(squares: dict[int, tuple[float, float, float]]) -> Frame:
    """A map of 10 x 10 m, 100 pixels wide, with squares (x, y, side in metres) of instances on an empty floor."""
    camera = top_down_camera((-5, -5, 5, 5), 100, 0.0)
    instance = np.full((100, 100), -1, np.int32)
    for index, (x, y, side) in squares.items():
        (left, top), (right, bottom) = (
            np.rint(camera.project(np.array([x + sign * side / 2, y - sign * side / 2, 0]))[0]).astype(int)
            for sign in (-1, 1)
        )
        instance[top:bottom, left:right] = index
    return Frame(camera, None, np.full((100, 100), 20, np.float32), instance)


WHOLE = {0: (-1.0, 0.0, 0.6), 1: (1.0, 0.0, 0.6), 2: (0.0, 3.5, 0.6), 3: (0.0, -1.0, 0.6)}


def countings(
    clear: set[int], seen: set[int], squares: dict[int, tuple[float, float, float]] = WHOLE, **changes: Any
) -> tuple[dict[str, frozenset[int]], Yields]:
    """What may be asked of a spot at the origin in a room of three chairs (0 to 2) and a stool (3)."""
    config = MultiviewCountingConfig(**changes)
    objects = [
        thing(i, name, (*squares.get(i, (0, 0, 1))[:2], 0.3))
        for i, name in enumerate(["chair", "chair", "chair", "stool"])
    ]
    scene = made_up(objects, config)
    scene.backend.render_top_down = lambda *_: above(squares)
    cameras = tuple(Camera(CameraPose((0, 0, 1.5), turn * math.pi / 2), 64, 64) for turn in range(4))
    spot = Spot("rotation", cameras, frozenset(clear), frozenset(seen))
    yields = Yields()
    nouns = {"chair": frozenset({0, 1, 2}), "stool": frozenset({3})}
    found = MultiviewCounting(config)._counts(
        scene, [spot], nouns, Vocabulary(lookalikes={"chair": ("stool",)}), yields
    )
    return {count.noun: count.instances for count in found}, yields


def test_a_count_is_asked_where_frames_and_map_show_the_same() -> None:
    assert countings({0, 1, 2}, {0, 1, 2})[0] == {"chair": {0, 1, 2}}


@pytest.mark.parametrize(
    ("arguments", "filter_name"),
    [
        ({"clear": {0, 1}, "seen": {0, 1, 2}}, "count.none_barely_seen"),
        ({"clear": {0, 1, 2}, "seen": {0, 1, 2, 3}}, "count.no_lookalike"),
        ({"clear": {0, 1, 2}, "seen": {0, 1, 2}, "crop_radius_rotation_m": 2.0}, "count.map_agrees"),
        ({"clear": {0, 1, 2}, "seen": {0, 1, 2}, "squares": {**WHOLE, 2: (0.0, 3.5, 0.0)}}, "count.map_agrees"),
    ],
)
def test_a_count_is_refused_with_its_reason(arguments: dict[str, Any], filter_name: str) -> None:
    found, yields = countings(**arguments)
    assert "chair" not in found and yields.rejected[filter_name] == 1


def test_a_smaller_crop_may_agree_where_the_largest_does_not() -> None:
    """The third chair is in no frame: only a crop that leaves it out shows what the frames show."""
    assert countings({0, 1}, {0, 1})[0] == {"chair": {0, 1}}
    assert countings({0, 1}, {0, 1}, squares={**WHOLE, 2: (0.0, 0.5, 0.6)})[0] == {}


def test_more_than_can_be_asked_for_is_not_asked() -> None:
    config = replace(MultiviewCountingConfig(), max_count=4)
    many = {number: (-4.0 + number, 0.0, 0.6) for number in range(5)}
    objects = [thing(number, "chair", (*many[number][:2], 0.3)) for number in range(5)]
    scene = made_up(objects, config)
    scene.backend.render_top_down = lambda *_: above(many)
    cameras = tuple(Camera(CameraPose((0, 0, 1.5), turn * math.pi / 2), 64, 64) for turn in range(4))
    for count, asked in ((5, False), (4, True)):
        members = frozenset(range(count))
        scene.backend.render_top_down = lambda *_, members=members: above({n: many[n] for n in members})
        spot = Spot("rotation", cameras, members, members)
        found = MultiviewCounting(config)._counts(scene, [spot], {"chair": members}, Vocabulary(), Yields())
        assert bool(found) is asked


@pytest.mark.parametrize(
    ("pixels", "whole", "good"),
    [
        ([40, 40, 0], [40, 40, 0], True),
        ([25, 40, 0], [40, 40, 0], True),
        ([23, 40, 0], [40, 40, 0], False),
        ([9, 40, 0], [9, 40, 0], False),
        ([40, 40, 1], [40, 40, 40], True),
        ([40, 40, 3], [40, 40, 40], False),
    ],
)
def test_a_map_shows_exactly_these(pixels: list[int], whole: list[int], good: bool) -> None:
    """Each counted one is large enough and 60 % within the crop; the other members leave no more than a trace."""
    frame = above({})
    region = Region(-5, -5, 5, 5)
    shown = shows_exactly(
        np.array(pixels), np.array(whole), region, frame, frozenset({0, 1}), frozenset({0, 1, 2}), 0.001
    )
    assert shown is good
    assert pytest.approx(2.0) == FAINT * 100 * 100


def test_spots_tell_clear_from_barely_seen_instances() -> None:
    """Clear: 0.4 % of the best frame; seen: 0.02 %; one of four frames is enough."""
    config = MultiviewCountingConfig(
        spots_per_scene=1, movements=("rotation",), view=ViewFilter(0.0, 0, 0.005, 1.0, 1.0)
    )
    objects = [thing(index, "chair", (2.0, 0.0, 0.5)) for index in range(4)]
    areas = [[0.0041, 0.0039, 0.0003, 0.0001], [0.0, 0.0, 0.0, 0.0], [0.001, 0.001, 0.0, 0.0], [0.0, 0.0, 0.0001, 0.0]]
    scene = made_up(
        objects,
        config,
        render=lambda cameras, _: list(range(len(cameras))),
        stats=lambda number: measures(areas[number], [(0.5, 0.5)] * 4),
    )
    scene.backend.sample_navigable = lambda count, rng, clearance: np.zeros((count, 3))
    (spot,) = MultiviewCounting(config)._spots(scene, np.random.default_rng(0), Yields())
    assert spot.clear == {0} and spot.seen == {0, 1, 2}
    strict = replace(config, min_area=0.0042)
    assert (
        MultiviewCounting(strict)._spots(replace_config(scene, strict), np.random.default_rng(0), Yields())[0].clear
        == set()
    )


def replace_config(scene: Any, config: TaskConfig) -> Any:
    other = made_up(list(scene.objects), config, render=scene.render, stats=scene.stats)
    other.backend.sample_navigable = scene.backend.sample_navigable
    return other


@pytest.mark.parametrize(("movement", "side"), [("rotation", 0.0), ("square", 1.0)])
def test_four_cameras_turn_or_walk_round_a_square(movement: str, side: float) -> None:
    config = MultiviewCountingConfig(square_side_m=(1.0, 1.0))
    scene = made_up([], config)
    scene.backend.sample_navigable = lambda count, rng, clearance: np.tile([1.0, 2.0, 0.0], (count, 1))
    cameras = MultiviewCounting(config)._cameras(scene, movement, np.random.default_rng(0))
    assert cameras is not None
    places = np.array([camera.pose.position for camera in cameras])
    yaws = np.unwrap([camera.pose.yaw for camera in cameras])
    assert np.diff(yaws) == pytest.approx([math.pi / 2] * 3), "each turn is to the left"
    for number in range(3):
        step = places[number + 1, :2] - places[number, :2]
        ahead = np.array([math.cos(yaws[number]), math.sin(yaws[number])])
        np.testing.assert_allclose(step, side * ahead, atol=1e-9)
    assert places[:, 2] == pytest.approx([1.5] * 4) and {round(camera.pose.pitch, 6) for camera in cameras} == {
        -0.20944
    }
    blocked: Callable[..., Any] = lambda points, _: np.zeros(len(points), bool)  # noqa: E731
    scene.backend.is_free = blocked
    assert MultiviewCounting(config)._cameras(scene, movement, np.random.default_rng(0)) is None


def mvc_offers(
    selector: MultiviewCountingSelector, nouns: list[str], shares: list[float], count: int, first: int = 0
) -> Counter[str]:
    rng, given = np.random.default_rng(3), Counter[str]()
    for number in range(first, first + count):
        noun = nouns[int(rng.choice(len(nouns), p=shares))]
        facts = {
            "category": noun, "members": [noun], "count": int(rng.integers(1, 5)), "movement": "rotation",
            "instances_per_frame": [["a"]], "also_on_map": {},
        }  # fmt: skip
        given.update(question.facts["category"] for question in selector.offer(f"mvc-b-s{number}-00-x", facts))
    return given


def test_no_noun_has_more_than_its_share_of_counting() -> None:
    """Once fifteen nouns have reached all four counts, six of ten offers are chairs: the cap of a tenth holds them down."""
    nouns = ["chair", *(f"noun {number}" for number in range(14))]
    selector = MultiviewCountingSelector(500, 0.099, np.random.default_rng(0))
    given = mvc_offers(selector, nouns, [1 / 15] * 15, 250) + mvc_offers(
        selector, nouns, [0.6, *[0.4 / 14] * 14], 1500, 250
    )
    assert given.total() > 200 and given["chair"] <= 0.15 * given.total(), (
        "where few nouns are ready, each may have a little more"
    )
    few = MultiviewCountingSelector(100, 0.099, np.random.default_rng(0))
    assert mvc_offers(few, ["chair", "desk"], [0.5, 0.5], 2000).total() == 100, "with two nouns each may have half"


def test_a_pool_keeps_few_places_of_a_kind_and_forgets_what_was_asked() -> None:
    selector = MultiviewCountingSelector(10, 1.0, np.random.default_rng(0))
    for number in range(POOL + 30):
        facts = {"category": "chair", "members": ["chair"], "count": 1, "movement": "rotation"}
        assert selector.offer(f"mvc-b-s{number}-00-chair", facts) == []
    assert len(selector.pending()) == POOL


def test_one_place_is_asked_about_one_noun() -> None:
    """Two nouns at each place: once one is asked, the other's question with the same pictures is dropped."""
    selector = MultiviewCountingSelector(100, 1.0, np.random.default_rng(0))
    asked = Counter[str]()
    for number in range(400):
        for noun in ("chair", "lamp"):
            facts = {
                "category": noun, "members": [noun], "count": 1 + number % 4, "movement": "rotation",
                "instances_per_frame": [["a"]], "also_on_map": {},
            }  # fmt: skip
            asked.update(q.candidate_id.rsplit("-", 1)[0] for q in selector.offer(f"mvc-b-s{number}-00-{noun}", facts))
    assert asked.total() > 40 and max(asked.values()) == 1


@pytest.mark.parametrize("task", TASKS)
def test_settings_reach_the_tasks(task: str) -> None:
    """Every threshold that these tests turn exists under its name."""
    for limit in IMPOSSIBLE[task]:
        TASK_CONFIGS[task](name=task, **limit)
