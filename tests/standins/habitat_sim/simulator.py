"""The simulator: one scene, agents, sensors, and frames drawn by casting rays."""

from __future__ import annotations

from typing import Any

import numpy as np
from habitat_sim.agent import Agent, AgentState
from habitat_sim.assets import Asset, load_asset
from habitat_sim.death import leave
from habitat_sim.nav import PathFinder
from habitat_sim.objects import CCSemanticObject, RigidObjectManager, SemanticScene
from habitat_sim.settings import CameraSensorSpec, Configuration, NavMeshSettings, SemanticSensorTarget, SensorType
from habitat_sim.values import Range3D, Vector3, about


class CameraSensor:
    """The C++ side of a sensor; its render camera knows the projection."""

    def __init__(self, spec: CameraSensorSpec) -> None:
        self.projection_matrix = spec.projection()

    @property
    def render_camera(self) -> CameraSensor:
        return self


class Sensor:
    def __init__(self, spec: CameraSensorSpec, agent: Agent) -> None:
        spec.check()
        self.spec, self.uuid, self._agent = spec, spec.uuid, agent
        self.sensor_object = CameraSensor(spec)

    def camera_to_world(self) -> np.ndarray:
        """T(agent) R(agent) T(position) Rz Ry Rx, (4, 4)."""
        a, b, c = self.spec.orientation
        local = np.eye(4)
        local[:3, :3] = about(2, c) @ about(1, b) @ about(0, a)
        local[:3, 3] = list(self.spec.position)
        return self._agent.transformation() @ local


