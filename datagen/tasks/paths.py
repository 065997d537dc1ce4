"""Walks for Path Tracing: two waypoints, the way between them, its midpoint M1, and what each side of M1 shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from datagen.annotate import segment_distance
from datagen.backends.base import Floats, Frame, Path, SceneError, SceneObject
from datagen.backends.space import in_polygon
from datagen.tasks.base import SceneView
from datagen.tasks.path_settings import PathTracingConfig
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose, wrap_angle

SIDES = ("left", "right")
BINS = ("short", "medium", "long")
STRAIGHT_M, STRAIGHT_DEG = 0.25, 35.0  # M1 lies on a stretch this straight, so that its heading means something
TRIES_PER_WALK = 8
PLANS_PER_WALK = 2  # around obstacles, for each wished walk
SCAN_FOV_DEG, SCAN_PITCH = 90.0, math.radians(-10)
MAX_SIGHT_M = 6.0
SCAN_MAP_SIZE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A path from waypoint 1 to waypoint 2, M1 (2,), the heading there (radians), distance bin, kind of room at M1."""

    path: Path
    midpoint: Floats
    heading: float
    bin: str
    room: str


@dataclass(frozen=True, slots=True)
class OnMap:
    """What a map shows of a noun: how far the nearest of its things is from M1 and from the path (metres, to their centres), the
    square metres of the largest, and how many there are."""

    from_m1_m: float
    from_path_m: float
    size_m2: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One side of a walk's midpoint, as seen by someone going from 1 to 2.

    ``clear``: nouns that a question may ask for, each with its best seen instance; ``any``: nouns with a pixel there;
    ``on_map``: nouns that the walk's map shows.
    """

    walk: Walk
    side: str
    clear: dict[str, int]
    any: frozenset[str]
    on_map: Mapping[str, OnMap] = field(default_factory=dict)


def find_walks(
    scene: SceneView, bins: Sequence[float], per_bin: int, rng: np.random.Generator, yields: Yields
) -> list[Walk]:
    """Up to ``per_bin`` walks per distance bin (lower edges in metres), started in all rooms alike."""
    clearance = scene.config.clearance_m
    rooms: list[str | None] = [room.id for room in scene.info.rooms] or [None]
    goals = scene.backend.sample_navigable(400, rng, clearance)
    edges = [*bins, math.inf]
    found: list[Walk] = []
    for number, name in enumerate(BINS):
        wanted, plans = len(found) + per_bin, PLANS_PER_WALK * per_bin
        for _ in range(TRIES_PER_WALK * per_bin):
            if len(found) == wanted:
                break
            try:
                start = scene.backend.sample_navigable(1, rng, clearance, rooms[int(rng.integers(len(rooms)))])[0]
            except SceneError:  # a room too full to stand in
                continue
            distance = np.linalg.norm(goals - start, axis=1)
            near = np.flatnonzero((distance >= 0.8 * edges[number]) & (distance < edges[number + 1]))
            if not len(near):
                continue
            goal = goals[near[int(rng.integers(len(near)))]]
            path = straight(scene, start, goal)
            if path is None and plans:
                plans -= 1
                path = scene.backend.shortest_path(start, goal, clearance)
            fits = path is not None and edges[number] <= path.length_m < edges[number + 1]
            if not yields.check(f"walk.{name}", fits) or path is None:
                continue
            walk = middle(scene, path, name)
            if yields.check("walk.straight_at_midpoint", walk is not None) and walk is not None:
                found.append(walk)
    return found


def straight(scene: SceneView, start: Floats, goal: Floats) -> Path | None:
    """The straight way between two floor points if it is free."""
    length = float(np.linalg.norm(goal - start))
    points = start + np.linspace(0, 1, max(2, math.ceil(length / 0.1)))[:, None] * (goal - start)
    return (
        Path(np.stack([start, goal]), length) if scene.backend.is_free(points, scene.config.clearance_m).all() else None
    )


def middle(scene: SceneView, path: Path, name: str) -> Walk | None:
    """The walk of a path, or None where the path bends at its midpoint."""
    before, midpoint, after = (
        along(path.points, path.length_m / 2 + offset)[:2] for offset in (-STRAIGHT_M, 0, STRAIGHT_M)
    )
    directions = [math.atan2(*(end - start)[::-1]) for start, end in ((before, midpoint), (midpoint, after))]
    if abs(wrap_angle(directions[1] - directions[0])) > math.radians(STRAIGHT_DEG):
        return None
    heading = math.atan2(*(after - before)[::-1])
    rooms = [room.kind for room in scene.info.rooms if in_polygon(midpoint, room.polygon)]
    return Walk(path, midpoint, heading, name, rooms[0] if rooms else "")


def along(points: Floats, distance: float) -> Floats:
    """The point of a polyline (n, d) at ``distance`` metres from its start, clamped to its ends."""
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return np.array([np.interp(distance, steps, points[:, axis]) for axis in range(points.shape[1])])


@dataclass(frozen=True)
class FromAbove:
    """A map of the whole scene, and what parts of it show."""

    scene: SceneView

    @cached_property
    def frame(self) -> Frame:
        (x0, y0, _), (x1, y1, _) = self.scene.info.bounds_min, self.scene.info.bounds_max
        return self.scene.backend.render_top_down((x0, y0, x1, y1), SCAN_MAP_SIZE, ("depth", "instance"))

    def areas(self, region: tuple[float, float, float, float]) -> dict[int, float]:
        """Square metres of each object of which a map of ``region`` (x0, y0, x1, y1) shows at least ``min_map_area_m2``."""
        frame, config = self.frame, self.scene.config
        assert frame.instance is not None and isinstance(config, PathTracingConfig)
        corners = frame.camera.project(np.array([[region[0], region[3], 0.0], [region[2], region[1], 0.0]]))[0]
        (left, top), (right, bottom) = np.clip(np.rint(corners).astype(int), 0, frame.camera.width)
        ids = frame.instance[top:bottom, left:right].ravel() + 1
        pixels = np.bincount(ids, minlength=len(self.scene.objects) + 1)[1:]
        area = pixels * frame.camera.metres_per_pixel**2
        return {
            index: float(area[index])
            for index in sorted(self.scene.candidates)
            if area[index] >= config.min_map_area_m2
            and footprint_width(self.scene.objects[index]) >= config.min_map_width_m
        }

    def nouns(self, walk: Walk) -> tuple[frozenset[int], dict[str, OnMap]]:
        """The objects that a walk's map shows, and their nouns."""
        config = self.scene.config
        assert isinstance(config, PathTracingConfig)
        areas = self.areas(map_region(self.scene, walk, config.map_margin_m))
        segments = np.stack([walk.path.points[:-1, :2], walk.path.points[1:, :2]], axis=1)
        found: dict[str, OnMap] = {}
        for index, area in areas.items():
            place = self.scene.objects[index].centre[:2]
            here = float(np.linalg.norm(place - walk.midpoint)), float(segment_distance(place, segments))
            known = found.get(self.scene.names[index], OnMap(math.inf, math.inf, 0.0, 0))
            found[self.scene.names[index]] = OnMap(
                min(known.from_m1_m, here[0]),
                min(known.from_path_m, here[1]),
                max(known.size_m2, area),
                known.count + 1,
            )
        return frozenset(areas), found


