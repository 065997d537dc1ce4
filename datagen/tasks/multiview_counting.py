"""Multiview Counting: how many chairs are in this area, seen in four first-person frames?

Frames come from a spot (turning by 90 degrees) or from the corners of a square walk. The imagination is the map from
above, cropped to the explored area, with the cameras marked. A count is asked for only where the frames and the map
show the same instances, and where no instance is a matter of taste: each is either shown well by one of the frames or
not seen in any. Wording, options and balance: ``counting_questions``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, ClassVar

import numpy as np

from datagen import annotate, verify
from datagen.backends.base import TOP_DOWN_HIDES, Frame, Modality, top_down_camera
from datagen.backends.space import in_polygon
from datagen.counterfactual import counterfactuals
from datagen.tasks.base import (
    TASKS,
    Candidate,
    SceneView,
    Selector,
    SpatialTask,
    TaskConfig,
    ViewFilter,
    drawn_lens,
    resized,
)
from datagen.tasks.counting_questions import OPTIONS, MultiviewCountingSelector
from datagen.tasks.places import candidate_key
from datagen.tasks.standing import Standing
from datagen.tasks.vocabulary import Vocabulary, looks_like, vocabulary_of
from datagen.visibility import map_layout_of, pixel_counts
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.images import RGB
from ipt.samples.camera import Camera, wrap_angle
from ipt.samples.sample import SampleImage, Task

MOVEMENTS = ("rotation", "square")
MAP_UPS = ("north", "first_view")
FRAMES = 4
FAINT = 0.0002  # of a picture: what shows less is not seen, what shows more but not enough is a reason to refuse
CROP_SHARES = (1.0, 0.8, 0.65, 0.5, 0.4)  # of the largest crop radius, tried in turn
SCAN_MAP_SIZE = 256
PLACES = 200  # tried for a square walk
BEYOND_M = 0.8  # of the scene that a map may show: room for the arrow of a camera that looks at an outer wall
RARE = 3  # where the places left show no more of anything, a scene is done with; it is asked about a noun once, so others first


@dataclass(frozen=True, slots=True)
class MultiviewCountingConfig(TaskConfig):
    """Procedure of the paper: four frames, crop radius 5 m around a spot and 4 m around a walk.

    ``places_per_spot``: a spot is the best of so many free places, the one around which most things stand of which its room has
    several; with 1 it is any. ``min_area``: of a frame, and of the map, for an instance to count as shown there.
    ``min_best_area``: of the frame that shows an instance best; what is seen but nowhere that large, such as a cabinet
    through a doorway, is a reason to refuse the question rather than to count it or not (the paper has 0.1 % for both).
    ``max_noun_share``: of the questions for one noun, where there are enough nouns for that. ``min_mark_visible``: of each
    camera's arrow and of its head on the map. ``groups``: also count kinds ("seats") that join categories; the paper counts
    categories. ``match_frames``: the four places that a question is drawn from show equally many in their fullest frame, so
    that no frame alone tells the number. ``mask_unseen``: grey out what no frame saw of the map (the paper shows it).
    ``map_up``: what the map has at its top, ``north`` as in the paper, or the heading of the ``first_view``, and then the
    cameras are in its middle: what north is, and where the scene ends, frames need not tell. ``map_marks``: mark the cameras
    on the map; where it has few pixels, the marks hide what is counted.
    """

    name: str = "mvc"
    samples_per_scene: int = 5
    vertical_fov_deg: float = 90.0
    pitch_deg: float = -12.0
    movements: tuple[str, ...] = MOVEMENTS
    spots_per_scene: int = 20
    places_per_spot: int = 6
    square_side_m: tuple[float, float] = (0.8, 1.6)
    crop_radius_rotation_m: float = 5.0
    crop_radius_square_m: float = 4.0
    min_area: float = 0.001
    min_best_area: float = 0.004
    max_count: int = 8
    groups: bool = False
    mask_unseen: bool = False
    map_up: str = "north"
    map_marks: bool = True
    match_frames: bool = False
    max_noun_share: float = 0.099  # the paper caps a category at 9.9 % of the questions
    mark_length_m: float = 0.5
    min_mark_visible: float = 0.9
    view: ViewFilter = field(default_factory=lambda: ViewFilter(min_median_depth_m=0.7, min_instances=2))

    def __post_init__(self) -> None:
        self.check_ranges()
        for movement in self.movements:
            if movement not in MOVEMENTS:
                raise UserError(f"unknown movement '{movement}'; valid: {', '.join(MOVEMENTS)}")
        if self.map_up not in MAP_UPS:
            raise UserError(f"task.map_up must be {' or '.join(MAP_UPS)}, got '{self.map_up}'")
        if self.max_count < OPTIONS:
            raise UserError(f"task.max_count must be at least {OPTIONS} (there are {OPTIONS} options)")
        if self.places_per_spot < 1:
            raise UserError(f"task.places_per_spot must be at least 1, got {self.places_per_spot}")


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """Four low-resolution cameras and the instances that one of their frames shows well, that any shows at all, and that each
    shows well enough to be counted there."""

    movement: str
    cameras: tuple[Camera, ...]
    clear: frozenset[int]
    seen: frozenset[int]
    per_frame: tuple[frozenset[int], ...] = ()

    def fullest(self, instances: frozenset[int]) -> int:
        """The largest number of ``instances`` that one frame shows."""
        return max((len(instances & shown) for shown in self.per_frame), default=0)


@dataclass(frozen=True, slots=True)
class Region:
    """A square crop of the map, (x0, y0, x1, y1) in metres; a map with the first view up shows it turned about its middle."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True)
