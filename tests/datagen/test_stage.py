"""The stage: clicks become places of the scene, pictures and questions whose answers its boxes and masks give."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.annotate import ORANGE
from datagen.backends.embedded.backend import EmbeddedConfig
from datagen.config import RunConfig
from datagen.stage.__main__ import serve
from datagen.stage.stage import Scenario, Stage
from datagen.tasks.drawing import DrawingConfig
from datagen.tasks.perspective_taking import PerspectiveTakingConfig
from ipt.common.errors import UserError
from ipt.common.images import decode_image, encode_image
from ipt.samples.camera import Camera, wrap_angle
from ipt.samples.sample import SpatialSample
from tests.synthetic import picture

SCENE, LARGE = 3, 160
SETTINGS = RunConfig(
    DrawingConfig(plain=True),
    "embedded",
    EmbeddedConfig(preset="blocks", renderer="ray"),
    "unused",
    split="test",
    image_size=64,
)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(SETTINGS, LARGE)


@functools.cache
def floor_clicks(stage: Stage) -> list[tuple[float, float]]:
    """Places of the first picture where one can stand."""
    places = itertools.product((0.2, 0.35, 0.5, 0.65, 0.8), (0.65, 0.75, 0.85))
    found = [place for place in places if works(lambda place=place: stage.step(SCENE, place, "left"))]
    assert len(found) >= 3
    return found


def works(request: Callable[[], object]) -> bool:
    try:
        request()
    except UserError:
        return False
    return True


@functools.cache
def free_clicks(stage: Stage) -> list[tuple[float, float]]:
    """Places of the map where one can stand, from left to right."""
    places = [(u, 0.5) for u in np.linspace(0.2, 0.8, 10).tolist()]
    found = [place for place in places if works(lambda place=place: stage.around(SCENE, [place], False))]
    assert len(found) >= 5
    return found


def camera_of(sample: SpatialSample) -> Camera:
    assert sample.imagination.camera is not None
    return sample.imagination.camera


def test_a_step_goes_to_the_floor_that_was_clicked_and_turns(stage: Stage) -> None:
    """The X is drawn where the click was, and the true view is taken there."""
    view = decode_image(stage.look(SCENE)[0])
    for at in floor_clicks(stage)[:3]:
        made = {turn: stage.step(SCENE, at, turn) for turn in ("left", "right")}
        marked = decode_image(made["left"].marked).astype(int)
        changed = np.argwhere((np.abs(marked - view) > 40).any(axis=2))
        middle = changed.mean(axis=0)[::-1] / LARGE
        assert np.abs(middle - at).max() < 0.03, (middle, at)
        first = made["left"].sample.images[0].camera
        assert first is not None
        for turn, sign in (("left", 1), ("right", -1)):
            camera, sample = camera_of(made[turn].sample), made[turn].sample
            pixel, depth = first.project([*camera.pose.position[:2], 0.0])
            assert depth > 0 and np.abs(pixel / first.width - at).max() < 0.02
            assert wrap_angle(camera.pose.yaw - first.pose.yaw) == pytest.approx(sign * math.pi / 2)
            assert sample.images[0].pixels().shape == sample.imagination.pixels().shape == (64, 64, 3)
            assert decode_image(made[turn].truth).shape == (LARGE, LARGE, 3)
            assert (sample.task, sample.question, sample.choices) == ("pet", f"Move to the X, turn {turn}.", ())


def test_questions_about_steps_agree_with_the_boxes(stage: Stage) -> None:
    asked = 0
    for at in floor_clicks(stage):
        for turn in ("left", "right"):
            scenario = stage.step(SCENE, at, turn)
            cameras = [scenario.sample.images[0].camera, camera_of(scenario.sample)]
            things = {item.name: item for item in stage.backend.objects()}
            for question in scenario.questions:
                asked += 1
                (name,) = [name for name in things if f"the {name} " in question.question]
                centre = things[name].centre
                if "closer" in question.question:
                    before, after = (float(np.linalg.norm(centre - c.pose.position)) for c in cameras)  # type: ignore[union-attr]
                    assert question.answer_text == ("Closer" if after < before else "Further")
                else:
                    (u, _), depth = cameras[1].project(centre)  # type: ignore[union-attr]
                    assert depth > 0 and question.answer_text == ("Left" if u < 32 else "Right")
                assert question.answer_text in question.choices
    assert asked > 5


def test_a_walk_looks_to_the_side_of_its_middle(stage: Stage) -> None:
    ends = [free_clicks(stage)[0], free_clicks(stage)[-1]]
    made = {side: stage.walk(SCENE, ends, side, True) for side in ("left", "right")}
    yaws = {side: camera_of(scenario.sample).pose.yaw for side, scenario in made.items()}
    assert abs(wrap_angle(yaws["left"] - yaws["right"])) == pytest.approx(math.pi)
    assert made["left"].sample.question == "Walk the line, look left at the arrow."
    plain = stage.walk(SCENE, ends, "left", False)
    assert plain.marked != made["left"].marked and plain.truth == made["left"].truth
    back = stage.walk(SCENE, ends[::-1], "right", True)
    assert camera_of(back.sample).pose.yaw == pytest.approx(yaws["left"], abs=0.05)


def test_arrows_of_walks_are_as_long_as_the_task_says(stage: Stage) -> None:
    """The map that a model sees is that of the pairs it was trained on."""
    ends = [free_clicks(stage)[0], free_clicks(stage)[-1]]
    long = Stage(replace(SETTINGS, task=DrawingConfig(plain=True, min_arrow_share=0.5)), LARGE)
    marked = [one.walk(SCENE, ends, "left", False).sample.images[0].pixels() for one in (stage, long)]
    orange = [np.count_nonzero(np.abs(pixels.astype(int) - ORANGE).max(axis=-1) < 30) for pixels in marked]
    assert orange[1] > 1.5 * orange[0] > 0


def test_four_views_turn_at_one_place_or_look_at_the_next_of_four(stage: Stage) -> None:
    place = free_clicks(stage)[0]
    turning = stage.around(SCENE, [place], True)
    yaws = [image.camera.pose.yaw for image in turning.sample.images if image.camera is not None]
    steps = [wrap_angle(after - before) for before, after in itertools.pairwise(yaws)]
    assert steps == pytest.approx([math.pi / 2] * 3) and len(turning.views) == 4
    four = stage.around(SCENE, free_clicks(stage)[:4], True)
    cameras = [image.camera for image in four.sample.images]
    for one, following in zip(cameras, [*cameras[1:], cameras[0]], strict=True):
        assert one is not None and following is not None
        ahead = np.subtract(following.pose.position, one.pose.position)
        assert math.atan2(ahead[1], ahead[0]) == pytest.approx(one.pose.yaw)
    plan, counted = stage.around(SCENE, [place], False), turning
    assert camera_of(plan.sample).pose.yaw == pytest.approx(yaws[0])  # the first view's heading is up
    assert camera_of(counted.sample).pose.yaw == pytest.approx(math.pi / 2)
    for question in counted.questions:
        assert question.answer_text in question.choices and len(question.choices) == 4
    with pytest.raises(UserError, match="one place to turn around at, or 4 places; these are 2"):
        stage.around(SCENE, free_clicks(stage)[:2], True)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"do": "step", "scene": SCENE, "at": (0.5, 0.02), "turn": "left"}, "that is not the floor"),
        ({"do": "step", "scene": SCENE, "at": (1.5, 0.5), "turn": "left"}, "two shares between 0 and 1"),
        ({"do": "step", "scene": SCENE, "at": (0.5, 0.9), "turn": "up"}, "valid: left, right"),
        ({"do": "look", "scene": -1}, "scenes are numbered from 0"),
        (
            {"do": "walk", "scene": SCENE, "clicks": [(0.01, 0.01)], "side": "left", "asked": True},
            "nobody can stand there",
        ),
        (
            {"do": "walk", "scene": SCENE, "clicks": [], "side": "left", "asked": True},
            "1 to 8 places are clicked, got 0",
        ),
        ({"do": "fly", "scene": SCENE}, "valid: around, look, mark, step, walk"),
        ({"do": "look"}, "not a request"),
        ({"do": "look", "scene": "three"}, "not a request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_said_and_the_stage_goes_on(
    stage: Stage, request_: dict[str, object], told: str
) -> None:
    replies = io.StringIO()
    requests = "".join(f"{json.dumps(each)}\n" for each in (request_, {"do": "look", "scene": SCENE}))
    serve(stage, io.StringIO(requests), replies)
    ready, refused, fine = map(json.loads, replies.getvalue().splitlines())
    assert "embedded" in ready["ready"] and told in refused["error"] and set(fine) == {"view", "map"}


def test_pictures_of_no_scene_get_their_mark_on_the_floor(stage: Stage) -> None:
    pixels = np.full((96, 128, 3), 90, np.uint8)
    marked = decode_image(stage.mark(base64.b64encode(encode_image(pixels)).decode(), (0.4, 0.8))).astype(int)
    changed = np.argwhere((np.abs(marked - pixels) > 40).any(axis=2)).mean(axis=0)[::-1] / (128, 96)
    assert np.abs(changed - (0.4, 0.8)).max() < 0.05
    with pytest.raises(UserError, match="above the horizon"):
        stage.mark(base64.b64encode(encode_image(picture(1, 64))).decode(), (0.5, 0.05))


def test_a_stage_takes_the_cameras_of_drawing() -> None:
    with pytest.raises(UserError, match="task=drawing, got task=pet"):
        Stage(replace(SETTINGS, task=PerspectiveTakingConfig()))


def test_scenarios_hold_samples_that_can_be_stored(stage: Stage, tmp_path: Path) -> None:
    scenario = stage.step(SCENE, floor_clicks(stage)[0], "left")
    assert isinstance(scenario, Scenario)
    assert SpatialSample.from_json(scenario.sample.to_json()) == scenario.sample
