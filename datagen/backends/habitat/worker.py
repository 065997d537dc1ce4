"""Runs habitat-sim for :mod:`datagen.backends.habitat`, inside the environment where habitat-sim is installed.

Started as a script by our process, which sends requests to its standard input and reads replies from its standard output
(:mod:`protocol`). Python 3.9, standard library, numpy and habitat_sim only, nothing of this project. Everything stays in
habitat-sim's own frames and units; the other side converts.
"""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from protocol import VERSION, Arrays, Header, encode, receive  # type: ignore[import-not-found]  # lies beside this script

KINDS = ("COLOR", "DEPTH", "SEMANTIC")
MAX_SENSORS = 24
#: Methods of Simulator without which nothing works. Where ``get_sensor``, ``remove_sensor`` or ``render_sensors`` is lacking, as
#: before v0.3.4, its table of sensors serves.
NEEDED = ("add_sensor", "recompute_navmesh", "get_agent", "reconfigure", "close")
STRAY = 0.02  # of an annotation's vertices: a connected component with fewer is a stray scrap of a scan

Reply = tuple[Header, Arrays]


class Worker:
    """At most one simulator; each public method answers one kind of request."""

    def __init__(self, habitat_sim: Any) -> None:
        self.api = habitat_sim
        self.sim: Any = None
        self.sensors: OrderedDict[tuple[Any, ...], str] = OrderedDict()
        self.made = 0
        self.opened = 0
        self.objects_are_instances = False

    def open(self, request: Header, _: Arrays) -> Reply:
        """Load a scene and its navmesh; describe both.

        A simulator that runs is given the next scene: a new one takes 16 CPU-s on software GL, that 0.2 at most. It keeps what
        it has loaded, so it makes room for a new one after ``request["reuse"]`` scenes.
        """
        self.objects_are_instances = request["instances"] == "objects"
        settings = self.api.SimulatorConfiguration()
        settings.scene_id = request["scene"]
        settings.scene_dataset_config_file = request["dataset_config"]
        settings.gpu_device_id = request["gpu"]
        settings.load_semantic_mesh = True
        agent = self.api.agent.AgentConfiguration()
        agent.height, agent.radius = request["navmesh"]["agent_height"], request["navmesh"]["agent_radius"]
        # A simulator loads textures and the semantic mesh only if it starts with sensors that need them.
        agent.sensor_specifications = [self._spec(kind, "initial_" + kind, dict(SMALLEST)) for kind in KINDS]
        configuration = self.api.Configuration(settings, [agent])
        self.sensors.clear()
        if self.sim is None or self.opened >= request.get("reuse", 1):
            self.close({}, {})
            self.sim = self.api.Simulator(configuration)
        else:
            self.sim.reconfigure(configuration)
        self.opened += 1
        self._fix_objects()
        navmesh = self.api.NavMeshSettings()
        for name, value in request["navmesh"].items():
            setattr(navmesh, name, value)
        finder = self.sim.pathfinder
        built = self.sim.recompute_navmesh(finder, navmesh) and finder.is_loaded
        reply = {"has_navmesh": bool(built), "scene_bounds": self._scene_bounds(), "objects": self._objects()}
        arrays = {}
        if built:  # without a navmesh every query kills the process
            arrays["vertices"] = vectors(finder.build_navmesh_vertices())
            arrays["triangles"] = np.array(finder.build_navmesh_vertex_indices(), np.int32).reshape(-1, 3)
        return reply, arrays

    def render(self, request: Header, _: Arrays) -> Reply:
        """Colour, depth and semantic images of one camera; where nothing is drawn, depth is 0 and semantic is -1."""
        camera, kinds = request["camera"], [kind for kind in KINDS if kind in request["kinds"]]
        state = self.api.agent.AgentState()
        state.position = np.array(camera["position"], np.float32)
        state.rotation = [float(value) for value in camera["rotation_xyzw"]]
        self.sim.get_agent(0).set_state(state)
        images = self._draw({kind: self._sensor(kind, camera) for kind in kinds})
        arrays = {}
        if "COLOR" in images:
            arrays["color"] = images["COLOR"][:, :, :3]
        if "DEPTH" in images:
            arrays["depth"] = images["DEPTH"]
        if "SEMANTIC" in images:
            arrays["semantic"] = np.where(images["DEPTH"] != 0, images["SEMANTIC"].view(np.int32), np.int32(-1))
        return {}, arrays

    def islands(self, request: Header, _: Arrays) -> Reply:
        """Island index of the navmesh around a height, -1 where there is none; samples lie on cell corners."""
        finder = self._finder()
        grid = finder.get_topdown_island_view(request["resolution"], request["height"], request["tolerance"])
        low, high = finder.get_bounds()
        return {"lower": numbers(low), "upper": numbers(high)}, {"islands": np.asarray(grid, np.int32)}

    def path(self, request: Header, _: Arrays) -> Reply:
        """The shortest path between two points; no points where there is none."""
        finder, path = self._finder(), self.api.ShortestPath()
        path.requested_start = np.array(request["start"], np.float32)
        path.requested_end = np.array(request["end"], np.float32)
        found = finder.find_path(path)
        return {}, {"points": vectors(path.points if found else [])}

    def close(self, _: Header, __: Arrays) -> Reply:
        """Release the simulator; harmless if there is none."""
        if self.sim is not None:
            self.sim.close()
        self.sim, self.opened = None, 0
        self.sensors.clear()
        return {}, {}

    def _draw(self, wanted: dict[str, str]) -> dict[str, Any]:
        """The images of sensors, by kind."""
        if hasattr(self.sim, "render_sensors") and hasattr(self.sim, "get_sensor"):
            seen = self.sim.render_sensors([self.sim.get_sensor(uuid) for uuid in wanted.values()])
            return {kind: seen[uuid] for kind, uuid in wanted.items()}
        sensors = {kind: self.sim._sensors[uuid] for kind, uuid in wanted.items()}
        for sensor in sensors.values():
            sensor.draw_observation()
        return {kind: sensor.get_observation() for kind, sensor in sensors.items()}

    def _remove(self, uuid: str) -> None:
        if hasattr(self.sim, "remove_sensor"):
            self.sim.remove_sensor(uuid)
        else:
            self.sim._sensors.pop(uuid, None)

    def _fix_objects(self) -> None:
        """Make separate objects part of the building's collision mesh: others do not block the navmesh."""
        if self.objects_are_instances and hasattr(self.api, "physics"):
            for thing in self.sim.get_rigid_object_manager().get_objects_by_handle_substring().values():
                thing.motion_type = self.api.physics.MotionType.STATIC

    def _finder(self) -> Any:
        finder = self.sim.pathfinder
        if not finder.is_loaded:
            raise RuntimeError("this scene has no navmesh")
        return finder

    def _sensor(self, kind: str, camera: dict[str, Any]) -> str:
        """The id of a sensor with these intrinsics; the one that was unused for longest makes room."""
        key = (kind, *(camera.get(name) for name in INTRINSICS))
        if key not in self.sensors:
            while len(self.sensors) >= MAX_SENSORS:
                self._remove(self.sensors.popitem(last=False)[1])
            self.made += 1
            self.sim.add_sensor(self._spec(kind, f"{kind}_{self.made}", camera), 0)
            self.sensors[key] = f"{kind}_{self.made}"
        self.sensors.move_to_end(key)
        return self.sensors[key]

    def _spec(self, kind: str, uuid: str, camera: dict[str, Any]) -> Any:
        """A sensor at the agent's origin, so that the agent's pose is the camera's."""
        spec = self.api.CameraSensorSpec()
        spec.uuid = uuid
        spec.sensor_type = getattr(self.api.SensorType, kind)
        spec.resolution = [int(camera["height"]), int(camera["width"])]
        spec.position = np.zeros(3, np.float32)
        spec.orientation = np.zeros(3, np.float32)
        spec.near, spec.far = float(camera["near"]), float(camera["far"])
        if camera.get("ortho_scale") is not None:
            spec.sensor_subtype = self.api.SensorSubType.ORTHOGRAPHIC
            spec.ortho_scale = float(camera["ortho_scale"])
        else:
            spec.hfov = float(camera["hfov"])
        if kind == "SEMANTIC" and self.objects_are_instances:
            spec.semantic_target = type(spec.semantic_target).OBJECT_ID
        return spec

    def _scene_bounds(self) -> list[list[float]]:
        box = self.sim.scene_aabb
        return [numbers(box.min), numbers(box.max)]

    def _objects(self) -> list[dict[str, Any]]:
        """Every instance with its oriented box; boxes of size zero are annotations without geometry."""
        if self.objects_are_instances:
            return self._rigid_objects()
        scene = self.sim.semantic_scene
        if scene is None:  # a mesh without a descriptor
            return []
        components = self._components()
        objects = []
        for index, thing in enumerate(scene.objects):
            if thing is None or thing.category is None:
                continue
            box = {
                "centre": numbers(thing.obb.center),
                "half_size": numbers(thing.obb.half_extents),
                "rotation_xyzw": numbers(thing.obb.rotation),
            }
            if components.get(index):
                box = union(components[index])
            objects.append(
                {"id": thing.id, "semantic_id": int(thing.semantic_id), "category": thing.category.name(), **box}
            )
        return objects

    def _components(self) -> dict[int, list[Any]]:
        """The connected components of each annotation by its place in the list: ``obb`` is that of the largest alone."""
        build = getattr(self.sim, "build_semantic_CC_objects", None)
        return {} if build is None else {int(key): list(found) for key, found in build().items()}

    def _rigid_objects(self) -> list[dict[str, Any]]:
        """The separate objects that a scene is composed of; their handles name what they are."""
        found = self.sim.get_rigid_object_manager().get_objects_by_handle_substring()
        objects = []
        for handle, thing in found.items():
            box, turn = thing.aabb, thing.rotation
            middle = turn.transform_vector(box.center())
            objects.append(
                {
                    "id": handle,
                    "semantic_id": int(thing.object_id),
                    "class_id": int(thing.semantic_id),
                    "category": handle,
                    "centre": np.add(numbers(thing.translation), numbers(middle)).tolist(),
                    "half_size": [size / 2 for size in numbers(box.size())],
                    "rotation_xyzw": [*numbers(turn.vector), float(turn.scalar)],
                }
            )
        return objects


