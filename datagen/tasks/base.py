"""What a task is: it proposes verified candidates from one scene, then a selector words the ones that keep balance.

Proposing is a pure function of (scene, generator) and does all the rendering, so scenes may be worked on anywhere and in
any order. Selecting reads only the candidates' facts, in scene order, in one place: quotas, option letters, templates
and distractors are decided there, which is why the result does not depend on the number of workers.

The balance principle (both stages): a question is asked only where each of its answers could have been the true one, and
then the true one is drawn. What the options or the question's words say about the answer is then nothing, by
construction, for every object, turn and category.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from datagen.backends.base import Floats, Frame, Modality, SceneBackend, SceneInfo, SceneObject
from datagen.tasks.vocabulary import looks_like, vocabulary_of
from datagen.visibility import InstanceStats
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.common.registry import Registry
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SampleImage, Task


@dataclass(frozen=True, slots=True)
class ViewFilter:
    """When a first-person view is worth showing; areas are fractions of the image, distances metres.

    Floors may fill the view; walls and ceilings (``max_structure_area``) and things (``max_instance_area``) may not.
    """

    min_median_depth_m: float = 1.2
    min_instances: int = 3
    min_instance_area: float = 0.005
    max_instance_area: float = 0.5
    max_structure_area: float = 0.7


@dataclass(frozen=True, slots=True)
class CounterfactualConfig:
    """Wrong imaginations rendered for later analysis: wrong headings (degrees), wrong places (metres), mirrored, edited.

    ``min_changed``: share of the pixels in which one differs from the truth, at least; one that does not is left out.
    ``pairs``: also the inputs without the target, and inputs and imagination without something that is not asked about: pairs of
    questions that differ in one fact.
    """

    enabled: bool = False
    yaw_offsets_deg: tuple[float, ...] = (15.0, 30.0, 60.0, 90.0, 180.0)
    distance_offsets_m: tuple[float, ...] = (0.5, 1.0, 2.0)
    mirrored: bool = True
    edits: tuple[str, ...] = ("remove", "add", "move")
    edit_distance_m: float = 0.8
    min_changed: float = 0.002
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """Settings that all tasks share.

    ``samples_per_scene`` is how many questions a scene may give; ``search_size`` the pixels of the search renders; ``patience``
    how many scenes in a row may give nothing before the run stops with an error, as a multiple of the scenes that a sample
    took so far where that is more than one. ``eye_height_range_m``, ``fov_range_deg``, ``pitch_range_deg``: two numbers
    between which the camera of a view is drawn; without them it is that of ``eye_height_m``, ``vertical_fov_deg`` and
    ``pitch_deg``, as in the paper (its sibling data vary them; Path Tracing has its own). ``plain``: questions of a few
    words, and options in a fixed order (of numbers, or of the alphabet): for models too small for language.
    """

    name: str
    samples_per_scene: int = 8
    eye_height_m: float = 1.5
    vertical_fov_deg: float = 75.0
    eye_height_range_m: tuple[float, ...] = ()
    fov_range_deg: tuple[float, ...] = ()
    pitch_range_deg: tuple[float, ...] = ()
    clearance_m: float = 0.25
    search_size: int = 80
    patience: int = 60
    image_format: str = "png"
    plain: bool = False
    view: ViewFilter = field(default_factory=ViewFilter)
    counterfactuals: CounterfactualConfig = field(default_factory=CounterfactualConfig)

    def check_ranges(self) -> None:
        """``UserError`` where a range is not one, or asks for what no camera can do."""
        limits = {"eye_height_range_m": (0.1, 3.0), "fov_range_deg": (10.0, 150.0), "pitch_range_deg": (-80.0, 80.0)}
        for name, (least, most) in limits.items():
            values = getattr(self, name)
            if values and not (len(values) == 2 and least <= values[0] <= values[1] <= most):
                raise UserError(
                    f"task.{name} must be empty or two numbers in {least:g}..{most:g}, the smaller first, got {list(values)}"
                )


@dataclass(frozen=True, slots=True)
class Lens:
    """A first-person camera without its place: eye height above the floor (metres), vertical field of view (degrees), pitch
    (radians)."""

    height_m: float
    fov_deg: float
    pitch: float


def drawn_lens(config: Any, rng: np.random.Generator) -> Lens:
    """The camera of a view: the settings' own, or drawn from their ranges."""
    constants = (config.eye_height_m, config.vertical_fov_deg, config.pitch_deg)
    ranges = (config.eye_height_range_m, config.fov_range_deg, config.pitch_range_deg)
    height, fov, pitch = (
        float(rng.uniform(*values)) if values else constant for constant, values in zip(constants, ranges, strict=True)
    )
    return Lens(height, fov, math.radians(pitch))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rendered, verified question core: JSON facts and pictures, still without words. ``key`` is unique in its scene."""

    key: str
    facts: Mapping[str, Any]
    images: tuple[SampleImage, ...]
    imagination: SampleImage
    counterfactuals: tuple[SampleImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """The words of a candidate, and facts that were decided with them. Without ``choices``, a picture is asked for and nothing
    else. ``task``: of the sample, where it is not the one whose selector this is from."""

    candidate_id: str
    question: str
    question_type: str
    choices: tuple[str, ...]
    answer_text: str
    rationale: str
    caption: str
    facts: Mapping[str, Any]
    task: Task | None = None

    @property
    def answer(self) -> str:
        """The letter of the right choice; empty where there are none."""
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[self.choices.index(self.answer_text)] if self.choices else ""


class Selector(Protocol):
    """Turns candidates, offered in scene order, into questions until the wanted number is reached. Deterministic."""

    @property
    def remaining(self) -> int:
        """How many questions are still wanted."""

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        """Questions that become possible with this candidate (about it or about earlier ones)."""

    def pending(self) -> Collection[str]:
        """Ids of earlier candidates that may still be used."""


@dataclass(frozen=True)
class SceneView:
    """A loaded scene and the size of its final pictures, as tasks see it."""

    backend: SceneBackend
    info: SceneInfo
    image_size: int
    config: TaskConfig

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        return self.backend.objects()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The noun of each object, by index."""
        return tuple(item.name for item in self.objects)

    @cached_property
    def candidates(self) -> frozenset[int]:
        """Indices of objects that questions may be about: everything but structure."""
        return frozenset(item.index for item in self.objects if not item.is_structure)

    @cached_property
    def lookalikes(self) -> Mapping[str, frozenset[str]]:
        """For each noun of the scene's objects, the nouns of what may be taken for one, itself among them."""
        vocabulary, nouns = vocabulary_of(self.info.backend), {self.names[index] for index in self.candidates}
        return {noun: frozenset(thing for thing in nouns if looks_like(thing, noun, vocabulary)) for noun in nouns}

    @cached_property
    def floor_like(self) -> frozenset[int]:
        """Indices of what one can stand on: floors and rugs."""
        words = ("floor", "rug", "carpet", "mat", "tile")
        return frozenset(
            item.index
            for item in self.objects
            if any(item.category == word or item.category.endswith(f" {word}") for word in words)
        )

    @property
    def search_size(self) -> int:
        return min(self.config.search_size, self.image_size)

    def camera(self, xy: Sequence[float] | Floats, yaw: float, pitch: float = 0.0, size: int | None = None) -> Camera:
        """First-person camera above floor point ``xy``; angles in radians."""
        position = (float(xy[0]), float(xy[1]), self.info.floor_z + self.config.eye_height_m)
        side = size or self.image_size
        return Camera(CameraPose(position, yaw, pitch), side, side, self.config.vertical_fov_deg)

    def lens_camera(self, xy: Sequence[float] | Floats, yaw: float, lens: Lens, size: int) -> Camera:
        """First-person camera with a lens of its own above floor point ``xy``; ``yaw`` in radians."""
        position = (float(xy[0]), float(xy[1]), self.info.floor_z + lens.height_m)
        return Camera(CameraPose(position, yaw, lens.pitch), size, size, lens.fov_deg)

    def render(self, cameras: Sequence[Camera], modalities: Collection[Modality]) -> list[Frame]:
        return self.backend.render(cameras, modalities)

    def stats(self, frame: Frame) -> InstanceStats:
        """Per-instance measures of a frame with depth and instances."""
        return InstanceStats.of(frame, len(self.objects))

    def shown(self, stats: InstanceStats, min_area: float) -> list[int]:
        """Things that cover at least ``min_area`` of a frame, by index."""
        return [int(index) for index in np.flatnonzero(stats.area >= min_area) if index in self.candidates]

    def encode(self, pixels: Any, role: str, camera: Camera) -> SampleImage:
        """An encoded picture with its role and camera."""
        return SampleImage(encode_image(pixels, self.config.image_format), role, camera)  # type: ignore[arg-type]

    def acceptable(self, stats: InstanceStats, yields: Yields, stage: str) -> bool:
        """The view quality filter: no wall, floor or lamp fills the frame, and there is something to see."""
        view = self.config.view
        seen = stats.area >= view.min_instance_area
        solid = [int(index) for index in np.flatnonzero(seen) if index not in self.floor_like]
        limits = [view.max_instance_area if index in self.candidates else view.max_structure_area for index in solid]
        return (
            yields.check(f"{stage}.median_depth", stats.median_depth >= view.min_median_depth_m)
            and yields.check(f"{stage}.instances", int(seen.sum()) >= view.min_instances)
            and yields.check(f"{stage}.dominant_instance", all(stats.area[solid] <= limits))
        )


