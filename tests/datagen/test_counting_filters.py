"""Every filter and balance rule of Multiview Counting, switched off one at a time, is noticed: made-up maps and masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Frame, top_down_camera
from datagen.tasks.base import TaskConfig, ViewFilter
from datagen.tasks.counting_questions import POOL, MultiviewCountingSelector
from datagen.tasks.multiview_counting import (
    FAINT,
    MultiviewCounting,
    MultiviewCountingConfig,
    Region,
    Spot,
    shows_exactly,
)
from datagen.tasks.vocabulary import Vocabulary
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.made_up import made_up, measures, thing


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
