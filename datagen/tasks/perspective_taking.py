"""Perspective Taking: move to the red X keeping the heading, turn by 90 degrees; what happens to an object?

One first-person picture, two relations, six sub-categories (IPT paper, section on PET): the object gets closer or
further, or it stays on or changes its side of the image. The search scans cameras at low resolution, lists every move
and object that geometry allows, and for each question wanted looks for an object for which *both* answers are shown to
be possible in the scene; then the answer is drawn and only its pictures are rendered in full.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datagen import annotate, verify
from datagen.backends.base import Floats, Frame
from datagen.counterfactual import counterfactuals
from datagen.tasks.base import (
    TASKS,
    Candidate,
    SceneView,
    Selector,
    SpatialTask,
    TaskConfig,
    degrees,
    drawn_lens,
    resized,
    rounded,
)
from datagen.tasks.perspective_questions import KINDS, PerspectiveTakingSelector
from datagen.visibility import InstanceStats, floor_points, fractions, inside, layout_of, seen_from
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, Task

TURNS: Mapping[str, float] = {"left": math.pi / 2, "right": -math.pi / 2}
ARROW_LENGTH = 1.6  # of the arrow at the X, in sizes of the X
ARROWS = ("without", "with", "mixed")


@dataclass(frozen=True, slots=True)
class PerspectiveTakingConfig(TaskConfig):
    """Thresholds of the paper as fractions of the image (150 and 180 of 1024 pixels), metres and degrees.

    ``arrow``: draw the heading after the turn at the X and ask about the arrow (``with``), or name the turn
    (``without``), or both by turns (``mixed``). ``max_object_share``: of the questions for one object name, where the
    scenes offer enough others. ``min_marker_visible``: of the X, of the arrow and of its head; none is cut by the picture's edge.
    ``distance_step_m``: whether an object comes closer is asked where both answers were found with the object in the same step
    of distance before the move, since what is near mostly gets further and what is far closer (0: wherever both were found).
    """

    name: str = "pet"
    samples_per_scene: int = 8
    pitch_deg: float = -15.0
    arrow: str = "without"
    cameras_per_scene: int = 64
    targets_per_camera: int = 48
    tries_per_answer: int = 5
    objects_per_question: int = 6
    max_object_share: float = 0.1
    min_area: float = 0.004
    max_distance_m: float = 5.0
    edge_margin: float = 150 / 1024
    centre_margin: float = 150 / 1024
    min_distance_change_m: float = 0.5
    distance_step_m: float = 0.25
    floor_tolerance_m: float = 0.2
    min_step_m: float = 0.8
    max_step_m: float = 4.5
    marker_size_m: float = 0.45
    min_marker_share: float = 0.07
    min_marker_visible: float = 0.9

    def __post_init__(self) -> None:
        if self.arrow not in ARROWS:
            raise UserError(unknown_name("arrow", self.arrow, ARROWS))
        if self.distance_step_m < 0:
            raise UserError(f"task.distance_step_m must be 0 (nothing is matched) or more, got {self.distance_step_m}")
        self.check_ranges()


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A camera and what it shows."""

    camera: Camera
    stats: InstanceStats

    def is_unique(self, scene: SceneView, index: int) -> bool:
        """Whether the frame shows nothing else that has an object's name or may be taken for it."""
        alike = scene.lookalikes[scene.names[index]]
        return not any(other != index and scene.names[other] in alike for other in np.flatnonzero(self.stats.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scanned first view, its depth, the floor points (n, 3) to step on, and the objects to ask about."""

    shot: Shot
    frame: Frame
    targets: Floats
    objects: tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What is asked after which turn about objects of a name; of distance, where they stood in the same ``step`` before."""

    kind: str
    turn: str
    name: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """One way to ask: view, target and turn, object, and the answer that geometry expects."""

    view: int
    target: int
    turn: str
    object: int


@dataclass(eq=False)
class Search:
    """What is known of a scene while its questions are looked for."""

    scene: SceneView
    views: list[View]
    moves: dict[Subject, dict[str, list[Move]]]
    after: dict[tuple[int, int, str], Shot | None] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)


@TASKS.register("pet")
class PerspectiveTaking(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "pet"
    config: PerspectiveTakingConfig

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        views = self._scan(scene, rng, yields)
        search = Search(scene, views, self._moves(scene, views))
        candidates: list[Candidate] = []
        start = int(rng.integers(len(KINDS)))
        kinds = [tuple(KINDS)[(start + slot) % len(KINDS)] for slot in range(self.config.samples_per_scene)]
        for kind in sorted(kinds, key=lambda kind: kind != "distance"):  # first what few views allow to ask
            turns = [tuple(TURNS)[index] for index in rng.permutation(len(TURNS))]
            move = next((found for turn in turns if (found := self._draw(search, kind, turn, rng, yields))), None)
            if yields.check("both_answers_possible", move is not None) and move is not None:
                candidate = self._finish(search, kind, move, f"{len(candidates):02d}", rng, yields)
                if candidate is not None:
                    candidates.append(candidate)
        return candidates

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return PerspectiveTakingSelector(self.config.max_object_share, count, rng, self.config.plain)

    def _scan(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[View]:
        """First views that pass the quality filter and show at least one askable object and floor to step on."""
        config, size = self.config, scene.search_size
        places = scene.backend.sample_navigable(config.cameras_per_scene, rng, config.clearance_m)
        cameras = [
            scene.lens_camera(place[:2], self._aim(scene, place, rng), drawn_lens(config, rng), size)
            for place in places
        ]
        views = []
        for camera, frame in zip(cameras, scene.render(cameras, ("depth", "instance")), strict=True):
            shot = Shot(camera, scene.stats(frame))
            if not scene.acceptable(shot.stats, yields, "first_view"):
                continue
            seen = [int(index) for index in np.flatnonzero(shot.stats.pixels) if index in scene.candidates]
            objects = tuple(index for index in seen if self._askable(scene, shot, index, yields, "first_view"))
            targets = self._targets(scene, frame, rng)
            if yields.check("first_view.floor_target", len(targets) > 0) and objects:
                views.append(View(shot, frame, targets, objects))
        return views

    def _aim(self, scene: SceneView, place: Floats, rng: np.random.Generator) -> float:
        """A heading with some object of the neighbourhood in view, or any heading where there is none."""
        spread = math.radians(self.config.vertical_fov_deg) / 3
        offsets = np.array([scene.objects[index].centre[:2] - place[:2] for index in sorted(scene.candidates)])
        near = offsets[np.linalg.norm(offsets, axis=1) <= self.config.max_distance_m] if len(offsets) else offsets
        if not len(near):
            return float(rng.uniform(-math.pi, math.pi))
        x, y = near[int(rng.integers(len(near)))]
        return wrap_angle(math.atan2(y, x) + float(rng.uniform(-spread, spread)))

    def _askable(self, scene: SceneView, view: Shot, index: int, yields: Yields, stage: str) -> bool:
        """Whether an object is large, near and central enough and nothing that may be taken for it is in the frame."""
        config, stats = self.config, view.stats
        distance = float(np.linalg.norm(scene.objects[index].centre - np.asarray(view.camera.pose.position)))
        return (
            yields.check(f"{stage}.area", bool(stats.area[index] >= config.min_area))
            and yields.check(f"{stage}.distance", distance <= config.max_distance_m)
            and yields.check(f"{stage}.edge_margin", bool(inside(stats.centre[index], config.edge_margin)))
            and yields.check(f"{stage}.unique_name", view.is_unique(scene, index))
        )

    def _targets(self, scene: SceneView, frame: Frame, rng: np.random.Generator) -> Floats:
        """Free floor points (n, 3) in view, within reach, away from the edges of the image."""
        config = self.config
        pixels, points = floor_points(frame, scene.floor_like, scene.info.floor_z, config.floor_tolerance_m)
        steps = np.linalg.norm(points[:, :2] - np.asarray(frame.camera.pose.position[:2]), axis=1)
        near = (steps >= config.min_step_m) & (steps <= config.max_step_m) & inside(pixels, 0.06)
        points = points[near]
        points = points[self._marks_fit(frame.camera, points)] if len(points) else points
        points = points[scene.backend.is_free(points, config.clearance_m)] if len(points) else points
        chosen = rng.permutation(len(points))[: config.targets_per_camera]
        return points[chosen]

    def _marks_fit(self, camera: Camera, points: Floats) -> NDArray[np.bool_]:
        """Which floor points (n, 3) have room for the X in the picture, and for the arrow whichever way one turns."""
        size = annotate.legible_sizes(self.config.marker_size_m, camera, points, self.config.min_marker_share)[:, None]
        yaw, diagonal = camera.pose.yaw, (math.pi / 4, -math.pi / 4, 0.75 * math.pi, -0.75 * math.pi)
        reach = [(0.59, turn) for turn in diagonal]  # the ends of the arms with their width, in sizes of the X
        if self.config.arrow != "without":  # the tip, and both barbs
            ends = ((ARROW_LENGTH + 0.12, 0.0), (1.3, 0.37), (1.3, -0.37))
            reach += [(share, turn + aside) for turn in TURNS.values() for share, aside in ends]
        steps = np.array([[share * math.cos(yaw + turn), share * math.sin(yaw + turn), 0.0] for share, turn in reach])
        return np.all(inside(fractions(camera, points[:, None] + size[..., None] * steps), 0.01), axis=1)

    def _moves(self, scene: SceneView, views: list[View]) -> dict[Subject, dict[str, list[Move]]]:
        """Every move that geometry allows, by what it is asked for and expected answer."""
        moves: dict[Subject, dict[str, list[Move]]] = {}
        centres = np.array([item.centre for item in scene.objects])
        for number, view in enumerate(views):
            chosen = centres[list(view.objects)]
            pose, fov_deg = view.shot.camera.pose, view.shot.camera.vertical_fov_deg
            before = np.linalg.norm(chosen - np.asarray(pose.position), axis=1)
            eyes = view.targets + np.array([0, 0, pose.position[2] - scene.info.floor_z])
            after = np.linalg.norm(chosen - eyes[:, None], axis=2)
            for turn, angle in TURNS.items():
                there = seen_from(eyes, pose.turned(angle).yaw, pose.pitch, fov_deg, chosen)
                shown = inside(there, self.config.edge_margin / 2) & (after <= self.config.max_distance_m)
                for target, row in np.argwhere(shown):
                    index = view.objects[row]
                    sides = self._side(view.shot.stats.centre[index, 0]), self._side(float(there[target, row, 0]))
                    for kind, answer in answers(sides, float(after[target, row] - before[row]), self.config):
                        step = self._step(before[row]) if kind == "distance" else 0
                        entry = moves.setdefault(Subject(kind, turn, scene.names[index], step), {})
                        entry.setdefault(answer, []).append(Move(number, int(target), turn, index))
        return moves

    def _step(self, distance_m: float) -> int:
        """Which of the steps a distance is in, all of them one where nothing is matched."""
        return int(distance_m / self.config.distance_step_m) if self.config.distance_step_m else 0

    def _side(self, u: float) -> str | None:
        """``left`` or ``right`` of the image, None within the margin of its centre line."""
        if abs(u - 0.5) < self.config.centre_margin or math.isnan(u):
            return None
        return "left" if u < 0.5 else "right"

    def _camera_after(self, view: View, target: int, turn: str) -> Camera:
        camera = view.shot.camera
        (x, y), z = view.targets[target][:2], camera.pose.position[2]
        pose = CameraPose((float(x), float(y), z), camera.pose.turned(TURNS[turn]).yaw, camera.pose.pitch)
        return replace(camera, pose=pose)

    def _draw(self, search: Search, kind: str, turn: str, rng: np.random.Generator, yields: Yields) -> Move | None:
        """A move whose answer was drawn after both answers were found possible for its object, or None.

        Objects that the scene has been asked about least come first; that says nothing about their answers.
        """
        both = sorted(
            subject
            for subject, moves in search.moves.items()
            if (subject.kind, subject.turn) == (kind, turn) and len(moves) == 2
        )
        shuffled = [both[index] for index in rng.permutation(len(both))]
        rarest_first = sorted(shuffled, key=lambda subject: search.asked[subject.name])
        for subject in rarest_first[: self.config.objects_per_question]:
            found = []
            for answer in KINDS[kind]:
                move = self._possible(search, kind, answer, search.moves[subject][answer], rng, yields)
                if move is None:
                    break
                found.append(move)
            if len(found) == 2:
                return found[int(rng.integers(2))]
        return None

    def _possible(
        self, search: Search, kind: str, answer: str, moves: list[Move], rng: np.random.Generator, yields: Yields
    ) -> Move | None:
        """The first of a few moves, in random order, that low-resolution masks confirm, the mark's in the first view included.

        Both answers of a subject must pass before one is drawn: what were refused later would make one of them rarer where the
        mark is hidden more often, and how far away the object was would tell.
        """
        fresh = [move for move in moves if move.view not in search.used]
        for number in rng.permutation(len(fresh))[: self.config.tries_per_answer]:
            move = fresh[number]
            after = self._look(search, move, yields)
            if after is None:
                continue
            facts = self._measure(search.scene, search.views[move.view].shot, after, move, yields, "second_view")
            if (
                facts is not None
                and yields.check("second_view.answer", (kind, answer) in facts["answers"])
                and yields.check(
                    "first_view.marker_visible", self._marked(search, move) >= self.config.min_marker_visible
                )
            ):
                return move
        return None

    def _marked(self, search: Search, move: Move) -> float:
        """How much of the mark of a move its first view shows, 0..1: of the X, and of the arrow where some have one."""
        view, floor_z = search.views[move.view], search.scene.info.floor_z
        cameras = [view.shot.camera, self._camera_after(view, move.target, move.turn)]
        marks = self._marks(view.frame, floor_z, view.targets[move.target], cameras, self.config.arrow != "without")
        return annotate.all_shown(view.frame, floor_z, marks[:1], marks[1:])

    def _look(self, search: Search, move: Move, yields: Yields) -> Shot | None:
        """The low-resolution second view of a move; None where the quality filter rejects it."""
        key = (move.view, move.target, move.turn)
        if key not in search.after:
            camera = self._camera_after(search.views[move.view], move.target, move.turn)
            stats = search.scene.stats(search.scene.render([camera], ("depth", "instance"))[0])
            good = search.scene.acceptable(stats, yields, "second_view")
            search.after[key] = Shot(camera, stats) if good else None
        return search.after[key]

    def _measure(
        self, scene: SceneView, before: Shot, after: Shot, move: Move, yields: Yields, stage: str
    ) -> dict[str, Any] | None:
        """What the two views say about the object, or None where a filter rejects it in either."""
        index = move.object
        if not all(self._askable(scene, shot, index, yields, stage) for shot in (before, after)):
            return None
        centre = scene.objects[index].centre
        distances = [float(np.linalg.norm(centre - np.asarray(s.camera.pose.position))) for s in (before, after)]
        sides = (self._side(before.stats.centre[index, 0]), self._side(after.stats.centre[index, 0]))
        return {
            "answers": answers(sides, distances[1] - distances[0], self.config),
            "distance_before_m": round(distances[0], 4),
            "distance_after_m": round(distances[1], 4),
            "position_before": rounded(before.stats.centre[index]),
            "position_after": rounded(after.stats.centre[index]),
            "area_before": round(float(before.stats.area[index]), 6),
            "area_after": round(float(after.stats.area[index]), 6),
            "visible_after": scene_words(scene, after.stats, self.config.min_area),
        }

    def _finish(
        self, search: Search, kind: str, move: Move, key: str, rng: np.random.Generator, yields: Yields
    ) -> Candidate | None:
        """Render in full, check again, verify from masks and depth alone, annotate."""
        scene, view = search.scene, search.views[move.view]
        search.used.add(move.view)
        search.asked[scene.names[move.object]] += 1
        cameras = [
            resized(view.shot.camera, scene.image_size),
            resized(self._camera_after(view, move.target, move.turn), scene.image_size),
        ]
        first, second = scene.render(cameras, ("rgb", "depth", "instance"))
        shots = [Shot(frame.camera, scene.stats(frame)) for frame in (first, second)]
        measured = self._measure(scene, shots[0], shots[1], move, yields, "final")
        if measured is None:
            return None
        answer = dict(measured.pop("answers")).get(kind)
        if not yields.check("final.answer", answer is not None) or answer is None:
            return None
        arrow = self.config.arrow == "with" or (self.config.arrow == "mixed" and bool(rng.integers(2)))
        facts = {
            **measured,
            **self._facts(scene, cameras, view.targets[move.target], move),
            "kind": kind,
            "answer": answer,
            "arrow": arrow,
            "sub_category": sub_category(kind, answer),
            "layout": layout_of(second, scene.names, scene.shown(shots[1].stats, self.config.min_area)),
        }
        if not verify.agrees("pet", facts, {"observation": first, "view": second}, scene.objects, yields):
            return None
        marks = self._marks(first, scene.info.floor_z, view.targets[move.target], cameras, arrow)
        facts["marker_visible"] = round(annotate.all_shown(first, scene.info.floor_z, marks[:1], marks[1:]), 3)
        if not yields.check("final.marker_visible", facts["marker_visible"] >= self.config.min_marker_visible):
            return None
        assert first.rgb is not None and second.rgb is not None

        def observed(frame: Frame) -> SampleImage:
            return scene.encode(annotate.draw(frame, scene.info.floor_z, marks), "observation", cameras[0])

        observation, target = observed(first), scene.objects[move.object]
        wrong = counterfactuals(
            scene,
            cameras[1],
            target,
            yields,
            lambda frame: frame.rgb,  # type: ignore[arg-type,return-value]
            lambda: [observed(frame) for frame in scene.render(cameras[:1], ("rgb", "depth"))],
        )
        imagination = scene.encode(second.rgb, "view", cameras[1])
        return Candidate(key, {**facts, **wrong.facts}, (observation,), imagination, wrong.images)

    def _marks(
        self, frame: Frame, floor_z: float, place: Floats, cameras: list[Camera], arrow: bool
    ) -> list[annotate.Mark]:
        """The X, and with ``arrow`` the heading after the turn."""
        at = np.array([place[0], place[1], floor_z])
        size = annotate.legible(self.config.marker_size_m, frame.camera, at, self.config.min_marker_share)
        marks = [annotate.cross(at, cameras[0].pose.yaw, size)]
        if arrow:
            marks.append(annotate.arrow(at, cameras[1].pose.yaw, ARROW_LENGTH * size))
        return marks

    def _facts(self, scene: SceneView, cameras: list[Camera], place: Floats, move: Move) -> dict[str, Any]:
        """Who, where and how far: positions relative to the agent are [metres ahead, metres to the left]."""
        item = scene.objects[move.object]
        start, yaw = np.asarray(cameras[0].pose.position), cameras[0].pose.yaw
        rooms = {room.id: room.kind for room in scene.info.rooms}
        return {
            "object": {"id": item.id, "name": item.name, "category": item.category, "size_m": rounded(item.size, 3)},
            "room": rooms.get(item.room_id or "", ""),
            "turn": move.turn,
            "eye_height_m": round(float(start[2] - scene.info.floor_z), 3),
            "fov_deg": round(cameras[0].vertical_fov_deg, 2),
            "pitch_deg": degrees(cameras[0].pose.pitch),
            "heading_before_deg": degrees(yaw),
            "heading_after_deg": degrees(cameras[1].pose.yaw),
            "target": rounded(place),
            "target_from_start": relative(place, start, yaw),
            "object_from_start": relative(item.centre, start, yaw),
            "object_from_target": relative(item.centre, place, cameras[1].pose.yaw),
        }


def relative(point: Floats, origin: Floats, yaw: float) -> list[float]:
    """[metres ahead, metres to the left] of ``point`` for someone at ``origin`` who heads along ``yaw``."""
    x, y = point[:2] - origin[:2]
    return rounded((x * math.cos(yaw) + y * math.sin(yaw), -x * math.sin(yaw) + y * math.cos(yaw)), 3)


def answers(
    sides: tuple[str | None, str | None], change: float, config: PerspectiveTakingConfig
) -> list[tuple[str, str]]:
    """The kinds of question that are unambiguous here, with their answers; ``change`` of distance in metres."""
    found = []
    if abs(change) >= config.min_distance_change_m:
        found.append(("distance", "closer" if change < 0 else "further"))
    before, after = sides
    if before is not None and after is not None:
        found.append((f"from_{before}", after))
    return found


def sub_category(kind: str, answer: str) -> str:
    """The paper's name: distance_change_closer, relative_position_left_right (side before, side after) ..."""
    if kind == "distance":
        return f"distance_change_{answer}"
    return f"relative_position_{kind.removeprefix('from_')}_{answer}"


def scene_words(scene: SceneView, stats: InstanceStats, min_area: float, most: int = 6) -> list[str]:
    """Nouns of the largest objects in a frame, largest first."""
    seen = [index for index in np.argsort(-stats.area, kind="stable") if index in scene.candidates]
    names = [scene.names[index] for index in seen if stats.area[index] >= min_area]
    return list(dict.fromkeys(names))[:most]
