"""Matterport3D: houses as labelled meshes, a floor at a time, for Path Tracing on plans from above.

Layout of the published set (github.com/niessner/Matterport, ``data_organization.md``), below ``HOUSE/house_segmentations``:
``HOUSE.ply`` (vertex colours, metres, z up), ``HOUSE.fsegs.json`` (``segIndices``: a segment per face), ``HOUSE.semseg.json``
(``segGroups``: ``label``, ``segments``) and ``HOUSE.house``, a text of lines: ``L`` a level with its bounds, ``R`` a region (a
room) with its level and a letter for its kind, ``S`` a surface of a region, ``V`` a corner of a surface.

The IPT paper takes screenshots of indoor tours and lets a language model propose paths on them and name what stands beside. The
mesh knows both: one may stand where nothing is seen from above between the floor and the height of a person, walks are planned
there, and the labels say what is on which side. So the task is that of the simulators, with its checks, and the view to the side
is rendered, which the paper's real pictures lack.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datagen.backends.base import (
    ALL_MODALITIES,
    Floats,
    Frame,
    FreeMap,
    Layer,
    Modality,
    Path,
    Room,
    SceneError,
    SceneInfo,
    SceneObject,
    top_down_camera,
)
from datagen.backends.embedded.backend import package_version
from datagen.backends.embedded.ray_caster import RayRenderer
from datagen.backends.embedded.scene import Scene
from datagen.backends.habitat.categories import clean
from datagen.backends.space import GridSpace
from datagen.backends.splits import SHARES, fraction
from datagen.real.recorded import RecordedBackend, named
from datagen.real.scan import Scan, floor_height, read_groups, read_mesh, read_segments, scene_of
from datagen.tasks.path_tracing import PathTracing
from ipt.common.errors import UserError
from ipt.samples.camera import Camera

__all__ = ["MatterportBackend", "MatterportConfig", "PathTracing"]

LICENCE = (
    "Matterport3D Terms of Use: no sharing of its data or of samples made of them; everyone signs and downloads it"
)
#: Kinds of rooms by the letter of a region; all others are rooms.
KINDS = {
    "a": "bathroom", "b": "bedroom", "c": "closet", "d": "dining room", "e": "entryway", "f": "family room", "g": "garage",
    "h": "hallway", "i": "library", "j": "laundry room", "k": "kitchen", "l": "living room", "m": "meeting room", "n": "lounge",
    "o": "office", "p": "terrace", "r": "games room", "s": "stairs", "t": "toilet", "u": "utility room", "v": "tv room",
    "w": "gym", "x": "outdoors", "y": "balcony", "B": "bar", "C": "classroom", "D": "dining booth", "S": "spa",
}  # fmt: skip
NEAR_M = 0.1  # of the camera that looks for open floor


@dataclass(frozen=True, slots=True)
class MatterportConfig:
    """``root``: the folder of the houses (``v1/scans``).

    ``cell_m``: of the grid of open floor. ``body_height_m``: one stands where nothing is between floor and this height.
    ``floor_tolerance_m``: heights that still are the floor: of one level without steps. ``cut_height_m``: above the floor,
    surface without a label is left out of the plan.
    """

    root: str = ""
    cell_m: float = 0.05
    body_height_m: float = 1.6
    floor_tolerance_m: float = 0.1
    cut_height_m: float = 2.0

    def __post_init__(self) -> None:
        if not (0.01 <= self.cell_m <= 0.5 and 0 < self.floor_tolerance_m < self.body_height_m):
            raise UserError(
                "backend.cell_m must lie in 0.01..0.5, and backend.floor_tolerance_m between 0 and body_height_m, got "
                f"{self.cell_m:g}, {self.floor_tolerance_m:g} and {self.body_height_m:g}"
            )


@dataclass
class House:
    """What a ``.house`` file says: heights (low, high) of each level, and the rooms of each level."""

    levels: dict[int, tuple[float, float]] = field(default_factory=dict)
    rooms: dict[int, list[Room]] = field(default_factory=lambda: defaultdict(list))


class MatterportBackend(RecordedBackend):
    """See the module's docstring. A scene is a level of a house."""

    name: ClassVar[str] = "matterport3d"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"rgb", "depth", "instance", "ortho", "oblique_cut", "navmesh", "rooms", "deterministic"}
    )
    layout: ClassVar[str] = "backend.root must be Matterport3D's v1/scans, with HOUSE/house_segmentations/ unzipped"

    def __init__(self, config: MatterportConfig) -> None:
        super().__init__(config.root)
        self.config = config
        self._renderer = RayRenderer()
        self._scene: Scene | None = None
        self._space: GridSpace | None = None
        self._levels: dict[str, list[str]] = {}

    @property
    def version(self) -> str:
        return f"matterport3d-{package_version()}+{self._renderer.version}"

    def _listed(self, split: str) -> Sequence[str]:
        """The levels of the houses that their names' hashes put into the split: the set has splits for other tasks only."""
        if split not in self._levels:
            low, high = SHARES[split]
            names = sorted(path.name for path in self.root.glob("*") if (path / "house_segmentations").is_dir())
            self._levels[split] = [
                f"{house}-level{level}"
                for house in names
                if low <= fraction(house) < high
                for level in levels(self, house)
            ]
        return self._levels[split]

    def load(self, scene_id: str) -> SceneInfo:
        house, dash, number = scene_id.rpartition("-level")
        if not dash or not number.isdecimal():
            raise SceneError(f"a scene is named HOUSE-levelN, got '{scene_id}'")
        self._scene = self._space = None
        record = read_house(self, house)
        if int(number) not in record.levels:
            raise SceneError(f"{house_file(house)}: there is no level {number}; levels: {sorted(record.levels)}")
        scene = read_level(self, house, record, int(number), scene_id)
        self._renderer.load(scene)
        self._scene, self._space = scene, open_floor(self._renderer, scene, self.config)
        self._info = SceneInfo(
            scene_id,
            self.name,
            self.version,
            scene.bounds_min,
            scene.bounds_max,
            tuple(record.rooms[int(number)]),
            floor_z=scene.floor_z,
            source_licence=LICENCE,
        )
        return self._info

    def close(self) -> None:
        super().close()
        self._renderer.close()
        self._scene, self._space, self._levels = None, None, {}

    @property
    def space(self) -> GridSpace:
        """The open floor of the loaded level."""
        if self._space is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._space

    def objects(self) -> tuple[SceneObject, ...]:
        if self._scene is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._scene.objects

    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        outline = next((room.polygon for room in self.info.rooms if room.id == room_id), None)
        if room_id is not None and outline is None:
            raise SceneError(f"scene {self.info.scene_id} has no room '{room_id}'")
        return self.space.sample(count, rng, clearance, outline)

    def free_map(self, clearance: float = 0.2) -> FreeMap:
        return self.space.map(clearance)

    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        return self.space.shortest_path(start, goal, clearance)

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        return self._renderer.render(cameras, modalities, hide)


