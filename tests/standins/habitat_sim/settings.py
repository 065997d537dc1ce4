"""Enums and configuration records with habitat-sim's names and defaults."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from habitat_sim.death import abort
from habitat_sim.values import to_vector2i, to_vector3


class SensorType(enum.Enum):
    NONE, CUSTOM, COLOR, DEPTH, SEMANTIC, AUDIO = 0, 1, 2, 3, 5, 6


class SensorSubType(enum.Enum):
    NONE, CUSTOM, PINHOLE, ORTHOGRAPHIC, FISHEYE, EQUIRECTANGULAR, IMPULSERESPONSE = range(7)


class SemanticSensorTarget(enum.Enum):
    SEMANTIC_ID, OBJECT_ID, DRAWABLE_ID = 0, 1, 2


class CameraSensorSpec:
    """Converted and rejected on assignment, as the bindings do."""

    _converted: ClassVar = {"position": to_vector3, "orientation": to_vector3, "resolution": to_vector2i}

    def __init__(self) -> None:
        self.uuid = "rgba_camera"
        self.sensor_type = SensorType.COLOR
        self.sensor_subtype = SensorSubType.PINHOLE
        self.semantic_target = SemanticSensorTarget.SEMANTIC_ID
        self.resolution = (128, 128)
        self.position = [0.0, 1.5, 0.0]
        self.orientation = [0.0, 0.0, 0.0]
        self.hfov = 90.0
        self.ortho_scale = float(np.float32(0.1))
        self.near = float(np.float32(0.01))
        self.far = 1000.0

    def __setattr__(self, name: str, value: Any) -> None:
        convert = self._converted.get(name)
        object.__setattr__(self, name, convert(value) if convert else value)

    def check(self) -> None:
        """What ends the process when the sensor is made."""
        if not self.uuid:
            abort("SensorSpec::sanityCheck(): uuid cannot be an empty string")
        if min(self.resolution[0], self.resolution[1]) <= 0:
            abort("VisualSensorSpec::sanityCheck(): resolution height and width must be greater than 0")
        if not 0 < self.near < self.far:
            abort("VisualSensorSpec::sanityCheck(): the near or far plane is illegal.")
        if self.ortho_scale <= 0:
            abort("CameraSensorSpec::sanityCheck(): orthoScale must be greater than 0")
        if max(self.resolution[0], self.resolution[1]) > 16384:
            abort(
                "Assertion framebuffer_.checkStatus(Mn::GL::FramebufferTarget::Draw) == "
                "Mn::GL::Framebuffer::Status::Complete failed at <habitat-sim>/src/esp/gfx/RenderTarget.cpp:119"
            )

    def projection(self) -> np.ndarray:
        """OpenGL projection matrix (4, 4), float32."""
        height, width = self.resolution[0], self.resolution[1]
        near, far = np.float64(np.float32(self.near)), np.float64(np.float32(self.far))
        matrix = np.zeros((4, 4))
        if self.sensor_subtype is SensorSubType.ORTHOGRAPHIC:
            matrix[0, 0], matrix[1, 1] = 2 * self.ortho_scale, 2 * self.ortho_scale * width / height
            matrix[2, 2], matrix[2, 3], matrix[3, 3] = -2 / (far - near), -(far + near) / (far - near), 1
        else:
            focal = 1 / math.tan(math.radians(float(self.hfov)) / 2)
            matrix[0, 0], matrix[1, 1] = focal, focal * width / height
            matrix[2, 2], matrix[2, 3], matrix[3, 2] = -(far + near) / (far - near), -2 * far * near / (far - near), -1
        return matrix.astype(np.float32)


class SimulatorConfiguration:
    def __init__(self) -> None:
        self.scene_id = ""
        self.scene_dataset_config_file = "default"
        self.gpu_device_id = 0
        self.random_seed = 0
        self.create_renderer = True
        self.enable_physics = False
        self.allow_sliding = True
        self.load_semantic_mesh = True
        self.requires_textures = True
        self.navmesh_settings: NavMeshSettings | None = None


def single(value: float) -> float:
    return float(np.float32(value))


@dataclass
class NavMeshSettings:
    agent_height: float = 1.5
    agent_max_climb: float = single(0.2)
    agent_max_slope: float = 45.0
    agent_radius: float = single(0.1)
    cell_height: float = single(0.2)
    cell_size: float = single(0.05)
    include_static_objects: bool = False


@dataclass
class AgentConfiguration:
    height: float = 1.5
    radius: float = 0.1
    sensor_specifications: list[CameraSensorSpec] = field(default_factory=list)


@dataclass
class Configuration:
    sim_cfg: SimulatorConfiguration
    agents: list[AgentConfiguration]
