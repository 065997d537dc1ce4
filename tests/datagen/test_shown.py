"""What pictures show, looked up in their pixels and cameras: sides, headings, arrows and labels.

Nothing here uses the generator's own tables: directions on a map are written down, positions are projected with the stored
cameras, and marks are found by their colour.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from datagen import annotate
from datagen.backends.base import Frame, Path, top_down_camera
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks import TASKS
from datagen.tasks.drawing import walk_marks
from datagen.tasks.path_questions import view_sentence
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.path_tracing import PathTracing, compass, map_marks
from datagen.tasks.paths import Sight, Walk
from datagen.tasks.puzzles import Puzzle
from datagen.tasks.side_views import Lens, Presentation, SideViewSearch
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.conftest import block_config, candidates_of
from tests.datagen.made_up import made_up, measures, thing
from tests.datagen.test_annotate import floor_frame

SIZE = 160
#: Headings in degrees (0 along +x, growing to the left) as seen on a map whose top is +y.
ON_MAP = {
    0: "right", 20: "right", 45: "upper right", 60: "upper right", 70: "top", 90: "top", 110: "top", 135: "upper left",
    180: "left", -180: "left", 200: "left", -135: "lower left", 225: "lower left", -90: "bottom", 270: "bottom",
    -45: "lower right", 315: "lower right", 340: "right", 360: "right",
}  # fmt: skip
#: Where the left hand points, by heading.
LEFT_OF = {
    "right": "top", "upper right": "upper left", "top": "left", "upper left": "lower left",
    "left": "bottom", "lower left": "lower right", "bottom": "right", "lower right": "upper right",
}  # fmt: skip
#: Steps in the picture, x to the right and y down.
STEP = {
    "right": (1, 0), "upper right": (1, -1), "top": (0, -1), "upper left": (-1, -1),
    "left": (-1, 0), "lower left": (-1, 1), "bottom": (0, 1), "lower right": (1, 1),
}  # fmt: skip


@pytest.mark.parametrize(("degrees", "word"), ON_MAP.items())
def test_compass_words(degrees: int, word: str) -> None:
    assert compass(math.radians(degrees)) == word


def a_walk(degrees: float) -> Walk:
    """Four metres straight on, from waypoint 1 to waypoint 2, through M1 at (0.5, 0.5)."""
    heading = math.radians(degrees)
    ahead = np.array([math.cos(heading), math.sin(heading)])
    points = np.stack([[*(0.5 + shift * ahead), 0.0] for shift in (-2.0, 2.0)])
    return Walk(Path(points, 4.0), np.array([0.5, 0.5]), heading, "long", "room")


def a_puzzle(degrees: float, side: str) -> tuple[Any, Puzzle, np.ndarray]:
    """A scene with one lamp, two metres to that side of M1 for someone who goes from 1 to 2; and where it stands."""
    turn = math.radians(degrees + {"left": 90, "right": -90}[side])
    place = np.array([0.5 + 2 * math.cos(turn), 0.5 + 2 * math.sin(turn), 1.2])
    scene = made_up([thing(0, "lamp", tuple(place))], PathTracingConfig())
    sight = Sight(a_walk(degrees), side, {"lamp": 0}, frozenset({"lamp"}))
    return scene, Puzzle(sight, "lamp", frozenset()), place


#: Heading from 1 to 2 in degrees, forward (1 to 2) or back, side of someone who goes from 1 to 2; then what is told: the
#: traveller's heading on the map, the traveller's side, and where that is on the map.
TOLD = [
    (0, True, "left", "right", "left", "top"),
    (0, False, "left", "left", "right", "top"),
    (0, True, "right", "right", "right", "bottom"),
    (90, True, "right", "top", "right", "right"),
    (90, False, "right", "bottom", "left", "right"),
    (180, True, "left", "left", "left", "bottom"),
    (-90, True, "left", "bottom", "left", "right"),
    (-90, False, "left", "top", "right", "right"),
    (45, True, "left", "upper right", "left", "upper left"),
    (135, False, "right", "lower right", "left", "upper right"),
]


@pytest.mark.parametrize(("degrees", "forward", "side", "heading", "told", "on_map"), TOLD)
def test_headings_and_sides_are_told_as_the_traveller_has_them(
    degrees: float, forward: bool, side: str, heading: str, told: str, on_map: str
) -> None:
    scene, puzzle, place = a_puzzle(degrees, side)
    frame = Frame(Camera(CameraPose((0.5, 0.5, 1.5), 0.0), 8, 8), None, np.ones((8, 8)), np.zeros((8, 8), int))
    presentation = Presentation(forward, "td_path", Lens(1.5, 90.0, 0.0))
    facts = PathTracing(PathTracingConfig())._facts(scene, puzzle, frame, measures([0.1], [(0.5, 0.5)]), presentation)
    assert (facts["heading_on_map"], facts["side"], facts["side_on_map"]) == (heading, told, on_map)
    assert facts["start"] == f"waypoint {1 if forward else 2}" and facts["end"] == f"waypoint {2 if forward else 1}"
    assert facts["direction"] == ("forward" if forward else "reverse")
    assert facts["object"]["bearing_deg"] == pytest.approx(90 if told == "left" else -90)
    assert facts["object"]["distance_m"] == pytest.approx(2.0, abs=1e-3)
    step = np.array([place[0] - 0.5, 0.5 - place[1]])
    assert step @ STEP[on_map] / np.linalg.norm(STEP[on_map]) == pytest.approx(2.0), (
        "that is where it stands on the map"
    )
    travelled = math.radians(facts["heading_deg"])
    assert np.array([math.cos(travelled), -math.sin(travelled)]) @ STEP[heading] > 0.99


@pytest.mark.parametrize(("degrees", "forward", "side"), [row[:3] for row in TOLD])
@pytest.mark.parametrize("variant", ["td_ego_dir", "td_ego_side", "td_path"])
def test_cameras_at_the_waypoints_look_along_the_travel_or_to_the_side(
    variant: str, degrees: float, forward: bool, side: str
) -> None:
    _, puzzle, _ = a_puzzle(degrees, side)
    cameras = Presentation(forward, variant, Lens(1.4, 90.0, -0.05)).waypoint_cameras(puzzle.sight, 32)
    if variant == "td_path":
        assert cameras == []
        return
    turn = {"left": 90, "right": -90}[side] if variant == "td_ego_side" else 0 if forward else 180
    for camera, end in zip(cameras, a_walk(degrees).path.points, strict=True):
        off = (math.degrees(camera.pose.yaw) - degrees - turn + 180) % 360 - 180
        assert abs(off) < 1e-6 and camera.pose.pitch == -0.05 and camera.vertical_fov_deg == 90.0
        np.testing.assert_allclose(camera.pose.position, [*end[:2], 1.4])


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("forward", [True, False])
def test_side_cameras_stand_near_m1_and_look_to_the_side(degrees: float, side: str, forward: bool) -> None:
    """Of the 147 candidates the best at each place: 30 to 90 degrees off the heading, at most 0.6 m along the walk."""
    scene, puzzle, place = a_puzzle(degrees, side)
    search = SideViewSearch(scene, PathTracingConfig(), {}, Yields())
    cameras = search._best_cameras(puzzle, Presentation(forward, "td_path", Lens(1.5, 90.0, 0.0)))
    assert len(cameras) == 4
    for camera in cameras:
        off = (math.degrees(camera.pose.yaw) - degrees + 180) % 360 - 180
        toward = off if side == "left" else -off
        assert 29.9 < (toward if forward else 180 - toward) < 90.1
        shift = np.array(camera.pose.position[:2]) - 0.5
        along = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        assert abs(shift @ along) <= 0.6 + 1e-9 and np.linalg.norm(shift - (shift @ along) * along) < 1e-9
        pixel, depth = camera.project(place)
        assert depth > 0 and np.all((pixel > 0) & (pixel < camera.width)), "the lamp is in view"


CACHE: dict[str, list[Any]] = {}


def shown(variant: str, backend: EmbeddedBackend) -> list[Any]:
    """Candidates of a variant on some block rooms, made once."""
    if variant not in CACHE:
        config = block_config("pt", variants=(variant,), samples_per_scene=4, walks_per_bin=6)
        CACHE[variant] = [one for _, one, _ in candidates_of(TASKS["pt"](config), backend, range(3), size=SIZE)]
    assert len(CACHE[variant]) >= 6
    return CACHE[variant]


def of_colour(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    """Pixel centres (n, 2) as (x, y) whose colour is within ``tolerance`` per channel."""
    rows, columns = np.nonzero((np.abs(picture.astype(int) - colour) <= tolerance).all(axis=2))
    return np.stack([columns + 0.5, rows + 0.5], axis=1)


def on_picture(camera: Camera, x: float, y: float, z: float = 1.5) -> np.ndarray:
    return camera.project(np.array([x, y, z]))[0]


def heading_in_picture(candidate: Any, camera: Camera) -> np.ndarray:
    """The traveller's direction at M1 as a unit step in the picture, from the drawn path and the direction of travel."""
    points = np.array(candidate.facts["path"])[:, :2]
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    before, after = (
        np.array([np.interp(steps.sum() / 2 + offset, [0, *np.cumsum(steps)], points[:, axis]) for axis in (0, 1)])
        for offset in (-0.2, 0.2)
    )
    step = after - before
    if candidate.facts["direction"] == "reverse":
        step = -step
    pixels = on_picture(camera, *(np.array(candidate.facts["midpoint"][:2]) + step)) - on_picture(
        camera, *candidate.facts["midpoint"][:2]
    )
    return pixels / np.linalg.norm(pixels)


