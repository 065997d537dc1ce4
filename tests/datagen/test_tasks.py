"""What every task promises of its candidates, on real renders of block rooms."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from datagen import annotate, verify
from datagen.backends.base import Frame, SceneEdit
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.counterfactual import PLACES, changed, counterfactuals
from datagen.tasks import TASK_CONFIGS, TASKS
from datagen.tasks.base import Candidate, CounterfactualConfig, SceneView, TaskConfig, ViewFilter
from datagen.tasks.counting_questions import MultiviewCountingSelector
from datagen.tasks.multiview_counting import countable
from datagen.tasks.path_settings import VARIANTS
from datagen.tasks.path_tracing import compass
from datagen.tasks.paths import along, find_walks
from datagen.tasks.places import scene_of
from datagen.tasks.vocabulary import VOCABULARIES
from datagen.visibility import fractions, inside
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.camera import wrap_angle
from ipt.samples.sample import SampleImage
from tests.datagen.conftest import block_config, candidates_of
from tests.datagen.made_up import EYE, made_up, thing

NAMES = ("pet", "pt", "mvc")
INPUTS = {"pet": ["observation"], "pt": ["map", "ego_1", "ego_2"], "mvc": [f"frame_{n}" for n in range(4)]}


CACHE: dict[tuple[Any, ...], list[Any]] = {}


def made(name: str, request: pytest.FixtureRequest, scenes: range = range(6), **changes: Any) -> list[Any]:
    """(scene id, candidate, yields) of a task on some scenes, made once per session."""
    key = (name, scenes, *sorted(changes.items()))
    if key not in CACHE:
        backend = request.getfixturevalue("counting_blocks" if name == "mvc" else "blocks")
        config = block_config(name, **changes)
        CACHE[key] = candidates_of(TASKS[name](config), backend, scenes)
    return CACHE[key]


@pytest.mark.parametrize("name", NAMES)
def test_proposals_are_a_pure_function_of_scene_and_seed(name: str, request: pytest.FixtureRequest) -> None:
    forwards = made(name, request)
    backwards = made(name, request, range(5, 6))  # after other scenes were loaded
    assert [one for _, one, _ in forwards[-len(backwards) :]] == [one for _, one, _ in backwards]


@pytest.mark.parametrize("name", NAMES)
def test_candidates_carry_their_pictures_cameras_and_json_facts(name: str, request: pytest.FixtureRequest) -> None:
    found = made(name, request)
    assert len(found) >= 6
    for _, candidate, _ in found:
        assert [image.role for image in candidate.images] == INPUTS[name]
        for image in (*candidate.images, candidate.imagination):
            assert image.camera is not None and image.pixels().shape == (96, 96, 3)
        assert isinstance(candidate.facts["answer"], str)
    assert len({(scene, candidate.key) for scene, candidate, _ in found}) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_masks_never_contradict_an_answer(name: str, request: pytest.FixtureRequest) -> None:
    yields = Yields()
    for one in {id(one): one for _, _, one in made(name, request)}.values():
        yields.add(one)
    assert yields.tested["verify.contradiction"] > 10 and yields.rejected["verify.contradiction"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_impossible_view_filter_is_counted_and_gives_nothing(name: str, request: pytest.FixtureRequest) -> None:
    backend = request.getfixturevalue("blocks")
    config = block_config(name, view=ViewFilter(min_median_depth_m=50.0))
    backend.load("blocks-train-0")
    yields = Yields()
    view = SceneView(backend, backend.load("blocks-train-0"), 64, config)
    assert TASKS[name](config).propose(view, generator(0), yields) == []
    assert any(yields.share(f"{stage}.median_depth") == 1 for stage in ("first_view", "side_view_search", "frame") if
               f"{stage}.median_depth" in yields.tested)  # fmt: skip


def test_pet_answers_follow_from_the_two_cameras_and_the_object(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    """From poses and boxes alone: the camera stands on the X, turned by 90 degrees; distances and sides as said."""
    for scene_id, candidate, _ in made("pet", request):
        blocks.load(scene_id)
        facts = candidate.facts
        (item,) = [one for one in blocks.objects() if one.id == facts["object"]["id"]]
        before, after = candidate.images[0].camera, candidate.imagination.camera
        assert before is not None and after is not None
        turn = math.degrees(wrap_angle(after.pose.yaw - before.pose.yaw))
        assert turn == pytest.approx(90 if facts["turn"] == "left" else -90, abs=1e-6)
        assert after.pose.position == pytest.approx((*facts["target"][:2], before.pose.position[2]), abs=1e-3)
        change = np.linalg.norm(item.centre - after.pose.position) - np.linalg.norm(item.centre - before.pose.position)
        sides = ["left" if camera.project(item.centre)[0][0] < 48 else "right" for camera in (before, after)]
        if facts["kind"] == "distance":
            assert abs(change) >= 0.5 and facts["answer"] == ("closer" if change < 0 else "further")
            assert facts["sub_category"] == f"distance_change_{facts['answer']}"
        else:
            assert facts["sub_category"] == f"relative_position_{sides[0]}_{sides[1]}" and facts["answer"] == sides[1]
        ahead, left = facts["object_from_target"]
        assert math.hypot(ahead, left) == pytest.approx(
            np.linalg.norm((item.centre - after.pose.position)[:2]), abs=2e-3
        )
        assert (left > 0) == (sides[1] == "left") or abs(left) < 0.3


def test_pet_answers_are_even_for_every_kind_and_turn(request: pytest.FixtureRequest) -> None:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, candidate, _ in made("pet", request, range(30)):
        counts[candidate.facts["kind"], candidate.facts["turn"]][candidate.facts["answer"]] += 1
    often = {key: answers for key, answers in counts.items() if answers.total() > 12}
    assert {kind for kind, _ in often} == {"distance", "from_left", "from_right"}
    for key, answers in often.items():
        total = answers.total()
        assert len(answers) == 2 and abs(max(answers.values()) - total / 2) < 2.2 * math.sqrt(total), (key, answers)


def test_pet_arrow_points_along_the_new_heading(request: pytest.FixtureRequest) -> None:
    arrows = made("pet", request, range(3), arrow="with")
    assert len(arrows) >= 6 and all(one.facts["arrow"] for _, one, _ in arrows)
    for _, drawn, _ in arrows:
        picture, camera = drawn.images[0].pixels().astype(int), drawn.images[0].camera
        blue = np.argwhere((np.abs(picture - annotate.BLUE) <= 40).all(axis=2))
        assert camera is not None and len(blue)
        place = np.array([*drawn.facts["target"][:2], 0.0])
        heading = math.radians(drawn.facts["heading_after_deg"])
        tip = camera.project(place + 0.5 * np.array([math.cos(heading), math.sin(heading), 0.0]))[0]
        start = camera.project(place)[0]
        assert (blue[:, ::-1].mean(axis=0) - start) @ (tip - start) > 0


def test_walks_are_as_long_as_their_bin_and_free(blocks: EmbeddedBackend) -> None:
    config = TASK_CONFIGS["pt"](name="pt")
    info = blocks.load("blocks-train-4")
    view = SceneView(blocks, info, 64, config)
    walks = find_walks(view, (1.0, 2.0, 4.0), 6, generator(1), Yields())
    assert {walk.bin for walk in walks} == {"short", "medium", "long"}
    for walk in walks:
        low, high = {"short": (1, 2), "medium": (2, 4), "long": (4, math.inf)}[walk.bin]
        steps = np.linalg.norm(np.diff(walk.path.points, axis=0), axis=1)
        assert low <= walk.path.length_m < high and steps.sum() == pytest.approx(walk.path.length_m)
        assert blocks.is_free(walk.midpoint[None], 0.15).all()
        half = [np.linalg.norm(along(walk.path.points, walk.path.length_m / 2)[:2] - walk.midpoint)]
        assert half[0] < 1e-9 and walk.room == "room"


def test_pt_object_is_on_the_travellers_side_and_reverse_swaps_it(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    directions = Counter()
    for scene_id, candidate, _ in made("pt", request):
        blocks.load(scene_id)
        facts = candidate.facts
        (item,) = [one for one in blocks.objects() if one.id == facts["object"]["id"]]
        first, last = np.array(facts["waypoints"])[:, :2]
        walk = (last - first) * (1 if facts["direction"] == "forward" else -1)
        offset = item.centre[:2] - facts["midpoint"]
        if len(facts["path"]) == 2:  # a straight walk has one heading
            on_left = walk[0] * offset[1] - walk[1] * offset[0] > 0
            assert facts["side"] == ("left" if on_left else "right")
            assert compass(math.atan2(walk[1], walk[0])) == facts["heading_on_map"]
        directions[facts["direction"], facts["side"]] += 1
        assert not set(facts["options"][1:]) & set(facts["in_view"]) and facts["answer"] in facts["in_view"]
        assert sum(facts["chances"].values()) == pytest.approx(1, abs=1e-3)
    assert len(directions) == 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_published_variant_has_its_pictures(variant: str, request: pytest.FixtureRequest) -> None:
    found = made("pt", request, range(1), variants=(variant,))
    roles = [image.role for image in found[0][1].images]
    assert roles == (["map", "ego_1", "ego_2"] if "_ego_" in variant else ["map"])
    camera = found[0][1].images[0].camera
    assert camera is not None and (camera.ortho_height_m is None) == variant.startswith("dh")


def test_mvc_counts_what_stands_in_the_crop(counting_blocks: EmbeddedBackend, request: pytest.FixtureRequest) -> None:
    for scene_id, candidate, _ in made("mvc", request):
        counting_blocks.load(scene_id)
        facts = candidate.facts
        x0, y0, x1, y1 = facts["region"]
        members = [one for one in counting_blocks.objects() if one.category in facts["members"]]
        inside = [one.id for one in members if x0 < one.centre[0] < x1 and y0 < one.centre[1] < y1]
        assert sorted(inside) == sorted(facts["instances"]) and facts["count"] == len(inside)
        assert set().union(*facts["instances_per_frame"]) == set(inside)
        cameras = [image.camera for image in candidate.images]
        turns = [math.degrees(wrap_angle(b.pose.yaw - a.pose.yaw)) for a, b in pairwise(cameras)]  # type: ignore[union-attr]
        assert turns == pytest.approx([90, 90, 90])
        places = {camera.pose.position for camera in cameras}  # type: ignore[union-attr]
        assert len(places) == (1 if facts["movement"] == "rotation" else 4)


def test_a_map_of_counting_is_turned_and_marked_as_wanted(request: pytest.FixtureRequest) -> None:
    """North up with red marks, or the heading of the first view up and nothing but the scene."""

    def reds(changes: dict[str, Any]) -> list[int]:
        pixels = [one.imagination.pixels().astype(int) for _, one, _ in made("mvc", request, **changes)]
        return [int((np.abs(each - annotate.RED).max(axis=-1) < 12).sum()) for each in pixels]

    def ups(changes: dict[str, Any]) -> list[tuple[float, float]]:
        """Headings of a map's top and of the first view."""
        found = [(one.imagination.camera, one.images[0].camera) for _, one, _ in made("mvc", request, **changes)]
        return [(above.pose.yaw, first.pose.yaw) for above, first in found]

    plain = {"map_up": "first_view", "map_marks": False}
    for _, one, _ in made("mvc", request, **plain):
        places = [image.camera.pose.position[:2] for image in one.images if image.camera]
        around = [(min(values) + max(values)) / 2 for values in zip(*places, strict=True)]
        assert one.imagination.camera.pose.position[:2] == pytest.approx(around)
    assert len(ups(plain)) > 3 and all(top == first for top, first in ups(plain))
    assert all(top == pytest.approx(math.pi / 2) for top, _ in ups({}))
    assert np.mean(reds({})) > 1.5 * np.mean(reds(plain))  # some solids are red, too
    with pytest.raises(UserError, match=r"task\.map_up must be north or first_view, got 'up'"):
        block_config("mvc", map_up="up")


