"""Path Tracing: on a walk drawn on a map, which of four objects is on the left (or right) at the midpoint M1?

Every option could be the answer somewhere in the scene: a set of four nouns is used only if each of them has a walk
that shows it, and none of the other three, on one side of M1; then the noun that is asked for is drawn, and the walk
that has most of the others on its opposite side is taken. So an option's noun says nothing about the answer. The view
to the side is the best of 147 candidates (IPT paper: 7 headings x 7 offsets x 3 pitches), scored by geometry.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from datagen import annotate, verify
from datagen.backends.base import TOP_DOWN_HIDES, Floats, Frame, SceneObject, top_down_camera
from datagen.balance import Deck, ordered, quotas
from datagen.counterfactual import counterfactuals
from datagen.language import with_article
from datagen.rationale import pt_caption, pt_rationale
from datagen.tasks.base import (
    TASKS,
    Candidate,
    Question,
    SceneView,
    Selector,
    SpatialTask,
    TaskConfig,
    degrees,
    resized,
    rounded,
)
from datagen.tasks.paths import BINS, SIDES, Sight, Walk, along, bearing_of, find_walks, sights
from datagen.visibility import InstanceStats, box_extent
from datagen.yields import Yields
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.questions import TEMPLATES, word
from ipt.samples.sample import SampleImage, Task

#: The published input variants: from above or a dollhouse view, with the midpoint or the path, with an arrow to the
#: queried side, with first-person views ahead or to the side at both waypoints.
VARIANTS = (
    "dh_midpoint", "td_midpoint", "td_path", "td_path_arrow",
    "td_ego_dir", "td_ego_dir_arrow", "td_ego_side", "td_ego_side_arrow",
)  # fmt: skip
COMPASS = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")
SIGNS = {"left": 1.0, "right": -1.0}
OPTIONS = 4
SET_TRIES = 60
WALKS_PER_ANSWER = 3
RENDERED_CANDIDATES = 4
DOLLHOUSE_PITCH, DOLLHOUSE_FOV_DEG = math.radians(-55), 50.0


@dataclass(frozen=True, slots=True)
class PathTracingConfig(TaskConfig):
    """Procedure of the paper: distance bins in metres, camera height, field of view and pitch drawn per sample.

    ``variants``: which inputs to make, drawn per sample (see ``VARIANTS``); the paper trains on ``td_ego_dir``.
    ``min_coverage``: of the side view by the object asked for. ``map_margin_m``: around the path on the map.
    """

    name: str = "pt"
    samples_per_scene: int = 8
    variants: tuple[str, ...] = ("td_ego_dir",)
    walks_per_bin: int = 6
    distance_bins_m: tuple[float, float, float] = (1.0, 2.0, 4.0)
    heights_m: tuple[float, ...] = (1.4, 1.467, 1.533, 1.6, 1.667, 1.733, 1.8)
    fov_deg: tuple[float, float] = (75.0, 120.0)
    pitch_deg: tuple[float, float] = (-5.0, 5.0)
    sweep_yaw_deg: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
    sweep_offset_m: tuple[float, ...] = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
    sweep_pitch_deg: tuple[float, ...] = (-20.0, -10.0, 0.0)
    min_scan_area: float = 0.004
    min_coverage: float = 0.0015
    min_ego_depth_m: float = 0.6
    map_margin_m: float = 3.0

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant not in VARIANTS:
                raise ValueError(unknown_name("variant", variant, VARIANTS))
        if not self.variants:
            raise ValueError(f"task.variants must name at least one of {', '.join(VARIANTS)}")


@dataclass(frozen=True, slots=True, eq=False)
class Puzzle:
    """A sight, the noun asked for, all four nouns, and those of them that the opposite side shows."""

    sight: Sight
    noun: str
    options: tuple[str, ...]
    opposite: tuple[str, ...]


@TASKS.register("pt")
class PathTracing(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "pt"
    config: PathTracingConfig

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        config = self.config
        walks = find_walks(scene, config.distance_bins_m, config.walks_per_bin, rng, yields)
        pairs = [sights(scene, walk, config.min_scan_area) for walk in walks]
        opposite = {id(sight): other for pair in pairs for sight, other in (pair, pair[::-1])}
        free = [sight for pair in pairs for sight in pair]
        candidates: list[Candidate] = []
        for _ in range(config.samples_per_scene):
            puzzles = draw_puzzles(free, opposite, rng)
            if not yields.check("four_answers_possible", bool(puzzles)):
                break
            for puzzle in puzzles[:WALKS_PER_ANSWER]:
                candidate = self._finish(scene, puzzle, f"{len(candidates):02d}", rng, yields)
                free = [sight for sight in free if sight is not puzzle.sight]
                if candidate is not None:
                    candidates.append(candidate)
                    break
        return candidates

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return PathTracingSelector(count, rng)

    def _finish(
        self, scene: SceneView, puzzle: Puzzle, key: str, rng: np.random.Generator, yields: Yields
    ) -> Candidate | None:
        """Draw direction, variant and camera; find and render the side view; verify; draw the inputs."""
        config, walk = self.config, puzzle.sight.walk
        forward = bool(rng.integers(2))
        variant = config.variants[int(rng.integers(len(config.variants)))]
        lens = Lens(
            height=scene.info.floor_z + float(rng.choice(config.heights_m)),
            fov_deg=float(rng.uniform(*config.fov_deg)),
            pitch=math.radians(float(rng.uniform(*config.pitch_deg))),
        )
        found = self._side_view(scene, puzzle, lens, yields)
        if not yields.check("side_view.found", found is not None) or found is None:
            return None
        frame = scene.render([resized(found, scene.image_size)], ("rgb", "depth", "instance"))[0]
        stats = scene.stats(frame)
        if not (scene.acceptable(stats, yields, "side_view") and self._shows(scene, puzzle, stats)):
            return None
        facts = self._facts(scene, puzzle, frame, stats, forward, variant, lens)
        if not verify.agrees("pt", facts, {"side_view": frame}, scene.objects, yields):
            return None
        images = self._inputs(scene, walk, facts, lens, yields)
        if images is None or frame.rgb is None:
            return None
        target = scene.objects[puzzle.sight.clear[puzzle.noun]]
        wrong = counterfactuals(scene, frame.camera, target, yields, lambda shot: shot.rgb)  # type: ignore[arg-type,return-value]
        return Candidate(key, facts, images, scene.encode(frame.rgb, "side_view", frame.camera), wrong)

    def _side_view(self, scene: SceneView, puzzle: Puzzle, lens: Lens, yields: Yields) -> Camera | None:
        """The best candidate of the sweep whose low-resolution masks show the object and no distractor."""
        target = scene.objects[puzzle.sight.clear[puzzle.noun]]
        sweep = self._sweep(scene, puzzle.sight, lens)
        if not yields.check("side_view.free_place", bool(sweep)):
            return None
        scores = np.array([exposure(camera, target) for camera in sweep])
        best = [sweep[index] for index in np.argsort(-scores, kind="stable")[:RENDERED_CANDIDATES] if scores[index] > 0]
        for camera in best:
            stats = scene.stats(scene.render([camera], ("depth", "instance"))[0])
            if scene.acceptable(stats, yields, "side_view_search") and yields.check(
                "side_view.shows_answer_only", self._shows(scene, puzzle, stats)
            ):
                return camera
        return None

    def _sweep(self, scene: SceneView, sight: Sight, lens: Lens) -> list[Camera]:
        """Candidates around M1 that stand on free floor and look up to 90 degrees off the walk's heading."""
        config, walk, sign = self.config, sight.walk, SIGNS[sight.side]
        ahead = np.array([math.cos(walk.heading), math.sin(walk.heading)])
        places = walk.midpoint + np.asarray(config.sweep_offset_m)[:, None] * ahead
        places = places[scene.backend.is_free(places, scene.config.clearance_m)]
        return [
            lens.camera(place, walk.heading + sign * math.radians(90 - yaw), scene.search_size, math.radians(pitch))
            for place in places
            for yaw in config.sweep_yaw_deg
            for pitch in config.sweep_pitch_deg
        ]

    def _shows(self, scene: SceneView, puzzle: Puzzle, stats: InstanceStats) -> bool:
        """Whether a view shows the object asked for, large enough, and not a pixel of the other options."""
        seen = {scene.names[index] for index in np.flatnonzero(stats.pixels)}
        others = seen.intersection(puzzle.options) - {puzzle.noun}
        return not others and bool(stats.area[puzzle.sight.clear[puzzle.noun]] >= self.config.min_coverage)

    def _facts(
        self,
        scene: SceneView,
        puzzle: Puzzle,
        frame: Frame,
        stats: InstanceStats,
        forward: bool,
        variant: str,
        lens: Lens,
    ) -> dict[str, Any]:
        """Everything true about the walk; ``side`` and ``heading_deg`` are those of the traveller."""
        walk = puzzle.sight.walk
        item = scene.objects[puzzle.sight.clear[puzzle.noun]]
        heading = walk.heading if forward else wrap_angle(walk.heading + math.pi)
        side = puzzle.sight.side if forward else SIDES[1 - SIDES.index(puzzle.sight.side)]
        bearing, distance = bearing_of(walk, item.centre)
        largest = [index for index in np.argsort(-stats.area, kind="stable") if index in scene.candidates]
        visible = [scene.names[index] for index in largest if stats.area[index] >= self.config.min_coverage]
        return {
            "answer": puzzle.noun,
            "options": list(puzzle.options),
            "distractors": [name for name in puzzle.options if name != puzzle.noun],
            "opposite": list(puzzle.opposite),
            "variant": variant,
            "direction": "forward" if forward else "reverse",
            "side": side,
            "start": "waypoint 1" if forward else "waypoint 2",
            "end": "waypoint 2" if forward else "waypoint 1",
            "waypoints": [rounded(point) for point in (walk.path.points[0], walk.path.points[-1])],
            "path": [rounded(point) for point in walk.path.points],
            "path_length_m": round(walk.path.length_m, 3),
            "distance_bin": walk.bin,
            "room": walk.room,
            "midpoint": rounded(walk.midpoint),
            "heading_deg": degrees(heading),
            "heading_on_map": compass(heading),
            "side_on_map": compass(heading + SIGNS[side] * math.pi / 2),
            "camera_height_m": round(lens.height - scene.info.floor_z, 3),
            "fov_deg": round(lens.fov_deg, 2),
            "coverage": round(float(stats.area[item.index]), 5),
            "visible_side": list(dict.fromkeys(visible))[:6],
            "object": {
                "id": item.id,
                "name": item.name,
                "category": item.category,
                "size_m": rounded(item.size, 3),
                "bearing_deg": round(bearing if forward else math.degrees(wrap_angle(math.radians(bearing + 180))), 2),
                "distance_m": round(distance, 3),
            },
            "side_view_offset_m": round(float(np.linalg.norm(frame.camera.pose.position[:2] - walk.midpoint)), 3),
        }

    def _inputs(
        self, scene: SceneView, walk: Walk, facts: dict[str, Any], lens: Lens, yields: Yields
    ) -> tuple[SampleImage, ...] | None:
        """The map with its marks and, if the variant has them, first-person views at both waypoints."""
        variant = str(facts["variant"])
        camera = dollhouse_camera(scene, walk) if variant.startswith("dh") else self._map_camera(scene, walk)
        above = scene.backend.render([camera], ("rgb", "depth"), TOP_DOWN_HIDES)[0]
        marks, labels = map_marks(walk, facts, camera)
        images = [scene.encode(annotate.draw(above, scene.info.floor_z, marks, labels), "map", camera)]
        if "_ego_" in variant:
            turn = SIGNS[facts["side"]] * math.pi / 2 if "_ego_side" in variant else 0.0
            reverse = 0.0 if facts["direction"] == "forward" else math.pi
            cameras = [
                lens.camera(end, heading + reverse + turn, scene.image_size) for end, heading in waypoint_headings(walk)
            ]
            for number, frame in enumerate(scene.render(cameras, ("rgb", "depth")), start=1):
                assert frame.rgb is not None and frame.depth is not None
                near = float(np.median(frame.depth[frame.depth > 0])) if (frame.depth > 0).any() else 0.0
                if not yields.check("ego_view.median_depth", near >= self.config.min_ego_depth_m):
                    return None
                images.append(scene.encode(frame.rgb, f"ego_{number}", frame.camera))
        return tuple(images)

    def _map_camera(self, scene: SceneView, walk: Walk) -> Camera:
        """From above: the path and its surroundings, no further than the scene reaches."""
        margin = self.config.map_margin_m
        low = np.maximum(walk.path.points[:, :2].min(axis=0) - margin, np.asarray(scene.info.bounds_min[:2]) - 0.2)
        high = np.minimum(walk.path.points[:, :2].max(axis=0) + margin, np.asarray(scene.info.bounds_max[:2]) + 0.2)
        return top_down_camera((float(low[0]), float(low[1]), float(high[0]), float(high[1])), scene.image_size)