def to_the_left(step: np.ndarray) -> np.ndarray:
    """The left of a direction in a picture, x right and y down: facing up, left is left."""
    return np.array([step[1], -step[0]])


def test_left_in_a_picture() -> None:
    assert to_the_left(np.array([0, -1])).tolist() == [-1, 0] and to_the_left(np.array([1, 0])).tolist() == [0, -1]


def test_words_for_heading_and_side_are_what_the_map_shows(blocks: EmbeddedBackend) -> None:
    for candidate in shown("td_path", blocks):
        facts, camera = candidate.facts, candidate.images[0].camera
        step = heading_in_picture(candidate, camera)
        word = np.array(STEP[facts["heading_on_map"]]) / np.linalg.norm(STEP[facts["heading_on_map"]])
        assert step @ word > math.cos(math.radians(23)), "within half a step of the compass"
        left = LEFT_OF[facts["heading_on_map"]]
        opposite = {heading: hand for hand, heading in LEFT_OF.items()}[facts["heading_on_map"]]
        assert facts["side_on_map"] == (left if facts["side"] == "left" else opposite)


def test_the_object_lies_on_the_stated_side_of_the_map(blocks: EmbeddedBackend) -> None:
    sides = set()
    for candidate in shown("td_path", blocks):
        facts, camera = candidate.facts, candidate.images[0].camera
        blocks.load(blocks.scenes("train")[0])
        step = heading_in_picture(candidate, camera)
        angle = math.radians(facts["object"]["bearing_deg"])
        assert (angle > 0) == (facts["side"] == "left"), "bearings grow to the left"
        toward = math.cos(angle) * step + math.sin(angle) * to_the_left(step)
        word = np.array(STEP[facts["side_on_map"]]) / np.linalg.norm(STEP[facts["side_on_map"]])
        assert toward @ word > 0
        sides.add((facts["side"], facts["direction"]))
    assert len(sides) >= 3


