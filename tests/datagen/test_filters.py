"""Every filter, threshold and balance rule, switched off one at a time, is noticed: views, and Perspective Taking."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen import annotate
from datagen.backends.base import Frame
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks import TASK_CONFIGS, TASKS
from datagen.tasks.base import SceneView, TaskConfig, ViewFilter
from datagen.tasks.drawing import KINDS
from datagen.tasks.perspective_questions import SUB_CATEGORIES, PerspectiveTakingSelector
from datagen.tasks.perspective_taking import (
    TURNS,
    Move,
    PerspectiveTaking,
    PerspectiveTakingConfig,
    Search,
    Shot,
    Subject,
    View,
    answers,
)
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.conftest import block_config
from tests.datagen.made_up import EYE, LAMP, made_up, measures, thing
from tests.datagen.test_annotate import floor_frame
from tests.datagen.test_plain import PET


@pytest.mark.parametrize(
    ("changes", "filter_name"),
    [
        ({}, None),
        ({"area": [0.0039, 0.1]}, "area"),
        ({"place": (3.0, 4.1, 1.5)}, "distance"),
        ({"centre": [(0.14, 0.5), (0.5, 0.5)]}, "edge_margin"),
        ({"centre": [(0.5, 0.86), (0.5, 0.5)]}, "edge_margin"),
        ({"names": ["lamp", "lamp"]}, "unique_name"),
        ({"names": ["lamp", "table lamp"]}, "unique_name"),
        ({"names": ["television", "monitor"]}, "unique_name"),
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


@pytest.mark.parametrize("task", ["pet", "mvc"])
def test_cameras_vary_within_their_ranges_and_are_constant_without(task: str, request: pytest.FixtureRequest) -> None:
    backend = request.getfixturevalue("counting_blocks" if task == "mvc" else "blocks")
    ranges = {"eye_height_range_m": (1.2, 1.7), "fov_range_deg": (80.0, 95.0), "pitch_range_deg": (-25.0, -5.0)}
    for changes in ({}, ranges):
        seen = set[tuple[float, float, float]]()
        for scene in range(3):
            for one in proposed(backend, task, scene, samples_per_scene=2, **changes)[0]:
                views = [*one.images, one.imagination][: 2 if task == "pet" else 4]
                lenses = {
                    (
                        round(v.camera.pose.position[2], 6),
                        v.camera.vertical_fov_deg,
                        round(math.degrees(v.camera.pose.pitch), 6),
                    )
                    for v in views
                }
                assert len(lenses) == 1, "the views of a question share their camera"
                seen |= lenses
        heights, fovs, pitches = (np.array(values) for values in zip(*seen, strict=True))
        if changes:
            assert len(seen) >= 3 and 1.2 <= heights.min() < heights.max() <= 1.7
            assert 80 <= fovs.min() < fovs.max() <= 95 and -25 <= pitches.min() < pitches.max() <= -5
        else:
            assert len(seen) == 1


@pytest.mark.parametrize("name", ["eye_height_range_m", "fov_range_deg", "pitch_range_deg"])
@pytest.mark.parametrize("values", [(1.0,), (60.0, 20.0), (-90.0, 200.0)])
@pytest.mark.parametrize("task", ["pet", "mvc"])
def test_ranges_that_are_none_are_refused(task: str, name: str, values: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match=rf"task\.{name} must be empty or two numbers in"):
        TASK_CONFIGS[task](name=task, **{name: values})


@pytest.mark.parametrize("arrow", ["without", "with", "mixed"])
def test_the_whole_mark_has_room_in_the_picture(arrow: str) -> None:
    """Wherever the search takes a target, the X is whole, and so is the arrow of either turn where one may be drawn."""
    config = PerspectiveTakingConfig(targets_per_camera=10_000, arrow=arrow)
    scene, frame = floor_scene(config)
    points = PerspectiveTaking(config)._targets(scene, frame, np.random.default_rng(0))
    assert len(points) > 100
    heads = {turn: replace(EYE, pose=EYE.pose.turned(angle)) for turn, angle in TURNS.items()}
    cut = 0
    for point in points[:120]:
        for after in heads.values():
            marks = PerspectiveTaking(config)._marks(frame, 0.0, point, [frame.camera, after], True)
            assert annotate.in_frame(frame.camera, 0.0, marks[0])
            cut += not annotate.in_frame(frame.camera, 0.0, marks[1])
    assert (cut > 0) is (arrow == "without")


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
        {"most_per_bin": (0, 0, 0)}, {"min_mark_visible": 1.1}, {"samples_per_scene": 0}, {"distance_bins_m": (90.0, 95.0, 99.0)},
    ],
    "mvc": [
        {"min_area": 1.1}, {"min_best_area": 1.1}, {"samples_per_scene": 0}, {"spots_per_scene": 0},
        {"crop_radius_rotation_m": 0.01, "crop_radius_square_m": 0.01}, {"min_mark_visible": 1.1},
    ],
    "drawing": [
        {"min_area": 1.1, "kinds": ("move_turn", "side_view", "view_from_plan")}, {"min_plan_area": 1.1, "kinds": ("plan",)},
        {"samples_per_scene": 0}, {"tries": 0},
        {"view": ViewFilter(min_median_depth_m=99.0), "kinds": ("move_turn", "side_view", "view_from_plan")},
        {"min_step_m": 99.0, "max_step_m": 100.0, "kinds": ("move_turn",)}, {"max_step_m": 0.0, "kinds": ("move_turn",)},
        {"margin": 0.51, "kinds": ("move_turn",)}, {"min_marker_visible": 1.1, "kinds": ("move_turn",)},
        {"min_walk_m": 99.0, "kinds": ("side_view",)}, {"plan_radius_m": 0.01, "kinds": ("plan",)},
    ],
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "pet": {"samples_per_scene": 3, "cameras_per_scene": 24},
    "pt": {"samples_per_scene": 2, "walks_per_bin": 4},
    "mvc": {"samples_per_scene": 1, "spots_per_scene": 8},
    "drawing": {"samples_per_scene": 4},
}
SEARCHES: list[tuple[str, dict[str, Any]]] = [
    *((task, {}) for task in TASKS),
    *(("drawing", {"kinds": (kind,)}) for kind in KINDS),
]


def proposed(backend: EmbeddedBackend, task: str, scene: int = 1, **changes: Any) -> tuple[list[Any], Yields]:
    config = block_config(task, **{**SMALL[task], **changes})
    yields = Yields()
    view = SceneView(backend, backend.load(backend.scenes("train")[scene]), 64, config)
    return TASKS[task](config).propose(view, generator(3, task), yields), yields


@pytest.mark.parametrize(("task", "changes"), SEARCHES)
def test_a_small_search_finds_something(task: str, changes: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Without which the next test would say nothing."""
    backend = request.getfixturevalue("counting_blocks" if task == "mvc" else "blocks")
    found, yields = proposed(backend, task, **changes)
    assert found and (changes or any(yields.rejected.values()))


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
        assert facts["marker_visible"] >= 0.9


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
    selector = PerspectiveTakingSelector(0.1, 300, np.random.default_rng(0))
    given = Counter[str]()
    rng = np.random.default_rng(1)
    for number in range(6000):
        noun = "cube" if rng.random() < 0.75 else f"noun {int(rng.integers(20))}"
        for question in selector.offer(str(number), pet_facts(noun, int(rng.integers(6)))):
            given[question.facts["object"]["name"]] += 1
    assert given.total() == 300 and given["cube"] <= 0.1 * 300 + 5
    few = PerspectiveTakingSelector(0.1, 60, np.random.default_rng(0))
    taken = sum(len(few.offer(str(n), pet_facts(("cube", "ball")[n % 2], n // 2))) for n in range(600))
    assert taken == 60, "where a scene has two objects, each may have half"


def test_pet_has_six_equal_quotas() -> None:
    selector = PerspectiveTakingSelector(0.1, 60, np.random.default_rng(0))
    rng, given = np.random.default_rng(2), Counter[str]()
    for number in range(4000):
        which = int(rng.choice(6, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]))
        for question in selector.offer(str(number), pet_facts(f"noun {int(rng.integers(40))}", which)):
            given[question.question_type] += 1
            assert question.answer_text.lower() == question.facts["answer"]
    assert given == dict.fromkeys(SUB_CATEGORIES, 10) and selector.remaining == 0


@pytest.mark.parametrize("task", TASKS)
def test_settings_reach_the_tasks(task: str) -> None:
    """Every threshold that these tests turn exists under its name."""
    for limit in IMPOSSIBLE[task]:
        TASK_CONFIGS[task](name=task, **limit)


FLOOR = floor_frame(EYE)


class Imagined(PerspectiveTaking):
    """Perspective Taking whose second views are made up: what each answers, by the number of its view."""

    def __init__(self, told: dict[int, str], hidden: frozenset[int] = frozenset()) -> None:
        super().__init__(PerspectiveTakingConfig())
        self._told, self._hidden = told, hidden

    def _marked(self, search: Search, move: Move) -> float:
        return 0.89 if move.view in self._hidden else 0.9

    def _look(self, search: Search, move: Move, yields: Yields) -> Any:
        return EYE if move.view in self._told else None

    def _measure(self, scene: Any, before: Shot, after: Shot, move: Move, yields: Yields, stage: str) -> Any:
        told = self._told[move.view]
        return {"answers": [("distance", told)]} if told else None


def a_search(**moves: tuple[list[int], list[int]]) -> Search:
    """Objects with the views in which geometry expects them closer, and further."""
    objects = [thing(index, name, LAMP) for index, name in enumerate(moves)]
    views = [View(Shot(EYE, measures([0.1], [(0.5, 0.5)])), FLOOR, np.zeros((1, 3)), (0,)) for _ in range(20)]
    by_name = {
        Subject("distance", "left", name): {
            answer: [Move(view, 0, "left", index) for view in numbers]
            for answer, numbers in (("closer", closer), ("further", further))
        }
        for index, (name, (closer, further)) in enumerate(moves.items())
    }
    return Search(made_up(objects, PerspectiveTakingConfig()), views, by_name)


@pytest.mark.parametrize("step_m", [0.25, 0.0])
def test_whether_it_comes_closer_is_asked_where_both_can_be_at_the_same_distance(step_m: float) -> None:
    config = PerspectiveTakingConfig(distance_step_m=step_m)
    lamp = thing(0, "lamp", (0.0, 0.0, 1.5))
    scene = made_up([lamp], config)
    starts = (1.0, 1.55, 1.7, 3.0)
    shots = [
        Shot(replace(EYE, pose=CameraPose((-x, 0.0, 1.5), 0.0, 0.0)), measures([0.1], [(0.5, 0.5)])) for x in starts
    ]
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 13), np.linspace(-3, 3, 13), [0.0]), axis=-1).reshape(-1, 3)
    moves = PerspectiveTaking(config)._moves(scene, [View(shot, FLOOR, grid, (0,)) for shot in shots])
    asked = {subject: by_answer for subject, by_answer in moves.items() if subject.kind == "distance"}
    assert len({subject.step for subject in asked}) == (3 if step_m else 1)
    for subject, by_answer in asked.items():
        places = {starts[move.view] for found in by_answer.values() for move in found}
        assert {int(place / 0.25) for place in places} == {subject.step} if step_m else places == {*starts}
    with pytest.raises(UserError, match="distance_step_m"):
        PerspectiveTakingConfig(distance_step_m=-0.1)