@dataclass(frozen=True, slots=True)
class Lens:
    """The camera of a sample: height above the world's zero (metres), vertical field of view, pitch (radians)."""

    height: float
    fov_deg: float
    pitch: float

    def camera(self, place: Floats, yaw: float, size: int, pitch: float = 0.0) -> Camera:
        """This camera above floor point ``place``, ``pitch`` added to its own."""
        position = (float(place[0]), float(place[1]), self.height)
        return Camera(CameraPose(position, wrap_angle(yaw), self.pitch + pitch), size, size, self.fov_deg)


def draw_puzzles(free: Sequence[Sight], opposite: Mapping[int, Sight], rng: np.random.Generator) -> list[Puzzle]:
    """Ways to ask for a drawn noun of a drawn set of four, most opposite distractors first; empty if none is found."""
    askable = [sight for sight in free if sight.clear]
    everything = sorted({noun for sight in askable for noun in sight.clear})
    if len(everything) < OPTIONS:
        return []
    for _ in range(SET_TRIES):
        sight = askable[int(rng.integers(len(askable)))]
        first = shuffled(sorted(sight.clear), rng)[:1]
        across = shuffled(sorted(set(opposite[id(sight)].clear) - sight.any), rng)
        elsewhere = shuffled([noun for noun in everything if noun not in sight.any and noun not in across], rng)
        nouns = (first + across + elsewhere)[:OPTIONS]
        ways = {noun: [one for one in askable if asks_for(one, noun, nouns)] for noun in nouns}
        if len(nouns) == OPTIONS and all(ways.values()):
            options = shuffled(nouns, rng)
            noun = options[int(rng.integers(OPTIONS))]
            puzzles = [
                Puzzle(one, noun, tuple(options), tuple(o for o in options if o in opposite[id(one)].any and o != noun))
                for one in shuffled(ways[noun], rng)
            ]
            return sorted(puzzles, key=lambda puzzle: -len(puzzle.opposite))
    return []