def check_arrow(offsets: np.ndarray, aim: np.ndarray, reach: float) -> None:
    """Pixels (n, 2) relative to an arrow's foot: they lead at least ``reach`` along ``aim`` and end in the widest part."""
    out, along = offsets @ aim, offsets @ to_the_left(aim)
    assert out.max() > reach and out.max() > 3 * -out.min()
    tip = offsets[np.argmax(out)]
    assert abs(tip @ to_the_left(aim)) < 0.3 * (tip @ aim), "it points straight there"
    assert np.ptp(along[(out > 0.55 * out.max()) & (out < 0.85 * out.max())]) > 2 * np.ptp(
        along[(out > 0.2 * out.max()) & (out < 0.45 * out.max())]
    ), "the head is at the tip"


@pytest.mark.parametrize("degrees", [0, 90, 180, -90, 30])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", ["td_path_arrow", "td_ego_dir_arrow", "td_ego_side_arrow", "td_midpoint"])
def test_arrows_on_a_map_point_where_the_facts_say(variant: str, side: str, degrees: int) -> None:
    """On an empty floor: the blue arrow to the side in question, the orange one (variants without a path) ahead."""
    camera = top_down_camera((-3, -3, 3, 3), 240, 0.0)
    heading, walk = math.radians(degrees), a_walk(degrees)
    facts = {"variant": variant, "heading_deg": degrees, "side": side}
    lines, arrows, labels = map_marks(walk, facts, camera, 0.0)
    marks = [*lines, *arrows]
    middle, step = on_picture(camera, 0.5, 0.5), np.array([math.cos(heading), -math.sin(heading)])
    aside = to_the_left(step) * (1 if side == "left" else -1)
    drawn = annotate.draw(floor_frame(camera), 0.0, marks)
    if variant == "td_midpoint":
        check_arrow(of_colour(drawn, annotate.ORANGE) - middle, step, 25)
        assert not len(of_colour(drawn, annotate.BLUE)) and not len(of_colour(drawn, annotate.RED))
        assert [label.text for label in labels] == ["M1"]
    else:
        check_arrow(of_colour(drawn, annotate.BLUE) - middle, aside, 25)
        assert np.ptp((of_colour(drawn, annotate.RED) - middle) @ step) > 150, "the whole path is drawn"
        assert [label.text for label in labels] == ["1", "2", "M1"]
        ends = [on_picture(camera, *label.at) - middle for label in labels[:2]]
        assert ends[0] @ step < -70 and ends[1] @ step > 70, "1 is where the path begins"


