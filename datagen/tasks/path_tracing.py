"""Path Tracing: on a walk drawn on a map, which of four objects is on the left (or right) at the midpoint M1?

The view to the side is the best of 147 candidates (IPT paper: 7 headings x 7 offsets x 3 pitches), scored by geometry.
Distractors are never in view on the queried side; at least two are on the opposite side, and the map shows them all. The
published set could be guessed from its options at 37.5% instead of 25%; here neither the nouns of the options nor their
distances, sizes and numbers on the map tell which is right (see ``balanced_options.py``). Scenes of few things have no such
distractors; for them, ``options=any_scene`` draws nouns of all scenes (see ``distractors.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import astuple, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from datagen import annotate, verify
from datagen.backends.base import TOP_DOWN_HIDES, Frame, Modality, top_down_camera
from datagen.counterfactual import counterfactuals
from datagen.tasks.base import (
    TASKS,
    Candidate,
    SceneView,
    Selector,
    SpatialTask,
    degrees,
    resized,
    rounded,
)
from datagen.tasks.path_questions import PathTracingSelector, option_pool
from datagen.tasks.path_settings import OPTIONS, PathTracingConfig
from datagen.tasks.paths import BINS, SIDES, FromAbove, Sight, Walk, bearing_of, find_walks, map_region, sights
from datagen.tasks.places import candidate_key
from datagen.tasks.puzzles import Puzzle, ask_chances, draw_puzzles, everything_clear, with_distractors
from datagen.tasks.side_views import SIGNS, Lens, Presentation, SideViewSearch
from datagen.tasks.vocabulary import out_of_view, vocabulary_of
from datagen.visibility import InstanceStats, layout_of
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, Task

COMPASS = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")
MARK_HEIGHT_M = 1.5  # of the marks on a map: above the furniture
DOLLHOUSE_PITCHES = tuple(map(math.radians, (-55, -65, -75)))  # the first that shows the marks whole
DOLLHOUSE_FOV_DEG = 50.0


@TASKS.register("pt")
class PathTracing(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "pt"
    config: PathTracingConfig

    @property
    def required(self) -> frozenset[str]:
        oblique = any(variant.startswith("dh") for variant in self.config.variants)
        return super().required | ({"oblique_cut"} if oblique else frozenset())

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        config, candidates = self.config, list[Candidate]()
        same_scene = config.options == "same_scene"
        walks = find_walks(scene, config.distance_bins_m, config.walks_per_bin, rng, yields)
        above = FromAbove(scene)
        presentations = {walk: self._presentation(scene, rng) for walk in walks}
        look = cache(lambda walk: sights(scene, walk, config, above, presentations[walk].forward))
        search = SideViewSearch(scene, config, presentations, yields)
        askable = with_distractors(config.min_opposite) if same_scene else everything_clear
        tried, given, most = Counter[str](), Counter[str](), dict(zip(BINS, config.most_per_bin, strict=True))
        full = {name for name in BINS if not most[name] or not config.samples_per_scene}
        for puzzle in draw_puzzles(walks, look, full, rng, askable):
            walk = puzzle.sight.walk
            tried[puzzle.noun] += 1
            found = self._finish(scene, puzzle, presentations[walk], search, f"{given.total():02d}", yields)
            if found:
                given[walk.bin] += 1
                if given[walk.bin] == most[walk.bin]:
                    full.add(walk.bin)
                if not same_scene:
                    alike = [look(one) for one in walks if (one.bin, one.room) == (walk.bin, walk.room)]
                    found = [replace(one, facts={**one.facts, "chances": ask_chances(alike)}) for one in found]
                candidates += found
            if given.total() == config.samples_per_scene:
                full.update(BINS)
        yields.check(f"scene.has_puzzles (options={config.options})", bool(tried))
        if candidates and not same_scene:  # once per scene
            candidates[0] = replace(candidates[0], facts={**candidates[0].facts, "tried": dict(sorted(tried.items()))})
        return candidates

    def most_of_one_scene(self, scene: SceneView) -> int | None:
        return None if len({scene.names[index] for index in scene.candidates}) >= OPTIONS else 0

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return PathTracingSelector(self.config, count, rng)

    def _presentation(self, scene: SceneView, rng: np.random.Generator) -> Presentation:
        """Draw direction, variant and camera."""
        config = self.config
        forward = bool(rng.integers(2))
        variant = config.variants[int(rng.integers(len(config.variants)))]
        height = scene.info.floor_z + float(rng.choice(config.heights_m))
        fov_deg, pitch_deg = float(rng.uniform(*config.fov_deg)), float(rng.uniform(*config.pitch_deg))
        return Presentation(forward, variant, Lens(height, fov_deg, math.radians(pitch_deg)))

    def _finish(
        self,
        scene: SceneView,
        puzzle: Puzzle,
        presentation: Presentation,
        search: SideViewSearch,
        key: str,
        yields: Yields,
    ) -> list[Candidate]:
        """Render the side view, verify, draw the inputs; a candidate for each thing that the view allows to ask for."""
        found = search.find(puzzle)
        if found is None:
            return []
        frame = scene.render([resized(found, scene.image_size)], ("rgb", "depth", "instance"))[0]
        stats = scene.stats(frame)
        shows = scene.acceptable(stats, yields, "side_view") and search.shows(puzzle, stats)
        if not yields.check("side_view.final", shows):
            return []
        same_scene = self.config.options == "same_scene"
        asked = [puzzle, *self._others(puzzle, stats, search)] if same_scene else [puzzle]
        told = [self._facts(scene, one, frame, stats, presentation) for one in asked]
        if same_scene:
            pool = option_pool(told[0], self.config.min_opposite)  # whichever is asked: nothing in view is a distractor
            if not yields.check("options.enough_out_of_view", bool(pool.sets(OPTIONS - 1))):
                return []
        told = [one for one in told if verify.agrees("pt", one, {"side_view": frame}, scene.objects, yields)]
        if frame.rgb is None or not told:
            return []

        def inputs() -> tuple[SampleImage, ...]:
            above = self._map(scene, puzzle.sight.walk, told[0])
            return () if above is None else (above, *self._waypoint_views(scene, puzzle.sight, presentation))

        images = inputs()
        if not yields.check("map.marks_visible", bool(images)):
            return []
        imagination, candidates = scene.encode(frame.rgb, "side_view", frame.camera), []
        for facts in told:
            target = scene.objects[puzzle.sight.clear[facts["answer"]]]
            wrong = counterfactuals(scene, frame.camera, target, yields, lambda shot: shot.rgb, inputs)  # type: ignore[arg-type,return-value]
            name = candidate_key(key, facts["answer"]) if same_scene else key
            candidates.append(Candidate(name, {**facts, **wrong.facts}, images, imagination, wrong.images))
        return candidates

    def _others(self, puzzle: Puzzle, stats: InstanceStats, search: SideViewSearch) -> list[Puzzle]:
        """The same side, asked for something else that the view shows as clearly; largest from M1 first."""
        others = (replace(puzzle, noun=noun) for noun in puzzle.sight.clear if noun != puzzle.noun)
        return [one for one in others if search.shows(one, stats)][: self.config.answers_per_view - 1]

    def _facts(
        self, scene: SceneView, puzzle: Puzzle, frame: Frame, stats: InstanceStats, presentation: Presentation
    ) -> dict[str, Any]:
        """Everything true about the walk; ``side`` and ``heading_deg`` are those of the traveller."""
        forward, lens = presentation.forward, presentation.lens
        walk = puzzle.sight.walk
        item = scene.objects[puzzle.sight.clear[puzzle.noun]]
        heading = walk.heading if forward else wrap_angle(walk.heading + math.pi)
        side = puzzle.sight.side if forward else SIDES[1 - SIDES.index(puzzle.sight.side)]
        bearing, distance = bearing_of(walk, item.centre)
        largest = [index for index in np.argsort(-stats.area, kind="stable") if index in scene.candidates]
        visible = [scene.names[index] for index in largest if stats.area[index] >= self.config.min_coverage]
        seen = puzzle.sight.any | {scene.names[index] for index in np.flatnonzero(stats.pixels)}
        in_view = seen | taken_for(seen, scene.info.backend)
        on_map = puzzle.sight.on_map
        same_scene = self.config.options == "same_scene"
        elsewhere = out_of_view(on_map if same_scene else {scene.names[index] for index in scene.candidates}, in_view)
        options = [puzzle.noun, *sorted(elsewhere)]
        return {
            "answer": puzzle.noun,
            "options": options,
            "on_map": {noun: rounded(astuple(on_map[noun]), 3) for noun in options if noun in on_map},
            "in_view": sorted(in_view),
            "opposite": sorted(puzzle.opposite),
            "variant": presentation.variant,
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
            "layout": layout_of(frame, scene.names, scene.shown(stats, self.config.min_coverage)),
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

    def _map(self, scene: SceneView, walk: Walk, facts: Mapping[str, Any]) -> SampleImage | None:
        """The map, or the first dollhouse view, that shows all its marks; None where there is none."""
        if facts["variant"].startswith("dh"):
            cameras = [dollhouse_camera(scene, walk, pitch) for pitch in DOLLHOUSE_PITCHES]
        else:
            cameras = [self._map_camera(scene, walk)]
        for camera in cameras:
            above = scene.backend.render([camera], ("rgb", "depth"), TOP_DOWN_HIDES)[0]
            lines, arrows, labels = map_marks(walk, facts, camera, scene.info.floor_z, self.config.min_arrow_share)
            if annotate.all_shown(above, scene.info.floor_z, lines, arrows) >= self.config.min_mark_visible:
                picture = annotate.draw(above, scene.info.floor_z, [*lines, *arrows], labels)
                return scene.encode(picture, "map", camera)
        return None

    def _waypoint_views(self, scene: SceneView, sight: Sight, presentation: Presentation) -> list[SampleImage]:
        """The first-person views at both waypoints, where the variant has them."""
        pictures: tuple[Modality, ...] = ("rgb",)
        frames = scene.render(presentation.waypoint_cameras(sight, scene.image_size), pictures)
        return [scene.encode(frame.rgb, f"ego_{number}", frame.camera) for number, frame in enumerate(frames, start=1)]

    def _map_camera(self, scene: SceneView, walk: Walk) -> Camera:
        region = map_region(scene, walk, self.config.map_margin_m)
        return top_down_camera(region, scene.image_size, scene.info.floor_z)


def taken_for(seen: Collection[str], backend: str) -> frozenset[str]:
    """The nouns that things in view may be taken for, by the backend's vocabulary."""
    lookalikes = vocabulary_of(backend).lookalikes
    return frozenset(noun for noun, things in lookalikes.items() if not set(things).isdisjoint(seen))


