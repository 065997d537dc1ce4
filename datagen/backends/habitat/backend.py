"""habitat-sim as a :class:`SceneBackend`: HM3D-semantics, Matterport3D, ReplicaCAD, HSSD or any mesh of the user's.

habitat-sim runs in an environment of its own behind a pipe (:mod:`.worker`); what crosses the pipe is in habitat's frames
and is converted here, at the border. Requests that are known to kill habitat-sim are refused before they are sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import (
    ALL_MODALITIES,
    BackendUnavailable,
    Frame,
    FreeMap,
    Layer,
    Modality,
    OrientedBox,
    Path,
    SceneBackend,
    SceneError,
    SceneInfo,
    SceneObject,
    SimulatorDied,
    triple,
)
from datagen.backends.habitat import frames
from datagen.backends.habitat.categories import clean, furniture_category, is_structure
from datagen.backends.habitat.process import WorkerProcess
from datagen.backends.habitat.protocol import Arrays
from datagen.backends.habitat.scenes import LAYOUTS, SceneFile, class_names, find_scenes, split_scenes
from datagen.backends.habitat.space import (
    RESOLUTION,
    NavmeshSpace,
    choose_level,
    floor_levels,
    height_spread,
    under_the_roof,
)
from ipt.common.files import write_json
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera, CameraPose

Floats = NDArray[np.float64]
SENSORS: dict[Modality, tuple[str, ...]] = {"rgb": ("COLOR",), "depth": ("DEPTH",), "instance": ("DEPTH", "SEMANTIC")}
DEPTH_ONLY: tuple[Modality, ...] = ("depth",)
MAX_SIDE = 8192  # pixels; larger images abort habitat-sim
STEP_TOLERANCE = 0.3  # metres: floors this far from the level's height still belong to it
SOUNDINGS = 9  # places at which floor and ceiling are measured
BELOW_CEILING = 0.1  # metres
HEAD_ROOM = 3.5  # metres above the floor that belong to a level


@dataclass(frozen=True, slots=True)
class HabitatConfig:
    """``python`` starts Python where habitat-sim is installed (several words are fine: ``conda run -n habitat python``).

    ``dataset`` names a layout, ``data`` is its folder, ``scene_dataset_config`` (relative to ``data``) and
    ``scene_pattern`` replace those of the layout, ``scene_lists`` is a folder with train.txt, val.txt and test.txt.
    ``floor``: "single" refuses scenes whose walkable heights spread over ``max_floor_spread_m`` or more (the paper takes
    single floors only), "largest" takes the largest level, a number the level counted from the bottom. ``cut_height_m``
    above the floor, views from above lose everything: ceilings and the storeys over them; without it, just below the
    ceiling that is measured. ``up``: which axis of bare GLB files (dataset=files without a config) points up: y as glTF has
    it, or z. ``reuse``: scenes that one simulator opens before a new one is made, for it keeps what it has loaded.
    ``whitelist``: questions are about furniture only; otherwise about every annotated object that is no part of the
    building. Lengths in metres.
    """

    python: str = "python"
    dataset: str = "hm3d"
    data: str = "data/scene_datasets/hm3d"
    scene_dataset_config: str | None = None
    scene_pattern: str | None = None
    scene_lists: str | None = None
    gpu: int = 0
    floor: str = "single"
    max_floor_spread_m: float = 2.0
    cut_height_m: float | None = None
    up: str = "y"
    reuse: int = 20
    whitelist: bool = True
    agent_radius: float = 0.2
    agent_height: float = 1.5
    start_timeout_s: float = 120.0
    load_timeout_s: float = 300.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.dataset not in LAYOUTS:
            raise SceneError(unknown_name("dataset", self.dataset, list(LAYOUTS)))
        if self.floor not in ("single", "largest") and not self.floor.isdecimal():
            raise SceneError(f"floor is single, largest or a number, got '{self.floor}'")
        if self.up not in ("y", "z"):
            raise SceneError(unknown_name("up", self.up, ("y", "z")))
        if self.reuse < 1:
            raise SceneError(f"reuse must be at least 1, got {self.reuse}")
        # Recast counts the radius in cells of 0.05 m and wraps around at 255 of them.
        if not 0.05 <= self.agent_radius <= 2:
            raise SceneError(f"agent_radius must lie in 0.05..2 m, got {self.agent_radius}")
        for name in (
            "agent_height",
            "max_floor_spread_m",
            "cut_height_m",
            "start_timeout_s",
            "load_timeout_s",
            "timeout_s",
        ):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise SceneError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def navmesh(self) -> dict[str, Any]:
        """Fields of habitat-sim's NavMeshSettings."""
        return {
            "agent_radius": self.agent_radius,
            "agent_height": self.agent_height,
            "cell_size": RESOLUTION,
            "cell_height": 0.1,
            "include_static_objects": LAYOUTS[self.dataset].instances == "objects",
        }


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What belongs to the open scene; ``index_of_id`` is the table of :func:`scene_objects`; views from above lose what is
    higher than ``cut_height_m`` above the floor."""

    info: SceneInfo
    objects: tuple[SceneObject, ...]
    index_of_id: NDArray[np.int32]
    space: NavmeshSpace
    cut_height_m: float


class HabitatBackend(SceneBackend):
    """Scanned or authored scenes drawn by habitat-sim, one worker process per backend."""

    name: ClassVar[str] = "habitat"
    capabilities: ClassVar[frozenset[str]] = frozenset({"rgb", "depth", "instance", "ortho", "obb", "navmesh"})

    def __init__(self, config: HabitatConfig | None = None) -> None:
        self.config = config or HabitatConfig()
        layout = LAYOUTS[self.config.dataset]
        self.layout = replace(layout, pattern=self.config.scene_pattern or layout.pattern)
        self._worker: WorkerProcess | None = None
        self._hello: dict[str, Any] = {}
        self._files: dict[str, SceneFile] | None = None
        self._loaded: _Loaded | None = None
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def version(self) -> str:
        self._start()
        return f"habitat-sim-{self._hello['habitat_sim']}+python-{self._hello['python']}"

    @property
    def worker_pid(self) -> int:
        """Process id of the worker, for whoever watches or measures it."""
        return self._start().pid

    def scenes(self, split: str) -> Sequence[str]:
        lists = self.config.scene_lists
        found = split_scenes(self._scene_files(), split, FilePath(lists) if lists else None)
        if not found:
            raise SceneError(
                f"none of the {len(self._scene_files())} scenes in {self.config.data} belongs to split {split}; "
                "take another split, or say which do with backend.scene_lists"
            )
        return found

    def load(self, scene_id: str) -> SceneInfo:
        files = self._scene_files()
        if scene_id not in files:
            raise SceneError(unknown_name("scene", scene_id, list(files))[:400])
        self._loaded = None
        check_mesh(files[scene_id])
        reply, arrays = self._ask(
            "open",
            self.config.load_timeout_s,
            f"loading scene {scene_id}",
            scene=files[scene_id].handle,
            dataset_config=self._dataset_config(),
            gpu=self.config.gpu,
            navmesh=self.config.navmesh,
            instances=self.layout.instances,
            reuse=self.config.reuse,
        )
        if not any(np.any(record["half_size"]) for record in reply["objects"]):
            raise SceneError(
                f"scene {scene_id} has no labelled objects (no semantic descriptor was loaded with it), and questions are "
                "about labelled objects; check that its .semantic.glb and .semantic.txt lie beside it"
            )
        if not reply["has_navmesh"]:
            raise SceneError(
                f"scene {scene_id}: no navmesh could be built; the scene has no floor for an agent of "
                f"{self.config.agent_radius} m radius and {self.config.agent_height} m height, or no mesh at all"
            )
        corners = frames.points_to_ours(reply["scene_bounds"])
        vertices, top = frames.points_to_ours(arrays["vertices"]), float(corners[:, 2].max())
        triangles = under_the_roof(vertices, arrays["triangles"], top, self.config.agent_height)
        if not len(triangles):
            raise SceneError(
                f"scene {scene_id}: nowhere does an agent of {self.config.agent_height} m height fit under the top of the "
                f"scene at {top:.2f} m; lower backend.agent_height, or the scene lies on its side (backend.up)"
            )
        level = choose_level(
            floor_levels(vertices, triangles),
            height_spread(vertices, triangles),
            self.config.floor,
            self.config.max_floor_spread_m,
            scene_id,
        )
        space = self._space(scene_id, level)
        space.floor_z = floor_z = self._measure_floor(space, level)
        classes = class_names(FilePath(self.config.data), self.layout)
        for record in reply["objects"]:
            record["category"] = classes.get(record.get("class_id"), record["category"])
        objects, index_of_id = scene_objects(reply["objects"], corners, floor_z, self.config.whitelist)
        boxes = np.array([[thing.aabb_min, thing.aabb_max] for thing in objects])
        info = SceneInfo(
            scene_id=scene_id,
            backend=self.name,
            backend_version=self.version,
            bounds_min=triple(np.minimum(corners.min(0), boxes[:, 0].min(0))),
            bounds_max=triple(np.maximum(corners.max(0), boxes[:, 1].max(0))),
            floor_z=floor_z,
            source_licence=self.layout.licence,
        )
        cut = self.config.cut_height_m or self._measure_cut(space, floor_z)
        self._loaded = _Loaded(info, objects, index_of_id, space, cut)
        return info

    @property
    def info(self) -> SceneInfo:
        return self._scene.info

    def close(self) -> None:
        if self._worker is not None:
            self._worker.stop()
        self._worker, self._loaded = None, None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def objects(self) -> tuple[SceneObject, ...]:
        return self._scene.objects

    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        if room_id is not None:
            raise SceneError("habitat-sim knows no room outlines (capability rooms)")
        return self._scene.space.sample(count, rng, clearance)

    def free_map(self, clearance: float = 0.2) -> FreeMap:
        return self._scene.space.map(clearance)

    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        """habitat-sim's path over its navmesh, which keeps the agent's radius; for more clearance the one over our grid."""
        path = self._navmesh_path(start, goal)
        if (
            path is None
            or clearance <= self.config.agent_radius
            or self._scene.space.walkable(path.points[:, :2], clearance)
        ):
            return path
        return self._scene.space.shortest_path(start, goal, clearance)

    def _navmesh_path(self, start: Floats, goal: Floats) -> Path | None:
        floor_z = self._scene.info.floor_z
        ends = [np.array([point[0], point[1], floor_z]) for point in (start, goal)]
        reply = self._ask(
            "path",
            self.config.timeout_s,
            f"finding a path in scene {self._scene.info.scene_id}",
            start=frames.points_to_habitat(ends[0]).tolist(),
            end=frames.points_to_habitat(ends[1]).tolist(),
        )
        points = frames.points_to_ours(reply[1]["points"])
        # habitat-sim moves both ends to the navmesh before it searches, however far that is.
        if (
            len(points) < 2
            or np.linalg.norm(points[[0, -1], :2] - np.array(ends)[:, :2], axis=1).max() > STEP_TOLERANCE
        ):
            return None
        return self._scene.space.path(points[:, :2])

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        scene = self._scene
        results = []
        for camera in cameras:
            near = near_plane(camera, scene.info.floor_z + scene.cut_height_m) if hide else camera.near
            arrays = self._render(camera, near, modalities, f"rendering scene {scene.info.scene_id}")
            instance = None
            if "instance" in modalities:
                # Ids beyond the table are not annotated either; -1, where nothing was drawn, reads its last entry.
                table = scene.index_of_id
                instance = table[np.minimum(arrays["semantic"], len(table) - 2)]
            results.append(
                Frame(camera, arrays.get("color"), arrays["depth"] if "depth" in modalities else None, instance)
            )
        return results

    @property
    def _scene(self) -> _Loaded:
        if self._loaded is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._loaded

    def _scene_files(self) -> dict[str, SceneFile]:
        if self._files is None:
            self._files = find_scenes(FilePath(self.config.data), self.layout)
        return self._files

    def _dataset_config(self) -> str:
        """habitat-sim accepts a missing config silently and then finds no scene, so look first."""
        name = self.config.scene_dataset_config or self.layout.config
        if name == "default":
            return self._upright() if self.config.up == "y" else name
        for path in (FilePath(self.config.data) / name, FilePath(self.config.data).parent / name):
            if path.is_file():
                return str(path)
        raise SceneError(f"the scene dataset config {name} is neither in {self.config.data} nor in its parent folder")

    def _upright(self) -> str:
        """A dataset config that says of bare GLB files what glTF does: y points up. habitat-sim takes them for z up."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="ipt-habitat-")
            upright = {"stages": {"default_attributes": {"up": [0.0, 1.0, 0.0], "front": [0.0, 0.0, -1.0]}}}
            write_json(FilePath(self._folder.name) / "upright.scene_dataset_config.json", upright)
        return str(FilePath(self._folder.name) / "upright.scene_dataset_config.json")

    def _start(self) -> WorkerProcess:
        if self._worker is None:
            self._worker = WorkerProcess(self.config.python, self.config.start_timeout_s)
            self._hello = self._worker.hello
        return self._worker

    def _ask(self, op: str, timeout: float, what: str, **fields: Any) -> tuple[dict[str, Any], Arrays]:
        worker = self._start()
        try:
            return worker.ask(op, timeout, what, **fields)
        except (SimulatorDied, BackendUnavailable):
            self.close()
            raise

    def _render(self, camera: Camera, near: float, modalities: Collection[Modality], what: str) -> Arrays:
        """Colour, metric depth and semantic ids (-1 where nothing was drawn), as asked."""
        if max(camera.width, camera.height) > MAX_SIDE:
            raise SceneError(f"habitat-sim draws at most {MAX_SIDE} pixels a side, got {camera.width}x{camera.height}")
        kinds = sorted({kind for modality in modalities for kind in SENSORS[modality]})
        arrays = self._ask("render", self.config.timeout_s, what, camera=frames.sensor(camera, near), kinds=kinds)[1]
        for name, values in arrays.items():
            if values.shape[:2] != (camera.height, camera.width):
                raise SceneError(
                    f"habitat-sim returned {name} of shape {values.shape} for {camera.width}x{camera.height}"
                )
        if "depth" in arrays and camera.ortho_height_m is not None:
            arrays["depth"] = frames.metric_ortho_depth(arrays["depth"], near, camera.far)
        return arrays

    def _space(self, scene_id: str, level: float) -> NavmeshSpace:
        reply, arrays = self._ask(
            "islands",
            self.config.load_timeout_s,
            f"reading the navmesh of scene {scene_id}",
            resolution=RESOLUTION,
            height=level,
            tolerance=STEP_TOLERANCE,
        )
        x_min, _, z_min = reply["lower"]
        return NavmeshSpace(arrays["islands"], x_min, z_min, self.config.agent_radius, scene_id)

    def _soundings(self, space: NavmeshSpace, height: float, pitch: float, far: float, what: str) -> list[float]:
        """Distances from ``height`` over nine places of the navmesh straight up or down, where something is hit."""
        found = []
        rows, columns = np.nonzero(space.on_mesh)
        for index in np.linspace(0, len(rows) - 1, SOUNDINGS).astype(int):
            x, y = space.map(0.0).centre_of(rows[index], columns[index])
            camera = Camera(
                CameraPose((float(x), float(y), height), 0.0, pitch), 16, 16, ortho_height_m=0.05, near=0.1, far=far
            )
            depth = self._render(camera, camera.near, DEPTH_ONLY, f"measuring the {what} of scene {space.scene_id}")[
                "depth"
            ]
            if (depth > 0).any():
                found.append(float(np.median(depth[depth > 0])))
        return found

    def _measure_cut(self, space: NavmeshSpace, floor_z: float) -> float:
        """Height above the floor just below the ceiling; far above where there is none."""
        start = floor_z + self.config.agent_height
        up = self._soundings(space, start, np.pi / 2, HEAD_ROOM, "ceiling")
        if len(up) <= SOUNDINGS / 2:
            return HEAD_ROOM
        return self.config.agent_height + max(float(np.median(up)) - BELOW_CEILING, 0.1)

    def _measure_floor(self, space: NavmeshSpace, level: float) -> float:
        """Height of the floor, seen from above: the navmesh lies up to one cell height over it."""
        heights = [level + 1 - depth for depth in self._soundings(space, level + 1, -np.pi / 2, 2.0, "floor")]
        if not heights:
            raise SceneError(f"scene {space.scene_id} has no floor under its navmesh; the navmesh is of another scene")
        return round(float(np.median(heights)), 4) + 0.0  # never -0.0


