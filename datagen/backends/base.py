"""The one interface of every simulator: scenes go in, objects, free space and frames come out.

Frames, units and angles are those of :mod:`ipt.samples.camera` (z up, metres, radians, OpenGL camera, planar depth).
A backend converts from its simulator's conventions at its own border; nothing behind this interface knows about them.
Tasks compute every label from objects and cameras, never from a simulator's text, so that all backends ask the same
questions. Contract tests for any backend: ``tests/datagen/contract.py``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.samples.camera import Camera, CameraPose

Floats = NDArray[np.float64]
Modality = Literal["rgb", "depth", "instance"]
ALL_MODALITIES: tuple[Modality, ...] = ("rgb", "depth", "instance")
Layer = Literal["ceiling", "lintel"]
EditKind = Literal["remove", "add", "move"]
TOP_DOWN_HIDES: frozenset[Layer] = frozenset({"ceiling", "lintel"})

#: What a task may ask of a backend. ``instance``: exact instance masks; ``rooms``: floor polygons with kinds;
#: ``navmesh``: continuous free space (not a lattice); ``ortho``: parallel projection; ``obb``: oriented boxes;
#: ``create_scene``: an unlimited supply of scenes; ``deterministic``: equal seeds give equal pixels;
#: ``edit_scene``: objects can be removed, added or moved (counterfactual renders); ``oblique_cut``: views from above may
#: leave out ceilings in perspective, too, not only straight down.
CAPABILITIES: frozenset[str] = frozenset(
    {"rgb", "depth", "instance", "ortho", "obb", "navmesh", "rooms", "create_scene", "deterministic", "edit_scene"}
    | {"oblique_cut"}
)


class SceneError(UserError):
    """A scene cannot be made, loaded or queried; the message says which one, why, and what would be right."""


class BackendUnavailable(UserError):
    """A simulator is missing on this machine; the message is the instruction that gets it."""


class SimulatorDied(UserError):
    """A simulator's process crashed, hung or broke its protocol; the message explains it.

    The backend is as if closed: loading the scene again starts a new process, so a unit of work may be retried.
    """


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """Box with centre (3,), half sizes (3,) and rotation (3, 3) whose columns are the box axes; metres, world frame."""

    centre: Floats
    half_size: Floats
    rotation: Floats

    def corners(self) -> Floats:
        """The eight corners, (8, 3)."""
        return self.centre + (unit_corners() * self.half_size) @ self.rotation.T


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One instance: furniture, a small object, or a piece of structure (wall, floor, door ...).

    ``index`` is its value in instance images; ``id`` is stable for a scene; ``category`` is normalised over simulators
    and ``raw_category`` is the simulator's own word; ``name`` is the noun phrase a question would use ("red cube").
    """

    id: str
    index: int
    category: str
    raw_category: str
    name: str
    aabb_min: tuple[float, float, float]
    aabb_max: tuple[float, float, float]
    obb: OrientedBox | None = None
    room_id: str | None = None
    is_structure: bool = False
    movable: bool = True

    @property
    def centre(self) -> Floats:
        return (np.asarray(self.aabb_min) + np.asarray(self.aabb_max)) / 2

    @property
    def size(self) -> Floats:
        return np.asarray(self.aabb_max) - np.asarray(self.aabb_min)

    def corners(self) -> Floats:
        """Corners of the tightest known box, (8, 3)."""
        if self.obb is not None:
            return self.obb.corners()
        return self.centre + unit_corners() * self.size / 2


