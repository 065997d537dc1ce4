"""One scene at a time, the pictures of which are clicked in.

Places of clicks are (u, v), shares of the picture's width and height from its top left corner. A step is asked of the
first-person picture, a walk and places to look from of the map. Pictures to look at are larger than those of samples, which
have the size of the run.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from datagen import annotate
from datagen.backends.base import TOP_DOWN_HIDES, Floats, Frame, Path, SceneError, top_down_camera
from datagen.backends.registry import BACKENDS
from datagen.config import RunConfig
from datagen.stage.questions import Asked, about_move, about_views, about_walk
from datagen.tasks.base import SceneView, degrees, resized, rounded
from datagen.tasks.drawing import FRAMES, KINDS, Drawing, DrawingConfig, walk_marks
from datagen.tasks.path_tracing import map_marks
from datagen.tasks.paths import SIDES, Walk, middle, straight
from datagen.tasks.side_views import SIGNS
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image, encode_image
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import Provenance, SampleImage, SpatialSample, Task

SHOWN = 420  # pixels per side
TRIES = 24  # places among which the first view is chosen
FLOOR_TOLERANCE_M = 0.1
MIN_STEP_M, MAX_CLICKS = 0.3, 8
MAX_FLOOR_M = 20.0  # to a click on the floor of a picture of no scene
MAP_RADIUS_M, BEYOND_M = 5.0, 0.8  # around cameras on a map that counts are made from, and beyond the scene's bounds
Place = tuple[float, float]


@dataclass(frozen=True)
class Scenario:
    """A click's outcome: ``sample`` asks for the unseen picture and holds it; ``questions`` can be put about the same pictures.
    ``marked``: what was clicked in, with its marks; ``views`` and ``truth``, to look at; all encoded."""

    sample: SpatialSample
    questions: tuple[Asked, ...]
    marked: bytes
    views: tuple[bytes, ...]
    truth: bytes


@dataclass(frozen=True, eq=False)
class Rendered:
    """Pictures of one kind at both sizes: of samples, and to look at."""

    small: Frame
    large: Frame


class Stage:
    """Scenes of a run's backend and ``split``, by number, with the cameras of its task ``drawing``. ``shown``: pixels per side of
    pictures to look at."""

    def __init__(self, config: RunConfig, shown: int = SHOWN) -> None:
        if not isinstance(config.task, DrawingConfig):
            raise UserError(f"a stage takes task=drawing, got task={config.task.name}")
        self.config, self.shown, self.task = config, shown, Drawing(config.task)
        self.backend = BACKENDS[config.backend].make(config.backend_config)
        self._number: int | None = None

    def close(self) -> None:
        """Release the simulator."""
        self.backend.close()

    def look(self, scene: int) -> tuple[bytes, bytes]:
        """The first-person picture and the map of scene number ``scene``."""
        room = self._room(scene)
        return room.encoded(room.first.large.rgb), room.encoded(room.above.rgb)

    def step(self, scene: int, at: Place, turn: str) -> Scenario:
        """Perspective Taking: move to the floor shown at ``at`` of the first picture, turn by 90 degrees. ``UserError`` where
        that is no floor to stand on."""
        check_side(turn)
        room = self._room(scene)
        target = room.floor_at(at)
        camera = room.first.small.camera
        if np.linalg.norm(target[:2] - np.asarray(camera.pose.position[:2])) < MIN_STEP_M:
            raise UserError(f"that is less than {MIN_STEP_M} m away; click on the floor further ahead")
        yaw = wrap_angle(camera.pose.yaw + SIGNS[turn] * math.pi / 2)
        after = room.rendered([room.view.camera(target, yaw, camera.pose.pitch)])[0]
        shown = [room.marked(frame, self.task, target) for frame in (room.first.small, room.first.large)]
        images = (SampleImage(encode_image(shown[0]), "observation", camera),)
        sample = room.sample("pet", KINDS["move_turn"][1].format(turn=turn), "move_turn", images, "view", after.small)
        questions = about_move(room.view, room.first.small, after.small, turn)
        large = room.encoded(shown[1])
        return Scenario(sample, tuple(questions), large, (large,), room.encoded(after.large.rgb))

    def walk(self, scene: int, clicks: Sequence[Place], side: str, asked: bool) -> Scenario:
        """Path Tracing: walk from the first to the last of ``clicks`` on the map; what is on the ``side`` halfway? ``asked``:
        with the marks of the task's questions, else those of pictures that are only drawn."""
        check_side(side)
        room = self._room(scene)
        walk = room.path_through(clicks)
        yaw = wrap_angle(walk.heading + SIGNS[side] * math.pi / 2)
        pitch = math.radians(self.task.config.pitch_deg)
        (beside,) = room.rendered([room.view.camera(walk.midpoint, yaw, pitch)])
        camera = self.task.map_camera(room.view, walk)
        facts = {"variant": "td_path", "heading_deg": degrees(walk.heading), "side": side}

        def drawn(size: int) -> RGB:
            taken = resized(camera, size)
            if not asked:
                return self.task.map(room.view, taken, walk_marks(walk, taken, self.task.config.min_arrow_share))
            above = room.from_above(taken)
            lines, arrows, labels = map_marks(walk, facts, taken, room.floor_z)
            return annotate.draw(above, room.floor_z, [*lines, *arrows], labels)

        images = (SampleImage(encode_image(drawn(room.view.image_size)), "map", camera),)
        words = KINDS["side_view"][1].format(side=side)
        sample = room.sample("pt", words, "side_view", images, "side_view", beside.small)
        large = room.encoded(drawn(self.shown))
        questions = about_walk(room.view, beside.small, side)
        return Scenario(sample, tuple(questions), large, (large,), room.encoded(beside.large.rgb))

    def around(self, scene: int, clicks: Sequence[Place], asked: bool) -> Scenario:
        """Multiview Counting: four views from one click on the map, turning left, or from four, each looking towards the next;
        ``asked``: the map with its cameras, north up, else the plan around the first, its heading up."""
        room = self._room(scene)
        cameras = room.cameras_at(clicks, self.task)
        views = room.rendered(cameras)
        shown = [resized(one, self.shown) for one in cameras]
        if asked:
            top = room.map_around(cameras)
            truth = [room.with_cameras(resized(top, size), cameras) for size in (room.view.image_size, self.shown)]
        else:
            pose = cameras[0].pose
            top = self.task.plan_camera(room.view, np.asarray(pose.position), pose.yaw)
            truth = [room.from_above(resized(top, size)) for size in (room.view.image_size, self.shown)]
        images = tuple(
            SampleImage(room.encoded(view.small.rgb), f"frame_{number}", view.small.camera)
            for number, view in enumerate(views)
        )
        sample = room.sample("mvc", KINDS["plan"][1], "plan", images, "bev", truth[0])
        map_marked = room.encoded(room.with_cameras(room.above.camera, shown).rgb)
        large = tuple(room.encoded(view.large.rgb) for view in views)
        questions = about_views(room.view, [view.small for view in views])
        return Scenario(sample, tuple(questions), map_marked, large, room.encoded(truth[1].rgb))

    def mark(self, picture: str, at: Place) -> bytes:
        """A picture of no scene (base64) with the X on the floor at ``at``, taken to be level before a camera of the run's eye
        height, pitch and field of view. ``UserError`` above the horizon."""
        pixels, config = (
            decode_image(base64.b64decode(picture, validate=True), "a picture of your own"),
            self.task.config,
        )
        pose = CameraPose((0.0, 0.0, config.eye_height_m), 0.0, math.radians(config.pitch_deg))
        camera = Camera(pose, pixels.shape[1], pixels.shape[0], config.vertical_fov_deg)
        direction = camera.unproject(np.array(pixel(at, camera)), np.ones(())) - np.asarray(pose.position)
        away = -config.eye_height_m / direction[2] if direction[2] < 0 else math.inf
        if away > MAX_FLOOR_M:
            raise UserError(
                "that is too far or above the horizon; click on the floor, in the lower half of the picture"
            )
        frame = Frame(camera, pixels, np.full(pixels.shape[:2], camera.far, np.float32))
        target = np.asarray(pose.position) + away * direction
        return encode_image(annotate.draw(frame, 0.0, [self.task.target_mark(camera, target, 0.0)]))

    def _room(self, scene: int) -> Room:
        """The loaded scene of this number."""
        scenes = self.backend.scenes(self.config.split)
        if not 0 <= scene < len(scenes):
            raise UserError(f"scenes are numbered from 0 to {len(scenes) - 1}, got {scene}")
        if self._number != scene:
            self._number = None
            info = self.backend.load(scenes[scene])
            view = SceneView(self.backend, info, self.config.image_size, self.config.task)
            self._loaded = Room(view, scene, self.task, self.shown)
            self._number = scene
        return self._loaded