def check_mesh(scene: SceneFile) -> None:
    """``SceneError`` where a GLB file does not begin like one: habitat-sim would start up before it finds out."""
    path = FilePath(scene.handle)
    if path.suffix != ".glb" or not path.is_file():
        return
    with path.open("rb") as file:
        first = file.read(20)
    if first.startswith(b"version https://git-"):
        raise SceneError(f"scene {scene.id}: {path} is a git-lfs pointer, not the file itself; run git lfs pull")
    if not first.startswith(b"glTF"):
        raise SceneError(
            f"scene {scene.id}: {path} is no GLB file (it begins {first[:8]!r}); damaged or an unfinished download"
        )


def near_plane(camera: Camera, height: float) -> float:
    """The near plane that cuts a scene open at ``height``, for a camera that looks down."""
    if camera.pose.forward[2] > -0.9999:
        raise SceneError("habitat-sim can leave out ceilings only where the camera looks straight down")
    return max(camera.near, camera.pose.position[2] - height)


def scene_objects(
    described: list[dict[str, Any]], bounds: Floats, floor_z: float, whitelist: bool
) -> tuple[tuple[SceneObject, ...], NDArray[np.int32]]:
    """Objects of the level over ``floor_z``, and the table from semantic ids to their indices.

    The last object stands for every surface without annotation, and so does the last entry of the table but one; the last
    is -1. Annotations without geometry and those of other levels are left out. ``bounds`` (2, 3) are the scene's, in our
    frame.
    """
    kept: list[SceneObject] = []
    index_of: dict[int, int] = {}
    for record in described:
        half = np.asarray(record["half_size"])
        box = OrientedBox(
            frames.points_to_ours(record["centre"]), half, frames.rotation_to_ours(record["rotation_xyzw"])
        )
        corners = box.corners()
        low, high = corners.min(axis=0), corners.max(axis=0)
        if not half.any() or high[2] < floor_z - STEP_TOLERANCE or low[2] > floor_z + HEAD_ROOM:
            continue
        category = furniture_category(record["category"])
        words = clean(record["category"])
        index_of[record["semantic_id"]] = len(kept)
        kept.append(
            SceneObject(
                id=record["id"],
                index=len(kept),
                category=category or words or "unknown",
                raw_category=record["category"],
                name=category or words or "unknown",
                aabb_min=triple(low),
                aabb_max=triple(high),
                obb=box,
                is_structure=category is None and (whitelist or is_structure(record["category"])),
                movable=False,
            )
        )
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    nobody = SceneObject(
        "unlabelled",
        len(kept),
        "unlabelled",
        "",
        "surface",
        triple(low),
        triple(high),
        is_structure=True,
        movable=False,
    )
    table = np.full(max(index_of, default=0) + 3, nobody.index, np.int32)
    table[list(index_of)] = list(index_of.values())
    table[-1] = -1
    return (*kept, nobody), table