@dataclass(frozen=True, slots=True)
class Room:
    """A room: kind ("kitchen", ...) and floor polygon (n, 2), counter-clockwise, metres."""

    id: str
    kind: str
    polygon: Floats


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """What is known of a loaded scene; bounds are (min, max) corners in metres; ``credits`` name the makers of models."""

    scene_id: str
    backend: str
    backend_version: str
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    rooms: tuple[Room, ...] = ()
    seed: int | None = None
    floor_z: float = 0.0
    source_licence: str = ""
    credits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """What a camera saw; absent modalities are None.

    ``rgb`` (height, width, 3) uint8; ``depth`` (height, width) float32, planar metres, 0 = nothing hit; ``instance``
    (height, width) int32 index into ``objects()``, -1 = background. Top row first.
    """

    camera: Camera
    rgb: NDArray[np.uint8] | None = None
    depth: NDArray[np.float32] | None = None
    instance: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class FreeMap:
    """Where an agent may stand. ``grid[j, i]`` covers ``origin + resolution * ([i, i+1], [j, j+1])`` in (x, y), metres."""

    grid: NDArray[np.bool_]
    origin: tuple[float, float]
    resolution: float

    def cell_of(self, points: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of world points (..., >=2); may lie outside the grid."""
        cells = np.floor((points[..., :2] - np.asarray(self.origin)) / self.resolution).astype(np.intp)
        return cells[..., 1], cells[..., 0]

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Whether world points (..., >=2) lie in free cells, (...)."""
        rows, columns = self.cell_of(np.asarray(points, dtype=np.float64))
        inside = (rows >= 0) & (columns >= 0) & (rows < self.grid.shape[0]) & (columns < self.grid.shape[1])
        return inside & self.grid[np.where(inside, rows, 0), np.where(inside, columns, 0)]

    def centre_of(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        """World (x, y) of cell centres, (..., 2)."""
        return np.asarray(self.origin) + self.resolution * (np.stack([columns, rows], axis=-1) + 0.5)


@dataclass(frozen=True, slots=True)
class Path:
    """A walkable polyline: points (n, 3) on the floor, its length in metres."""

    points: Floats
    length_m: float


@dataclass(frozen=True, slots=True)
class SceneEdit:
    """One change of a scene: an object removed, moved by ``offset`` (metres, world frame), or added as a copy moved by it.

    A copy is drawn with the instance index of its original.
    """

    kind: EditKind
    object_id: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


class SceneBackend(ABC):
    """A simulator behind one contract. One instance holds at most one scene and belongs to one process."""

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]

    @property
    @abstractmethod
    def version(self) -> str:
        """Backend, simulator and renderer versions: part of every sample's provenance."""

    @abstractmethod
    def scenes(self, split: str) -> Sequence[str]:
        """Scene ids of a split; splits never share a scene. An unknown split is a ``SceneError``."""

    @abstractmethod
    def load(self, scene_id: str) -> SceneInfo:
        """Open a scene and close the previous one."""

    @property
    @abstractmethod
    def info(self) -> SceneInfo:
        """What :meth:`load` returned; ``SceneError`` where no scene is loaded."""

    @abstractmethod
    def close(self) -> None:
        """Release the scene and the simulator; the backend may be loaded again."""

    @abstractmethod
    def objects(self) -> tuple[SceneObject, ...]:
        """Every instance; ``objects()[i].index == i``."""

    @abstractmethod
    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        """Floor points (count, 3) at least ``clearance`` metres from any obstacle, in one connected region."""

    @abstractmethod
    def free_map(self, clearance: float = 0.2) -> FreeMap:
        """The connected region that :meth:`sample_navigable` draws from."""

    @abstractmethod
    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        """The shortest path between two floor points with that clearance in metres, or None where there is none."""

    @abstractmethod
    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        """One frame per camera, in order. ``hide`` leaves ceilings or lintels out of every modality."""

    @contextmanager
    def edited(self, edits: Sequence[SceneEdit]) -> Iterator[None]:
        """Render the changed scene inside the block, the original one after it (capability ``edit_scene``).

        ``objects()`` and free space keep describing the original. An unknown object id is a ``SceneError``.
        """
        raise SceneError(f"backend '{self.name}' cannot edit scenes (capability edit_scene)")
        yield

    def answer_from_labels(self, facts: Mapping[str, Any]) -> str | None:
        """The answer that the labels of recorded pictures give to a question with these facts, None where they give none.

        Only for sources without the capability ``instance``: elsewhere answers are recomputed from masks.
        """
        raise SceneError(f"backend '{self.name}' keeps no labels of pictures")

    def is_free(self, points: Floats, clearance: float = 0.2) -> NDArray[np.bool_]:
        """Whether floor points (n, >=2) lie in the free map."""
        return self.free_map(clearance).contains(points)

    def render_top_down(
        self,
        region: tuple[float, float, float, float],
        resolution: int,
        modalities: Collection[Modality] = ALL_MODALITIES,
    ) -> Frame:
        """Square orthographic view from above of ``region`` = (x0, y0, x1, y1) in metres, north (+y) up, ceilings hidden.

        A region that is not square is centred in the square that its longer side spans; the frame's camera maps pixels
        to metres exactly (``camera.project`` / ``unproject``).
        """
        return self.render([top_down_camera(region, resolution, self.info.floor_z)], modalities, TOP_DOWN_HIDES)[0]

    def require(self, needed: Collection[str], what: str) -> None:
        """Raise ``SceneError`` before the first scene if ``what`` needs a capability this backend lacks."""
        missing = sorted(set(needed) - self.capabilities)
        if missing:
            raise SceneError(
                f"{what} needs {', '.join(missing)}, which backend '{self.name}' does not offer "
                f"(it offers: {', '.join(sorted(self.capabilities))})"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def top_down_camera(
    region: tuple[float, float, float, float], resolution: int, floor_z: float, height: float = 20.0
) -> Camera:
    """Orthographic camera ``height`` metres above the floor, looking down on ``region`` with +y up in the image."""
    x0, y0, x1, y1 = region
    if not (x1 > x0 and y1 > y0):
        raise SceneError(f"a top-down region is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {region}")
    pose = CameraPose(((x0 + x1) / 2, (y0 + y1) / 2, floor_z + height), yaw=math.pi / 2, pitch=-math.pi / 2)
    span = max(x1 - x0, y1 - y0)
    return Camera(pose, resolution, resolution, ortho_height_m=span, near=0.1, far=height + 10)


def triple(point: Floats) -> tuple[float, float, float]:
    """An array (3,) as plain floats."""
    return float(point[0]), float(point[1]), float(point[2])


def unit_corners() -> Floats:
    """Corners of the cube [-1, 1]^3, (8, 3)."""
    return np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