def asks_for(sight: Sight, noun: str, nouns: Sequence[str]) -> bool:
    """Whether a side shows ``noun`` clearly and nothing of the other ``nouns``."""
    return noun in sight.clear and not sight.any.intersection(other for other in nouns if other != noun)


def shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[index] for index in rng.permutation(len(items))]


def exposure(camera: Camera, target: SceneObject) -> float:
    """How well a candidate view shows an object's box: large, whole and near the middle; 0 where it is not in view."""
    area, whole = box_extent(camera, target.corners())
    if area <= 0:
        return 0.0
    pixels, _ = camera.project(target.centre)
    off_centre = abs(float(pixels[0]) / camera.width - 0.5)
    return min(area, 0.25) * whole**2 * (1 - off_centre)


def compass(angle: float) -> str:
    """A heading (radians) as a direction on a map whose top is +y."""
    return COMPASS[round(wrap_angle(angle) / (math.pi / 4)) % 8]


def waypoint_headings(walk: Walk) -> Iterator[tuple[Floats, float]]:
    """Waypoints 1 and 2 and the heading there of someone going from 1 to 2."""
    for end, other, sign in ((0.0, 0.3, 1), (walk.path.length_m, walk.path.length_m - 0.3, -1)):
        step = sign * (along(walk.path.points, other) - along(walk.path.points, end))
        yield along(walk.path.points, end), math.atan2(step[1], step[0])


