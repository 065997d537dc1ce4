"""The view to the side of a walk at M1: 147 candidates scored by geometry, the best rendered, small, and filtered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.backends.base import Floats, SceneObject
from datagen.tasks.base import SceneView
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.paths import Sight, Walk, along
from datagen.tasks.puzzles import Puzzle
from datagen.visibility import InstanceStats, inside, seen_from
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose, wrap_angle

SIGNS = {"left": 1.0, "right": -1.0}
RENDERED_CANDIDATES = 4  # of the 147, at different places, until one passes: more find little (ours)
#: A box that fills this share of the picture is large enough; more is no better, or near cupboards would beat lamps (ours).
ENOUGH_AREA = 0.12
#: What each point of the opposite side in view leaves of a candidate's score (ours: one is worse than half the area).
INTRUDER_FACTOR = 0.2


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


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a walk is told: direction, input variant, camera."""

    forward: bool
    variant: str
    lens: Lens

    def waypoint_cameras(self, sight: Sight, size: int) -> list[Camera]:
        """The first-person views at waypoints 1 and 2 that the variant has: in the direction of travel or to the side."""
        if "_ego_" not in self.variant:
            return []
        ahead = 0.0 if self.forward else math.pi
        turn = SIGNS[sight.side] * math.pi / 2 if "_ego_side" in self.variant else ahead
        return [self.lens.camera(end, heading + turn, size) for end, heading in waypoint_headings(sight.walk)]


class SideViewSearch:
    """Side views of one scene's puzzles."""

    def __init__(
        self, scene: SceneView, config: PathTracingConfig, presentations: Mapping[Walk, Presentation], yields: Yields
    ) -> None:
        self._scene, self._config, self._presentations, self._yields = scene, config, presentations, yields

    def find(self, puzzle: Puzzle) -> Camera | None:
        """The best candidate whose low-resolution masks show the object and nothing of the opposite side; None if there is
        none, or if the views at the waypoints show nothing but a wall."""
        return self._search(puzzle) if self._has_open_waypoints(puzzle.sight) else None

    def shows(self, puzzle: Puzzle, stats: InstanceStats) -> bool:
        """Whether a view shows the object asked for, large enough, and not a pixel of the opposite side."""
        seen = {self._scene.names[index] for index in np.flatnonzero(stats.pixels)}
        return seen.isdisjoint(puzzle.opposite) and bool(
            stats.area[puzzle.sight.clear[puzzle.noun]] >= self._config.min_coverage
        )

    def _has_open_waypoints(self, sight: Sight) -> bool:
        cameras = self._presentations[sight.walk].waypoint_cameras(sight, self._scene.search_size)
        for frame in self._scene.render(cameras, ("depth", "instance")):
            assert frame.depth is not None
            near = float(np.median(frame.depth[frame.depth > 0])) if (frame.depth > 0).any() else 0.0
            if not self._yields.check("ego_view.median_depth", near >= self._config.min_ego_depth_m):
                return False
        return True

    def _search(self, puzzle: Puzzle) -> Camera | None:
        best = self._best_cameras(puzzle, self._presentations[puzzle.sight.walk])
        self._yields.check("side_view.free_place", bool(best))
        found = None
        for camera in best:
            stats = self._scene.stats(self._scene.render([camera], ("depth", "instance"))[0])
            if self._scene.acceptable(stats, self._yields, "side_view_search") and self._yields.check(
                "side_view.shows_answer_only", self.shows(puzzle, stats)
            ):
                found = camera
                break
        self._yields.check("side_view.found", found is not None)
        return found

    def _best_cameras(self, puzzle: Puzzle, presentation: Presentation) -> list[Camera]:
        """The best candidates at different places, best first: around M1, on free floor, up to 90 degrees off the traveller's
        heading."""
        scene, config, lens = self._scene, self._config, presentation.lens
        walk, sign = puzzle.sight.walk, SIGNS[puzzle.sight.side]
        to_the_front = 1.0 if presentation.forward else -1.0
        ahead = np.array([math.cos(walk.heading), math.sin(walk.heading)])
        offsets = np.asarray(config.sweep_offset_m)
        places = walk.midpoint + offsets[:, None] * ahead
        free = scene.backend.is_free(places, scene.config.clearance_m)
        places, offsets = places[free], offsets[free]
        if not len(places):
            return []
        target = scene.objects[puzzle.sight.clear[puzzle.noun]]
        across = [scene.objects[i].centre for i in sorted(scene.candidates) if scene.names[i] in puzzle.opposite]
        eyes = np.column_stack([places, np.full(len(places), lens.height)])
        turns = [
            (wrap_angle(walk.heading + sign * math.radians(90 - to_the_front * yaw)), math.radians(pitch))
            for yaw in config.sweep_yaw_deg
            for pitch in config.sweep_pitch_deg
        ]
        scores = np.array(
            [exposure(eyes, yaw, lens.pitch + pitch, lens.fov_deg, target, across) for yaw, pitch in turns]
        )
        scores = scores * 0.5 ** (np.abs(offsets) / config.offset_half_m)
        best = scores.argmax(axis=0)
        return [
            lens.camera(places[place], turns[best[place]][0], scene.search_size, turns[best[place]][1])
            for place in np.argsort(-scores.max(axis=0), kind="stable")[:RENDERED_CANDIDATES].tolist()
            if scores[best[place], place] > 0
        ]


def exposure(
    eyes: Floats, yaw: float, pitch: float, fov_deg: float, target: SceneObject, across: Sequence[Floats]
) -> Floats:
    """How well views from ``eyes`` (n, 3) show an object's box: large, whole, near the middle, without points ``across``.

    (n,); 0 where the box is not in view or reaches behind the camera.
    """
    points = np.stack([*target.corners(), target.centre, *across])
    seen = seen_from(eyes, yaw, pitch, fov_deg, points)
    low, high = seen[:, :8].min(axis=1), seen[:, :8].max(axis=1)
    area = (np.clip(high, 0, 1) - np.clip(low, 0, 1)).prod(axis=1)
    whole = area / np.maximum((high - low).prod(axis=1), 1e-12)
    off_centre = np.abs(seen[:, 8, 0] - 0.5)
    intruders = inside(seen[:, 9:], 0.0).sum(axis=1)
    score: Floats = np.minimum(area, ENOUGH_AREA) * whole**2 * (1 - off_centre) * INTRUDER_FACTOR**intruders
    return np.nan_to_num(score)


def waypoint_headings(walk: Walk) -> Iterator[tuple[Floats, float]]:
    """Waypoints 1 and 2 and the heading there of someone going from 1 to 2."""
    for end, other, sign in ((0.0, 0.3, 1), (walk.path.length_m, walk.path.length_m - 0.3, -1)):
        step = sign * (along(walk.path.points, other) - along(walk.path.points, end))
        yield along(walk.path.points, end), math.atan2(step[1], step[0])
