"""AI2-THOR as a :class:`SceneBackend`: the real client, one supervised player per backend.

Every picture is taken by one third-party camera, so any pose, field of view and height is possible; the agent itself is
invisible and never moves. Per frame one message is exchanged; the object list is filtered out of it after loading.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datagen.backends.ai2thor.frames import (
    camera_to_thor,
    from_thor,
    linearised_as_perspective,
    planar_depth,
    to_thor,
    without_ceiling,
)
from datagen.backends.ai2thor.lattice import Lattice
from datagen.backends.ai2thor.objects import Inventory
from datagen.backends.ai2thor.scenes import LICENCE, SceneLibrary, ThorScene
from datagen.backends.ai2thor.setup import require_client, require_executable
from datagen.backends.base import (
    ALL_MODALITIES,
    BackendUnavailable,
    Frame,
    FreeMap,
    Layer,
    Modality,
    Path,
    SceneBackend,
    SceneError,
    SceneInfo,
    SceneObject,
    SimulatorDied,
    top_down_camera,
    triple,
)
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera
from ipt.samples.sample import SPLITS

if TYPE_CHECKING:
    from datagen.backends.ai2thor.process import Player

Floats = NDArray[np.float64]
AGENT_HEIGHT = 0.901  # AI2-THOR reports positions of the agent's centre, this far above the floor
PLATFORMS = ("CloudRendering", "Linux64")
SERVERS = ("fifo", "wsgi")
NO_DISPLAY = ":0"


@dataclass(frozen=True, slots=True)
class Ai2thorConfig:
    """Which scenes, which player build and how patient to be.

    ``sources``: ithor, robothor, procthor; ``houses``, ``procthor_splits``: see :class:`SceneLibrary`. ``local_executable``
    replaces the build that the client downloads. ``image_size`` is the size of the first pictures: others cost a change of
    resolution. ``top_down_cut_m``: what lies higher above the floor is left out of top-down views. A player is replaced after
    ``recycle_after`` scenes, and given up after ``step_timeout_s`` seconds of silence (``start_timeout_s`` at its start).
    """

    sources: tuple[str, ...] = ("ithor",)
    houses: str | None = None
    procthor_splits: tuple[str, ...] = SPLITS
    platform: str = "CloudRendering"
    local_executable: str | None = None
    commit_id: str | None = None
    server: str = "fifo"
    x_display: str | None = None
    gpu_device: int | None = None
    quality: str = "Ultra"
    image_size: int = 512
    grid_size: float = 0.25
    top_down_cut_m: float = 2.1
    recycle_after: int = 50
    step_timeout_s: float = 30.0
    start_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if self.platform not in PLATFORMS:
            raise SceneError(unknown_name("AI2-THOR platform", self.platform, PLATFORMS))
        if self.server not in SERVERS:
            raise SceneError(unknown_name("AI2-THOR server", self.server, SERVERS))
        if self.recycle_after < 1 or self.image_size < 1 or not 0 < self.grid_size <= 5:
            raise SceneError(
                f"ai2thor needs recycle_after >= 1, image_size >= 1 and 0 < grid_size <= 5 (m), got {self.recycle_after}, "
                f"{self.image_size}, {self.grid_size}"
            )


class Ai2thorBackend(SceneBackend):
    """iTHOR, RoboTHOR and ProcTHOR scenes."""

    name: ClassVar[str] = "ai2thor"
    capabilities: ClassVar[frozenset[str]] = frozenset({"rgb", "depth", "instance", "ortho", "rooms", "oblique_cut"})

    def __init__(self, config: Ai2thorConfig | None = None) -> None:
        self.config = config or Ai2thorConfig()
        self._client_version = require_client()
        if self.config.local_executable is not None:
            require_executable(self.config.local_executable)
        self._library = SceneLibrary(self.config.sources, self.config.houses, self.config.procthor_splits)
        self._player: Player | None = None
        self._loads = 0
        self._scene: LoadedScene | None = None
        self._projection: tuple[Any, ...] | None = None  # what the player's depth and instance cameras show
        self._ortho_as_perspective: bool | None = None  # how this build reports orthographic depth, once known

    @property
    def version(self) -> str:
        if self.config.local_executable is not None:
            build = FilePath(self.config.local_executable).name
        else:
            build = f"{self.config.platform}-{(self.config.commit_id or 'release')[:12]}"
        return f"ai2thor-{self._client_version}+{build}"

    def scenes(self, split: str) -> Sequence[str]:
        return self._library.scenes(split)

    def load(self, scene_id: str) -> SceneInfo:
        scene = self._library.scene(scene_id)
        self._scene = self._projection = None
        if self._loads >= self.config.recycle_after:
            self.close()
        try:
            if self._player is None:
                self._player = self._start(scene)
            else:
                self._player.reset(scene.payload)
            self._loads += 1
            self._scene = self._read(scene)
        except (SimulatorDied, BackendUnavailable):
            self.close()
            raise
        return self._scene.info

    def _start(self, scene: ThorScene) -> Player:
        """A player with ``scene`` loaded."""
        from datagen.backends.ai2thor.process import Player

        config = self.config
        arguments: dict[str, Any] = {
            "scene": scene.payload,
            "width": config.image_size,
            "height": config.image_size,
            "quality": config.quality,
            "x_display": config.x_display,
            "gpu_device": config.gpu_device,
            "server_timeout": config.step_timeout_s,
            "server_start_timeout": config.start_timeout_s,
            "gridSize": config.grid_size,
            "renderDepthImage": True,
            "renderInstanceSegmentation": True,
            "makeAgentsVisible": False,
        }
        if config.local_executable is not None:
            # The client splits this as a shell would, and hands DISPLAY to every local build, whether it needs it or not.
            arguments["local_executable_path"] = shlex.quote(config.local_executable)
            if config.platform != "Linux64" and "DISPLAY" not in os.environ:
                arguments["x_display"] = config.x_display or NO_DISPLAY
        else:
            arguments["platform"] = config.platform
        if config.commit_id is not None:
            arguments["commit_id"] = config.commit_id
        return Player(arguments, config.server)

    def _act(self, action: str, **arguments: Any) -> Any:
        """An action of the player; a player that dies of it is forgotten."""
        if self._player is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        try:
            return self._player.act(action, **arguments)
        except (SimulatorDied, BackendUnavailable):
            self.close()
            raise

    def _read(self, scene: ThorScene) -> LoadedScene:
        """Everything that is known of the scene just loaded; sets up the camera."""
        if start := scene.agent:
            self._act("TeleportFull", **start, renderImage=False)
        records = self._act("PausePhysicsAutoSim").metadata["objects"]
        reached = self._act("GetReachablePositions").metadata["actionReturn"] or []
        self._act("SetObjectFilter", objectIds=[], renderImage=False)
        places = np.array([from_thor(place) for place in reached]).reshape(-1, 3)
        floor_z = round(float(np.median(places[:, 2])) - AGENT_HEIGHT, 3) if len(places) else 0.0
        width, height = self._player.size if self._player is not None else (1, 1)
        arguments = camera_to_thor(top_down_camera((0, 0, 1, 1), 1, floor_z))
        self._act("AddThirdPartyCamera", **arguments, renderImage=False)
        if self.config.local_executable is not None and self.config.platform == "CloudRendering":
            # Such builds ignore the quality of the command line, and the client takes every local build for Linux64.
            self._act("ChangeQuality", quality=self.config.quality, renderImage=False)
        # This makes the player copy the camera to its depth and instance cameras and colour what CreateHouse has made.
        shown = self._act("ChangeResolution", x=width, y=height)
        self._check_build(shown)
        box = shown.metadata["sceneBounds"]
        centre, half = from_thor(box["center"]), from_thor(box["size"]) / 2
        bounds = (centre - half, centre + half)
        (x0, y0, _), (x1, y1, _) = bounds
        rooms = scene.rooms(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        info = SceneInfo(
            scene_id=scene.scene_id,
            backend=self.name,
            backend_version=self.version,
            bounds_min=triple(bounds[0]),
            bounds_max=triple(bounds[1]),
            rooms=rooms,
            floor_z=floor_z,
            source_licence=LICENCE,
        )
        inventory = Inventory(records, shown.metadata["colors"], bounds, rooms)
        lattice = Lattice(scene.scene_id, places[:, :2], self.config.grid_size, floor_z)
        return LoadedScene(info, inventory, lattice)

    def _check_build(self, event: Any) -> None:
        """``BackendUnavailable`` if the player does not send what frames are made of."""
        sent = {
            "sceneBounds": event.metadata.get("sceneBounds"),
            "depthFormat": event.metadata.get("depthFormat"),
            "colors": event.metadata.get("colors"),
            "third-party pictures": event.third_party_camera_frames,
            "third-party depth": event.third_party_depth_frames,
            "third-party instances": event.third_party_instance_segmentation_frames,
        }
        if missing := [name for name, value in sent.items() if not value]:
            raise BackendUnavailable(
                f"this AI2-THOR build sends no {', '.join(missing)}: it is not the one that belongs to ai2thor "
                f"{self._client_version}; leave backend.commit_id and backend.local_executable unset, or take a 5.0 build"
            )

    @property
    def _loaded(self) -> LoadedScene:
        if self._scene is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._scene

    @property
    def info(self) -> SceneInfo:
        return self._loaded.info

    def close(self) -> None:
        if self._player is not None:
            self._player.stop()
        self._player = self._scene = self._projection = None
        self._loads = 0

    def objects(self) -> tuple[SceneObject, ...]:
        return self._loaded.inventory.objects

    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        outlines = {room.id: room.polygon for room in self._loaded.info.rooms}
        if room_id is not None and room_id not in outlines:
            raise SceneError(unknown_name(f"room of scene {self._loaded.info.scene_id}", room_id, list(outlines)))
        return self._loaded.lattice.sample(count, rng, clearance, outlines[room_id] if room_id is not None else None)

    def free_map(self, clearance: float = 0.2) -> FreeMap:
        return self._loaded.lattice.map(clearance)

    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        """The simulator's path over its navmesh where that keeps to free cells, else the one over the lattice."""
        lattice = self._loaded.lattice
        walk = lattice.shortest_path(start, goal, clearance)
        if walk is None:
            return None
        stand = [0.0, 0.0, AGENT_HEIGHT]
        ends = {"position": to_thor(np.add(walk.points[0], stand)), "target": to_thor(np.add(walk.points[-1], stand))}
        try:
            answer = self._act("GetShortestPathToPoint", **ends).metadata["actionReturn"]
        except SceneError:  # no navmesh here
            return walk
        corners = np.array([from_thor(corner)[:2] for corner in answer["corners"]])
        direct = lattice.path(corners) if len(corners) > 1 else walk
        return direct if direct.length_m <= walk.length_m and lattice.walkable(corners, clearance) else walk

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        info = self._loaded.info
        cut, ceiling = info.floor_z + self.config.top_down_cut_m, info.bounds_max[2]
        shown = [without_ceiling(camera, cut, ceiling) if hide else camera for camera in cameras]
        frames: dict[int, Frame] = {}
        # Cameras of one projection follow each other: a change of projection costs a second message.
        for index in sorted(range(len(cameras)), key=lambda number: projection_of(shown[number])):
            frames[index] = self._frame(cameras[index], shown[index], modalities)
        return [frames[index] for index in range(len(cameras))]

    def _frame(self, camera: Camera, shown: Camera, modalities: Collection[Modality]) -> Frame:
        """What ``shown`` sees, as a frame of ``camera``."""
        event = self._look(shown)
        as_perspective = shown.ortho_height_m is not None and self._reports_as_perspective()
        depth = planar_depth(event.third_party_depth_frames[0], shown, as_perspective)
        rgb = instance = None
        if "rgb" in modalities:
            rgb = np.ascontiguousarray(event.third_party_camera_frames[0][:, :, :3])
        if "instance" in modalities:
            colours = event.third_party_instance_masks[0].instance_segmentation_frame_uint32
            instance = self._loaded.inventory.instances(colours)
            instance[depth == 0] = -1
        return Frame(camera, rgb, depth if "depth" in modalities else None, instance)

    def _look(self, camera: Camera) -> Any:
        """The player's event with the pictures of ``camera``."""
        projection = projection_of(camera)
        same = projection == self._projection
        event = self._act("UpdateThirdPartyCamera", thirdPartyCameraId=0, **camera_to_thor(camera), renderImage=same)
        if not same:
            # The player copies a changed field of view or near plane to its depth and instance cameras only then.
            event = self._act("ChangeResolution", x=camera.width, y=camera.height)
            self._projection = projection
        return event

    def _reports_as_perspective(self) -> bool:
        """How this build reports orthographic depth: found out once, by looking down on the scene."""
        if self._ortho_as_perspective is None:
            info = self._loaded.info
            (x0, y0, low), (x1, y1, high) = info.bounds_min, info.bounds_max
            camera = top_down_camera((x0, y0, x1, y1), 64, info.floor_z)
            reported = self._look(camera).third_party_depth_frames[0]
            self._ortho_as_perspective = linearised_as_perspective(reported, camera, (low, high))
        return self._ortho_as_perspective


@dataclass(frozen=True, slots=True, eq=False)
class LoadedScene:
    """What the backend knows of the scene in the player."""

    info: SceneInfo
    inventory: Inventory
    lattice: Lattice


def projection_of(camera: Camera) -> tuple[float, ...]:
    """Everything about a camera but its pose: size, lens (degrees, or minus metres of height), near and far plane."""
    lens = camera.vertical_fov_deg if camera.ortho_height_m is None else -camera.ortho_height_m
    return (camera.width, camera.height, lens, camera.near, camera.far)