def test_arrows_are_as_long_as_wanted() -> None:
    camera, walk = top_down_camera((-3, -3, 3, 3), 240, 0.0), a_walk(0)
    facts = {"variant": "td_midpoint", "heading_deg": 0.0, "side": "left"}
    for share in (0.2, 0.4):
        marks = (map_marks(walk, facts, camera, 0.0, share)[1], walk_marks(walk, camera, share)[1:])
        for (mark,) in marks:
            foot, tip = mark.segments[0]
            assert np.linalg.norm(tip - foot) == pytest.approx(6 * share)


def test_the_task_s_arrows_are_as_long_as_wanted(blocks: EmbeddedBackend) -> None:
    config = block_config("pt", variants=("td_midpoint",), samples_per_scene=2, walks_per_bin=6, min_arrow_share=0.4)
    found = [one for _, one, _ in candidates_of(TASKS["pt"](config), blocks, range(2), size=SIZE)]
    longer, plain = (
        np.mean([len(of_colour(one.images[0].pixels(), annotate.ORANGE)) for one in those])
        for those in (found, shown("td_midpoint", blocks))
    )
    assert longer > 2 * plain > 0


def test_the_arrow_of_a_question_is_that_of_its_facts(blocks: EmbeddedBackend) -> None:
    """What the arrow adds to the map of the same walk lies on the side that the question asks for."""
    plain_maps = {tuple(plain.facts["midpoint"]): plain for plain in shown("td_path", blocks)}
    both = [(plain_maps.get(tuple(drawn.facts["midpoint"])), drawn) for drawn in shown("td_path_arrow", blocks)]
    assert sum(plain is not None for plain, _ in both) >= 3, "the others' arrow would be hidden or cut"
    for plain, drawn in both:
        if plain is None:
            continue
        facts, camera = drawn.facts, drawn.images[0].camera
        changed = np.abs(plain.images[0].pixels().astype(int) - drawn.images[0].pixels()).sum(axis=2) > 60
        rows, columns = np.nonzero(changed)
        offsets = np.stack([columns + 0.5, rows + 0.5], axis=1) - on_picture(camera, *facts["midpoint"][:2])
        aside = to_the_left(heading_in_picture(drawn, camera)) * (1 if facts["side"] == "left" else -1)
        assert (offsets @ aside).mean() > 0.03 * SIZE and (offsets @ aside).max() > 0.07 * SIZE


def test_waypoint_labels_stand_at_the_ends_of_the_path(blocks: EmbeddedBackend) -> None:
    """Green discs at both ends: the one at the start of the stored path reads 1, the other 2."""
    radius = max(annotate.MIN_LABEL_RADIUS_PX, annotate.LABEL_RADIUS * SIZE)
    discs = {text: annotate.disc_patch(text, annotate.GREEN, radius) for text in ("1", "2")}
    read = 0
    for candidate in shown("td_path", blocks):
        image, size = candidate.images[0], discs["1"].shape[0]
        ends = [on_picture(image.camera, *point[:2], 0.0) for point in candidate.facts["waypoints"]]
        if np.linalg.norm(ends[0] - ends[1]) < 2 * size:
            continue
        for text, place in zip(("1", "2"), ends, strict=True):
            left, top = np.clip(np.rint(place - size / 2), 0, SIZE - size).astype(int)
            window = image.pixels()[top : top + size, left : left + size].astype(float)
            alpha = discs["1"][..., 3:] / 255
            errors = {name: float((alpha * np.abs(window - disc[..., :3])).mean()) for name, disc in discs.items()}
            assert min(errors, key=errors.__getitem__) == text
            read += 1
    assert read >= 6


