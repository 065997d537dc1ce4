"""Path Tracing: on a walk drawn on a map, which of four objects is on the left (or right) at the midpoint M1?

The view to the side is the best of 147 candidates (IPT paper: 7 headings x 7 offsets x 3 pitches), scored by geometry.
Distractors are never in view on the queried side; they come from the opposite side first and are drawn so that a noun
is three times a distractor for each time it is the answer (see ``distractors.py``): the published set could be guessed
from its options at 37.5% instead of 25%.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np

from datagen import annotate, verify
from datagen.backends.base import TOP_DOWN_HIDES, Floats, Frame, SceneObject, top_down_camera
from datagen.counterfactual import counterfactuals
from datagen.tasks.base import (
    TASKS,
    Candidate,
    SceneView,
    Selector,
    SpatialTask,
    TaskConfig,
    ViewFilter,
    degrees,
    resized,
    rounded,
)
from datagen.tasks.path_questions import PathTracingSelector
from datagen.tasks.paths import BINS, SIDES, Sight, Walk, along, bearing_of, find_walks, seen_from_above, sights
from datagen.visibility import InstanceStats, box_extent, fractions, inside
from datagen.yields import Yields
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, Task

#: The published input variants: from above or a dollhouse view, with the midpoint or the path, with an arrow to the
#: queried side, with first-person views ahead or to the side at both waypoints.
VARIANTS = (
    "dh_midpoint", "td_midpoint", "td_path", "td_path_arrow",
    "td_ego_dir", "td_ego_dir_arrow", "td_ego_side", "td_ego_side_arrow",
)  # fmt: skip
COMPASS = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")
SIGNS = {"left": 1.0, "right": -1.0}
MARK_HEIGHT_M = 1.5  # of the marks on a map: above the furniture
RENDERED_CANDIDATES = 4
DOLLHOUSE_PITCH, DOLLHOUSE_FOV_DEG = math.radians(-55), 50.0


@dataclass(frozen=True, slots=True)
class PathTracingConfig(TaskConfig):
    """Procedure of the paper: distance bins in metres, camera height, field of view and pitch drawn per sample.

    ``variants``: which inputs to make, drawn per sample (see ``VARIANTS``); the paper trains on ``td_ego_dir``.
    ``most_per_bin``: questions per scene and distance bin; long walks are rare, for they need large homes.
    ``min_map_area_m2``: of the object asked for, seen from above: a curtain cannot be found on a map.
    ``min_coverage``: of the side view by the object asked for. ``map_margin_m``: around the path on the map.
    """

    name: str = "pt"
    samples_per_scene: int = 8
    variants: tuple[str, ...] = ("td_ego_dir",)
    walks_per_bin: int = 16
    most_per_bin: tuple[int, int, int] = (2, 3, 6)
    view: ViewFilter = field(default_factory=lambda: ViewFilter(min_median_depth_m=0.8))
    distance_bins_m: tuple[float, float, float] = (1.0, 2.0, 4.0)
    heights_m: tuple[float, ...] = (1.4, 1.467, 1.533, 1.6, 1.667, 1.733, 1.8)
    fov_deg: tuple[float, float] = (75.0, 120.0)
    pitch_deg: tuple[float, float] = (-5.0, 5.0)
    sweep_yaw_deg: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
    sweep_offset_m: tuple[float, ...] = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
    sweep_pitch_deg: tuple[float, ...] = (-20.0, -10.0, 0.0)
    min_scan_area: float = 0.004
    min_map_area_m2: float = 0.02
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
    """A side of a walk's midpoint, the noun asked for there, and nouns of the opposite side that this side lacks."""

    sight: Sight
    noun: str
    opposite: frozenset[str]


