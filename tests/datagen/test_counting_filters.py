"""Every filter and balance rule of Multiview Counting, switched off one at a time, is noticed: made-up maps and masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from datagen import annotate
from datagen.backends.base import Frame, Room, top_down_camera
from datagen.tasks.base import TaskConfig, ViewFilter
from datagen.tasks.counting_questions import POOL, MultiviewCountingSelector, fullest_frame
from datagen.tasks.multiview_counting import (
    FAINT,
    Count,
    MultiviewCounting,
    MultiviewCountingConfig,
    Region,
    Spot,
    countable,
    shows_exactly,
)
from datagen.tasks.standing import NEAR_M, Standing
from datagen.tasks.vocabulary import VOCABULARIES, Vocabulary
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.made_up import made_up, measures, thing
from tests.datagen.test_annotate import floor_frame


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
    frame = cycle(range(4))
    areas = [[0.0041, 0.0039, 0.0003, 0.0001], [0.0, 0.0, 0.0, 0.0], [0.001, 0.001, 0.0, 0.0], [0.0, 0.0, 0.0001, 0.0]]
    scene = made_up(
        objects,
        config,
        render=lambda cameras, _: [next(frame) for _ in cameras],
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
    cameras = MultiviewCounting(config)._cameras(scene, Standing.of(scene, {}), movement, np.random.default_rng(0))
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
    assert MultiviewCounting(config)._cameras(scene, Standing.of(scene, {}), movement, np.random.default_rng(0)) is None


def test_a_spot_is_the_best_of_several_free_places() -> None:
    """Three lamps stand about (3, 0); of the places tried, the second is there. With one try the spot is anywhere."""
    objects = [thing(index, "lamp", (3.0, index - 1.0, 0.5)) for index in range(3)]
    tried: list[int] = []

    def navigable(number: int, *_: Any) -> Any:
        tried.append(number)
        return np.array([[3.0 if place == best else -4.0, 0.0, 0.0] for place in range(number)])

    def eye(places: int, movement: str = "rotation") -> float:
        config = MultiviewCountingConfig(places_per_spot=places)
        scene = made_up(objects, config)
        scene.backend.sample_navigable = navigable
        standing = Standing.of(scene, {"lamp": frozenset(range(3))})
        cameras = MultiviewCounting(config)._cameras(scene, standing, movement, np.random.default_rng(0))
        assert cameras is not None
        return cameras[0].pose.position[0]

    best = 1
    assert eye(6) == pytest.approx(3.0) and eye(1) == pytest.approx(-4.0) and tried == [6, 1]
    assert eye(6, "square") == pytest.approx(3.0), "of many places that are tried for a walk"
    best = 6
    assert eye(6, "square") == pytest.approx(-4.0), "the first six that are free"
    with pytest.raises(UserError, match="places_per_spot must be at least 1, got 0"):
        MultiviewCountingConfig(places_per_spot=0)


def test_what_stands_around_a_place_is_near_several_and_in_its_room() -> None:
    """Two rooms side by side: three lamps in the western one, of which one is far off; two chairs are too few to count."""
    lamps = [(-1.0, 0.0, 0.5), (-2.0, 0.0, 0.5), (-1.0, 1.0, 0.5), (1.0, 0.0, 0.5), (-0.5, NEAR_M + 0.1, 0.5)]
    objects = [replace(thing(number, "lamp", place), room_id="west") for number, place in enumerate(lamps)]
    objects[3] = replace(objects[3], room_id="east")
    objects += [replace(thing(number, "chair", (-1.5, 0.0, 0.5)), room_id="west") for number in (5, 6)]
    scene = made_up(objects, MultiviewCountingConfig())
    nouns = {"chair": frozenset({5, 6}), "lamp": frozenset(range(5))}
    here = np.array([-0.5, 0.0])
    assert Standing.of(scene, nouns).around(here, 3) == 4 and Standing.of(scene, nouns).around(here, 2) == 6
    west, east = (np.array([[x, -5], [x + 5, -5], [x + 5, 5], [x, 5]], float) for x in (-5, 0))
    rooms = (Room("west", "office", west), Room("east", "office", east))
    split = made_up(objects, MultiviewCountingConfig(), info=replace(scene.info, rooms=rooms))
    assert Standing.of(split, nouns).around(here, 3) == 3 and Standing.of(split, nouns).around(-here, 3) == 0


def test_a_spot_is_left_at_its_first_frame_that_fails() -> None:
    config = MultiviewCountingConfig(
        spots_per_scene=2, movements=("rotation",), view=ViewFilter(1.0, 0, 0.005, 1.0, 1.0)
    )
    depths, drawn = iter([3.0, 0.5, 3.0, 3.0, 3.0, 3.0]), list[float]()

    def render(cameras: list[Camera], _: Any) -> list[float]:
        drawn.extend(next(depths) for _ in cameras)
        return drawn[-len(cameras) :]

    lamp = thing(0, "lamp", (2.0, 0.0, 0.5))
    scene = made_up([lamp], config, render=render, stats=lambda depth: measures([0.1], [(0.5, 0.5)], depth))
    scene.backend.sample_navigable = lambda number, rng, clearance: np.zeros((number, 3))
    assert len(MultiviewCounting(config)._spots(scene, np.random.default_rng(0), Yields())) == 1
    assert drawn == [3.0, 0.5, 3.0, 3.0, 3.0, 3.0], "two of the first spot, four of the second"


def mvc_offers(
    selector: MultiviewCountingSelector, nouns: list[str], shares: list[float], count: int, first: int = 0
) -> Counter[str]:
    rng, given = np.random.default_rng(3), Counter[str]()
    for number in range(first, first + count):
        noun = nouns[int(rng.choice(len(nouns), p=shares))]
        facts = {
            "category": noun, "members": [noun], "count": int(rng.integers(1, 5)), "movement": "rotation",
            "instances_per_frame": [["a"]], "also_on_map": {}, "layout": [],
        }  # fmt: skip
        given.update(question.facts["category"] for question in selector.offer(f"mvc-b-s{number}-00-x", facts))
    return given


def test_no_noun_has_more_than_its_share_of_counting() -> None:
    """Of fifteen nouns six of ten offers are chairs; the cap of a tenth holds. Where there are two nouns each may have half."""
    nouns = ["chair", *(f"noun {number}" for number in range(14))]
    selector = MultiviewCountingSelector(300, 0.099, np.random.default_rng(0))
    given = mvc_offers(selector, nouns, [0.6, *[0.4 / 14] * 14], 6000)
    assert given.total() == 300 and max(given.values()) <= 0.099 * 300 + 1
    few = MultiviewCountingSelector(100, 0.099, np.random.default_rng(0))
    assert mvc_offers(few, ["chair", "desk"], [0.5, 0.5], 2000).total() == 100, "with two nouns each may have half"


def offered(selector: MultiviewCountingSelector, count: int) -> list[Any]:
    """Places of one noun with 1 to 5, shown by frames that show all, or all but one, or one at a time."""
    rng, questions = np.random.default_rng(0), []
    for number in range(count):
        total = int(rng.integers(1, 6))
        most = int(rng.integers(1, total + 1))
        frames = [[str(n) for n in range(start, min(start + most, total))] for start in range(0, total, most)]
        facts = {
            "category": "chair", "members": ["chair"], "count": total, "movement": "rotation",
            "instances_per_frame": frames, "also_on_map": {}, "layout": [],
        }  # fmt: skip
        questions += selector.offer(f"mvc-b-s{number}-00-x", facts)
    return questions


def test_of_the_waiting_places_the_one_with_the_fewest_at_a_time_is_asked() -> None:
    """Three places with two chairs wait; the one that shows them one at a time is taken, whichever came first."""
    frames = {"a": [["x", "y"], []], "b": [["x"], ["y"]], "c": [["y", "x"], ["x"]]}
    asked = Counter[str]()
    for seed in range(40):
        selector = MultiviewCountingSelector(1, 1.0, np.random.default_rng(seed))
        facts = {"category": "chair", "members": ["chair"], "movement": "rotation", "layout": []}
        for name, seen in frames.items():
            selector.offer(f"mvc-b-{name}-00-x", {**facts, "count": 2, "instances_per_frame": seen})
        for count in (1, 3, 4):
            one = {**facts, "count": count, "instances_per_frame": [["x"] * count]}
            asked.update(q.candidate_id.split("-")[2] for q in selector.offer(f"mvc-b-s{count}-00-x", one))
    assert asked.total() == 40 and asked["b"] >= 4 and not asked["a"] and not asked["c"]


def test_matched_frames_tell_nothing_of_the_count() -> None:
    """No option is less than the fullest frame shows, and given what it shows every option is right one time in four."""
    selector = MultiviewCountingSelector(200, 1.0, np.random.default_rng(0), match_frames=True)
    places = Counter[tuple[int, int]]()
    for question in offered(selector, 6000):
        options, fullest = sorted(map(int, question.choices)), fullest_frame(question.facts)
        assert options[0] >= fullest
        places[fullest, options.index(question.facts["count"])] += 1
    for fullest in (1, 2):
        counts = [places[fullest, rank] for rank in range(4)]
        assert sum(counts) > 60 and max(abs(n - sum(counts) / 4) for n in counts) < 3.5 * math.sqrt(
            sum(counts) * 3 / 16
        )


def test_a_place_whose_frames_must_be_merged_is_proposed_first() -> None:
    """Three spots show the same three chairs: one in one frame, one in two, one in three."""
    chairs = frozenset({0, 1, 2})
    splits = [(chairs,), (frozenset({0, 1}), frozenset({2})), (frozenset({0}), frozenset({1}), frozenset({2}))]
    spots = [Spot("rotation", (), chairs, chairs, split) for split in splits]
    counts = [Count(number, "chair", chairs, Region(0, 0, 1, 1)) for number in range(3)]
    task = MultiviewCounting(MultiviewCountingConfig())
    assert [spot.fullest(chairs) for spot in spots] == [3, 2, 1]
    assert {task._wanted(spots, counts, np.random.default_rng(seed)).spot for seed in range(9)} == {2}


def test_kinds_that_join_categories_are_a_setting() -> None:
    scene = made_up([thing(0, "sofa", (0, 0, 0.5)), thing(1, "chair", (1, 0, 0.5))], MultiviewCountingConfig())
    seats = {groups: "seat" in countable(scene, VOCABULARIES["embedded"], groups) for groups in (True, False)}
    assert seats == {True: True, False: False} and MultiviewCountingConfig().groups is False


def test_a_map_is_masked_where_no_frame_looked() -> None:
    """A camera in the middle that looks east sees the east; a thing in the west is shown whole because a frame saw its side."""
    top = floor_frame(top_down_camera((-4, -4, 4, 4), 80, 0.0))
    instance = np.full((80, 80), -1, np.int32)
    instance[38:42, 5:9] = 3
    above_all = replace(top, instance=instance)
    eye = floor_frame(Camera(CameraPose((0, 0, 1.5), 0.0, -0.4), 64, 64, 90))
    seen = annotate.seen_on_map(above_all, [eye], {3})
    assert seen[40, 60] and not seen[40, 20] and seen[40, 7] and not seen[5, 40]
    assert not annotate.seen_on_map(above_all, [eye], set())[40, 7]
    grey = annotate.masked(above_all, seen).rgb
    assert grey is not None and (grey[~seen] == annotate.UNSEEN_GREY).all() and (grey[seen] == 120).all()


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
                "instances_per_frame": [["a"]], "also_on_map": {}, "layout": [],
            }  # fmt: skip
            asked.update(q.candidate_id.rsplit("-", 1)[0] for q in selector.offer(f"mvc-b-s{number}-00-{noun}", facts))
    assert asked.total() > 40 and max(asked.values()) == 1


@pytest.mark.parametrize(("medians", "kept"), [((3.0, 3.0, 3.0, 3.0), True), ((3.0, 3.0, 3.0, 0.6), False)])
def test_a_place_needs_four_frames_that_are_worth_showing(medians: tuple[float, ...], kept: bool) -> None:
    config = MultiviewCountingConfig(spots_per_scene=1, movements=("rotation",))
    frame = iter(medians)
    scene = made_up(
        [thing(index, "chair", (2.0, 0.0, 0.5)) for index in range(2)],
        config,
        render=lambda cameras, _: [next(frame) for _ in cameras],
        stats=lambda median: measures([0.01, 0.01], [(0.5, 0.5)] * 2, median),
    )
    scene.backend.sample_navigable = lambda count, rng, clearance: np.zeros((count, 3))
    yields = Yields()
    assert bool(MultiviewCounting(config)._spots(scene, np.random.default_rng(0), yields)) is kept
    assert yields.rejected["frame.median_depth"] == (not kept)


def test_numbers_are_wanted_alike_and_one_not_for_itself() -> None:
    """Two and three as often; a scene that shows no three of anything is given up."""
    spots = [Spot("rotation", (), frozenset(range(4)), frozenset(range(4))) for _ in range(3)]
    counts = [Count(number, "chair", frozenset(range(number + 1)), Region(0, 0, 1, 1)) for number in range(3)]
    task = MultiviewCounting(MultiviewCountingConfig())
    wanted = Counter(task._wanted(spots, counts, np.random.default_rng(seed)).spot for seed in range(280))
    assert 110 < wanted[2] < 170 and 110 < wanted[1] < 170 and not wanted[0]

    class Found(MultiviewCounting):
        most = 3

        def _spots(self, *_: Any) -> Any:
            return spots

        def _counts(self, *_: Any) -> Any:
            return [count for count in counts if len(count.instances) <= self.most]

        def _finish(self, *arguments: Any) -> Any:
            return [arguments[5].spot]

    found = Found(MultiviewCountingConfig())
    scene = made_up([], found.config)
    places = found.propose(scene, np.random.default_rng(0), Yields())
    assert places[-1] == 2 and len(set(places)) == len(places), "a place gives its pictures once"
    Found.most = 2
    assert found.propose(scene, np.random.default_rng(0), Yields()) == []


def test_a_scene_is_looked_at_for_one_noun_after_the_other() -> None:
    """Chairs could be asked for at four places and lamps at one: the lamps are among the first two; after them, chairs again."""
    spots = [Spot("rotation", (), frozenset(range(3)), frozenset(range(3))) for _ in range(5)]
    nouns = ["chair"] * 4 + ["lamp"]
    counts = [Count(number, noun, frozenset(range(3)), Region(0, 0, 1, 1)) for number, noun in enumerate(nouns)]

    class Found(MultiviewCounting):
        def _spots(self, *_: Any) -> Any:
            return spots

        def _counts(self, *_: Any) -> Any:
            return counts

        def _finish(self, *arguments: Any) -> Any:
            return [nouns[arguments[5].spot]]

    found = Found(MultiviewCountingConfig())
    for seed in range(30):
        asked = found.propose(made_up([], found.config), np.random.default_rng(seed), Yields())
        assert set(asked[:2]) == {"chair", "lamp"} and asked[2:] == ["chair"] * 3