class Count:
    """A noun that a spot can be asked about, its instances, and the crop whose map shows exactly these."""

    spot: int
    noun: str
    instances: frozenset[int]
    region: Region


@TASKS.register("mvc")
class MultiviewCounting(SpatialTask):
    """See the module's docstring."""

    name: ClassVar[Task] = "mvc"
    needs = SpatialTask.needs | {"ortho"}
    config: MultiviewCountingConfig

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        vocabulary = vocabulary_of(scene.info.backend)
        nouns = countable(scene, vocabulary, self.config.groups)
        spots = self._spots(scene, rng, yields)
        counts = self._counts(scene, spots, nouns, vocabulary, yields)
        candidates: list[Candidate] = []
        chosen_for: set[str] = set()
        for view in range(self.config.samples_per_scene):
            others = [count for count in counts if count.noun not in chosen_for]
            hopeful = next((some for some in (others, counts) if any(len(one.instances) >= RARE for one in some)), None)
            if hopeful is None:
                break
            chosen = self._wanted(spots, hopeful, rng)
            chosen_for.add(chosen.noun)
            same = [count for count in counts if count.spot == chosen.spot and count.region == chosen.region]
            counts = [count for count in counts if count.spot != chosen.spot]
            candidates += self._finish(scene, spots[chosen.spot], same, nouns, f"{view:02d}", chosen, yields)
        return candidates

    def most_of_one_scene(self, scene: SceneView) -> int | None:
        """One for each noun of which it holds as many as there are options: a scene is asked about a noun once."""
        nouns = countable(scene, vocabulary_of(scene.info.backend), self.config.groups)
        return sum(len(members) >= OPTIONS for members in nouns.values())

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        config = self.config
        return MultiviewCountingSelector(count, config.max_noun_share, rng, config.plain, config.match_frames)

    def _wanted(self, spots: Sequence[Spot], counts: Sequence[Count], rng: np.random.Generator) -> Count:
        """A count whose number is drawn first, from two up, each as often: a question needs places of four near numbers,
        and ones come along. Of the places that show so many of a noun, one whose frames show the fewest at a time: frames that
        must be merged are rare, too."""
        numbers = sorted({len(count.instances) for count in counts} - {1})
        number = numbers[int(rng.integers(len(numbers)))]
        nouns = sorted({count.noun for count in counts if len(count.instances) == number})
        noun = nouns[int(rng.integers(len(nouns)))]
        fitting = [count for count in counts if (len(count.instances), count.noun) == (number, noun)]
        fullest = [spots[count.spot].fullest(count.instances) for count in fitting]
        fitting = [count for count, most in zip(fitting, fullest, strict=True) if most == min(fullest)]
        return fitting[int(rng.integers(len(fitting)))]

    def _spots(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Spot]:
        """Places whose four frames pass the quality filter."""
        standing = Standing.of(scene, countable(scene, vocabulary_of(scene.info.backend), self.config.groups))
        spots = []
        for _ in range(self.config.spots_per_scene):
            movement = self.config.movements[int(rng.integers(len(self.config.movements)))]
            cameras = self._cameras(scene, standing, movement, rng)
            if not yields.check(f"spot.{movement}_is_free", cameras is not None) or cameras is None:
                continue
            frames = (scene.render([camera], ("depth", "instance"))[0] for camera in cameras)
            stats = list(takewhile(lambda one: scene.acceptable(one, yields, "frame"), map(scene.stats, frames)))
            if len(stats) == FRAMES:
                best = np.max([one.area for one in stats], axis=0)
                clear = np.flatnonzero(best >= max(self.config.min_best_area, self.config.min_area)).tolist()
                seen = np.flatnonzero(best >= FAINT).tolist()
                shown = (np.flatnonzero(one.area >= self.config.min_area).tolist() for one in stats)
                spots.append(
                    Spot(movement, tuple(cameras), frozenset(clear), frozenset(seen), tuple(map(frozenset, shown)))
                )
        return spots

    def _cameras(
        self, scene: SceneView, standing: Standing, movement: str, rng: np.random.Generator
    ) -> list[Camera] | None:
        """Four cameras that turn by 90 degrees, at one place or at the corners of a square walk; None if none is free."""
        tries = PLACES if movement == "square" else self.config.places_per_spot
        places = scene.backend.sample_navigable(tries, rng, self.config.clearance_m)[:, :2]
        starts = rng.uniform(-math.pi, math.pi, tries)
        sides = rng.uniform(*self.config.square_side_m, tries) if movement == "square" else np.zeros(tries)
        yaws = starts[:, None] + np.arange(FRAMES) * math.pi / 2
        steps = sides[:, None, None] * np.stack([np.cos(yaws), np.sin(yaws)], axis=-1)
        corners = places[:, None] + np.cumsum(steps, axis=1) - steps
        free = scene.backend.is_free(corners.reshape(-1, 2), self.config.clearance_m).reshape(tries, FRAMES).all(axis=1)
        if not free.any():
            return None
        some = np.flatnonzero(free)[: self.config.places_per_spot]
        number = max(some, key=lambda one: standing.around(corners[one].mean(axis=0), RARE))
        lens = drawn_lens(self.config, rng)
        return [
            scene.lens_camera(corner, wrap_angle(float(yaw)), lens, scene.search_size)
            for corner, yaw in zip(corners[number], yaws[number], strict=True)
        ]

    def _counts(
        self,
        scene: SceneView,
        spots: Sequence[Spot],
        nouns: Mapping[str, frozenset[int]],
        vocabulary: Vocabulary,
        yields: Yields,
    ) -> list[Count]:
        """What can be asked where: frames clear about the noun, and a crop of the map that agrees with them."""
        (x0, y0, _), (x1, y1, _) = scene.info.bounds_min, scene.info.bounds_max
        above = scene.backend.render_top_down((x0, y0, x1, y1), SCAN_MAP_SIZE, ("depth", "instance"))
        whole = pixel_counts(above, len(scene.objects))
        counts = []
        for number, spot in enumerate(spots):
            regions = list(self._regions(scene, spot))
            crops = [(region, pixel_counts(crop(above, region), len(scene.objects))) for region in regions]
            for noun, members in nouns.items():
                instances = spot.clear & members
                if not instances or len(instances) > self.config.max_count:
                    continue
                if not yields.check("count.none_barely_seen", instances == spot.seen & members):
                    continue
                alike = (spot.seen & scene.candidates) - members
                if not yields.check(
                    "count.no_lookalike",
                    not any(looks_like(scene.objects[index].category, noun, vocabulary) for index in alike),
                ):
                    continue
                fitting = (
                    region
                    for region, pixels in crops
                    if shows_exactly(pixels, whole, region, above, instances, members, self.config.min_area)
                )
                region = next(fitting, None)
                if yields.check("count.map_agrees", region is not None) and region is not None:
                    counts.append(Count(number, noun, instances, region))
        return counts

    def _regions(self, scene: SceneView, spot: Spot) -> Iterator[Region]:
        """Square crops around the cameras, largest first, no larger than the scene where they are cut from a map of it."""
        places = np.array([camera.pose.position[:2] for camera in spot.cameras])
        rotation = spot.movement == "rotation"
        radius = self.config.crop_radius_rotation_m if rotation else self.config.crop_radius_square_m
        bounds = np.asarray(scene.info.bounds_min[:2]) - BEYOND_M, np.asarray(scene.info.bounds_max[:2]) + BEYOND_M
        if self.config.map_up == "first_view":
            bounds = np.full(2, -np.inf), np.full(2, np.inf)
        for share in CROP_SHARES:
            low = np.maximum(places.min(axis=0) - share * radius, bounds[0])
            high = np.minimum(places.max(axis=0) + share * radius, bounds[1])
            centre, half = (low + high) / 2, float((high - low).max()) / 2
            yield Region(*(float(value) for value in (*(centre - half), *(centre + half))))

    def _finish(
        self,
        scene: SceneView,
        spot: Spot,
        counts: Sequence[Count],
        nouns: Mapping[str, frozenset[int]],
        key: str,
        chosen: Count,
        yields: Yields,
    ) -> list[Candidate]:
        """Render a spot in full once; a candidate for each noun that the full masks confirm."""
        cameras = [resized(camera, scene.image_size) for camera in spot.cameras]
        modalities: tuple[Modality, ...] = (
            ("rgb", "depth", "instance") if self.config.mask_unseen else ("rgb", "instance")
        )
        frames = scene.render(cameras, modalities)
        top = top_down_camera(chosen.region.box, scene.image_size, scene.info.floor_z)
        if self.config.map_up == "first_view":
            top = replace(top, pose=replace(top.pose, yaw=cameras[0].pose.yaw))
        bev = scene.backend.render([top], ("rgb", "depth", "instance"), TOP_DOWN_HIDES)[0]
        shown = [self._shown(scene, frame) for frame in (*frames, bev)]
        if self.config.mask_unseen:
            bev = annotate.masked(
                bev, annotate.seen_on_map(bev, frames, frozenset().union(*shown[:-1]) & scene.candidates)
            )
        named = {f"frame_{number}": frame for number, frame in enumerate(frames)}
        images = encoded(scene, frames)
        marks, labels = annotate.camera_marks(
            cameras if self.config.map_marks else (),
            annotate.legible(self.config.mark_length_m, top, (0, 0, scene.info.floor_z), 0.07),
            self.config.eye_height_m,
        )
        shares = annotate.all_shown(bev, scene.info.floor_z, (), marks)
        if not yields.check("bev.marks_visible", shares >= self.config.min_mark_visible):
            return []

        def decorated(frame: Frame) -> RGB:
            return annotate.draw(frame, scene.info.floor_z, marks, labels)

        def inputs() -> tuple[SampleImage, ...]:
            pictures: tuple[Modality, ...] = ("rgb",)
            return encoded(scene, scene.render(cameras, pictures))

        imagination = scene.encode(decorated(bev), "bev", top)
        layout = map_layout_of(bev, [item.category for item in scene.objects], sorted(shown[-1] & scene.candidates))
        candidates = []
        for count in counts:
            others = (shown[-1] & scene.candidates) - count.instances
            kinds = vocabulary_of(scene.info.backend).groups.get(count.noun, ()) if self.config.groups else ()
            facts = {
                "answer": str(len(count.instances)),
                "count": len(count.instances),
                "category": count.noun,
                "members": sorted({scene.objects[index].category for index in nouns[count.noun]}),
                **({"kinds": list(kinds)} if kinds else {}),
                "movement": spot.movement,
                "view_group": key,
                "region": [round(value, 3) for value in count.region.box],
                "instances": [scene.objects[index].id for index in sorted(count.instances)],
                "instances_per_frame": [
                    [scene.objects[index].id for index in sorted(one & count.instances)] for one in shown[:-1]
                ],
                "also_on_map": dict(sorted(Counter(scene.objects[i].category for i in others).items())),
                "layout": layout,
                "room": self._room(scene, spot),
            }
            if verify.agrees("mvc", facts, {**named, "bev": bev}, scene.objects, yields):
                target = scene.objects[min(count.instances)]
                wrong = counterfactuals(scene, top, target, yields, decorated, inputs, nouns[count.noun])
                facts |= wrong.facts
                candidates.append(Candidate(candidate_key(key, count.noun), facts, images, imagination, wrong.images))
        return candidates

    def _shown(self, scene: SceneView, frame: Frame) -> frozenset[int]:
        """Instances that cover at least ``min_area`` of a frame."""
        assert frame.instance is not None
        least = self.config.min_area * frame.instance.size
        return frozenset(np.flatnonzero(pixel_counts(frame, len(scene.objects)) >= least).tolist())

    def _room(self, scene: SceneView, spot: Spot) -> str:
        place = np.asarray(spot.cameras[0].pose.position[:2])
        return next((room.kind for room in scene.info.rooms if in_polygon(place, room.polygon)), "")