INTRINSICS = ("width", "height", "near", "far", "hfov", "ortho_scale")
SMALLEST = {"width": 16, "height": 16, "near": 0.01, "far": 1000.0, "hfov": 90.0}


def union(components: list[Any]) -> dict[str, list[float]]:
    """The box along the world's axes around the connected components of an annotation, stray scraps left out."""
    vertices = [int(getattr(part, "num_src_verts", 1)) for part in components]
    kept = [part for part, count in zip(components, vertices) if count >= STRAY * sum(vertices)]  # noqa: B905 (Python 3.9)
    boxes = [(np.array(numbers(part.obb.center)), np.array(numbers(part.obb.half_extents))) for part in kept]
    low = np.min([centre - half for centre, half in boxes], axis=0)
    high = np.max([centre + half for centre, half in boxes], axis=0)
    return {
        "centre": ((low + high) / 2).tolist(),
        "half_size": ((high - low) / 2).tolist(),
        "rotation_xyzw": [0.0, 0.0, 0.0, 1.0],
    }


def numbers(vector: Any) -> list[float]:
    """A magnum or numpy vector as a list."""
    return [float(vector[i]) for i in range(len(vector))]


def vectors(points: Any) -> Any:
    """A list of vectors as float32 (n, 3)."""
    return np.array([numbers(point) for point in points], np.float32).reshape(-1, 3)