def house_file(house: str, ending: str = "house") -> str:
    """A file of a house, below the root."""
    return f"{house}/house_segmentations/{house}.{ending}"


def levels(backend: RecordedBackend, house: str) -> list[int]:
    """The levels of a house; of one that cannot be read, the first, so that loading it says what is wrong and the run goes on."""
    try:
        return sorted(read_house(backend, house).levels)
    except SceneError:
        return [0]


def read_house(backend: RecordedBackend, house: str) -> House:
    """Levels and rooms; ``SceneError`` names the line that is wrong."""
    name = house_file(house)
    found, regions, surfaces = House(), dict[int, tuple[int, str]](), dict[int, int]()  # the first of each region
    corners: dict[int, list[tuple[float, float]]] = defaultdict(list)  # of surfaces
    for number, line in enumerate(backend.existing(name).read_text(errors="replace").splitlines(), start=1):
        cells = line.split()
        with named(f"{name}, line {number}"):
            match cells[:1]:
                case ["L"]:
                    found.levels[int(cells[1])] = float(cells[9]), float(cells[12])
                case ["R"]:
                    regions[int(cells[1])] = int(cells[2]), KINDS.get(cells[5], "room")
                case ["S"]:
                    surfaces.setdefault(int(cells[2]), int(cells[1]))
                case ["V"]:
                    corners[int(cells[2])].append((float(cells[4]), float(cells[5])))
    if not found.levels:
        raise SceneError(f"{name}: there is no line of a level (L)")
    for region, (level, kind) in regions.items():
        outline = corners[surfaces.get(region, -1)]
        if len(outline) >= 3:
            found.rooms[level].append(Room(f"region-{region}", kind, np.array(outline)))
    return found


