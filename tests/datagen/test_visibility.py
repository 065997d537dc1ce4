"""Measures of frames against slow, obvious ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks.side_views import exposure
from datagen.visibility import InstanceStats, floor_points, fractions, inside, seen_from
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.made_up import thing

ANGLE = st.floats(-3.1, 3.1)


@settings(max_examples=60, deadline=None)
@given(ANGLE, st.floats(-1.2, 1.2), st.floats(40, 120), st.integers(0, 2**32 - 1))
def test_many_cameras_in_one_product_see_what_each_one_projects(
    yaw: float, pitch: float, fov: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    eyes, points = rng.uniform(-3, 3, (4, 3)), rng.uniform(-5, 5, (6, 3))
    together = seen_from(eyes, yaw, pitch, fov, points)
    for row, eye in zip(together, eyes, strict=True):
        camera = Camera(CameraPose(tuple(eye), yaw, pitch), 50, 50, fov, near=1e-6)
        np.testing.assert_allclose(row, fractions(camera, points), rtol=1e-6, atol=1e-6)


def test_stats_equal_a_count_pixel_by_pixel(blocks: EmbeddedBackend) -> None:
    blocks.load("blocks-train-5")
    camera = Camera(CameraPose((-1.5, -1.2, 1.5), 0.7, -0.3), 60, 60)
    frame = blocks.render([camera], ("depth", "instance"))[0]
    assert frame.instance is not None and frame.depth is not None
    stats = InstanceStats.of(frame, len(blocks.objects()))
    for index in range(len(blocks.objects())):
        rows, columns = np.nonzero(frame.instance == index)
        assert stats.pixels[index] == len(rows) and stats.area[index] == len(rows) / 3600
        if not len(rows):
            assert np.isnan(stats.centre[index]).all()
            continue
        np.testing.assert_allclose(stats.centre[index], [(columns.mean() + 0.5) / 60, (rows.mean() + 0.5) / 60])


def test_floor_points_lie_on_the_floor_and_project_to_their_pixels(blocks: EmbeddedBackend) -> None:
    info = blocks.load("blocks-train-6")
    camera = Camera(CameraPose((0, 0, 1.5), 1.0, -0.5), 48, 48)
    frame = blocks.render([camera], ("depth", "instance"))[0]
    floors = [item.index for item in blocks.objects() if item.category == "floor"]
    pixels, points = floor_points(frame, floors, info.floor_z, 0.2)
    assert len(points) > 100 and np.abs(points[:, 2]).max() < 0.02
    np.testing.assert_allclose(fractions(camera, points), pixels, atol=1e-4)


def test_exposure_prefers_views_that_show_an_object_whole_and_alone(blocks: EmbeddedBackend) -> None:
    blocks.load("blocks-train-5")
    target = next(item for item in blocks.objects() if not item.is_structure)
    eye = target.centre - np.array([2.0, 0.0, 0.0])

    def score(yaw: float, *across: np.ndarray) -> float:
        return float(exposure(eye[None], yaw, 0.0, 90.0, target, across)[0])

    assert score(0.0) > score(0.75) > score(np.pi) == 0.0
    assert score(0.0, target.centre + np.array([1.0, 0.1, 0.0])) < 0.5 * score(0.0)
    assert score(0.0, eye - np.array([1.0, 0.0, 0.0])) == score(0.0)


def test_inside_treats_unseen_as_outside() -> None:
    assert inside(np.array([[0.5, 0.5], [0.05, 0.5], [np.nan, 0.5]]), 0.1).tolist() == [True, False, False]


def test_exposure_prefers_what_the_edge_does_not_cut() -> None:
    """A box that fills enough of the picture either way: straight ahead whole, half cut at the left."""
    box = replace(thing(0, "box", (1.7, 0.0, 0.0)), aabb_min=(1.2, -0.5, -0.5), aabb_max=(2.2, 0.5, 0.5))
    ahead, cut = (float(exposure(np.zeros((1, 3)), yaw, 0.0, 90.0, box, [])[0]) for yaw in (0.0, -0.6))
    assert 0 < cut < 0.45 * ahead