def test_counting_joins_categories_but_never_counts_one_instance_twice(blocks: EmbeddedBackend) -> None:
    view = SceneView(blocks, blocks.load("blocks-train-1"), 64, TASK_CONFIGS["mvc"](name="mvc"))
    nouns = countable(view, VOCABULARIES["embedded"], True)
    assert set(nouns) <= {"cube", "cylinder", "sphere", "cone", "pyramid"}
    assert set().union(*nouns.values()) == view.candidates


def test_mvc_asks_nothing_where_something_else_may_be_taken_for_it(
    counting_blocks: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cubes_beside_spheres() -> int:
        """Places where both are seen well enough to be counted, and cubes are asked for."""
        places: dict[tuple[str, str], set[str]] = defaultdict(set)
        for scene, candidate, _ in candidates_of(
            TASKS["mvc"](TASK_CONFIGS["mvc"](name="mvc")), counting_blocks, range(3)
        ):
            places[scene, candidate.facts["view_group"]].add(candidate.facts["category"])
        return sum({"cube", "sphere"} <= nouns for nouns in places.values())

    assert cubes_beside_spheres() > 0
    monkeypatch.setitem(VOCABULARIES["embedded"].lookalikes, "cube", ("sphere",))  # type: ignore[arg-type]
    assert cubes_beside_spheres() == 0


def test_a_scene_is_the_same_in_every_pass_over_the_scenes() -> None:
    first, later = "mvc-embedded-home-train-7-02-box", "mvc-embedded-home-train-7-turn2-00-box"
    assert scene_of(first) == scene_of(later) == "mvc-embedded-home-train-7"
    assert scene_of("mvc-embedded-home-train-71-02-box") != scene_of(first)


def test_mvc_count_is_uniform_among_its_options_although_small_counts_abound() -> None:
    rng = np.random.default_rng(0)
    selector = MultiviewCountingSelector(800, 0.5, rng)
    positions, spans, offered, asked = Counter(), Counter(), 0, set()
    while selector.remaining:
        noun, count = ("chair", "table", "lamp")[int(rng.integers(3))], 1 + int(rng.geometric(0.45))
        offered += 1
        facts = {
            "category": noun, "members": [noun], "count": min(count, 7), "movement": "rotation",
            "instances_per_frame": [["a"]], "also_on_map": {}, "layout": [],
        }  # fmt: skip
        for question in selector.offer(f"scene-{offered // 4}-{offered:02d}-{noun}", facts):
            scene = question.candidate_id.split("-")[1]
            assert (scene, noun) not in asked, "a scene is asked about a noun once"
            asked.add((scene, noun))
            numbers = sorted(map(int, question.choices))
            assert len(set(numbers)) == 4 and numbers[0] >= 1
            spans[numbers[-1] - numbers[0]] += 1
            positions[noun, numbers.index(int(question.answer_text))] += 1
    assert spans.keys() == {3, 4}, "four of five numbers in a row"
    for noun in ("chair", "table", "lamp"):
        counts = [positions[noun, place] for place in range(4)]
        assert max(abs(count - sum(counts) / 4) for count in counts) < 3.5 * math.sqrt(sum(counts) * 3 / 16)


def test_counterfactuals_differ_from_the_truth_as_they_say(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    scene_id, candidate, _ = made("pet", request)[0]
    config: TaskConfig = dataclasses.replace(
        TASK_CONFIGS["pet"](name="pet"),
        counterfactuals=dataclasses.replace(TaskConfig("pet").counterfactuals, enabled=True),
    )
    view = SceneView(blocks, blocks.load(scene_id), 96, config)
    camera = candidate.imagination.camera
    (item,) = [one for one in blocks.objects() if one.id == candidate.facts["object"]["id"]]
    yields = Yields()
    wrong = counterfactuals(view, camera, item, yields, lambda frame: frame.rgb)  # type: ignore[arg-type]
    images = {image.role: image for image in wrong.images}
    truth = candidate.imagination.pixels()
    for role, image in images.items():
        share = (np.abs(image.pixels().astype(int) - truth).max(axis=2) > 16).mean()
        assert wrong.changes[role] == pytest.approx(share, abs=1e-5) and share >= 0.002
    assert wrong.facts == {"counterfactual_changes": wrong.changes}
    assert {"yaw+15", "yaw+180", "distance+0.5", "mirrored", "remove"} <= set(images)
    assert (images["mirrored"].pixels() == truth[:, ::-1]).all()
    assert all((image.pixels() != truth).any() for image in images.values())
    for role, image in images.items():
        if role.startswith("yaw+"):
            assert image.camera.pose.position == camera.pose.position  # type: ignore[union-attr]
            assert (
                math.degrees(wrap_angle(image.camera.pose.yaw - camera.pose.yaw))
                == pytest.approx(  # type: ignore[union-attr]
                    float(role[4:])
                )
            )
        if role.startswith("distance+"):
            step = np.subtract(image.camera.pose.position, camera.pose.position)  # type: ignore[union-attr]
            assert np.linalg.norm(step) == pytest.approx(float(role[9:]))
    mask = blocks.render([camera], ("instance",))[0].instance == item.index  # type: ignore[list-item]
    changed = np.abs(images["remove"].pixels().astype(int) - truth).sum(axis=2) > 0
    assert changed[mask].mean() > 0.9 and changed.mean() < 2 * mask.mean() + 0.05
    assert (blocks.render([camera], ("rgb",))[0].rgb == truth).all(), "the scene is as before"  # type: ignore[list-item]


def test_minimal_pairs_of_inputs_differ_in_the_target_or_in_something_else(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    """Without the option there are none."""
    seen = Counter[str]()
    for scene_id, candidate, _ in made("pet", request)[:6]:
        wrong = CounterfactualConfig(True, (), (), False, (), pairs=True)
        config = dataclasses.replace(TASK_CONFIGS["pet"](name="pet"), counterfactuals=wrong)
        view = SceneView(blocks, blocks.load(scene_id), 96, config)
        camera, unseen = candidate.images[0].camera, candidate.imagination.camera
        (item,) = [one for one in blocks.objects() if one.id == candidate.facts["object"]["id"]]

        def inputs(view: SceneView = view, camera: Any = camera) -> list[SampleImage]:
            return [view.encode(frame.rgb, "observation", camera) for frame in view.render([camera], ("rgb",))]

        def given(view: SceneView, item: Any = item, unseen: Any = unseen, inputs: Any = inputs) -> dict[str, Any]:
            found = counterfactuals(view, unseen, item, Yields(), lambda frame: frame.rgb, inputs)  # type: ignore[arg-type,return-value]
            return {image.role: image.pixels() for image in found.images}

        before, images = inputs()[0].pixels(), given(view)
        off = dataclasses.replace(config, counterfactuals=dataclasses.replace(wrong, pairs=False))
        assert given(dataclasses.replace(view, config=off)) == {}
        seen.update(list(images))
        for role, changes in {"remove/observation": True, "other/observation": False}.items():
            if role in images:
                mask = blocks.render([camera], ("instance",))[0].instance == item.index
                there = (np.abs(images[role].astype(int) - before).max(axis=2) > 16) & mask
                assert changed(before, images[role]) >= 0.002
                assert (there.sum() > 0.5 * mask.sum()) == changes
    assert seen["remove/observation"] >= 5 and seen["other"] == seen["other/observation"] >= 3


def test_what_an_edit_changes_is_seen_or_there_is_none(blocks: EmbeddedBackend, request: pytest.FixtureRequest) -> None:
    """A copy that hides behind something would be the truth again, a move out of sight a removal; neither is given."""
    seen = Counter[str]()
    for scene_id, candidate, _ in made("pet", request)[:8]:
        config = dataclasses.replace(
            TASK_CONFIGS["pet"](name="pet"),
            counterfactuals=CounterfactualConfig(True, (), (), False, ("remove", "add", "move"), min_changed=0.004),
        )
        view = SceneView(blocks, blocks.load(scene_id), 96, config)
        (item,) = [one for one in blocks.objects() if one.id == candidate.facts["object"]["id"]]
        wrong = counterfactuals(view, candidate.imagination.camera, item, Yields(), lambda frame: frame.rgb)  # type: ignore[arg-type]
        pictures = {"truth": candidate.imagination.pixels(), **{one.role: one.pixels() for one in wrong.images}}
        seen.update(list(pictures))
        for one, other in (
            ("truth", "add"),
            ("truth", "move"),
            ("remove", "move"),
            ("remove", "add"),
            ("truth", "remove"),
        ):
            if one in pictures and other in pictures:
                assert changed(pictures[one], pictures[other]) >= 0.004, (scene_id, one, other)
    assert seen["add"] >= 3 and seen["move"] >= 3 and seen["remove"] >= 6


def test_a_counterfactual_that_looks_like_the_truth_is_counted_and_left_out(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    scene_id, candidate, _ = made("pet", request)[0]
    wrong = CounterfactualConfig(enabled=True, min_changed=1.1)
    view = SceneView(
        blocks, blocks.load(scene_id), 96, dataclasses.replace(TASK_CONFIGS["pet"](name="pet"), counterfactuals=wrong)
    )
    (item,) = [one for one in blocks.objects() if one.id == candidate.facts["object"]["id"]]
    yields = Yields()
    found = counterfactuals(view, candidate.imagination.camera, item, yields, lambda frame: frame.rgb)  # type: ignore[arg-type]
    assert found.images == () and found.facts == {}
    assert yields.rejected["counterfactual.differs"] >= 5 and yields.rejected["counterfactual.add"] == 1


@pytest.mark.parametrize(("hidden", "found"), [(0, True), (3, True), (99, False)])
def test_a_thing_is_moved_to_where_it_is_seen(hidden: int, found: bool) -> None:
    """Out of sight it would look as if it were gone: places in view are tried in turn; a picture whose mirror image it is itself
    is not given as mirrored."""
    lamp, tried = thing(0, "lamp", (2.0, 0.0, 0.2)), list[SceneEdit]()
    config = TaskConfig("pet", counterfactuals=CounterfactualConfig(True, (), (), True, ("remove", "move")))
    grey = {"now": 0}

    @contextmanager
    def edited(edits: list[SceneEdit]) -> Iterator[None]:
        tried.extend(edits)
        grey["now"] = 200 if edits[0].kind == "move" and len(tried) > 1 + hidden else 100
        yield
        grey["now"] = 0

    scene = made_up([lamp], config)
    scene.backend.edited = edited
    scene.backend.render = lambda cameras, *_: [
        Frame(one, np.full((100, 100, 3), grey["now"], np.uint8), np.ones((100, 100))) for one in cameras
    ]
    yields = Yields()
    wrong = counterfactuals(scene, EYE, lamp, yields, lambda frame: frame.rgb)  # type: ignore[arg-type,return-value]
    assert [image.role for image in wrong.images] == ["remove", *["move"] * found]
    assert yields.rejected["counterfactual.move"] == (not found) and yields.rejected["counterfactual.differs"] == 1
    moves = [edit for edit in tried if edit.kind == "move"]
    assert len(moves) == min(hidden + 1, PLACES) and len({edit.offset for edit in moves}) == len(moves)
    assert all(inside(fractions(EYE, lamp.centre + np.array(edit.offset)), 0.0) for edit in moves)


def test_verification_notices_every_wrong_answer(blocks: EmbeddedBackend, request: pytest.FixtureRequest) -> None:
    other = {"closer": "further", "further": "closer", "left": "right", "right": "left"}
    for scene_id, candidate, _ in made("pet", request):
        blocks.load(scene_id)
        shots = {i.role: blocks.render([i.camera])[0] for i in (*candidate.images, candidate.imagination)}  # type: ignore[list-item]
        yields = Yields()
        assert verify.agrees("pet", candidate.facts, shots, blocks.objects(), yields)
        wrong = {**candidate.facts, "answer": other[candidate.facts["answer"]]}
        assert not verify.agrees("pet", wrong, shots, blocks.objects(), yields)
        assert yields.rejected["verify.contradiction"] == 1
        absent = {**candidate.facts, "object": {"name": "grand piano"}}
        assert verify.perspective_taking(absent, shots, blocks.objects()) is None


def test_verification_of_a_side_view_wants_exactly_one_option(
    blocks: EmbeddedBackend, request: pytest.FixtureRequest
) -> None:
    scene_id, candidate, _ = made("pt", request)[0]
    blocks.load(scene_id)
    shot = {"side_view": blocks.render([candidate.imagination.camera])[0]}  # type: ignore[list-item]
    facts: dict[str, Any] = dict(candidate.facts)
    assert verify.path_tracing(facts, shot, blocks.objects()) == facts["answer"]
    assert verify.path_tracing({**facts, "options": facts["options"][1:]}, shot, blocks.objects()) is None
    other = "right" if facts["side"] == "left" else "left"
    assert verify.path_tracing({**facts, "side": other}, shot, blocks.objects()) is None


def test_polylines() -> None:
    line = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0]], dtype=float)
    np.testing.assert_allclose(along(line, 3.0), [2, 1, 0])
    np.testing.assert_allclose(along(line, 9.0), [2, 2, 0])


def test_candidate_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Candidate("a", {}, (), None).key = "b"  # type: ignore[misc,arg-type]