def compass(angle: float) -> str:
    """A heading (radians) as a direction on a map whose top is +y."""
    return COMPASS[round(wrap_angle(angle) / (math.pi / 4)) % 8]


def dollhouse_camera(scene: SceneView, walk: Walk, pitch: float) -> Camera:
    """An oblique view from above and south of M1, ceilings off; ``pitch`` in radians."""
    size = np.asarray(scene.info.bounds_max[:2]) - np.asarray(scene.info.bounds_min[:2])
    distance = float(np.clip(1.1 * size.max(), 5.0, 11.0))
    x, y = walk.midpoint[0], walk.midpoint[1] - distance * math.cos(pitch)
    z = scene.info.floor_z - distance * math.sin(pitch)
    pose = CameraPose((float(x), float(y), z), math.pi / 2, pitch)
    return Camera(pose, scene.image_size, scene.image_size, DOLLHOUSE_FOV_DEG)


def map_marks(
    walk: Walk,
    facts: Mapping[str, Any],
    camera: Camera,
    floor_z: float,
    arrow_share: float = annotate.ARROW_SHARE,
) -> tuple[list[annotate.Mark], list[annotate.Mark], list[annotate.Label]]:
    """The path with its waypoints; arrows: the heading at M1 where there is no path, and the queried side; and labels."""
    variant, heading = facts["variant"], math.radians(facts["heading_deg"])
    middle = np.array([*walk.midpoint, floor_z])
    length = annotate.legible(0.7, camera, middle, arrow_share)
    lines, arrows, labels = [], [], []
    if variant.endswith("midpoint"):
        arrows.append(annotate.arrow(walk.midpoint, heading, length, annotate.ORANGE))
    else:
        lines.append(annotate.polyline(walk.path.points, annotate.legible(0.06, camera, middle, 0.009)))
        for text, point in (("1", walk.path.points[0]), ("2", walk.path.points[-1])):
            labels.append(annotate.Label(text, (float(point[0]), float(point[1])), annotate.GREEN))
    if variant.endswith("arrow"):
        side = heading + SIGNS[facts["side"]] * math.pi / 2
        arrows.append(annotate.arrow(walk.midpoint, side, length))
    height = MARK_HEIGHT_M if camera.ortho_height_m is not None else 0.0
    labels.append(annotate.Label("M1", (float(walk.midpoint[0]), float(walk.midpoint[1])), annotate.ORANGE))
    lines, arrows = ([replace(mark, height=height) for mark in marks] for marks in (lines, arrows))
    return lines, arrows, labels
