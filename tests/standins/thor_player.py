"""A program that the real ``ai2thor.controller.Controller`` takes for its Unity player.

It speaks the FIFO and the WSGI protocol, answers the actions that the backend uses as AI2-THOR 5.0 does, and draws
embedded scenes. Geometry is derived here from Unity's definitions (left-handed Euler matrices, bottom-up images), not from
the adapter under test. What Unity does oddly is kept: depth and instance cameras take over a changed projection only
with a change of resolution, and orthographic depth is linearised as if it were a perspective.

``THOR_STANDIN`` names a JSON file: ``preset`` of the scenes and settings of ``blocks`` rooms, ``raised`` for scenes whose
floor is not at zero, oddities of other builds, and
one ``fault`` (deleted from the file when it strikes, so that a second player is sound).
"""

import json
import math
import os
import re
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from datagen.backends.base import SceneObject
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.blocks import BlocksConfig
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.embedded.scenes import RaisedBackend
from tests.standins.thor_wire import connect
from tests.waiting import HANGS

AGENT_HEIGHT = 0.901
CAPSULE = 0.2
SILENCE_S = 4 * HANGS  # longer than any test waits, and not for ever if nobody ends it
BLUE = (0, 0, 255)
OUTSIDE = {"x": -100.0, "y": AGENT_HEIGHT, "z": -100.0}
LISTED_STRUCTURE = ("floor", "door", "window")
SCENES = [f"FloorPlan{hundred + n}_physics" for hundred in (0, 200, 300, 400) for n in range(1, 31)]
SCENES += [f"FloorPlan_Train{layout}_{n}" for layout in range(1, 13) for n in range(1, 6)]
CAMERA_ARGUMENTS = {
    "position",
    "rotation",
    "fieldOfView",
    "orthographic",
    "orthographicSize",
    "nearClippingPlane",
    "farClippingPlane",
}


class Refused(Exception):
    """An action that fails; ``code`` is AI2-THOR's errorCode."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def vector(point: Any) -> dict[str, float]:
    """World (x, y, z), z up, as Unity's {x, y, z}, y up."""
    return {"x": float(point[0]), "y": float(point[2]), "z": float(point[1])}