@dataclass(frozen=True)
class Room:
    """A loaded scene with its first view and its map."""

    view: SceneView
    number: int
    task: Drawing
    shown: int

    @property
    def floor_z(self) -> float:
        return self.view.info.floor_z

    @cached_property
    def first(self) -> Rendered:
        """Of some places, the view that shows most things and is worth showing."""
        rng, pitch = generator(self.number, "stage"), math.radians(self.task.config.pitch_deg)
        places = [self.task.standing(self.view, rng) for _ in range(TRIES)]
        cameras = [self.view.camera(place, yaw, pitch, self.view.search_size) for place, yaw in places]
        stats = [self.view.stats(frame) for frame in self.view.render(cameras, ("depth", "instance"))]
        floor = sorted(self.view.floor_like)
        scores = [
            len(self.view.shown(one, self.task.config.min_area))
            + 10 * self.view.acceptable(one, Yields(), "first")
            + 10 * min(float(one.area[floor].sum()), 0.3)  # there is to be something to click on
            for one in stats
        ]
        return self.rendered([cameras[int(np.argmax(scores))]])[0]

    @cached_property
    def above(self) -> Frame:
        """The map of the whole scene, to look at and to click on."""
        low, high = np.asarray(self.view.info.bounds_min[:2]) - 0.2, np.asarray(self.view.info.bounds_max[:2]) + 0.2
        return self.from_above(top_down_camera((*low.tolist(), *high.tolist()), self.shown, self.floor_z))

    def rendered(self, cameras: Sequence[Camera]) -> list[Rendered]:
        """What first-person cameras see, at both sizes."""
        sizes = self.view.image_size, self.shown
        both = [[resized(camera, size) for camera in cameras] for size in sizes]
        frames = [self.view.render(listed, ("rgb", "depth", "instance")) for listed in both]
        return [Rendered(*pair) for pair in zip(*frames, strict=True)]

    def from_above(self, camera: Camera) -> Frame:
        """What a camera sees of the scene without ceilings."""
        return self.view.backend.render([camera], ("rgb", "depth"), TOP_DOWN_HIDES)[0]

    def floor_at(self, at: Place) -> Floats:
        """The floor point (3,) that the first picture shows at ``at``. ``UserError`` where it shows something else, or nobody can
        stand there."""
        frame = self.first.large
        assert frame.depth is not None and frame.instance is not None
        u, v = pixel(at, frame.camera)
        row, column = int(v), int(u)
        point = frame.camera.unproject(np.array([u, v]), frame.depth[row, column])
        on_floor = abs(point[2] - self.floor_z) <= FLOOR_TOLERANCE_M
        if not on_floor or int(frame.instance[row, column]) not in self.view.floor_like:
            raise UserError("that is not the floor; click on the floor where you want to go")
        self._check_free(point[None])
        return np.array([point[0], point[1], self.floor_z])

    def on_map(self, clicks: Sequence[Place]) -> Floats:
        """The floor points (n, 3) that the map shows at ``clicks``. ``UserError`` for too many, or where nobody can stand."""
        if not 1 <= len(clicks) <= MAX_CLICKS:
            raise UserError(f"1 to {MAX_CLICKS} places are clicked, got {len(clicks)}")
        camera = self.above.camera
        pixels = np.array([pixel(at, camera) for at in clicks])
        points = camera.unproject(pixels, np.ones(len(pixels)))
        self._check_free(points)
        return np.column_stack([points[:, :2], np.full(len(points), self.floor_z)])

    def _check_free(self, points: Floats) -> None:
        if not self.view.backend.is_free(points, self.view.config.clearance_m).all():
            clearance = self.view.config.clearance_m
            raise UserError(f"nobody can stand there: {clearance} m from walls and things are needed; click beside it")

    def path_through(self, clicks: Sequence[Place]) -> Walk:
        """The walk through clicked places, around things between them. ``UserError`` where there is none, or where it bends
        halfway."""
        points = self.on_map(clicks)
        if len(points) < 2:
            raise UserError("a walk needs a start and an end; click on the map where it goes next")
        legs = list[Floats]()
        for start, goal in itertools.pairwise(points):
            clearance = self.view.config.clearance_m
            leg = straight(self.view, start, goal) or self.view.backend.shortest_path(start, goal, clearance)
            if leg is None:
                raise UserError("there is no way between two of these places; click others")
            legs.append(leg.points if not legs else leg.points[1:])
        corners = np.concatenate(legs)
        length = float(np.linalg.norm(np.diff(corners[:, :2], axis=0), axis=1).sum())
        walk = middle(self.view, Path(corners, length), "") if length >= MIN_STEP_M else None
        if walk is None:
            raise UserError(
                "the walk is too short, or bends halfway, where one looks to the side; click a straighter one"
            )
        return walk

    def cameras_at(self, clicks: Sequence[Place], task: Drawing) -> list[Camera]:
        """Four cameras: around one place, or at four, each looking towards the next."""
        places = self.on_map(clicks)
        if len(places) == 1:
            centre = (np.asarray(self.view.info.bounds_min) + np.asarray(self.view.info.bounds_max))[:2] / 2
            x, y = centre - places[0, :2]
            return task.views_around(self.view, places[0], math.atan2(y, x))
        if len(places) != FRAMES:
            raise UserError(f"click one place to turn around at, or {FRAMES} places; these are {len(places)}")
        ahead = np.roll(places, -1, axis=0)[:, :2] - places[:, :2]
        return [
            task.wide_camera(self.view, place, math.atan2(y, x)) for place, (x, y) in zip(places, ahead, strict=True)
        ]

    def map_around(self, cameras: Sequence[Camera]) -> Camera:
        """From above, north up: the surroundings of cameras, no further than the scene reaches."""
        places = np.array([camera.pose.position[:2] for camera in cameras])
        low = np.maximum(places.min(axis=0) - MAP_RADIUS_M, np.asarray(self.view.info.bounds_min[:2]) - BEYOND_M)
        high = np.minimum(places.max(axis=0) + MAP_RADIUS_M, np.asarray(self.view.info.bounds_max[:2]) + BEYOND_M)
        return top_down_camera((*low.tolist(), *high.tolist()), self.view.image_size, self.floor_z)

    def with_cameras(self, top: Camera, cameras: Sequence[Camera]) -> Frame:
        """A map with arrows where cameras stand and look."""
        frame = self.from_above(top)
        length = annotate.legible(0.5, top, (0, 0, self.floor_z), 0.07)
        marks, labels = annotate.camera_marks(cameras, length, self.view.config.eye_height_m)
        return replace(frame, rgb=annotate.draw(frame, self.floor_z, marks, labels))

    def marked(self, frame: Frame, task: Drawing, target: Floats) -> RGB:
        """A first-person picture with the X at a floor point."""
        return annotate.draw(frame, self.floor_z, [task.target_mark(frame.camera, target, self.floor_z)])

    def encoded(self, pixels: RGB | None) -> bytes:
        """A rendered picture as PNG."""
        if pixels is None:
            raise SceneError("the simulator gave no colours")
        return encode_image(pixels)

    def sample(
        self, task: Task, words: str, kind: str, images: tuple[SampleImage, ...], role: str, truth: Frame
    ) -> SpatialSample:
        """A sample that asks for a picture and holds the true one."""
        info = self.view.info
        return SpatialSample(
            id=f"{info.scene_id}/{kind}",
            task=task,
            split="test",
            question=words,
            question_type=kind,
            choices=(),
            answer="",
            images=images,
            imagination=SampleImage(self.encoded(truth.rgb), role, truth.camera),
            rationale="",
            caption="",
            provenance=Provenance(info.backend, info.backend_version, info.scene_id, self.number),
            facts={"position": rounded(truth.camera.pose.position)},
        )


def check_side(side: str) -> None:
    """``UserError`` for what is neither left nor right."""
    if side not in SIDES:
        raise UserError(unknown_name("side", side, SIDES))


def pixel(at: Place, camera: Camera) -> Place:
    """Shares of a picture as pixels inside of it. ``UserError`` for what lies outside."""
    u, v = at
    if not (0 <= u <= 1 and 0 <= v <= 1):
        raise UserError(f"a click is two shares between 0 and 1, got {u} and {v}")
    return min(u * camera.width, camera.width - 0.5), min(v * camera.height, camera.height - 0.5)