def resized(camera: Camera, size: int) -> Camera:
    """The same view as an image of another size: ``size`` is its longer side, in pixels."""
    scale = size / max(camera.width, camera.height)
    return replace(camera, width=max(1, round(scale * camera.width)), height=max(1, round(scale * camera.height)))


class SpatialTask(ABC):
    """A task: how to find, render and verify its questions in a scene, and how to choose among them."""

    name: ClassVar[Task]
    needs: ClassVar[frozenset[str]] = frozenset({"rgb", "depth", "instance"})
    config: TaskConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def required(self) -> frozenset[str]:
        """Capabilities that these settings ask of a backend."""
        wrong = self.config.counterfactuals
        return self.needs | ({"edit_scene"} if wrong.enabled and (wrong.edits or wrong.pairs) else frozenset())

    @abstractmethod
    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        """Verified candidates of one scene; a pure function of the scene and the generator's state."""

    def most_of_one_scene(self, scene: SceneView) -> int | None:
        """How many questions a single scene can give at most, None where there is no telling."""
        return None if scene.candidates else 0

    @abstractmethod
    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        """A fresh selector of ``count`` questions."""


TASKS: Registry[type[SpatialTask]] = Registry("task")


def degrees(angle: float) -> float:
    """Radians to degrees, rounded for facts."""
    return round(math.degrees(angle), 3)


def rounded(values: Sequence[float] | np.ndarray[Any, Any], digits: int = 4) -> list[float]:
    """Plain floats for JSON facts."""
    return [round(float(value), digits) for value in values]