@pytest.mark.parametrize("variant", ["td_ego_dir", "td_ego_side"])
def test_views_at_the_waypoints_look_ahead_or_to_the_asked_side(blocks: EmbeddedBackend, variant: str) -> None:
    turns = {"td_ego_dir": {"left": 0, "right": 0}, "td_ego_side": {"left": 90, "right": -90}}[variant]
    seen = set()
    for candidate in shown(variant, blocks):
        facts = candidate.facts
        points = np.array(facts["path"])[:, :2]
        if len(points) > 2:
            continue
        assert [image.role for image in candidate.images] == ["map", "ego_1", "ego_2"]
        travel = points[1] - points[0] if facts["direction"] == "forward" else points[0] - points[1]
        expected = math.degrees(math.atan2(travel[1], travel[0])) + turns[facts["side"]]
        for image, point in zip(candidate.images[1:], points, strict=True):
            assert image.camera.pose.position[:2] == pytest.approx(tuple(point), abs=1e-3)
            off = (math.degrees(image.camera.pose.yaw) - expected + 180) % 360 - 180
            assert abs(off) < 0.5, (facts["direction"], facts["side"])
        seen.add((facts["direction"], facts["side"]))
    assert len(seen) >= 2


def test_the_side_view_looks_to_the_asked_side_from_near_m1(blocks: EmbeddedBackend) -> None:
    """Between 30 and 90 degrees off the traveller's heading, on the asked side, at most 0.6 m from M1 along the walk."""
    sides = set()
    for candidate in shown("td_path", blocks) + shown("td_ego_dir", blocks):
        facts, camera = candidate.facts, candidate.imagination.camera
        off = (math.degrees(camera.pose.yaw) - facts["heading_deg"] + 180) % 360 - 180
        toward = off if facts["side"] == "left" else -off
        assert 29.9 <= toward <= 90.1
        assert np.linalg.norm(np.subtract(camera.pose.position[:2], facts["midpoint"][:2])) <= 0.61
        sides.add((facts["side"], facts["direction"]))
    assert len(sides) == 4


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("td_path", ""),
        ("td_path_arrow", "The blue arrow at M1 points to the side in question. "),
        (
            "td_ego_dir",
            "The other two pictures show the view ahead, in the direction of travel, at waypoints 1 and 2. ",
        ),
        ("td_ego_side", "The other two pictures show the view to the left of the walk at waypoints 1 and 2. "),
    ],
)
def test_the_question_says_what_its_pictures_show(variant: str, words: str) -> None:
    assert view_sentence({"variant": variant, "side": "left"}) == words


@pytest.mark.parametrize(("yaw", "step"), [(0, (1, 0)), (90, (0, -1)), (180, (-1, 0)), (-90, (0, 1)), (45, (1, -1))])
def test_cameras_on_the_counting_map_are_arrows_that_look_where_they_look(yaw: int, step: tuple[int, int]) -> None:
    camera = top_down_camera((-3, -3, 3, 3), 240, 0.0)
    taken = [Camera(CameraPose((0.5, -0.5, 1.5), math.radians(yaw)), 8, 8)]
    marks, labels = annotate.camera_marks(taken, 1.2, 1.5)
    picture = annotate.draw(floor_frame(camera), 0.0, marks)
    offsets = of_colour(picture, annotate.RED) - on_picture(camera, 0.5, -0.5)
    unit = np.array(step) / np.linalg.norm(step)
    assert (offsets @ unit).max() > 40 and (offsets @ unit).min() > -8
    across = offsets @ to_the_left(unit)
    assert abs(across.mean()) < 1.5 and np.ptp(across[offsets @ unit > 36]) > np.ptp(across[offsets @ unit < 24])
    (label,) = labels
    ahead = on_picture(camera, *label.at) - on_picture(camera, 0.5, -0.5)
    assert label.text == "1" and ahead @ unit > 48 and abs(ahead @ to_the_left(unit)) < 1e-6


def test_an_arrow_has_its_barbs_at_the_tip() -> None:
    mark = annotate.arrow((1.0, 2.0), math.pi / 2, 2.0)
    shaft, *barbs = mark.segments
    np.testing.assert_allclose(shaft, [[1, 2], [1, 4]], atol=1e-9)
    for barb in barbs:
        np.testing.assert_allclose(barb[0], [1, 4], atol=1e-9)
        assert 2.5 < barb[1][1] < 4 and 0.2 < abs(barb[1][0] - 1) < 0.8
    assert barbs[0][1][0] < 1 < barbs[1][1][0] or barbs[1][1][0] < 1 < barbs[0][1][0]