def serve(receive_next: Callable[[], Reply], send: Callable[[Header, Arrays], None]) -> None:
    """Greet, then answer one request after the other until the other side hangs up."""
    hello = {"protocol": VERSION, "python": sys.version.split()[0], "numpy": np.__version__}
    try:
        import habitat_sim  # type: ignore[import-not-found]  # in the worker's environment only
    except ImportError as error:
        send(dict(hello, error={"type": "ImportError", "message": str(error)}), {})
        return
    missing = [name for name in NEEDED if not hasattr(habitat_sim.Simulator, name)]
    send(dict(hello, habitat_sim=str(getattr(habitat_sim, "__version__", "unknown")), missing=missing), {})
    worker = Worker(habitat_sim)
    operations = {name: getattr(worker, name) for name in ("open", "render", "islands", "path", "close")}
    while True:
        try:
            request, arrays = receive_next()
        except EOFError:
            worker.close({}, {})
            return
        try:
            reply, values = operations[request["op"]](request, arrays)
        except Exception as error:  # reported to the other side, which knows what the request was for
            reply, values = {"error": {"type": type(error).__name__, "message": str(error)}}, {}
        send(reply, values)


def main() -> None:
    # habitat-sim and its libraries log to standard output, which would corrupt the messages: keep it for ourselves.
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    del sys.path[0]  # this folder's modules must not hide anyone else's
    source, sink = os.fdopen(requests, "rb"), os.fdopen(replies, "wb")

    def read_exactly(count: int) -> bytearray:
        data = bytearray(count)
        if source.readinto(data) < count:
            raise EOFError
        return data

    def send(header: Header, arrays: Arrays) -> None:
        for piece in encode(header, arrays):
            sink.write(piece)
        sink.flush()

    serve(lambda: receive(read_exactly), send)


if __name__ == "__main__":
    main()
