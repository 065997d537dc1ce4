"""Marks: where they fall, what hides them, how they scale."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from datagen import annotate
from datagen.backends.base import Frame, top_down_camera
from ipt.samples.camera import Camera, CameraPose

EYE = Camera(CameraPose((0, 0, 1.5), 0.3, -0.35), 256, 256, 75)
AHEAD = np.array([2.5 * math.cos(0.3), 2.5 * math.sin(0.3), 0.0])


def floor_frame(camera: Camera, grey: int = 120) -> Frame:
    """An empty floor at z = 0 under ``camera``; pixels above the horizon hit nothing."""
    origins, directions = camera.rays()
    depth = np.where(directions[:, 2] < -1e-6, -origins[:, 2] / np.minimum(directions[:, 2], -1e-6), 0)
    shape = (camera.height, camera.width)
    depth = np.where(depth <= camera.far, depth, 0)
    return Frame(camera, np.full((*shape, 3), grey, np.uint8), depth.reshape(shape).astype(np.float32))


def reddened(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0].astype(int) - picture[..., 1] > 60) & (picture[..., 0] > 150)


def test_the_cross_is_centred_on_its_floor_point() -> None:
    frame = floor_frame(EYE)
    picture = annotate.draw(frame, 0.0, [annotate.cross(AHEAD, 0.3, 0.5)])
    rows, columns = np.nonzero(reddened(picture))
    (u, v), _ = EYE.project(AHEAD)
    assert abs(columns.mean() + 0.5 - u) < 1.0 and abs(rows.mean() + 0.5 - v) < 2.0
    assert annotate.visible_share(frame, 0.0, annotate.cross(AHEAD, 0.3, 0.5)) == pytest.approx(1.0)
    assert frame.rgb is not None and (frame.rgb == 120).all(), "the frame itself is not touched"


def test_nothing_is_painted_where_something_stands_before_the_floor() -> None:
    frame = floor_frame(EYE)
    (u, _), _ = EYE.project(AHEAD)
    assert frame.depth is not None
    depth = frame.depth.copy()
    depth[:, int(u) :] = np.minimum(np.where(depth[:, int(u) :] > 0, depth[:, int(u) :], 9), 1.0)
    hidden = replace(frame, depth=depth)
    mark = annotate.cross(AHEAD, 0.3, 0.5)
    picture = annotate.draw(hidden, 0.0, [mark])
    assert (picture[:, int(u) :] == 120).all()
    assert reddened(picture[:, : int(u)]).any()
    assert annotate.visible_share(hidden, 0.0, mark) == pytest.approx(0.5, abs=0.06)


def test_a_rug_carries_marks_and_a_box_does_not() -> None:
    mark = annotate.cross(AHEAD, 0.3, 0.5)
    for height, share in ((0.02, 1.0), (0.15, 0.0)):
        lifted = floor_frame(replace(EYE, pose=CameraPose((0, 0, 1.5 - height), 0.3, -0.35)))
        shown = annotate.visible_share(Frame(EYE, lifted.rgb, lifted.depth), 0.0, mark)
        assert shown == pytest.approx(share, abs=0.02)


def test_marks_scale_with_the_picture() -> None:
    shares = []
    for size in (64, 256, 1024):
        camera = replace(EYE, width=size, height=size)
        picture = annotate.draw(floor_frame(camera), 0.0, [annotate.cross(AHEAD, 0.3, 0.5)])
        shares.append((picture[..., 0].astype(float) - picture[..., 1]).clip(0).mean())
    assert shares[1] == pytest.approx(shares[2], rel=0.05)
    assert shares[1] < shares[0] < 2.5 * shares[1], "thin strokes of a small picture are kept wide enough to be seen"


def test_a_far_mark_is_enlarged_until_legible() -> None:
    far = np.array([8.0, 0.0, 0.0])
    camera = Camera(CameraPose((0, 0, 1.5), 0.0, -0.2), 128, 128, 75)
    size = annotate.legible(0.2, camera, far, 0.06)
    left, right = (camera.project(far + np.array([0, offset, 0]))[0][0] for offset in (size / 2, -size / 2))
    assert right - left == pytest.approx(0.06 * 128)
    assert annotate.legible(5.0, camera, far, 0.06) == 5.0


def test_outside_and_behind_are_drawn_as_nothing() -> None:
    frame = floor_frame(EYE)
    for place in ((-3.0, 0.0, 0.0), (0.5, 30.0, 0.0)):
        mark = annotate.cross(place, 0.0, 0.5)
        assert (annotate.draw(frame, 0.0, [mark]) == 120).all()
        assert annotate.visible_share(frame, 0.0, mark) == 0.0


def test_from_above_an_arrow_points_where_it_should() -> None:
    camera = top_down_camera((-3, -3, 3, 3), 240, 0.0)
    frame = floor_frame(camera)
    picture = annotate.draw(frame, 0.0, [annotate.arrow((0, 0), math.pi / 2, 2.0, annotate.RED)])
    rows, columns = np.nonzero(reddened(picture))
    assert rows.min() < 120 - 75 and rows.max() < 128, "north is up"
    head = columns[rows < 60]
    assert head.max() - head.min() > 3 * (columns[rows > 90].max() - columns[rows > 90].min())


def test_labels_stay_inside_and_differ_by_text() -> None:
    camera = top_down_camera((-3, -3, 3, 3), 128, 0.0)
    frame = floor_frame(camera)
    corner = annotate.draw(frame, 0.0, [], [annotate.Label("1", (3.0, 3.0), annotate.GREEN)])
    painted = np.argwhere((corner != 120).any(axis=2))
    assert len(painted) > 30 and painted[:, 0].min() == 0 and painted[:, 1].max() == 127
    pictures = [
        annotate.draw(frame, 0.0, [], [annotate.Label(text, (0, 0), annotate.GREEN)]) for text in ("1", "2", "M1")
    ]
    assert not (pictures[0] == pictures[1]).all() and not (pictures[1] == pictures[2]).all()


def test_camera_marks_number_every_camera_from_one() -> None:
    cameras = [Camera(CameraPose((x, 0, 1.5), 0.0), 8, 8) for x in range(4)]
    marks, labels = annotate.camera_marks(cameras, 0.5, 1.5)
    assert len(marks) == 4 and [label.text for label in labels] == ["1", "2", "3", "4"]
    assert all(label.at[0] > camera.pose.position[0] for label, camera in zip(labels, cameras, strict=True))


def test_raised_marks_pass_over_tables_but_not_through_cupboards() -> None:
    camera = top_down_camera((-3, -3, 3, 3), 120, 0.0, height=10.0)
    frame = floor_frame(camera)
    mark = replace(annotate.polyline([(-2, 0), (2, 0)], 0.2), height=1.5)
    assert frame.depth is not None
    for top, hidden in ((0.75, False), (2.0, True)):
        depth = frame.depth.copy()
        depth[:, 60:] = 10.0 - top
        picture = annotate.draw(replace(frame, depth=depth), 0.0, [mark])
        assert reddened(picture[:, :58]).any() and reddened(picture[:, 62:]).any() != hidden


def test_a_mark_that_only_touches_the_border_is_no_error() -> None:
    camera = top_down_camera((-3, -3, 3, 3), 64, 0.0)
    frame = floor_frame(camera)
    for offset in (2.9, 2.99, 3.0, 3.05, 3.1):
        annotate.draw(frame, 0.0, [annotate.arrow((offset, 0), 0.0, 0.3)])


def covered(frame: Frame, camera: Camera, centre: np.ndarray, radius: int) -> Frame:
    """The frame with something near that hides a square of pixels around a floor point."""
    assert frame.depth is not None
    (u, v), depth = camera.project(centre)[0], frame.depth.copy()
    rows, columns = (slice(max(int(place) - radius, 0), int(place) + radius) for place in (v, u))
    depth[rows, columns] = 0.5
    return replace(frame, depth=depth)


def test_what_a_question_refers_to_is_seen_with_its_head() -> None:
    """An arrow whose head alone is hidden points nowhere, however much of its shaft is seen."""
    camera = Camera(CameraPose((0, 0, 1.5), 0.0, -0.7), 256, 256, 75)
    frame, foot = floor_frame(camera), np.array([1.5, 0.5, 0.0])
    arrow = annotate.arrow(foot, -math.pi / 2, 1.0)
    tip = foot - np.array([0, 1.0, 0])
    assert annotate.all_shown(frame, 0.0, [annotate.cross(foot, 0.0, 0.3)], [arrow]) == pytest.approx(1.0)
    headless = covered(frame, camera, tip, 17)
    assert annotate.visible_share(headless, 0.0, arrow) > 0.5
    assert annotate.all_shown(headless, 0.0, [], [arrow]) < 0.5
    assert annotate.all_shown(covered(frame, camera, foot, 60), 0.0, [annotate.cross(foot, 0.0, 0.3)]) == 0
    assert annotate.all_shown(frame, 0.0, []) == 1


def test_a_mark_that_the_edge_cuts_is_not_shown() -> None:
    camera = top_down_camera((-2, -2, 2, 2), 100, 0.0)
    frame = floor_frame(camera)
    for centre, shown in ((1.5, 1.0), (1.85, 0.0)):
        mark = annotate.cross((centre, 0.0), 0.0, 0.5)
        assert annotate.all_shown(frame, 0.0, [mark]) == pytest.approx(shown)
        assert annotate.visible_share(frame, 0.0, mark) > 0.7, "a share alone would do"


def test_marks_are_looked_for_at_their_height() -> None:
    """Above a table that would hide them on the floor."""
    camera = top_down_camera((-2, -2, 2, 2), 100, 0.0)
    frame = floor_frame(camera)
    assert frame.depth is not None
    table = replace(frame, depth=frame.depth - np.float32(0.8))
    arrow = annotate.arrow((0.0, 0.0), 0.0, 1.0)
    assert annotate.all_shown(table, 0.0, [], [arrow]) == 0
    assert annotate.all_shown(table, 0.0, [], [replace(arrow, height=1.5)]) == pytest.approx(1.0)
