"""Every filter and balance rule of Path Tracing, switched off one at a time, is noticed: made-up scenes, no pictures."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Path
from datagen.tasks.path_questions import PathTracingSelector
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.paths import Sight, Walk, best_instances, find_walks, middle
from datagen.tasks.puzzles import Puzzle
from datagen.tasks.side_views import SideViewSearch
from datagen.yields import Yields
from tests.datagen.made_up import LAMP, made_up, measures, thing
from tests.datagen.test_puzzles import told


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
