"""The embedded simulator as a :class:`SceneBackend`: generated homes and block rooms, or a user's own scene file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as FilePath
from typing import ClassVar, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import (
    ALL_MODALITIES,
    CAPABILITIES,
    BackendUnavailable,
    Frame,
    FreeMap,
    Layer,
    Modality,
    Path,
    SceneBackend,
    SceneEdit,
    SceneError,
    SceneInfo,
    SceneObject,
)
from datagen.backends.embedded.blocks import BlocksConfig, make_blocks
from datagen.backends.embedded.free_space import FreeSpace, Measured
from datagen.backends.embedded.gl import INSTRUCTION, prepare_gl
from datagen.backends.embedded.house import HouseConfig, make_house
from datagen.backends.embedded.models.catalogue import MOST_FACES
from datagen.backends.embedded.models.shop import Shop, open_shop
from datagen.backends.embedded.mujoco_renderer import MujocoRenderer
from datagen.backends.embedded.ray_caster import RayRenderer
from datagen.backends.embedded.scene import Scene
from datagen.backends.embedded.scene_folder import find_scenes, split_scenes
from ipt.common.registry import unknown_name
from ipt.common.seeding import derived_seed
from ipt.samples.camera import Camera
from ipt.samples.sample import SPLITS

Floats = NDArray[np.float64]
UP = ("auto", "y", "z")
PRESETS = ("home", "blocks")
FURNITURE_SOURCES = ("ours", "sweethome3d")
SCENES_PER_SPLIT = 10_000_000


class Renderer(Protocol):
    """What draws a scene; see ``MujocoRenderer`` and ``RayRenderer``."""

    name: str
    version: str

    def load(self, scene: Scene) -> None: ...

    def render(
        self, cameras: Sequence[Camera], modalities: Collection[Modality], hide: Collection[Layer]
    ) -> list[Frame]: ...

    def close(self) -> None: ...


RENDERERS: dict[str, Callable[[], Renderer]] = {"mujoco": MujocoRenderer, "ray": RayRenderer}


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """``preset`` is the kind of scenes; ``scene_file`` (MJCF or GLB) replaces them by one scene of the user's own.

    ``renderer=auto`` takes MuJoCo where OpenGL works and the ray caster elsewhere. ``scene_folder``: many such files, as
    scenes with splits. ``scene_up``: the axis of a GLB file that points up, y or z; auto guesses. ``shadows``: whether each
    room of a home has a lamp that casts them.

    ``furniture=sweethome3d`` puts models of that program's libraries beside our own furniture in homes: with probability
    ``furniture_weight`` where one fits, of at most ``furniture_faces`` triangles, from the installed package or from
    ``furniture_root``.
    """

    preset: str = "home"
    renderer: str = "auto"
    scene_file: str | None = None
    scene_folder: str | None = None
    scene_up: str = "auto"
    shadows: bool = False
    furniture: str = "ours"
    furniture_root: str | None = None
    furniture_weight: float = 0.7
    furniture_faces: int = 12_000
    house: HouseConfig = field(default_factory=HouseConfig)
    blocks: BlocksConfig = field(default_factory=BlocksConfig)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise SceneError(unknown_name("preset", self.preset, PRESETS))
        if self.scene_file is not None and self.scene_folder is not None:
            raise SceneError("backend.scene_file and backend.scene_folder are both set; one scene or a folder of them")
        if self.scene_up not in UP:
            raise SceneError(unknown_name("scene_up", self.scene_up, UP))
        if self.furniture not in FURNITURE_SOURCES:
            raise SceneError(unknown_name("backend.furniture", self.furniture, FURNITURE_SOURCES))
        if not 0 <= self.furniture_weight <= 1:
            raise SceneError(f"backend.furniture_weight is a probability, 0 to 1, got {self.furniture_weight}")
        if not 0 < self.furniture_faces <= MOST_FACES:
            raise SceneError(f"backend.furniture_faces must lie in 1..{MOST_FACES}, got {self.furniture_faces}")
        if self.renderer not in ("auto", *RENDERERS):
            raise SceneError(unknown_name("renderer", self.renderer, ("auto", *RENDERERS)))

    def shop(self) -> Shop | None:
        """Where models come from; None where all furniture is ours. ``BackendUnavailable`` where they are not installed."""
        if self.furniture == "ours" or self.preset != "home":
            return None
        return open_shop(self.furniture_root, self.furniture_weight, self.furniture_faces)

    def for_task(self, task: str) -> EmbeddedConfig:
        """These settings with what ``auto`` means for a task: homes hold several of a thing where they are counted."""
        if self.house.collections != "auto":
            return self
        return replace(self, house=replace(self.house, collections="on" if task == "mvc" else "off"))


class EmbeddedBackend(SceneBackend):
    """Scenes made from their id alone: ``home-train-42`` is the same house, to the last bit, in every process."""

    name: ClassVar[str] = "embedded"
    capabilities: ClassVar[frozenset[str]] = CAPABILITIES

    def __init__(self, config: EmbeddedConfig | None = None) -> None:
        self.config = config or EmbeddedConfig()
        self._shop = self.config.shop()
        self._renderer = make_renderer(self.config.renderer)
        self._scene: Scene | None = None
        self._shown: Scene | None = None  # what the renderer should draw: the scene, or an edited copy
        self._drawn: Scene | None = None  # what the renderer holds
        self._space: FreeSpace | None = None
        self._measured = Measured()

    @property
    def version(self) -> str:
        models = f"+{', '.join(self._shop.catalogue.versions)}" if self._shop else ""
        return f"embedded-{package_version()}+{self._renderer.version}{models}"

    @property
    def scene(self) -> Scene:
        """The loaded scene."""
        if self._scene is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._scene

    def scenes(self, split: str) -> Sequence[str]:
        if split not in SPLITS:
            raise SceneError(unknown_name("split", split, SPLITS))
        if self.config.scene_file is not None:
            return [FilePath(self.config.scene_file).stem]
        if self.config.scene_folder is not None:
            return split_scenes(self._files, FilePath(self.config.scene_folder), split)
        return SceneIds(self.config.preset, split)

    @cached_property
    def _files(self) -> dict[str, FilePath]:
        """The scenes of ``scene_folder`` by id."""
        return find_scenes(FilePath(self.config.scene_folder or ""))

    def load(self, scene_id: str) -> SceneInfo:
        if (
            self.config.scene_file is not None and self._scene is not None
        ):  # one scene, read once: its free space is dear
            self._shown = self._scene
            return self.info
        scene = self._make(scene_id)
        if not self.config.shadows:
            scene = replace(scene, lamps=())
        self._scene, self._shown, self._space = scene, scene, None
        return self.info

    @property
    def info(self) -> SceneInfo:
        scene = self.scene
        return SceneInfo(
            scene_id=scene.scene_id,
            backend=self.name,
            backend_version=self.version,
            bounds_min=scene.bounds_min,
            bounds_max=scene.bounds_max,
            rooms=scene.rooms,
            seed=scene.seed,
            floor_z=scene.floor_z,
            source_licence=scene.licence,
            credits=scene.credits,
        )

    def _make(self, scene_id: str) -> Scene:
        from datagen.backends.embedded.import_scene import import_scene  # trimesh takes a second to import

        if self.config.scene_file is not None:
            return import_scene(FilePath(self.config.scene_file), self.config.scene_up)
        if self.config.scene_folder is not None:
            if scene_id not in self._files:
                raise SceneError(
                    unknown_name(f"scene of {self.config.scene_folder}", scene_id, list(self._files))[:400]
                )
            return replace(import_scene(self._files[scene_id], self.config.scene_up), scene_id=scene_id)
        preset, split, index = parse_scene_id(scene_id)
        if preset != self.config.preset:
            raise SceneError(
                f"scene '{scene_id}' belongs to preset '{preset}', this backend makes '{self.config.preset}'"
            )
        seed = derived_seed(index, "scene", preset, split)
        if preset == "blocks":
            return make_blocks(scene_id, seed, self.config.blocks)
        return make_house(scene_id, seed, self.config.house, self._shop)

    def close(self) -> None:
        self._renderer.close()
        self._scene = self._shown = self._drawn = self._space = None

    def objects(self) -> tuple[SceneObject, ...]:
        return self.scene.objects

    @property
    def _free(self) -> FreeSpace:
        if self._space is None:
            # Of files, which are met again; generated scenes are not.
            self._space = FreeSpace(self.scene, self._measured if self.scene.seed is None else None)
        return self._space

    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        if room_id is None:
            return self._free.sample(count, rng, clearance)
        outlines = {room.id: room.polygon for room in self.scene.rooms}
        if room_id not in outlines:
            raise SceneError(unknown_name(f"room of scene {self.scene.scene_id}", room_id, list(outlines)))
        return self._free.sample(count, rng, clearance, outlines[room_id])

    def free_map(self, clearance: float = 0.2) -> FreeMap:
        return self._free.map(clearance)

    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        return self._free.shortest_path(start, goal, clearance)

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        shown = self._shown or self.scene
        if self._drawn is not shown:
            self._renderer.load(shown)
            self._drawn = shown
        return self._renderer.render(cameras, modalities, hide)

    @contextmanager
    def edited(self, edits: Sequence[SceneEdit]) -> Iterator[None]:
        original = self.scene
        self._shown = edit_scene(original, edits)
        try:
            yield
        finally:
            self._shown = original


class SceneIds(Sequence[str]):
    """The ids of a split, made when asked for."""

    def __init__(self, preset: str, split: str) -> None:
        self._prefix = f"{preset}-{split}-"

    def __len__(self) -> int:
        return SCENES_PER_SPLIT

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [f"{self._prefix}{number}" for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return f"{self._prefix}{index % len(self)}"


def edit_scene(scene: Scene, edits: Sequence[SceneEdit]) -> Scene:
    """A copy of ``scene`` whose parts are changed by ``edits``, in order; its objects keep their indices."""
    index_of = {thing.id: thing.index for thing in scene.objects}
    parts = list(scene.parts)
    for edit in edits:
        if edit.object_id not in index_of:
            raise SceneError(unknown_name(f"object of scene {scene.scene_id}", edit.object_id, list(index_of)))
        index = index_of[edit.object_id]
        x, y, z = edit.offset
        moved = [
            replace(part, position=(part.position[0] + x, part.position[1] + y, part.position[2] + z))
            for part in parts
            if part.instance == index
        ]
        if edit.kind != "add":
            parts = [part for part in parts if part.instance != index]
        if edit.kind != "remove":
            parts += moved
    return replace(scene, parts=tuple(parts), template=None)


def parse_scene_id(scene_id: str) -> tuple[str, str, int]:
    """``home-train-42`` -> ("home", "train", 42)."""
    preset, _, rest = scene_id.partition("-")
    split, _, number = rest.partition("-")
    if preset not in PRESETS or split not in SPLITS or not number.isdecimal():
        raise SceneError(
            f"'{scene_id}' is not a scene id of the embedded simulator; they read PRESET-SPLIT-NUMBER, such as home-train-42"
        )
    return preset, split, int(number)


def make_renderer(name: str) -> Renderer:
    """The renderer of that name; ``auto`` falls back to the ray caster where no OpenGL works."""
    if name != "auto":
        return RENDERERS[name]()
    if prepare_gl() is not None:
        return MujocoRenderer()
    try:
        return RayRenderer()
    except BackendUnavailable:
        raise BackendUnavailable(INSTRUCTION) from None


def package_version() -> str:
    """Version of the installed package, or ``dev`` when run from a checkout that is not installed."""
    try:
        return version("imaginative-perception-tokens")
    except PackageNotFoundError:
        return "dev"