class Simulator:
    def __init__(self, config: Configuration) -> None:
        if not config.agents:
            raise RuntimeError("Config has not agents specified.  Must specify at least 1 agent")
        settings = config.sim_cfg
        if settings.gpu_device_id >= 0 and any(agent.sensor_specifications for agent in config.agents):
            leave(
                "Platform::WindowlessEglApplication::tryCreateContext(): unable to find CUDA device "
                f"{settings.gpu_device_id} among 1 EGL devices in total",
                "WindowlessContext: Unable to create windowless context",
            )
        self._open(config)

    def reconfigure(self, config: Configuration) -> None:
        """The next scene in the same simulator; sensors of the earlier one are gone."""
        self._open(config)

    def _open(self, config: Configuration) -> None:
        settings = config.sim_cfg
        self.config = config
        self._asset = load_asset(settings.scene_id)
        self.pathfinder = PathFinder()
        self._objects = RigidObjectManager()
        self._drawn: tuple[int, Any, Asset] | None = None
        self.agents = [Agent(agent) for agent in config.agents]
        self.sensors: dict[str, Sensor] = {}
        for index, agent in enumerate(config.agents):
            for spec in agent.sensor_specifications:
                self.add_sensor(spec, index)
        if settings.navmesh_settings is not None:
            self.recompute_navmesh(self.pathfinder, settings.navmesh_settings)

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self, destroy: bool = True) -> None:
        self.agents, self.sensors = [], {}

    @property
    def curr_scene_name(self) -> str:
        name = self.config.sim_cfg.scene_id
        return name.rsplit("/", 1)[-1].split(".")[0]

    @property
    def gpu_device(self) -> int:
        return self.config.sim_cfg.gpu_device_id

    @property
    def scene_aabb(self) -> Range3D:
        corners = np.zeros((1, 3)) if self._asset is None else self._asset.triangles.reshape(-1, 3)
        return Range3D(Vector3(corners.min(axis=0)), Vector3(corners.max(axis=0)))

    @property
    def semantic_scene(self) -> SemanticScene | None:
        return SemanticScene(self._asset.things) if self._asset is not None else None

    def build_semantic_CC_objects(self) -> dict[int, list[CCSemanticObject]]:
        """One component for each annotation with geometry, by its place in ``semantic_scene.objects``."""
        scene = self.semantic_scene
        found = enumerate(scene.objects if scene is not None else [])
        return {
            index: [CCSemanticObject(thing.obb.upright(), 8)]
            for index, thing in found
            if any(list(thing.obb.half_extents))
        }

    def get_rigid_object_manager(self) -> RigidObjectManager:
        return self._objects

    def get_agent(self, agent_id: int) -> Agent:
        return self.agents[agent_id]

    def initialize_agent(self, agent_id: int, initial_state: AgentState | None = None) -> Agent:
        agent = self.get_agent(agent_id)
        if initial_state is None:
            initial_state = AgentState()
            if self.pathfinder.is_loaded:
                initial_state.position = np.array(list(self.pathfinder.get_random_navigable_point()))
        agent.set_state(initial_state)
        return agent

    def recompute_navmesh(self, pathfinder: PathFinder, navmesh_settings: NavMeshSettings) -> bool:
        if self._asset is None:
            raise AssertionError(
                "ESP_CHECK failed: ::recomputeNavMesh: Unable to compute a navmesh upon a non-existent mesh - "
                "the underlying joined collision mesh has no vertices."
            )
        return pathfinder.build(self._asset, navmesh_settings)

    def add_sensor(self, sensor_spec: CameraSensorSpec, agent_id: int | None = None) -> None:
        self.sensors[sensor_spec.uuid] = Sensor(sensor_spec, self.agents[agent_id or 0])

    def remove_sensor(self, uuid: str) -> None:
        del self.sensors[uuid]

    def get_sensor(self, uuid: str) -> Sensor:
        return self.sensors[uuid]

    def get_sensor_observations(self, agent_ids: int = 0) -> dict[str, np.ndarray]:
        self.get_agent(agent_ids)
        return self.render_sensors()

    def render_sensors(self, sensors: list[Sensor] | None = None) -> dict[str, np.ndarray]:
        return {
            sensor.uuid: self._observe(sensor)
            for sensor in (list(self.sensors.values()) if sensors is None else sensors)
        }

    def _observe(self, sensor: Sensor) -> np.ndarray:
        spec = sensor.spec
        shape = (spec.resolution[0], spec.resolution[1])
        hit, depth = self._cast(sensor) if self._content() else (np.full(shape, -1), np.zeros(shape, np.float32))
        if spec.sensor_type is SensorType.DEPTH:
            return depth
        asset = self._content()
        if spec.sensor_type is SensorType.SEMANTIC:
            if asset is None:
                return np.zeros(shape, np.uint32)
            ids = asset.semantic_id
            if spec.semantic_target is SemanticSensorTarget.OBJECT_ID:
                ids = self._objects.owner_of(asset.triangles)
            return np.where(hit >= 0, ids[hit], 0).astype(np.uint32)
        image = np.zeros((*shape, 4), np.uint8)
        image[..., 3] = 255
        if asset is not None:
            image[..., :3] = np.where((hit >= 0)[..., None], asset.colour[hit], 0)
        return image

    def _content(self) -> Asset | None:
        """The stage with the objects that were added."""
        return None if self._asset is None else self._objects.merged(self._asset)

    def _cast(self, sensor: Sensor) -> tuple[np.ndarray, np.ndarray]:
        """Triangle index (h, w), -1 for none, and depth as habitat-sim reports it: 0 for none, not metric if parallel."""
        asset = self._content()
        assert asset is not None
        if self._drawn is None or self._drawn[0] != len(asset.triangles):
            self._drawn = (len(asset.triangles), asset.tree(), asset)
        height, width = sensor.spec.resolution[0], sensor.spec.resolution[1]
        projection = sensor.sensor_object.projection_matrix.astype(float)
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        x = (2 * columns.ravel() / width - 1) / projection[0, 0]
        y = (1 - 2 * rows.ravel() / height) / projection[1, 1]
        parallel = projection[3, 3] == 1
        straight = np.tile([0.0, 0, -1], (x.size, 1))
        directions = straight if parallel else np.stack([x, y, -np.ones_like(x)], axis=1)
        near, far = np.float32(sensor.spec.near), np.float32(sensor.spec.far)
        origins = directions * near + (np.stack([x, y, 0 * x], axis=1) if parallel else 0.0)
        matrix = sensor.camera_to_world()
        found = self._drawn[1].run(
            (origins @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32),
            (directions @ matrix[:3, :3].T).astype(np.float32),
            output=True,
        )
        z = found["tfar"].astype(float) + near
        hit = np.where((found["primID"] >= 0) & (z <= far), found["primID"], -1)
        z = np.where(hit >= 0, z, near)
        clip_z = -projection[2, 2] * z + projection[2, 3]
        buffer = ((clip_z if parallel else clip_z / z) + 1) / 2
        u0, u1 = (projection[2, 2] - 1) / 2, projection[2, 3] / 2
        with np.errstate(divide="ignore"):
            depth = np.where(hit >= 0, u1 / (buffer + u0), 0).astype(np.float32)
        return hit.reshape(height, width), depth.reshape(height, width)