def test_an_answer_is_drawn_where_both_are_possible_and_nowhere_else() -> None:
    """Of the sofa no view shows that it gets further; of the lamp, one view of three shows each."""
    task = Imagined({0: "closer", 1: "further", 2: "closer", 3: "", 4: "closer"})
    drawn = Counter[int]()
    for seed in range(60):
        search = a_search(lamp=([0, 3], [1, 4]), sofa=([2], [3, 4, 5]))
        move = task._draw(search, "distance", "left", np.random.default_rng(seed), Yields())
        assert move is not None
        drawn[move.view] += 1
    assert set(drawn) == {0, 1} and 15 < drawn[0] < 45
    assert task._draw(a_search(sofa=([2], [3])), "distance", "left", np.random.default_rng(0), Yields()) is None


def test_an_answer_whose_mark_is_hidden_is_not_possible() -> None:
    """Else it would be drawn, and refused: the other answer would be the more frequent where marks are often hidden."""
    told = {0: "closer", 1: "further", 2: "further"}
    for hidden, kept in (
        (frozenset[int](), True),
        (frozenset({1}), True),
        (frozenset({1, 2}), False),
        (frozenset({0}), False),
    ):
        yields = Yields()
        search = a_search(lamp=([0], [1, 2]))
        move = Imagined(told, hidden)._draw(search, "distance", "left", np.random.default_rng(0), yields)
        assert (move is not None) is kept and (move is None or move.view not in hidden)
        assert kept or yields.rejected["first_view.marker_visible"] == len(hidden)