def unity_axes(angles: dict[str, float]) -> np.ndarray:
    """Columns: right, up and forward of a Unity transform with Euler angles in degrees, in Unity's own coordinates."""
    ax, ay, az = (math.radians(angles[axis]) for axis in "xyz")
    about_x = np.array([[1, 0, 0], [0, math.cos(ax), -math.sin(ax)], [0, math.sin(ax), math.cos(ax)]])
    about_y = np.array([[math.cos(ay), 0, math.sin(ay)], [0, 1, 0], [-math.sin(ay), 0, math.cos(ay)]])
    about_z = np.array([[math.cos(az), -math.sin(az), 0], [math.sin(az), math.cos(az), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def pose_of(position: dict[str, float], angles: dict[str, float]) -> CameraPose:
    """The pose whose forward and up vectors are those of the Unity transform."""
    right, up, forward = unity_axes(angles).T[:, [0, 2, 1]]
    pitch = math.asin(max(-1.0, min(1.0, forward[2])))
    steep = abs(forward[2]) > 1 - 1e-9
    yaw = math.atan2(*(-np.sign(forward[2]) * up[[1, 0]])) if steep else math.atan2(forward[1], forward[0])
    level = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    roll = 0.0 if steep else math.atan2(float(np.cross(level, right) @ -forward), float(level @ right))
    return CameraPose((position["x"], position["z"], position["y"]), yaw, pitch, roll)


class World:
    """One embedded scene in AI2-THOR's words."""

    def __init__(self, preset: str, blocks: dict[str, Any], lifted: bool) -> None:
        kind = RaisedBackend if lifted else EmbeddedBackend
        self._backend = kind(EmbeddedConfig(preset=preset, blocks=BlocksConfig(**blocks)))
        self._preset = preset
        self.loaded = False

    def load(self, name: str) -> None:
        """The scene of an AI2-THOR name, or of an embedded scene id."""
        number = re.fullmatch(r"FloorPlan(\d+)_physics", name)
        other = f"{self._preset}-train-{int(number[1]) if number else zlib.crc32(name.encode()) % 1000}"
        self.info = self._backend.load(name if name.startswith(f"{self._preset}-") else other)
        self.objects = self._backend.objects()
        self.names = [self._name(item) for item in self.objects]
        self.colours = [
            (crc & 255, crc >> 8 & 255, crc >> 16 & 255) for crc in (zlib.crc32(n.encode()) for n in self.names)
        ]
        self.loaded = True

    def _name(self, item: SceneObject) -> str:
        kind = item.category.title().replace(" ", "")
        return f"{kind}|{item.centre[0]:+06.2f}|{item.centre[2]:+06.2f}|{item.centre[1]:+06.2f}|{item.index}"

    def records(self) -> list[dict[str, Any]]:
        """Metadata of what AI2-THOR lists: not walls and ceilings, which are drawn all the same."""
        listed = [item for item in self.objects if not item.is_structure or item.category in LISTED_STRUCTURE]
        return [self._record(item) for item in listed]

    def _record(self, item: SceneObject) -> dict[str, Any]:
        corners = item.obb.corners()[:, [0, 2, 1]].tolist() if item.obb is not None and item.movable else None
        return {
            "objectId": self.names[item.index],
            "objectType": item.category.title().replace(" ", ""),
            "name": item.id,
            "position": vector(item.centre),
            "axisAlignedBoundingBox": {"center": vector(item.centre), "size": vector(item.size)},
            "objectOrientedBoundingBox": {"cornerPoints": corners} if corners else None,
            "pickupable": item.movable,
            "moveable": False,
            "visible": False,
        }

    def palette(self) -> list[dict[str, Any]]:
        """Colours of objects, and of their classes, which no instance image shows."""
        kinds = sorted({name.split("|")[0] for name in self.names})
        classes = [
            {"name": kind, "color": [zlib.crc32(kind.encode()) >> shift & 255 for shift in (0, 8, 16)]}
            for kind in kinds
        ]
        return classes + [{"name": n, "color": list(c)} for n, c in zip(self.names, self.colours, strict=True)]

    def bounds(self) -> dict[str, Any]:
        low, high = np.asarray(self.info.bounds_min), np.asarray(self.info.bounds_max)
        return {"center": vector((low + high) / 2), "size": vector(high - low)}

    def reachable(self, step: float, agent: dict[str, float] | None) -> list[dict[str, float]]:
        """Positions that a sweep in steps along x and z reaches from the agent's position, or else from any."""
        free = self._backend.free_map(CAPSULE)
        start = free.centre_of(*np.nonzero(free.grid))[0] if agent is None else np.array([agent["x"], agent["z"]])
        if not self._backend.is_free(start[None], CAPSULE).all():
            raise Refused("the agent is not in the house")
        queue, seen = [(0, 0)], {(0, 0)}
        for i, j in queue:
            for di, dj in ((1, 0), (0, 1), (-1, 0), (0, -1)):
                there = (i + di, j + dj)
                sweep = start + step * (np.array([i, j]) + np.linspace(0, 1, 6)[:, None] * [di, dj])
                if there not in seen and self._backend.is_free(sweep, CAPSULE).all():
                    seen.add(there)
                    queue.append(there)
        height = self.info.floor_z + AGENT_HEIGHT
        return [vector((*(start + step * np.array(place)), height)) for place in queue]

    def path(self, start: dict[str, float], goal: dict[str, float]) -> list[dict[str, float]]:
        ends = [np.array([place["x"], place["z"], 0.0]) for place in (start, goal)]
        path = self._backend.shortest_path(ends[0], ends[1])
        if path is None:
            raise Refused("Path to target could not be found")
        return [vector(point) for point in path.points]

    def pictures(self, colour_camera: Camera, data_camera: Camera, ortho_is_linear: bool) -> list[bytes]:
        """RGB, depth in metres and instance colours as Unity sends them: bottom row first."""
        above = colour_camera.pose.position[2] > self.info.bounds_max[2]
        hide = ("ceiling",) if above else ()  # ceilings have no upper side
        rgb = self._backend.render([colour_camera], ("rgb",), hide)[0].rgb
        data = self._backend.render([data_camera], ("depth", "instance"), hide)[0]
        near, far = data_camera.near, data_camera.far
        depth = np.where(data.depth == 0, far, data.depth).astype(np.float64)
        if data_camera.ortho_height_m is not None and not ortho_is_linear:
            buffer = (far - depth) / (far - near)
            depth = 1 / ((1 / near - 1 / far) * buffer + 1 / far)
        table = np.array([BLUE, *self.colours], np.uint8)
        ids = np.concatenate([table[data.instance + 1], np.full((*data.instance.shape, 1), 255, np.uint8)], axis=2)
        return [np.ascontiguousarray(image[::-1]).tobytes() for image in (rgb, depth.astype(np.float32), ids)]


class StandIn:
    """The state of a player and its answers to actions."""

    def __init__(self, settings: dict[str, Any], width: int, height: int) -> None:
        self.settings = settings
        self.world = World(settings.get("preset", "home"), settings.get("blocks", {}), settings.get("raised", False))
        self.size = (width, height)
        self.cameras: list[dict[str, Any]] = []
        self.copied: list[dict[str, Any]] = []
        self.flags: dict[str, Any] = {}
        self.filter: list[str] | None = None
        self.scene = "FloorPlan1_physics"
        self.agent: dict[str, float] | None = None

    def do(self, action: dict[str, Any]) -> Any:
        """Carry out an action and give its actionReturn; ``Refused`` if it fails."""
        name = action["action"]
        method = getattr(self, f"do_{name}", None)
        if method is None or name in self.settings.get("unknown", ()):
            raise Refused(f"Invalid action: {name}", "InvalidAction")
        return method(
            **{key: value for key, value in action.items() if key not in ("action", "sequenceId", "renderImage")}
        )

    def do_Reset(self, sceneName: str) -> None:
        self.cameras, self.copied, self.filter, self.scene = [], [], None, sceneName
        self.world.loaded, self.agent = False, None
        if sceneName != "Procedural":
            self.world.load(sceneName)

    def do_Initialize(self, **flags: Any) -> dict[str, float]:
        if flags.get("agentMode", "default") != "default":
            raise Refused("unsupported agentMode", "InvalidArgument")
        self.flags = flags
        return {"cameraNearPlane": 0.1, "cameraFarPlane": 20.0}

    def do_CreateHouse(self, house: dict[str, Any]) -> None:
        if self.scene != "Procedural":
            raise Refused("CreateHouse needs the scene Procedural")
        self.world.load(house["id"])
        self.agent = OUTSIDE

    def do_GetScenesInBuild(self) -> list[str]:
        return SCENES

    def do_ChangeResolution(self, x: int, y: int) -> None:
        self.size = (x, y)
        self.copied = [dict(camera) for camera in self.cameras]

    def do_ChangeQuality(self, quality: str) -> None:
        pass

    def do_PausePhysicsAutoSim(self) -> None:
        pass

    def do_SetObjectFilter(self, objectIds: list[str]) -> None:
        self.filter = objectIds

    def do_GetReachablePositions(self) -> list[dict[str, float]]:
        return self.world.reachable(self.flags["gridSize"], self.agent)

    def do_TeleportFull(self, position: Any, rotation: Any, horizon: float, standing: bool) -> None:
        self.agent = position

    def do_GetShortestPathToPoint(self, position: dict[str, float], target: dict[str, float]) -> dict[str, Any]:
        return {"corners": self.world.path(position, target)}

    def do_AddThirdPartyCamera(self, **camera: Any) -> None:
        self._check_camera(camera)
        self.cameras.append(camera)
        self.copied.append(dict(camera))

    def do_UpdateThirdPartyCamera(self, thirdPartyCameraId: int, **camera: Any) -> None:
        self._check_camera(camera)
        if not 0 <= thirdPartyCameraId < len(self.cameras):
            raise Refused(f"thirdPartyCameraId: {thirdPartyCameraId} is out of range")
        self.cameras[thirdPartyCameraId].update(camera)

    def _check_camera(self, camera: dict[str, Any]) -> None:
        if unknown := set(camera) - CAMERA_ARGUMENTS:
            raise Refused(f"unknown argument {unknown}", "InvalidArgument")
        if not camera["orthographic"] and "orthographicSize" in camera:
            raise Refused("orthographicSize can only be set when orthographic=True", "InvalidArgument")
        if not 0 < camera["fieldOfView"] < 180:
            raise Refused("fieldOfView must be in 0..180", "InvalidArgument")

    def camera(self, number: int, projection: dict[str, Any]) -> Camera:
        """Camera ``number`` where it stands now, with the projection of ``projection``."""
        now = self.cameras[number]
        return Camera(
            pose_of(now["position"], now["rotation"]),
            *self.size,
            vertical_fov_deg=projection["fieldOfView"],
            ortho_height_m=2 * projection["orthographicSize"] if projection["orthographic"] else None,
            near=projection["nearClippingPlane"],
            far=projection["farClippingPlane"],
        )

    def images(self) -> list[tuple[str, bytes]]:
        """The agent's own (blank) pictures and those of every third-party camera."""
        width, height = self.size
        old = self.settings.get("old_build", False)
        result = [("image", bytes(3 * width * height))]
        if self.flags.get("renderDepthImage"):
            result.append(("image_depth", bytes(4 * width * height)))
        if self.flags.get("renderInstanceSegmentation"):
            result.append(("image_ids", bytes(4 * width * height)))
        for number, camera in enumerate(self.cameras):
            pictures = self.world.pictures(
                self.camera(number, camera),
                self.camera(number, self.copied[number]),
                self.settings.get("ortho_is_linear", False),
            )
            names = ("image-thirdParty-camera", "image_thirdParty_depth", "image_thirdParty_image_ids")
            result += list(zip(names, pictures, strict=True))[: 1 if old else 3]
        return result

    def agent_metadata(
        self, action: dict[str, Any], returned: Any, failure: Refused | None, drawn: bool
    ) -> dict[str, Any]:
        loaded = self.world.loaded
        records = self.world.records() if loaded else []
        cameras = [{"thirdPartyCameraId": n, **camera} for n, camera in enumerate(self.cameras)]
        metadata = {
            "agentId": 0,
            "screenWidth": self.size[0],
            "screenHeight": self.size[1],
            "lastAction": action.get("action", ""),
            "lastActionSuccess": failure is None,
            "errorMessage": str(failure or ""),
            "errorCode": failure.code if failure else "",
            "actionReturn": returned,
            "sceneName": self.scene,
            "objects": [record for record in records if self.filter is None or record["objectId"] in self.filter],
            "agent": {
                "position": {"x": 0, "y": AGENT_HEIGHT, "z": 0},
                "rotation": {"x": 0, "y": 0, "z": 0},
                "cameraHorizon": 0,
            },
            "cameraPosition": {"x": 0, "y": 1.5, "z": 0},
            "fov": 90.0,
            "thirdPartyCameras": cameras if drawn else None,
            "colors": self.world.palette()
            if loaded and drawn and self.flags.get("renderInstanceSegmentation")
            else None,
            "sceneBounds": self.world.bounds() if loaded else None,
            "isSceneAtRest": True,
        }
        if not self.settings.get("old_build", False):
            metadata["depthFormat"] = "Meters"
        return metadata


def strike(fault: dict[str, Any], wire: Any) -> None:
    """Do what a broken player does, once."""
    path = Path(os.environ["THOR_STANDIN"])
    settings = json.loads(path.read_text())
    settings.pop("fault")
    path.write_text(json.dumps(settings))
    kind = fault["kind"]
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "hang":
        time.sleep(SILENCE_S)
    elif kind == "leave":
        wire.leave()
        time.sleep(SILENCE_S)
    else:
        wire.send_nonsense(kind)


def main() -> None:
    argv = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    settings = json.loads(Path(os.environ["THOR_STANDIN"]).read_text())
    fault = settings.get("fault", {})
    if fault.get("at") == "launch":
        strike(fault, None)
    player = StandIn(settings, int(argv["-screen-width"]), int(argv["-screen-height"]))
    wire = connect(os.environ)
    action: dict[str, Any] = {"sequenceId": 0}
    countdown = fault.get("after", 0)
    while True:
        returned, failure = None, None
        if "action" in action:
            if fault.get("at") == action["action"]:
                if countdown == 0:
                    strike(fault, wire)
                countdown -= 1
            try:
                returned = player.do(action)
            except Refused as refusal:
                failure = refusal
        drawn = action.get("renderImage", True)
        fast = action.get("action") in ("GetReachablePositions", "GetShortestPathToPoint") and failure is None
        metadata = player.agent_metadata(action, returned, failure, drawn)
        images = player.images() if drawn and not (fast and wire.patches) and player.world.loaded else []
        if drawn and not images:
            images = [("image", bytes(3 * player.size[0] * player.size[1]))]
        try:
            action = wire.exchange(metadata, images, action["sequenceId"], fast)
        except EOFError:
            if settings.get("stays"):
                time.sleep(SILENCE_S)
            return


if __name__ == "__main__":
    main()