def dollhouse_camera(scene: SceneView, walk: Walk) -> Camera:
    """An oblique view from above and south of M1, ceilings off."""
    size = np.asarray(scene.info.bounds_max[:2]) - np.asarray(scene.info.bounds_min[:2])
    distance = float(np.clip(1.1 * size.max(), 5.0, 11.0))
    x, y = walk.midpoint[0], walk.midpoint[1] - distance * math.cos(DOLLHOUSE_PITCH)
    pose = CameraPose((float(x), float(y), -distance * math.sin(DOLLHOUSE_PITCH)), math.pi / 2, DOLLHOUSE_PITCH)
    return Camera(pose, scene.image_size, scene.image_size, DOLLHOUSE_FOV_DEG)


def map_marks(
    walk: Walk, facts: Mapping[str, Any], camera: Camera
) -> tuple[list[annotate.Mark], list[annotate.Label]]:
    """The path with its waypoints, or only M1 with the heading, and the arrow to the queried side."""
    variant, heading = facts["variant"], math.radians(facts["heading_deg"])
    middle = np.array([*walk.midpoint, 0.0])
    marks, labels = [], []
    if variant.endswith("midpoint"):
        marks.append(annotate.arrow(walk.midpoint, heading, annotate.legible(0.7, camera, middle, 0.12), annotate.ORANGE))
    else:
        marks.append(annotate.polyline(walk.path.points, annotate.legible(0.06, camera, middle, 0.009)))
        for text, point in (("1", walk.path.points[0]), ("2", walk.path.points[-1])):
            labels.append(annotate.Label(text, (float(point[0]), float(point[1])), annotate.GREEN))
    if variant.endswith("arrow"):
        side = heading + SIGNS[facts["side"]] * math.pi / 2
        marks.append(annotate.arrow(walk.midpoint, side, annotate.legible(0.7, camera, middle, 0.12)))
    labels.append(annotate.Label("M1", (float(walk.midpoint[0]), float(walk.midpoint[1])), annotate.ORANGE))
    return marks, labels