def read_level(backend: MatterportBackend, house: str, record: House, level: int, scene_id: str) -> Scene:
    """The faces of a level as a scene: an object per annotated group."""
    scan = read_mesh(backend, house_file(house, "ply"))
    segment_of = read_segments(backend, house_file(house, "fsegs.json"), len(scan.faces), "faces")
    labels, owner = read_groups(backend, house_file(house, "semseg.json"), segment_of)
    mine = level_of_faces(scan, record.levels) == level
    if not mine.any():
        raise SceneError(f"{house_file(house, 'ply')}: there are no triangles at the height of level {level}")
    scan, owner = Scan(scan.vertices, scan.faces[mine], scan.colours), owner[mine]
    floor_z = floor_height(scan, labels, owner)
    # a floor that high is of the level above, and would hide this one
    upstairs = scan.vertices[scan.faces, 2].mean(axis=1) > floor_z + backend.config.cut_height_m
    floors = [place for place, label in enumerate(labels) if clean(label) == "floor"]
    owner = np.where(upstairs & np.isin(owner, floors), -1, owner)
    return scene_of(scene_id, scan, labels, owner, floor_z, backend.config.cut_height_m, LICENCE)


def level_of_faces(scan: Scan, levels: dict[int, tuple[float, float]]) -> NDArray[np.int64]:
    """The level (f,) of each face: the highest one that begins below the face's middle, the lowest for what is below all."""
    names = sorted(levels, key=lambda level: levels[level][0])
    begins = np.array([levels[level][0] for level in names])
    heights = scan.vertices[scan.faces, 2].mean(axis=1)
    places = np.maximum(np.searchsorted(begins, heights, side="right") - 1, 0)
    return np.array(names, np.int64)[places]


def open_floor(renderer: RayRenderer, scene: Scene, config: MatterportConfig) -> GridSpace:
    """Where one can stand: from the height of a person down there is nothing but floor, and no surface passes upright."""
    low, high = np.array(scene.bounds_min[:2]), np.array(scene.bounds_max[:2])
    count = max(1, math.ceil(float((high - low).max()) / config.cell_m))
    origin = (low + high - count * config.cell_m) / 2
    height = config.body_height_m + NEAR_M
    camera = top_down_camera((*origin, *(origin + count * config.cell_m)), count, scene.floor_z, height)
    wanted: tuple[Modality, ...] = ("depth",)
    depth = renderer.render([camera], wanted, ())[0].depth
    assert depth is not None
    above_floor = height - depth[::-1].astype(np.float64)
    floor = (depth[::-1] > 0) & (np.abs(above_floor) <= config.floor_tolerance_m)
    columns, rows = np.floor((upright(scene, config) - origin) / config.cell_m).astype(int).clip(0, count - 1).T
    floor[rows, columns] = False
    away = ndimage.distance_transform_edt(np.pad(floor, 1))[1:-1, 1:-1]
    x0, y0 = origin.tolist()
    return GridSpace(scene.scene_id, (away - 0.5) * config.cell_m, (x0, y0), config.cell_m, scene.floor_z)


def upright(scene: Scene, config: MatterportConfig) -> Floats:
    """Points (n, 2), half a cell apart, of all surface between the floor and the height of a person."""
    least, most = scene.floor_z + config.floor_tolerance_m, scene.floor_z + config.body_height_m
    found = [np.zeros((0, 2))]
    for part in scene.parts:
        vertices, faces = part.world_vertices().astype(np.float64), part.mesh.faces
        heights = vertices[faces, 2]
        corners = vertices[faces[(heights.max(axis=1) > least) & (heights.min(axis=1) < most)]]
        for points in sampled(corners, config.cell_m / 2):
            found.append(points[(points[:, 2] > least) & (points[:, 2] < most), :2])
    return np.concatenate(found)


def sampled(corners: Floats, step: float) -> Iterator[Floats]:
    """Points (n, 3) of triangles (f, 3, 3), at most ``step`` apart along their edges; triangles of one size at a time."""
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1, initial=0.0)
    counts = np.maximum(np.ceil(edges / step), 1).astype(int)
    for count in np.unique(counts).tolist():
        first, second = np.indices((count + 1, count + 1)).reshape(2, -1)
        weights = np.stack([first, second, count - first - second], axis=1)[first + second <= count] / count
        yield np.einsum("wk,fkc->fwc", weights, corners[counts == count]).reshape(-1, 3)
