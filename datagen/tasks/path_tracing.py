"""Path Tracing: on a walk drawn on a map, which of four objects is on the left (or right) at the midpoint M1?

The view to the side is the best of 147 candidates (IPT paper: 7 headings x 7 offsets x 3 pitches), scored by geometry.
Distractors are never in view on the queried side and come from the opposite side first. The published set could be guessed
from its options at 37.5% instead of 25%; here the options of a question are a set of nouns of its scene any of which could
have been asked for, and the one that is asked is drawn last (see ``puzzles.py``). Scenes of a single room hold no such
sets; for them, ``options=any_scene`` draws distractors from all scenes (see ``distractors.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from datagen.tasks.path_questions import OPTIONS, PathTracingSelector
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.paths import BINS, SIDES, Sight, Walk, bearing_of, find_walks, seen_from_above, sights
from datagen.tasks.puzzles import Puzzle, PuzzleSets, all_puzzles, ask_chances, draw_puzzles, shuffled
from datagen.tasks.side_views import SIGNS, Lens, Presentation, SideViewSearch
from datagen.visibility import InstanceStats
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, Task

COMPASS = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")
MARK_HEIGHT_M = 1.5  # of the marks on a map: above the furniture
DOLLHOUSE_PITCH, DOLLHOUSE_FOV_DEG = math.radians(-55), 50.0


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
        config = self.config
        # Nowhere in a single room are four nouns each seen without the others (measured on homes): spare the search.
        if config.options == "same_scene" and not yields.check(
            "scene.rooms_for_options=same_scene", len(scene.info.rooms) != 1
        ):
            return []
        walks = find_walks(scene, config.distance_bins_m, config.walks_per_bin, rng, yields)
        on_map = seen_from_above(scene, config.min_map_area_m2)
        pairs = [sights(scene, walk, config.min_scan_area, on_map) for walk in walks]
        presentations = {walk: self._presentation(scene, rng) for walk in walks}
        search = SideViewSearch(scene, config, presentations, yields)
        make = self._with_own_options if config.options == "same_scene" else self._without_options
        return make(scene, pairs, presentations, search, rng, yields)

    def _with_own_options(
        self,
        scene: SceneView,
        pairs: Sequence[tuple[Sight, Sight]],
        presentations: Mapping[Walk, Presentation],
        search: SideViewSearch,
        rng: np.random.Generator,
        yields: Yields,
    ) -> list[Candidate]:
        """Questions with their options: one puzzle, drawn evenly, of each set whose four puzzles pass all filters.

        A set has one distance bin: what the selector balances must not depend on which of its puzzles is asked.
        """
        config, candidates = self.config, list[Candidate]()
        wanted = dict(zip(BINS, config.most_per_bin, strict=True))
        sets = {
            name: PuzzleSets(all_puzzles([pair for pair in pairs if pair[0].walk.bin == name]), OPTIONS)
            for name in BINS
        }
        yields.check("scene.sets_for_options=same_scene", any(one.candidate(rng) for one in sets.values()))
        turns = shuffled(BINS, rng)
        while turns and len(candidates) < config.samples_per_scene:
            name = turns.pop(0)
            chosen = sets[name].draw(search.nouns_shown, rng)
            if chosen is None:
                continue
            asked, walk = chosen[0], chosen[0].sight.walk
            wrong = sorted(other.noun for other in chosen[1:])
            candidate = self._finish(scene, asked, presentations[walk], search, wrong, f"{len(candidates):02d}", yields)
            sets[name].drop(walk)
            if candidate is not None:
                decided = {"distractors": wrong, "rooms": sorted(puzzle.sight.walk.room for puzzle in chosen)}
                candidates.append(replace(candidate, facts={**candidate.facts, **decided}))
                wanted[name] -= 1
            if wanted[name]:
                turns.append(name)
        return candidates

    def _without_options(
        self,
        scene: SceneView,
        pairs: Sequence[tuple[Sight, Sight]],
        presentations: Mapping[Walk, Presentation],
        search: SideViewSearch,
        rng: np.random.Generator,
        yields: Yields,
    ) -> list[Candidate]:
        """Questions whose distractors the selector will draw, and what it has to know of the scene for that."""
        config, candidates = self.config, list[Candidate]()
        puzzles = draw_puzzles(pairs, rng)
        tried: Counter[str] = Counter()
        yields.check("scene.has_puzzles", bool(puzzles))
        given: Counter[str] = Counter()
        for puzzle in puzzles:
            walk = puzzle.sight.walk
            full = given[walk.bin] == config.most_per_bin[BINS.index(walk.bin)]
            if len(candidates) == config.samples_per_scene or full:
                continue
            tried[puzzle.noun] += 1
            key = f"{len(candidates):02d}"
            candidate = self._finish(scene, puzzle, presentations[walk], search, (), key, yields)
            if candidate is not None:
                given[walk.bin] += 1
                alike = [one for one in pairs if (one[0].walk.bin, one[0].walk.room) == (walk.bin, walk.room)]
                decided = {"chances": ask_chances(alike), "rooms": [walk.room]}
                candidates.append(replace(candidate, facts={**candidate.facts, **decided}))
        if candidates:  # once per scene
            candidates[0] = replace(candidates[0], facts={**candidates[0].facts, "tried": dict(sorted(tried.items()))})
        return candidates

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return PathTracingSelector(count, rng, self.config.plain)

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
        absent: Sequence[str],
        key: str,
        yields: Yields,
    ) -> Candidate | None:
        """Render the side view, which must not show the nouns ``absent``; verify; draw the inputs."""
        found = search.find(puzzle)
        if found is None:
            return None
        frame = scene.render([resized(found.camera, scene.image_size)], ("rgb", "depth", "instance"))[0]
        stats = scene.stats(frame)
        shows = scene.acceptable(stats, yields, "side_view") and search.shows(puzzle, stats, absent)
        if not yields.check("side_view.final", shows):
            return None
        facts = self._facts(scene, puzzle, frame, stats, presentation)
        if frame.rgb is None or not verify.agrees("pt", facts, {"side_view": frame}, scene.objects, yields):
            return None
        images = self._inputs(scene, puzzle.sight, facts, presentation)
        target = scene.objects[puzzle.sight.clear[puzzle.noun]]
        wrong = counterfactuals(scene, frame.camera, target, yields, lambda shot: shot.rgb)  # type: ignore[arg-type,return-value]
        return Candidate(key, facts, images, scene.encode(frame.rgb, "side_view", frame.camera), wrong)

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
        in_view = puzzle.sight.any | {scene.names[index] for index in np.flatnonzero(stats.pixels)}
        elsewhere = {scene.names[index] for index in scene.candidates} - in_view
        return {
            "answer": puzzle.noun,
            "options": [puzzle.noun, *sorted(elsewhere)],
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
        self, scene: SceneView, sight: Sight, facts: dict[str, Any], presentation: Presentation
    ) -> tuple[SampleImage, ...]:
        """The map with its marks and, if the variant has them, first-person views at both waypoints."""
        walk = sight.walk
        camera = (
            dollhouse_camera(scene, walk) if presentation.variant.startswith("dh") else self._map_camera(scene, walk)
        )
        above = scene.backend.render([camera], ("rgb", "depth"), TOP_DOWN_HIDES)[0]
        marks, labels = map_marks(walk, facts, camera, scene.info.floor_z)
        images = [scene.encode(annotate.draw(above, scene.info.floor_z, marks, labels), "map", camera)]
        cameras = presentation.waypoint_cameras(sight, scene.image_size)
        pictures: tuple[Modality, ...] = ("rgb",)
        for number, frame in enumerate(scene.render(cameras, pictures), start=1):
            assert frame.rgb is not None
            images.append(scene.encode(frame.rgb, f"ego_{number}", frame.camera))
        return tuple(images)

    def _map_camera(self, scene: SceneView, walk: Walk) -> Camera:
        """From above: the path and its surroundings, no further than the scene reaches."""
        margin = self.config.map_margin_m
        low = np.maximum(walk.path.points[:, :2].min(axis=0) - margin, np.asarray(scene.info.bounds_min[:2]) - 0.2)
        high = np.minimum(walk.path.points[:, :2].max(axis=0) + margin, np.asarray(scene.info.bounds_max[:2]) + 0.2)
        region = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        return top_down_camera(region, scene.image_size, scene.info.floor_z)


def compass(angle: float) -> str:
    """A heading (radians) as a direction on a map whose top is +y."""
    return COMPASS[round(wrap_angle(angle) / (math.pi / 4)) % 8]


def dollhouse_camera(scene: SceneView, walk: Walk) -> Camera:
    """An oblique view from above and south of M1, ceilings off."""
    size = np.asarray(scene.info.bounds_max[:2]) - np.asarray(scene.info.bounds_min[:2])
    distance = float(np.clip(1.1 * size.max(), 5.0, 11.0))
    x, y = walk.midpoint[0], walk.midpoint[1] - distance * math.cos(DOLLHOUSE_PITCH)
    z = scene.info.floor_z - distance * math.sin(DOLLHOUSE_PITCH)
    pose = CameraPose((float(x), float(y), z), math.pi / 2, DOLLHOUSE_PITCH)
    return Camera(pose, scene.image_size, scene.image_size, DOLLHOUSE_FOV_DEG)


def map_marks(
    walk: Walk, facts: Mapping[str, Any], camera: Camera, floor_z: float
) -> tuple[list[annotate.Mark], list[annotate.Label]]:
    """The path with its waypoints, or only M1 with the heading, and the arrow to the queried side."""
    variant, heading = facts["variant"], math.radians(facts["heading_deg"])
    middle = np.array([*walk.midpoint, floor_z])
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