@pytest.mark.parametrize("arrow", ["without", "with", "mixed"])
def test_the_mark_that_must_be_seen_is_the_one_that_is_drawn(arrow: str) -> None:
    """What hides the picture left of the X hides an arrow that leads there, and nothing of an X alone."""
    task = PerspectiveTaking(PerspectiveTakingConfig(arrow=arrow))
    frame = FLOOR
    assert frame.depth is not None
    scene = made_up([], task.config)
    place = np.array([[3.0, 0.0, 0.0]])
    open_floor = View(Shot(EYE, measures([], [])), frame, place, ())
    near = replace(frame, depth=np.minimum(frame.depth, 0.5))
    hidden = View(Shot(EYE, measures([], [])), near, place, ())
    half = frame.depth.copy()
    half[:, : EYE.width // 2 - 6] = 0.5  # to the left of the X, where an arrow to the left points
    side = View(Shot(EYE, measures([], [])), replace(frame, depth=half), place, ())
    search = Search(scene, [open_floor, hidden, side], {})
    shown = [task._marked(search, Move(number, 0, "left", 0)) for number in range(3)]
    assert shown[0] > 0.95 and shown[1] == 0
    assert (shown[2] > 0.95) is (arrow == "without")


def test_answers_that_are_possible_at_different_distances_are_not_both_possible() -> None:
    task, search = Imagined({0: "closer", 1: "further"}), a_search(lamp=([0], [1]))
    ((near, moves),) = search.moves.items()
    search.moves = {near: {"further": moves["further"]}, replace(near, step=9): {"closer": moves["closer"]}}
    assert task._draw(search, "distance", "left", np.random.default_rng(0), Yields()) is None


def test_a_view_that_has_served_is_not_taken_again_and_objects_take_turns() -> None:
    task = Imagined(dict.fromkeys(range(0, 20, 2), "closer") | dict.fromkeys(range(1, 20, 2), "further"))
    search = a_search(lamp=([0, 2, 4], [1, 3]), sofa=([6], [7]), desk=([8], [9]))
    search.used, search.asked = {0, 3, 4}, Counter(lamp=0, sofa=1, desk=1)
    for seed in range(12):
        move = task._draw(search, "distance", "left", np.random.default_rng(seed), Yields())
        assert move is not None and move.object == 0 and move.view in (1, 2)


def test_distances_are_asked_for_before_other_questions_take_their_views() -> None:
    """Few places show an object at both answers' distance: what is asked first has its choice of views; no kind is left out."""
    tried: list[list[str]] = []

    class Asked(PerspectiveTaking):
        def _scan(self, *_: Any) -> Any:
            return []

        def _draw(self, search: Any, kind: str, *_: Any) -> Any:
            tried[-1].append(kind)
            return None

    for count, seeds in ((8, 4), (1, 30)):
        for seed in range(seeds):
            tried.append([])
            config = PerspectiveTakingConfig(samples_per_scene=count)
            Asked(config).propose(made_up([], config), np.random.default_rng(seed), Yields())
    for kinds in tried[:4]:  # both turns of each slot
        last = max(place for place, kind in enumerate(kinds) if kind == "distance")
        assert set(kinds[: last + 1]) == {"distance"} and len(kinds) == 16 and 4 <= last + 1 <= 6
        assert set(kinds[last + 1 :]) == {"from_left", "from_right"}
    assert {kinds[0] for kinds in tried[4:]} == {"distance", "from_left", "from_right"}