def view_sentence(facts: Mapping[str, Any]) -> str:
    """What the arrow and the pictures after the map show."""
    variant = facts["variant"]
    told = ["The blue arrow at M1 points to the side in question."] if variant.endswith("arrow") else []
    if "_ego_dir" in variant:
        told.append("The other two pictures show the view ahead, in the direction of travel, at waypoints 1 and 2.")
    if "_ego_side" in variant:
        told.append(f"The other two pictures show the view to the {facts['side']} of the walk at waypoints 1 and 2.")
    return " ".join([*told, ""])


class PathTracingSelector:
    """Equal quotas for the distance bins, rooms as even as a short queue allows; letters and templates dealt evenly."""

    LEAD, QUEUE = 2, 8

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self._open = quotas(count, BINS, rng)
        self._queues: dict[str, dict[str, deque[tuple[str, Mapping[str, Any]]]]] = {name: {} for name in BINS}
        self._taken: dict[str, dict[str, int]] = {name: {} for name in BINS}
        self._letters = Deck(range(OPTIONS), rng)
        self._templates = {name: Deck(TEMPLATES[name], rng) for name in ("pt_path", "pt_midpoint")}
        self._rng = rng

    @property
    def remaining(self) -> int:
        return sum(self._open.values())

    def pending(self) -> list[str]:
        return [name for queues in self._queues.values() for queue in queues.values() for name, _ in queue]

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        name, room = facts["distance_bin"], facts["room"]
        queues, taken = self._queues[name], self._taken[name]
        queues.setdefault(room, deque()).append((candidate_id, facts))
        taken.setdefault(room, 0)
        questions = []
        while self._open[name] and any(queues.values()):
            room = min((kind for kind in queues if queues[kind]), key=lambda kind: (taken[kind], kind))
            waiting = sum(len(queue) for queue in queues.values())
            if taken[room] > min(taken.values()) + self.LEAD and waiting <= self.QUEUE:
                break
            taken[room] += 1
            self._open[name] -= 1
            questions.append(self._word(*queues[room].popleft()))
        if not self._open[name]:
            queues.clear()
        return questions

    def _word(self, candidate_id: str, facts: Mapping[str, Any]) -> Question:
        family = "pt_midpoint" if facts["variant"].endswith("midpoint") else "pt_path"
        template = self._templates[family].deal()
        text = word(
            template,
            map="dollhouse view" if facts["variant"].startswith("dh") else "top-down map",
            start=facts["start"].split()[-1],
            end=facts["end"].split()[-1],
            side=facts["side"],
            views=view_sentence(facts),
        )
        wrong = [with_article(name) for name in facts["distractors"]]
        right = with_article(facts["answer"])
        return Question(
            candidate_id=candidate_id,
            question=text,
            question_type=f"{facts['direction']}_{facts['side']}",
            choices=ordered(right, wrong, self._letters.deal(), self._rng),
            answer_text=right,
            rationale=pt_rationale(facts),
            caption=pt_caption(facts),
            facts={**facts, "person": template.person},
        )
