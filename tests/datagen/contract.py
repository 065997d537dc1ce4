"""What every backend must do. A backend's tests subclass :class:`BackendContract` and give a ``backend`` fixture.

Everything is checked against the backend's own objects and cameras, so that a wrong axis, field of view, depth measure,
row order or instance table in an adapter cannot pass.
"""

import itertools
import math

import numpy as np
import pytest

from datagen.backends.base import CAPABILITIES, Frame, SceneBackend, SceneError, SceneInfo
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose

SIZE = 160
CLEARANCE = 0.25


def look_around(backend: SceneBackend, count: int = 3, height: float = 1.4) -> list[Camera]:
    """Level and tilted cameras at free places, ``height`` metres above the floor, of different shapes and fields of view."""
    rng = generator(5, "contract")
    cameras = []
    for x, y, z in backend.sample_navigable(count, rng, CLEARANCE):
        for yaw, pitch, width, fov in (
            (0.3, 0.0, SIZE, 70.0),
            (2.0, -0.4, SIZE * 3 // 2, 90.0),
            (-1.7, 0.2, SIZE, 55.0),
        ):
            cameras.append(Camera(CameraPose((x, y, z + height), yaw, pitch), width, SIZE, fov))
    return cameras


def world_points(frame: Frame) -> np.ndarray:
    """The surface point in every pixel, (h, w, 3)."""
    camera = frame.camera
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    return camera.unproject(np.stack([columns, rows], -1), frame.depth)


class BackendContract:
    """Subclass with a ``backend`` fixture whose scene is loaded and an ``info`` fixture with its ``SceneInfo``."""

    #: How far (metres) a surface point may lie outside its object's box: depth buffer and box precision of the simulator.
    box_tolerance = 2e-3

    @pytest.fixture(scope="class")
    def frames(self, backend: SceneBackend, info: SceneInfo) -> list[Frame]:
        return backend.render(look_around(backend))

    def test_describes_itself(self, backend: SceneBackend, info: SceneInfo) -> None:
        assert backend.name == info.backend and backend.version == info.backend_version
        assert backend.capabilities <= CAPABILITIES and backend.info == info
        assert np.all(np.asarray(info.bounds_max) > np.asarray(info.bounds_min))
        with pytest.raises(SceneError, match="valid"):
            backend.scenes("no such split")
        missing = CAPABILITIES - backend.capabilities
        if missing:
            with pytest.raises(SceneError, match=sorted(missing)[0]):
                backend.require(missing, "this test")

    def test_objects_are_indexed_and_boxed(self, backend: SceneBackend, info: SceneInfo) -> None:
        objects = backend.objects()
        assert [thing.index for thing in objects] == list(range(len(objects)))
        assert len({thing.id for thing in objects}) == len(objects)
        assert any(not thing.is_structure for thing in objects)
        low, high = np.asarray(info.bounds_min) - 0.3, np.asarray(info.bounds_max) + 0.3
        for thing in objects:
            assert np.all(np.asarray(thing.aabb_max) >= np.asarray(thing.aabb_min)), thing
            assert np.all(np.asarray(thing.aabb_min) >= low) and np.all(np.asarray(thing.aabb_max) <= high), thing
            if thing.obb is not None:
                corners = thing.obb.corners()
                assert np.allclose(thing.obb.rotation @ thing.obb.rotation.T, np.eye(3), atol=1e-5)
                assert np.all(corners.max(0) >= np.asarray(thing.aabb_max) - self.box_tolerance)
                assert np.all(corners.min(0) <= np.asarray(thing.aabb_min) + self.box_tolerance)

    def test_frames_have_the_stated_types(self, frames: list[Frame]) -> None:
        for frame in frames:
            shape = (frame.camera.height, frame.camera.width)
            assert frame.rgb is not None and frame.rgb.shape == (*shape, 3) and frame.rgb.dtype == np.uint8
            assert frame.depth is not None and frame.depth.shape == shape and frame.depth.dtype == np.float32
            assert frame.instance is not None and frame.instance.shape == shape and frame.instance.dtype == np.int32
            assert np.array_equal(frame.depth == 0, frame.instance < 0), "no depth is the same as no instance"

    def test_every_surface_point_lies_in_its_objects_box(self, backend: SceneBackend, frames: list[Frame]) -> None:
        objects = backend.objects()
        outside = checked = 0
        for frame in frames:
            points = world_points(frame)
            for index in np.unique(frame.instance[frame.instance >= 0]):
                mine = points[frame.instance == index]
                thing = objects[index]
                margin = self.box_tolerance * max(1.0, float(frame.depth.max()))
                inside = np.all(
                    (mine >= np.asarray(thing.aabb_min) - margin) & (mine <= np.asarray(thing.aabb_max) + margin), 1
                )
                outside, checked = outside + int((~inside).sum()), checked + len(mine)
        assert checked > SIZE * SIZE
        assert outside <= 1e-3 * checked, f"{outside} of {checked} points lie outside their object's box"

    def test_masks_lie_within_projected_boxes(self, backend: SceneBackend, frames: list[Frame]) -> None:
        compared = 0
        for frame, thing in itertools.product(frames, backend.objects()):
            pixels, depth = frame.camera.project(thing.corners())
            if thing.is_structure or depth.min() < 0.2:
                continue
            rows, columns = np.nonzero(frame.instance == thing.index)
            if len(rows):
                compared += 1
                low, high = pixels.min(0) - 1.5, pixels.max(0) + 1.5
                assert columns.min() + 0.5 >= low[0] and columns.max() + 0.5 <= high[0], thing.id
                assert rows.min() + 0.5 >= low[1] and rows.max() + 0.5 <= high[1], thing.id
        assert compared >= 5

    def test_two_views_agree_on_what_is_where(self, backend: SceneBackend, info: SceneInfo) -> None:
        """Points seen by one camera reproject into another at the depth it measured, unless something nearer hides them."""
        x, y, z = backend.sample_navigable(1, generator(6, "contract"), CLEARANCE)[0]
        first, second = (
            Camera(CameraPose((x, y, z + height), 0.4 + turn, pitch), SIZE, SIZE, 80)
            for height, turn, pitch in ((1.3, 0.0, 0.0), (1.5, 0.25, -0.15))
        )
        one, other = backend.render([first, second], ("depth", "instance"))
        seen = one.instance >= 0
        pixels, depth = second.project(world_points(one)[seen])
        inside = (depth > 0.1) & np.all((pixels > 1) & (pixels < SIZE - 1), axis=1)
        columns, rows = pixels[inside].astype(int).T
        measured = other.depth[rows, columns]
        assert inside.sum() > 0.2 * SIZE * SIZE
        hidden = measured < depth[inside] - 0.05
        behind = measured > depth[inside] + 0.05 + 0.05 * depth[inside]
        assert behind.mean() < 0.03, "a surface seen by one camera is missing in the other"
        assert hidden.mean() < 0.3
        same = one.instance[seen][inside][~hidden & ~behind] == other.instance[rows, columns][~hidden & ~behind]
        assert same.mean() > 0.95

    def test_rendering_again_gives_the_same_pixels(self, backend: SceneBackend, frames: list[Frame]) -> None:
        again = backend.render([frame.camera for frame in frames])
        for before, after in zip(frames, again, strict=True):
            assert np.array_equal(before.instance, after.instance) and np.array_equal(before.depth, after.depth)
            if "deterministic" in backend.capabilities:
                assert np.array_equal(before.rgb, after.rgb)

    def test_only_the_asked_modalities_are_rendered(self, backend: SceneBackend, frames: list[Frame]) -> None:
        for modality in ("rgb", "depth", "instance"):
            frame = backend.render([frames[0].camera], (modality,))[0]
            given = {name for name in ("rgb", "depth", "instance") if getattr(frame, name) is not None}
            assert given == {modality}
            assert np.array_equal(getattr(frame, modality), getattr(frames[0], modality))

    def test_free_points_are_free_and_connected(self, backend: SceneBackend, info: SceneInfo) -> None:
        points = backend.sample_navigable(60, generator(7, "contract"), CLEARANCE)
        assert points.shape == (60, 3) and backend.is_free(points, CLEARANCE).all()
        assert np.allclose(points[:, 2], info.floor_z)
        assert not backend.is_free(np.array([[1e3, 1e3, 0.0]])).any()
        assert np.array_equal(points, backend.sample_navigable(60, generator(7, "contract"), CLEARANCE))
        free = backend.free_map(CLEARANCE)
        assert free.grid.any() and not free.grid.all()

    def test_points_of_a_room_lie_in_it(self, backend: SceneBackend, info: SceneInfo) -> None:
        """By a count of crossings of each room's outline; rooms too full to stand in say so."""
        if "rooms" not in backend.capabilities:
            with pytest.raises(SceneError, match="rooms"):
                backend.sample_navigable(1, generator(12, "contract"), room_id="room-0")
            return
        stood = 0
        for room in info.rooms:
            try:
                points = backend.sample_navigable(20, generator(12, "contract"), 0.2, room.id)
            except SceneError:
                continue
            stood += 1
            assert points.shape == (20, 3) and backend.is_free(points, 0.2).all()
            for x, y, _ in points:
                edges = list(zip(room.polygon, np.roll(room.polygon, -1, axis=0), strict=True))
                crossed = [(a, b) for a, b in edges if (a[1] > y) != (b[1] > y)]
                hits = sum(x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) for a, b in crossed)
                near = min(
                    abs((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / np.linalg.norm(b - a)
                    for a, b in edges
                )
                assert hits % 2 or near < 0.04, room.kind  # points are drawn anywhere in cells of 5 cm
        assert stood >= 1

    def test_nothing_stands_where_one_may_walk(self, backend: SceneBackend, info: SceneInfo) -> None:
        """Seen from the middle of a free place, no surface between knee and head comes closer than the clearance."""
        for x, y, z in backend.sample_navigable(6, generator(8, "contract"), CLEARANCE):
            ring = [Camera(CameraPose((x, y, z + 1.0), turn * math.pi / 2), 64, 64, 90, near=0.02) for turn in range(4)]
            for frame in backend.render(ring, ("depth", "instance")):
                points = world_points(frame)[frame.instance >= 0]
                body = (points[:, 2] > z + 0.15) & (points[:, 2] < z + 1.6)
                distance = np.linalg.norm(points[body][:, :2] - (x, y), axis=1)
                assert distance.size == 0 or distance.min() > CLEARANCE - 0.12

    def test_shortest_paths_stay_in_free_space(self, backend: SceneBackend, info: SceneInfo) -> None:
        points = backend.sample_navigable(12, generator(9, "contract"), 0.3)
        for start, goal in zip(points[:6], points[6:], strict=True):
            path = backend.shortest_path(start, goal)
            assert path is not None, "free space is connected"
            assert np.allclose(path.points[:, 2], info.floor_z)
            assert np.allclose(path.points[0][:2], start[:2], atol=0.3) and np.allclose(
                path.points[-1][:2], goal[:2], atol=0.3
            )
            steps = np.linalg.norm(np.diff(path.points, axis=0), axis=1)
            assert path.length_m == pytest.approx(steps.sum(), rel=1e-6)
            assert path.length_m >= np.linalg.norm((path.points[-1] - path.points[0])[:2]) - 1e-6
            along = np.concatenate(
                [a + np.linspace(0, 1, 20)[:, None] * (b - a) for a, b in itertools.pairwise(path.points)]
            )
            assert backend.is_free(along, 0.1).all()
        assert backend.shortest_path(points[0], np.array([1e3, 1e3, 0.0])) is None

    def test_paths_keep_the_asked_clearance(self, backend: SceneBackend, info: SceneInfo) -> None:
        """Checked at every 5 cm against the free map of a decimetre less: grids are as coarse as that."""
        wide = 0.4 if backend.free_map(0.4).grid.any() else CLEARANCE
        points = backend.sample_navigable(8, generator(11, "contract"), wide)
        for start, goal in zip(points[:4], points[4:], strict=True):
            lengths = []
            for clearance in (0.2, wide):
                path = backend.shortest_path(start, goal, clearance)
                assert path is not None, "free space is connected"
                for a, b in itertools.pairwise(path.points):
                    count = 2 + int(np.linalg.norm(b - a) / 0.05)
                    along = a + np.linspace(0, 1, count)[:, None] * (b - a)
                    assert backend.is_free(along, clearance - 0.1).all()
                lengths.append(path.length_m)
            assert lengths[1] >= np.linalg.norm((goal - start)[:2]) - 0.3

    def test_the_floor_is_where_the_backend_says(self, backend: SceneBackend, info: SceneInfo) -> None:
        """Looking straight down from free places, what lies under one's feet is at ``floor_z`` (a rug may be there)."""
        below = []
        for x, y, z in backend.sample_navigable(8, generator(10, "contract"), CLEARANCE):
            camera = Camera(CameraPose((x, y, z + 1.2), 0.0, -math.pi / 2), 8, 8, 10, near=0.02)
            below.append(z + 1.2 - float(np.median(backend.render([camera], ("depth",))[0].depth)))
        assert np.median(below) == pytest.approx(info.floor_z, abs=0.03)
        assert np.all(np.abs(np.array(below) - info.floor_z) < 0.2)

    def test_top_down_view_has_the_stated_scale(self, backend: SceneBackend, info: SceneInfo) -> None:
        low, high = np.asarray(info.bounds_min), np.asarray(info.bounds_max)
        region = (low[0] - 0.5, low[1] - 0.5, high[0] + 0.5, high[1] + 0.5)
        frame = backend.render_top_down(region, 256)
        assert frame.rgb.shape == (256, 256, 3) and frame.camera.projection == "orthographic"
        assert frame.camera.metres_per_pixel == pytest.approx(
            max(high[0] - low[0], high[1] - low[1], 0) / 256 + 1 / 256
        )
        seen = 0
        for thing in backend.objects():
            mask = frame.instance == thing.index
            if thing.is_structure or mask.sum() < 20:
                continue
            seen += 1
            points = world_points(frame)[mask]
            assert np.all(points >= np.asarray(thing.aabb_min) - 0.1) and np.all(
                points <= np.asarray(thing.aabb_max) + 0.1
            )
        assert seen >= 3, "furniture is visible from above: ceilings are hidden"
        assert frame.camera.pose.position[2] == pytest.approx(info.floor_z + 20.0)
        north = frame.camera.unproject(np.array([128.0, 10.0]), np.array(1.0))
        south = frame.camera.unproject(np.array([128.0, 240.0]), np.array(1.0))
        assert north[1] > south[1]