@TASKS.register("pt")
class PathTracing(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "pt"
    config: PathTracingConfig

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        config = self.config
        walks = find_walks(scene, config.distance_bins_m, config.walks_per_bin, rng, yields)
        on_map = seen_from_above(scene, config.min_map_area_m2)
        pairs = [sights(scene, walk, config.min_scan_area, on_map) for walk in walks]
        puzzles = draw_puzzles(pairs, rng)
        chances = {name: ask_chances([pair for pair in pairs if pair[0].walk.bin == name]) for name in BINS}
        tried: Counter[str] = Counter()
        yields.check("scene.has_puzzles", bool(puzzles))
        candidates: list[Candidate] = []
        given: Counter[str] = Counter()
        for puzzle in puzzles:
            length = puzzle.sight.walk.bin
            if len(candidates) == config.samples_per_scene or given[length] == config.most_per_bin[BINS.index(length)]:
                continue
            candidate = self._finish(scene, puzzle, f"{len(candidates):02d}", rng, yields)
            if candidate is not None:
                given[length] += 1
                candidates.append(replace(candidate, facts={**candidate.facts, "chances": chances[length]}))
            tried[puzzle.noun] += 1
        if candidates:  # told once per scene
            candidates[0] = replace(candidates[0], facts={**candidates[0].facts, "tried": dict(sorted(tried.items()))})
        return candidates

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return PathTracingSelector(count, rng, self.config.plain)

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
        across = [scene.objects[i].centre for i in sorted(scene.candidates) if scene.names[i] in puzzle.opposite]
        scored = sorted(((exposure(camera, target, across), n) for n, camera in enumerate(sweep)), reverse=True)
        best: dict[tuple[float, ...], Camera] = {}
        for score, number in scored:
            if score > 0:
                best.setdefault(sweep[number].pose.position, sweep[number])
        for camera in list(best.values())[:RENDERED_CANDIDATES]:
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
        """Whether a view shows the object asked for, large enough, and not a pixel of the opposite side's objects."""
        seen = {scene.names[index] for index in np.flatnonzero(stats.pixels)}
        return puzzle.opposite.isdisjoint(seen) and bool(
            stats.area[puzzle.sight.clear[puzzle.noun]] >= self.config.min_coverage
        )

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
        in_view = puzzle.sight.any | {scene.names[index] for index in np.flatnonzero(stats.pixels)}
        elsewhere = {scene.names[index] for index in scene.candidates} - in_view
        return {
            "answer": puzzle.noun,
            "options": [puzzle.noun, *sorted(elsewhere)],
            "in_view": sorted(in_view),
            "opposite": sorted(puzzle.opposite),
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


def draw_puzzles(pairs: Sequence[tuple[Sight, Sight]], rng: np.random.Generator) -> list[Puzzle]:
    """One puzzle per walk in the order to try them, distance bins by turns; its noun is drawn from what is clear."""
    by_bin: dict[str, list[Puzzle]] = {name: [] for name in BINS}
    for pair in shuffled(pairs, rng):
        sides = [(one, other) for one, other in (pair, pair[::-1]) if one.clear]
        if not sides:
            continue
        sight, across = sides[int(rng.integers(len(sides)))]
        nouns = sorted(sight.clear)
        noun = nouns[int(rng.integers(len(nouns)))]
        by_bin[sight.walk.bin].append(Puzzle(sight, noun, frozenset(across.clear) - sight.any))
    rounds = zip_longest(*(by_bin[name] for name in shuffled(BINS, rng)))
    return [puzzle for round_ in rounds for puzzle in round_ if puzzle is not None]


def ask_chances(pairs: Sequence[tuple[Sight, Sight]]) -> dict[str, float]:
    """How likely :func:`draw_puzzles` is to ask for each noun with these walks; adds up to 1."""
    chances: Counter[str] = Counter()
    for pair in pairs:
        sides = [sorted(sight.clear) for sight in pair if sight.clear]
        for nouns in sides:
            chances.update(dict.fromkeys(nouns, 1 / len(nouns) / len(sides)))
    return {noun: round(chance / sum(chances.values()), 5) for noun, chance in sorted(chances.items())}


def shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[index] for index in rng.permutation(len(items))]


def exposure(camera: Camera, target: SceneObject, across: Sequence[Floats]) -> float:
    """How well a candidate view shows an object's box: large, whole, near the middle, without points (3,) ``across``.

    0 where the box is not in view.
    """
    area, whole = box_extent(camera, target.corners())
    if area <= 0:
        return 0.0
    pixels, _ = camera.project(target.centre)
    off_centre = abs(float(pixels[0]) / camera.width - 0.5)
    intruders = int(inside(fractions(camera, np.array(across)), 0.0).sum()) if across else 0
    return min(area, 0.12) * whole**2 * (1 - off_centre) * 0.2**intruders


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


def map_marks(walk: Walk, facts: Mapping[str, Any], camera: Camera) -> tuple[list[annotate.Mark], list[annotate.Label]]:
    """The path with its waypoints, or only M1 with the heading, and the arrow to the queried side."""
    variant, heading = facts["variant"], math.radians(facts["heading_deg"])
    middle = np.array([*walk.midpoint, 0.0])
    marks, labels = [], []
    if variant.endswith("midpoint"):
        marks.append(
            annotate.arrow(walk.midpoint, heading, annotate.legible(0.7, camera, middle, 0.12), annotate.ORANGE)
        )
    else:
        marks.append(annotate.polyline(walk.path.points, annotate.legible(0.06, camera, middle, 0.009)))
        for text, point in (("1", walk.path.points[0]), ("2", walk.path.points[-1])):
            labels.append(annotate.Label(text, (float(point[0]), float(point[1])), annotate.GREEN))
    if variant.endswith("arrow"):
        side = heading + SIGNS[facts["side"]] * math.pi / 2
        marks.append(annotate.arrow(walk.midpoint, side, annotate.legible(0.7, camera, middle, 0.12)))
    if camera.ortho_height_m is not None:
        marks = [replace(mark, height=MARK_HEIGHT_M) for mark in marks]
    labels.append(annotate.Label("M1", (float(walk.midpoint[0]), float(walk.midpoint[1])), annotate.ORANGE))
    return marks, labels