def footprint_width(item: SceneObject) -> float:
    """The narrower side, in metres, of what an object covers seen from above."""
    sides = item.size[:2] if item.obb is None else np.ptp(item.obb.corners() @ item.obb.rotation, axis=0)[:2]
    return float(min(sides))


def map_region(scene: SceneView, walk: Walk, margin: float) -> tuple[float, float, float, float]:
    """What a walk's map covers, (x0, y0, x1, y1): the path and its surroundings, no further than the scene reaches."""
    low = np.maximum(walk.path.points[:, :2].min(axis=0) - margin, np.asarray(scene.info.bounds_min[:2]) - 0.2)
    high = np.minimum(walk.path.points[:, :2].max(axis=0) + margin, np.asarray(scene.info.bounds_max[:2]) + 0.2)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def sights(
    scene: SceneView, walk: Walk, config: PathTracingConfig, above: FromAbove, forward: bool = True
) -> tuple[Sight, Sight]:
    """What the left and the right of M1 show: four low-resolution views cover the full circle.

    Only objects that the map shows are clear enough to be asked for; ``forward``: whether the traveller goes from 1 to 2.
    """
    z = scene.info.floor_z + scene.config.eye_height_m
    position = (float(walk.midpoint[0]), float(walk.midpoint[1]), z)
    turns = [math.pi / 4, 3 * math.pi / 4, -math.pi / 4, -3 * math.pi / 4]
    size = scene.search_size
    cameras = [
        Camera(CameraPose(position, wrap_angle(walk.heading + turn), SCAN_PITCH), size, size, SCAN_FOV_DEG)
        for turn in turns
    ]
    stats = [scene.stats(frame) for frame in scene.render(cameras, ("depth", "instance"))]
    pixels = {"left": stats[0].pixels + stats[1].pixels, "right": stats[2].pixels + stats[3].pixels}
    areas = {"left": np.maximum(stats[0].area, stats[1].area), "right": np.maximum(stats[2].area, stats[3].area)}
    shown, on_map = above.nouns(walk)
    found = []
    for side, other in (SIDES, SIDES[::-1]):
        only_here = np.where(pixels[other] == 0, areas[side], 0)
        nouns = frozenset(scene.names[index] for index in np.flatnonzero(pixels[side]))
        clear = best_instances(scene, walk, side, only_here, config, forward)
        clear = {noun: index for noun, index in clear.items() if index in shown}
        found.append(Sight(walk, side, clear, nouns, on_map))
    return found[0], found[1]


def best_instances(
    scene: SceneView, walk: Walk, side: str, area: Floats, config: PathTracingConfig, forward: bool = True
) -> dict[str, int]:
    """The instance of each noun with the largest ``area`` (n,) that stands clearly on one side of M1, neither ahead of the
    traveller nor behind."""
    best: dict[str, int] = {}
    for index in sorted(scene.candidates, key=lambda index: -area[index]):
        if area[index] < config.min_scan_area:
            break
        bearing, distance = bearing_of(walk, scene.objects[index].centre)
        beside = bearing if side == "left" else -bearing  # for someone who goes from 1 to 2
        off = beside if forward else 180 - beside
        if config.bearing_deg[0] <= off <= config.bearing_deg[1] and distance <= MAX_SIGHT_M:
            best.setdefault(scene.names[index], index)
    return best


def bearing_of(walk: Walk, point: Floats) -> tuple[float, float]:
    """Degrees to the left of the walk's heading (-180..180) and metres from M1 to a point."""
    x, y = point[:2] - walk.midpoint
    return math.degrees(wrap_angle(math.atan2(y, x) - walk.heading)), math.hypot(x, y)
