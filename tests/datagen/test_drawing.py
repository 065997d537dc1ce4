"""Drawing pairs: what is asked for can be known from what is given, and nothing is asked but a picture."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.annotate import BLUE, ORANGE, RED
from datagen.audit.items import to_item
from datagen.backends.base import TOP_DOWN_HIDES, SceneError
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.gallery import render_gallery
from datagen.run import generate
from datagen.tasks.base import Candidate, CounterfactualConfig
from datagen.tasks.drawing import KINDS, Drawing, DrawingConfig
from ipt.samples.camera import wrap_angle
from ipt.samples.sample import BadSample
from ipt.samples.store import SampleReader
from tests.datagen.conftest import candidates_of, run_settings

ROLES = {
    "move_turn": ["observation"],
    "side_view": ["map"],
    "plan": [f"frame_{n}" for n in range(4)],
    "view_from_plan": ["map"],
}


@pytest.fixture(scope="module")
def pairs(blocks: EmbeddedBackend) -> list[Candidate]:
    return [candidate for _, candidate, _ in candidates_of(Drawing(DrawingConfig()), blocks, range(4))]


def of_kind(pairs: list[Candidate], kind: str) -> list[Candidate]:
    found = [pair for pair in pairs if pair.facts["kind"] == kind]
    assert len(found) >= 4
    return found


def near(picture: Any, place: Any, colour: tuple[int, int, int], radius: int = 6) -> bool:
    """Whether a colour is within a few pixels of a place (u, v)."""
    u, v = np.rint(place).astype(int)
    window = picture[max(v - radius, 0) : v + radius, max(u - radius, 0) : u + radius].astype(int)
    return bool((np.abs(window - colour).sum(-1) < 90).any())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_pictures(pairs: list[Candidate], kind: str) -> None:
    for pair in of_kind(pairs, kind):
        assert [image.role for image in pair.images] == ROLES[kind]
        assert all(image.pixels().shape == (96, 96, 3) for image in (*pair.images, pair.imagination))
        assert pair.facts["layout"] and not pair.counterfactuals


def test_proposals_are_a_pure_function_of_scene_and_seed(blocks: EmbeddedBackend, pairs: list[Candidate]) -> None:
    again = [candidate for _, candidate, _ in candidates_of(Drawing(DrawingConfig()), blocks, range(3, 4))]
    assert again == pairs[-len(again) :]


def test_the_view_after_the_move_is_taken_at_the_x_a_quarter_turn_further(pairs: list[Candidate]) -> None:
    for pair in of_kind(pairs, "move_turn"):
        before, after = pair.images[0].camera, pair.imagination.camera
        assert before is not None and after is not None
        turn = math.pi / 2 if pair.facts["turn"] == "left" else -math.pi / 2
        assert wrap_angle(after.pose.yaw - before.pose.yaw - turn) == pytest.approx(0, abs=1e-9)
        target = np.array(pair.facts["target"])
        assert np.allclose(after.pose.position[:2], target[:2], atol=1e-3)
        assert near(pair.images[0].pixels(), before.project(target)[0], RED)


def test_a_side_view_looks_to_the_named_side_of_the_arrow_on_its_map(pairs: list[Candidate]) -> None:
    for pair in of_kind(pairs, "side_view"):
        camera, above = pair.imagination.camera, pair.images[0].camera
        assert camera is not None and above is not None
        turn = 90 if pair.facts["side"] == "left" else -90
        off = wrap_angle(camera.pose.yaw - math.radians(pair.facts["heading_deg"] + turn))
        assert off == pytest.approx(0, abs=1e-4)
        midpoint = np.array([*pair.facts["midpoint"], 0.0])
        assert np.allclose(camera.pose.position[:2], midpoint[:2], atol=1e-3)
        assert near(pair.images[0].pixels(), above.project(midpoint)[0], ORANGE)


def test_a_plan_has_the_first_view_s_heading_up_and_its_place_in_the_middle(pairs: list[Candidate]) -> None:
    for pair in of_kind(pairs, "plan"):
        first, plan = pair.images[0].camera, pair.imagination.camera
        assert first is not None and plan is not None
        x, y, _ = first.pose.position
        ahead = [x + math.cos(first.pose.yaw), y + math.sin(first.pose.yaw), 0.0]
        (u, v), (u_ahead, v_ahead) = plan.project(np.array([[x, y, 0.0], ahead]))[0]
        assert (u, v) == pytest.approx((48, 48)) and u_ahead == pytest.approx(u) and v_ahead < v
        yaws = [image.camera.pose.yaw for image in pair.images if image.camera is not None]
        steps = np.diff(yaws) - math.pi / 2
        assert np.allclose(np.cos(steps), 1)


def test_the_arrow_on_a_plan_stands_where_the_view_was_taken(pairs: list[Candidate]) -> None:
    for pair in of_kind(pairs, "view_from_plan"):
        view, plan = pair.imagination.camera, pair.images[0].camera
        assert view is not None and plan is not None
        x, y, _ = view.pose.position
        tip = [x + 0.4 * math.cos(view.pose.yaw), y + 0.4 * math.sin(view.pose.yaw), 0.0]
        picture = pair.images[0].pixels()
        assert near(picture, plan.project(np.array([x, y, 0.0]))[0], BLUE, 4)
        assert near(picture, plan.project(np.array(tip))[0], BLUE, 4)


def test_the_hour_of_a_view_is_where_it_looks_on_its_map(pairs: list[Candidate]) -> None:
    """The map's top is 12: a step of the view's camera ahead, seen on the map, goes that way."""
    for pair in (*of_kind(pairs, "side_view"), *of_kind(pairs, "view_from_plan")):
        view, above = pair.imagination.camera, pair.images[0].camera
        assert view is not None and above is not None
        x, y, _ = view.pose.position
        step = [x + math.cos(view.pose.yaw), y + math.sin(view.pose.yaw), 0.0]
        (u, v), (u_ahead, v_ahead) = above.project(np.array([[x, y, 0.0], step]))[0]
        clockwise = math.degrees(math.atan2(u_ahead - u, v - v_ahead))
        assert abs(wrap_angle(math.radians(clockwise - 30 * pair.facts["towards"]))) <= math.radians(15.01)
        assert not pair.facts["told"]


def test_as_many_requests_as_wanted_say_the_hour(blocks: EmbeddedBackend) -> None:
    kinds = ("side_view", "view_from_plan")
    found = [pair for _, pair, _ in candidates_of(Drawing(DrawingConfig(kinds=kinds, told=0.5)), blocks, range(3))]
    selector = Drawing(DrawingConfig(kinds=kinds)).selector(len(found) * 2, np.random.default_rng(0))
    told = [pair.facts["told"] for pair in found]
    for pair in found:
        (question,) = selector.offer("x", pair.facts)
        hour = f"{pair.facts['towards']} o'clock."
        assert question.question.endswith(f" {hour}") == pair.facts["told"]
        assert question.caption.startswith(f"Towards {hour} ")
    assert 0.2 < sum(told) / len(told) < 0.8


def test_side_views_on_the_maps_of_questions(blocks: EmbeddedBackend) -> None:
    """The walk is told by waypoints, of either direction, and a blue arrow points to where the view looks."""
    task = Drawing(DrawingConfig(kinds=("side_view",), waypoints=0.6))
    found = [pair for _, pair, _ in candidates_of(task, blocks, range(4))]
    asked = [pair for pair in found if "start" in pair.facts]
    assert 0.3 < len(asked) / len(found) < 0.9
    assert {(pair.facts["start"], pair.facts["side"]) for pair in asked} == {
        *itertools.product("12", ("left", "right"))
    }
    for pair in asked:
        (question,) = task.selector(1, np.random.default_rng(0)).offer("x", pair.facts)
        start, end = sorted("12", reverse=pair.facts["start"] == "2")
        assert question.question == f"From {start} to {end}, look {pair.facts['side']} at M1."
        view, above = pair.imagination.camera, pair.images[0].camera
        assert view is not None and above is not None
        sign = 1 if pair.facts["side"] == "left" else -1
        assert abs(wrap_angle(view.pose.yaw - math.radians(pair.facts["heading_deg"]) - sign * math.pi / 2)) < 0.01
        x, y, _ = view.pose.position
        tip = [x + 0.5 * math.cos(view.pose.yaw), y + 0.5 * math.sin(view.pose.yaw), 0.0]
        assert near(pair.images[0].pixels(), above.project(np.array(tip))[0], BLUE, 4)


def test_arrows_are_as_long_as_wanted(blocks: EmbeddedBackend) -> None:
    def blue_and_orange(share: float) -> float:
        task = Drawing(DrawingConfig(kinds=("side_view", "view_from_plan"), min_arrow_share=share))
        maps = [pair.images[0].pixels().astype(int) for _, pair, _ in candidates_of(task, blocks, range(2))]
        return float(np.mean([[np.abs(each - mark).sum(-1) < 90 for mark in (BLUE, ORANGE)] for each in maps]))

    assert blue_and_orange(0.4) > 2 * blue_and_orange(0.12) > 0


def test_a_plan_is_turned_no_further_than_wanted(blocks: EmbeddedBackend) -> None:
    def turns(limit: float) -> list[float]:
        task = Drawing(DrawingConfig(kinds=("view_from_plan",), plan_turn_deg=limit))
        cameras = [(p.imagination.camera, p.images[0].camera) for _, p, _ in candidates_of(task, blocks, range(2))]
        return [abs(math.degrees(wrap_angle(a.pose.yaw - b.pose.yaw))) for a, b in cameras if a and b]

    assert max(turns(20.0)) <= 20 and max(turns(20.0)) > 4 and max(turns(180.0)) > 90


def test_the_facts_name_what_the_picture_shows(blocks: EmbeddedBackend) -> None:
    """Its camera, rendered again with masks; objects by name and place."""
    for scene_id, pair, _ in candidates_of(Drawing(DrawingConfig()), blocks, range(2)):
        blocks.load(scene_id)
        camera, objects = pair.imagination.camera, blocks.objects()
        assert camera is not None
        hide = TOP_DOWN_HIDES if pair.facts["kind"] == "plan" else frozenset()
        (frame,) = blocks.render([camera], ("rgb", "instance"), hide)
        assert frame.instance is not None and np.array_equal(frame.rgb, pair.imagination.pixels())
        masks = {thing.name: frame.instance == thing.index for thing in objects if not thing.is_structure}
        least = (0.001 if pair.facts["kind"] == "plan" else 0.004) * frame.instance.size
        centres = {name: np.argwhere(mask).mean(axis=0)[::-1] for name, mask in masks.items() if mask.sum() >= least}
        layout = pair.facts["layout"]
        assert {name for name, *_ in layout} == set(centres)
        for name, u, second in layout:
            x, y = (centres[name] + 0.5) / 96
            assert u == pytest.approx(x, abs=1e-3) and (
                pair.facts["kind"] != "plan" or second == pytest.approx(y, abs=1e-3)
            )


def test_a_dataset_holds_equal_numbers_of_the_kinds_and_no_answers(tmp_path: Path) -> None:
    generate(run_settings(tmp_path, task="drawing"))
    reader = SampleReader(tmp_path)
    samples = [reader[row] for row in range(len(reader))]
    assert "Move to the X" in render_gallery(samples, "pairs")
    with pytest.raises(BadSample, match="field 'choices': this sample asks for a picture alone"):
        to_item(samples[0])
    assert Counter(sample.question_type for sample in samples) == dict.fromkeys(KINDS, 6)
    for sample in samples:
        task, words = KINDS[sample.question_type]
        assert sample.task == task and sample.question.startswith(words.partition("{")[0])
        assert sample.choices == () and sample.answer == "" and "answer_text" not in sample.facts
        assert all(noun in sample.caption for noun, *_ in sample.facts["layout"])


def test_captions_say_where_things_are() -> None:
    selector = Drawing(DrawingConfig()).selector(8, np.random.default_rng(0))
    layout = [["red cube", 0.9, 0.2], ["blue cube", 0.1, 0.3], ["red cube", 0.8, 0.1]]
    view, plan = (
        selector.offer("x", {"kind": kind, "layout": layout, "side": "left"})[0].caption
        for kind in ("side_view", "plan")
    )
    assert view == "On the left: a blue cube. On the right: two red cubes."
    assert plan == "In the upper left: a blue cube. In the upper right: two red cubes."


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SceneError, match=r"unknown kind of drawing 'plam'.*plan"):
        DrawingConfig(kinds=("plam",))
    with pytest.raises(SceneError, match="needs kinds"):
        DrawingConfig(kinds=())
    with pytest.raises(SceneError, match="told and waypoints are prob"):
        DrawingConfig(told=1.5)
    with pytest.raises(SceneError, match="told and waypoints are prob"):
        DrawingConfig(waypoints=-0.1)
    with pytest.raises(SceneError, match="no counterfactuals"):
        DrawingConfig(counterfactuals=CounterfactualConfig(enabled=True))