def encoded(scene: SceneView, frames: Sequence[Frame]) -> tuple[SampleImage, ...]:
    """Frames as the inputs of a question."""
    return tuple(scene.encode(frame.rgb, f"frame_{number}", frame.camera) for number, frame in enumerate(frames))


def countable(scene: SceneView, vocabulary: Vocabulary, groups: bool) -> dict[str, frozenset[int]]:
    """Nouns that can be counted and the instances of each: categories, and kinds that join several of them."""
    found: dict[str, set[int]] = {}
    for index in scene.candidates:
        category = scene.objects[index].category
        if category not in vocabulary.uncountable:
            found.setdefault(category, set()).add(index)
    categories = dict(found)
    for noun, members in vocabulary.groups.items() if groups else ():
        joined = set().union(*(categories.get(member, set()) for member in members))
        if joined:
            found[noun] = joined
    return {noun: frozenset(found[noun]) for noun in sorted(found)}


def crop(above: Frame, region: Region) -> Frame:
    """The part of a top-down frame that lies in a region; the camera stays that of the whole frame."""
    assert above.depth is not None and above.instance is not None
    corners = np.array([[region.x0, region.y1, 0.0], [region.x1, region.y0, 0.0]])
    pixels = np.rint(above.camera.project(corners)[0]).astype(int)
    (left, top), (right, bottom) = np.clip(pixels, 0, above.camera.width)
    window = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
    return Frame(above.camera, None, above.depth[window], above.instance[window])


def shows_exactly(
    pixels: Any,
    whole: Any,
    region: Region,
    above: Frame,
    instances: frozenset[int],
    members: frozenset[int],
    min_area: float,
) -> bool:
    """Whether a crop of the map shows ``instances`` clearly, mostly whole, and nothing of the other ``members``."""
    area = pixels * (above.camera.metres_per_pixel / (region.x1 - region.x0)) ** 2
    clear = all(area[index] >= min_area and pixels[index] >= 0.6 * whole[index] for index in instances)
    return clear and all(area[index] < FAINT for index in members - instances)
