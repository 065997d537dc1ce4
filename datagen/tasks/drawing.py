"""Drawing: what is seen, what is to be drawn, and no question: as many pairs as the renderer makes.

Four kinds, each the picture that a task imagines, asked for in a few words: the view after a move and a turn (Perspective
Taking), the view to the side at a mark on a map (Path Tracing), the plan of what four views show (Multiview Counting), and the
view from a camera on a plan. Nothing is searched for: cameras are drawn, and a pair is kept where the masks of its pictures say
that what is to be drawn can be known and is worth it. Two frames and a small test per pair make a room's pairs in milliseconds.

A plan has the heading of the first view up, so that the views determine it; with north up they would not.

Reading a heading off an arrow of a few pixels and drawing what is seen that way are two lessons: the caption of a pair with an
arrow names the hour towards which its view looks (the map's top is 12), and ``told`` of the requests do, too. The maps of Path
Tracing's questions are fuller, with waypoints and an arrow to the side: ``waypoints`` of the side views are asked for on such.
With ``asked``, a pair has a question about its picture (`datagen.tasks.lessons`) among its facts, which the mode `draw` may ask
when the picture has been drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from datagen import annotate
from datagen.backends.base import TOP_DOWN_HIDES, Floats, Frame, Modality, SceneError, top_down_camera
from datagen.balance import quotas
from datagen.rationale import drawing_caption
from datagen.tasks.base import (
    TASKS,
    Candidate,
    Question,
    SceneView,
    Selector,
    SpatialTask,
    TaskConfig,
    ViewFilter,
    degrees,
    rounded,
)
from datagen.tasks.lessons import lesson
from datagen.tasks.path_tracing import map_marks
from datagen.tasks.paths import SIDES, Walk, middle, straight
from datagen.tasks.side_views import SIGNS
from datagen.visibility import InstanceStats, inside, layout_of, map_layout_of, seen_from
from datagen.yields import Yields
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera, wrap_angle
from ipt.samples.sample import Task

#: Kinds of pairs: the task whose picture is drawn, and the words that ask for it.
KINDS: Mapping[str, tuple[Task, str]] = {
    "move_turn": ("pet", "Move to the X, turn {turn}."),
    "side_view": ("pt", "Walk the line, look {side} at the arrow."),
    "plan": ("mvc", "Draw the plan, view 1 up."),
    "view_from_plan": ("pt", "Look along the arrow."),
}
WAYPOINTS = "From {start} to {end}, look {side} at M1."  # in place of a side view's words
TOLD = " {towards} o'clock."
FRAMES = 4
TARGETS = 24  # places drawn at once for an X
MARK_HEIGHT_M = 1.5  # of the marks on a map: above the furniture
Made = tuple[Sequence[tuple[str, Any, Camera]], Frame, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DrawingConfig(TaskConfig):
    """``kinds``: which of `KINDS` to make, in equal numbers. ``tries``: for each pair of a scene.

    ``min_area``: of a view, for an object to count as shown; ``min_plan_area``: of a plan, on which everything is small.
    ``min_marker_visible``: of the X. ``min_walk_m``: metres walked on a map. ``map_margin_m``: around the walk.
    ``plan_radius_m``: half the side of a plan. ``told``: probability that a request with an arrow says where its view looks.
    ``plan_turn_deg``: how far a plan with an arrow is turned off its view's heading. ``min_arrow_share``: length of an arrow,
    of the map's width. ``waypoints``: probability that a side view's map has the marks of Path Tracing's questions, with an
    arrow to the side, in place of a line with an arrow along it. ``asked``: whether a question about the picture goes with it.
    """

    name: str = "drawing"
    kinds: tuple[str, ...] = tuple(KINDS)
    samples_per_scene: int = 12
    tries: int = 10
    pitch_deg: float = -15.0
    wide_fov_deg: float = 90.0
    min_area: float = 0.004
    min_plan_area: float = 0.001
    margin: float = 0.06
    min_step_m: float = 0.8
    max_step_m: float = 4.5
    max_distance_m: float = 5.0
    marker_size_m: float = 0.45
    min_marker_share: float = 0.07
    min_marker_visible: float = 0.75
    min_walk_m: float = 1.0
    map_margin_m: float = 3.0
    plan_radius_m: float = 3.0
    told: float = 0.0
    plan_turn_deg: float = 180.0
    min_arrow_share: float = annotate.ARROW_SHARE
    waypoints: float = 0.0
    asked: bool = False
    view: ViewFilter = field(default_factory=lambda: ViewFilter(min_median_depth_m=0.8, min_instances=2))

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise SceneError(unknown_name("kind of drawing", kind, KINDS))
        if not self.kinds or self.counterfactuals.enabled:
            wrong = "has no counterfactuals" if self.kinds else f"needs kinds, of {', '.join(KINDS)}"
            raise SceneError(f"task 'drawing' {wrong}")
        if not (0 <= self.told <= 1 and 0 <= self.waypoints <= 1 and 0 <= self.plan_turn_deg <= 180):
            raise SceneError(
                f"task 'drawing': told and waypoints are probabilities and plan_turn_deg 0 to 180, got {self.told}, "
                f"{self.waypoints} and {self.plan_turn_deg}"
            )


@TASKS.register("drawing")
class Drawing(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "pet"  # of a pair is that of its kind
    needs = SpatialTask.needs | {"ortho"}
    config: DrawingConfig

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        makers: dict[str, Callable[..., Made | None]] = {
            "move_turn": self._move_turn,
            "side_view": self._side_view,
            "plan": self._plan,
            "view_from_plan": self._view_from_plan,
        }
        candidates: list[Candidate] = []
        start = int(rng.integers(len(self.config.kinds)))
        for slot in range(self.config.samples_per_scene):
            kind = self.config.kinds[(start + slot) % len(self.config.kinds)]
            tries = (makers[kind](scene, rng, yields) for _ in range(self.config.tries))
            made = next((one for one in tries if one is not None), None)
            if yields.check(f"{kind}.found", made is not None) and made is not None:
                candidates.append(self._candidate(scene, kind, f"{slot:02d}", *made))
        return candidates

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return DrawingSelector(self.config, count, rng)

    def _candidate(
        self,
        scene: SceneView,
        kind: str,
        key: str,
        inputs: Sequence[tuple[str, Any, Camera]],
        target: Frame,
        facts: dict[str, Any],
    ) -> Candidate:
        """Encode a pair; where the picture shows what goes into its facts."""
        plan = kind == "plan"
        shown = self._shown(scene, scene.stats(target), self.config.min_plan_area if plan else self.config.min_area)
        layout = (map_layout_of if plan else layout_of)(target, scene.names, shown)
        role = {"plan": "bev", "side_view": "side_view"}.get(kind, "view")
        images = tuple(scene.encode(pixels, name, camera) for name, pixels, camera in inputs)
        told = {"kind": kind, "layout": layout, **facts}
        return Candidate(key, told, images, scene.encode(target.rgb, role, target.camera))

    def _move_turn(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> Made | None:
        """A first view with an X on its floor; the view from there, heading 90 degrees to the left or right."""
        config, pitch = self.config, math.radians(self.config.pitch_deg)
        place, yaw = self.standing(scene, rng)
        targets = scene.backend.sample_navigable(TARGETS, rng, config.clearance_m)
        steps = np.linalg.norm(targets[:, :2] - place[:2], axis=1)
        camera = scene.camera(place, yaw, pitch)
        eye = np.asarray(camera.pose.position)[None]
        spots = np.column_stack([targets[:, :2], np.full(len(targets), scene.info.floor_z)])
        on_floor = inside(seen_from(eye, yaw, pitch, config.vertical_fov_deg, spots)[0], config.margin)
        reachable = targets[on_floor & (steps >= config.min_step_m) & (steps <= config.max_step_m)]
        if not yields.check("move_turn.floor_target", len(reachable) > 0):
            return None
        side = SIDES[int(rng.integers(2))]
        turned = wrap_angle(yaw + SIGNS[side] * math.pi / 2)
        target = self._shared(scene, eye, yaw, reachable, turned, pitch, rng)
        if not yields.check("move_turn.shared_object", target is not None) or target is None:
            return None
        first, second = scene.render([camera, scene.camera(target, turned, pitch)], ("rgb", "depth", "instance"))
        if not self._knowable(scene, first, second, yields, "move_turn"):
            return None
        floor_z = scene.info.floor_z
        mark = self.target_mark(camera, target, floor_z)
        visible = annotate.visible_share(first, floor_z, mark)
        if not yields.check("move_turn.marker_visible", visible >= config.min_marker_visible):
            return None
        picture = annotate.draw(first, floor_z, [mark])
        return [("observation", picture, camera)], second, {"turn": side, "target": rounded([*target[:2], floor_z])}

    def _side_view(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> Made | None:
        """A straight walk on a map, with an arrow along the heading halfway; the view there to the left or right."""
        ends = scene.backend.sample_navigable(2, rng, self.config.clearance_m)
        path = straight(scene, *ends)
        walk = None if path is None or path.length_m < self.config.min_walk_m else middle(scene, path, "")
        if not yields.check("side_view.walk", walk is not None) or walk is None:
            return None
        side = SIDES[int(rng.integers(2))]
        asked = bool(self.config.waypoints) and bool(rng.random() < self.config.waypoints)
        start, end = ("2", "1") if asked and rng.integers(2) else ("1", "2")
        heading = walk.heading + (math.pi if start == "2" else 0.0)
        target = self._seen(scene, walk.midpoint, heading + SIGNS[side] * math.pi / 2, "side_view", yields)
        if target is None:
            return None
        camera = self.map_camera(scene, walk)
        facts = {
            "side": side,
            "heading_deg": degrees(heading),
            "midpoint": rounded(walk.midpoint),
            **({"start": start, "end": end} if asked else {}),
            **self._towards(target.camera, camera, rng),
        }
        share = self.config.min_arrow_share
        if not asked:
            return [("map", self.map(scene, camera, walk_marks(walk, camera, share)), camera)], target, facts
        shown = {**facts, "variant": "td_path_arrow"}
        lines, arrows, labels = map_marks(walk, shown, camera, scene.info.floor_z, share)
        return [("map", self.map(scene, camera, [*lines, *arrows], labels), camera)], target, facts

    def _plan(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> Made | None:
        """Four views that turn left by 90 degrees at one place; the plan around it, the first view's heading up."""
        place, yaw = self.standing(scene, rng)
        cameras = self.views_around(scene, place, yaw)
        top = self.plan_camera(scene, place, yaw)
        above = scene.backend.render([top], ("rgb", "depth", "instance"), TOP_DOWN_HIDES)[0]
        shown = self._shown(scene, scene.stats(above), self.config.min_plan_area)
        if not yields.check("plan.shows_object", bool(shown)):
            return None
        pictures: tuple[Modality, ...] = ("rgb",)
        frames = scene.render(cameras, pictures)
        named = [(f"frame_{number}", frame.rgb, frame.camera) for number, frame in enumerate(frames)]
        return named, above, {"heading_deg": degrees(yaw)}

    def _view_from_plan(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> Made | None:
        """A plan, turned anyhow, with an arrow on it; the view along the arrow."""
        place, yaw = self.standing(scene, rng)
        target = self._seen(scene, place, yaw, "view_from_plan", yields)
        if target is None:
            return None
        radius = self.config.plan_radius_m
        turned = yaw + math.radians(self.config.plan_turn_deg) * float(rng.uniform(-1, 1))
        camera = self.plan_camera(scene, place[:2] + rng.uniform(-0.4, 0.4, 2) * radius, wrap_angle(turned))
        pointer = annotate.arrow(place, yaw, annotate.legible(0.7, camera, (0, 0, 0), self.config.min_arrow_share))
        facts = {
            "heading_deg": degrees(yaw),
            "position": rounded(place),
            **self._towards(target.camera, camera, rng),
        }
        return [("map", self.map(scene, camera, [pointer]), camera)], target, facts

    def _towards(self, view: Camera, above: Camera, rng: np.random.Generator) -> dict[str, Any]:
        """The hour towards which a view looks on a map whose top is 12, and whether the request says it."""
        hour = round(math.degrees(above.pose.yaw - view.pose.yaw) / 30) % 12
        return {"towards": hour or 12, "told": bool(rng.random() < self.config.told)}

    def target_mark(self, camera: Camera, target: Floats, floor_z: float) -> annotate.Mark:
        """The X at a floor point (>=2,) in the picture of ``camera``."""
        at = np.array([target[0], target[1], floor_z])
        size = annotate.legible(self.config.marker_size_m, camera, at, self.config.min_marker_share)
        return annotate.cross(at, camera.pose.yaw, size)

    def views_around(self, scene: SceneView, place: Floats, yaw: float) -> list[Camera]:
        """Four cameras at a floor point (>=2,) that turn left by 90 degrees, the first with heading ``yaw``."""
        return [self.wide_camera(scene, place, yaw + turn * math.pi / 2) for turn in range(FRAMES)]

    def wide_camera(self, scene: SceneView, place: Floats, yaw: float) -> Camera:
        """One of several views that a plan is drawn from."""
        camera = scene.camera(place, wrap_angle(yaw), math.radians(self.config.pitch_deg))
        return replace(camera, vertical_fov_deg=self.config.wide_fov_deg)

    def standing(self, scene: SceneView, rng: np.random.Generator) -> tuple[Floats, float]:
        """A place (3,) and a heading with some object of the neighbourhood in view, where there is one."""
        places = scene.backend.sample_navigable(1, rng, self.config.clearance_m)
        spread = math.radians(self.config.vertical_fov_deg) / 3
        offsets = np.array([scene.objects[index].centre[:2] - places[0, :2] for index in sorted(scene.candidates)])
        near = offsets[np.linalg.norm(offsets, axis=1) <= self.config.max_distance_m] if len(offsets) else offsets
        if not len(near):
            return places[0], float(rng.uniform(-math.pi, math.pi))
        x, y = near[int(rng.integers(len(near)))]
        return places[0], wrap_angle(math.atan2(y, x) + float(rng.uniform(-spread, spread)))

    def _shared(
        self,
        scene: SceneView,
        eye: Floats,
        yaw: float,
        targets: Floats,
        turned: float,
        pitch: float,
        rng: np.random.Generator,
    ) -> Floats | None:
        """A target (3,) from which, by geometry alone, an object of the first view is in the second one, too."""
        centres = np.array([scene.objects[index].centre for index in sorted(scene.candidates)])
        if not len(centres):
            return None
        fov, margin = self.config.vertical_fov_deg, self.config.margin
        before = inside(seen_from(eye, yaw, pitch, fov, centres)[0], margin)
        eyes = np.column_stack([targets[:, :2], np.full(len(targets), eye[0, 2])])
        after = inside(seen_from(eyes, turned, pitch, fov, centres), margin)
        fitting = targets[(after & before).any(axis=1)]
        return fitting[int(rng.integers(len(fitting)))] if len(fitting) else None

    def _knowable(self, scene: SceneView, first: Frame, second: Frame, yields: Yields, kind: str) -> bool:
        """Whether both views are worth showing and an object is shown by both."""
        before, after = scene.stats(first), scene.stats(second)
        least = self.config.min_area
        return (
            scene.acceptable(before, yields, f"{kind}.first")
            and scene.acceptable(after, yields, f"{kind}.second")
            and yields.check(
                f"{kind}.object_in_both",
                any(before.area[i] >= least and after.area[i] >= least for i in scene.candidates),
            )
        )

    def _seen(self, scene: SceneView, place: Floats, yaw: float, kind: str, yields: Yields) -> Frame | None:
        """The view from a place if it is worth drawing and shows an object."""
        pitch = math.radians(self.config.pitch_deg)
        (frame,) = scene.render([scene.camera(place, wrap_angle(yaw), pitch)], ("rgb", "depth", "instance"))
        stats = scene.stats(frame)
        shown = self._shown(scene, stats, self.config.min_area)
        good = yields.check(f"{kind}.shows_object", bool(shown)) and scene.acceptable(stats, yields, kind)
        return frame if good else None

    def _shown(self, scene: SceneView, stats: InstanceStats, least: float) -> list[int]:
        """The objects that a picture shows at least as large as this."""
        return [index for index in np.flatnonzero(stats.area >= least).tolist() if index in scene.candidates]

    def map_camera(self, scene: SceneView, walk: Walk) -> Camera:
        """From above, north up: the walk and its surroundings, no further than the scene reaches."""
        margin, points = self.config.map_margin_m, walk.path.points[:, :2]
        low = np.maximum(points.min(axis=0) - margin, np.asarray(scene.info.bounds_min[:2]) - 0.2)
        high = np.minimum(points.max(axis=0) + margin, np.asarray(scene.info.bounds_max[:2]) + 0.2)
        return top_down_camera(
            (float(low[0]), float(low[1]), float(high[0]), float(high[1])), scene.image_size, scene.info.floor_z
        )

    def plan_camera(self, scene: SceneView, centre: Floats, yaw: float) -> Camera:
        """From above, heading ``yaw`` up: a square around ``centre``."""
        (x, y), radius = centre[:2], self.config.plan_radius_m
        camera = top_down_camera((x - radius, y - radius, x + radius, y + radius), scene.image_size, scene.info.floor_z)
        return replace(camera, pose=replace(camera.pose, yaw=yaw))

    def map(
        self, scene: SceneView, camera: Camera, marks: Sequence[annotate.Mark], labels: Sequence[annotate.Label] = ()
    ) -> Any:
        """What a camera from above shows without ceilings, (h, w, 3) uint8, with marks that stand above the furniture."""
        above = scene.backend.render([camera], ("rgb", "depth"), TOP_DOWN_HIDES)[0]
        return annotate.draw(above, scene.info.floor_z, [replace(mark, height=MARK_HEIGHT_M) for mark in marks], labels)


def walk_marks(walk: Walk, camera: Camera, arrow_share: float = annotate.ARROW_SHARE) -> list[annotate.Mark]:
    """The line of a walk on a map, and the arrow along its heading halfway, at least so long as a share of the map's width."""
    line = annotate.polyline(walk.path.points, annotate.legible(0.06, camera, (0, 0, 0), 0.009))
    length = annotate.legible(0.7, camera, (0, 0, 0), arrow_share)
    return [line, annotate.arrow(walk.midpoint, walk.heading, length, annotate.ORANGE)]


class DrawingSelector:
    """Equal quotas of the kinds; pairs are taken as they come."""

    def __init__(self, config: DrawingConfig, count: int, rng: np.random.Generator) -> None:
        self._open = quotas(count, config.kinds, rng)
        self._asked, self._nouns, self._rng = config.asked, set[str](), rng

    @property
    def remaining(self) -> int:
        return sum(self._open.values())

    def pending(self) -> frozenset[str]:
        return frozenset()

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        kind = facts["kind"]
        if not self._open[kind]:
            return []
        self._open[kind] -= 1
        task, words = KINDS[kind]
        if "start" in facts:
            words = WAYPOINTS
        if facts.get("told"):
            words += TOLD
        if self._asked:
            self._nouns.update(noun for noun, *_ in facts["layout"])
            facts = {**facts, "asked": lesson(facts["layout"], kind == "plan", self._nouns, self._rng)}
        return [
            Question(
                candidate_id=candidate_id,
                question=words.format(**facts),
                question_type=kind,
                choices=(),
                answer_text="",
                rationale="",
                caption=drawing_caption(facts),
                facts=facts,
                task=task,
            )
        ]
