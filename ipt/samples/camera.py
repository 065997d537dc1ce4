"""Cameras: the one geometry that generators, samples and evaluation share.

World frame: right-handed, metres, **z up**, x and y on the floor. Yaw turns counter-clockwise from +x seen from above,
pitch is positive looking up; both in radians. Camera frame: OpenGL (x right, y up, looking along -z). Pixels: ``u`` to
the right and ``v`` down from the top left corner of the image, so the centre of pixel (row, column) is
``(column + 0.5, row + 0.5)``. Depth is planar (metres along the optical axis, not along the ray).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipt.common.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CameraPose:
    """Where a camera stands and looks: position in metres, yaw, pitch and roll in radians (world frame above)."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        values = (*self.position, self.yaw, self.pitch, self.roll)
        if len(self.position) != 3 or not all(math.isfinite(value) for value in values):
            raise UserError(f"a camera pose needs six finite numbers, got {values}")
        object.__setattr__(self, "position", tuple(float(value) for value in self.position))

    @property
    def camera_to_world(self) -> Floats:
        """Rigid transform, (4, 4): columns are the camera's right, up, backward axes and its position."""
        cos_yaw, sin_yaw = math.cos(self.yaw), math.sin(self.yaw)
        cos_pitch, sin_pitch = math.cos(self.pitch), math.sin(self.pitch)
        forward = np.array([cos_pitch * cos_yaw, cos_pitch * sin_yaw, sin_pitch])
        up = np.array([-sin_pitch * cos_yaw, -sin_pitch * sin_yaw, cos_pitch])
        right = np.array([sin_yaw, -cos_yaw, 0.0])
        cos_roll, sin_roll = math.cos(self.roll), math.sin(self.roll)
        matrix = np.eye(4)
        matrix[:3, 0] = cos_roll * right + sin_roll * up
        matrix[:3, 1] = cos_roll * up - sin_roll * right
        matrix[:3, 2] = -forward
        matrix[:3, 3] = self.position
        return matrix

    @property
    def forward(self) -> Floats:
        """Unit viewing direction in the world frame, (3,)."""
        return -self.camera_to_world[:3, 2]

    def turned(self, yaw: float) -> CameraPose:
        """The same place, turned by ``yaw`` radians (positive = to the left)."""
        return CameraPose(self.position, wrap_angle(self.yaw + yaw), self.pitch, self.roll)

    def to_json(self) -> dict[str, Any]:
        return {"position": list(self.position), "yaw": self.yaw, "pitch": self.pitch, "roll": self.roll}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CameraPose:
        x, y, z = record["position"]
        return cls((x, y, z), record["yaw"], record["pitch"], record["roll"])


@dataclass(frozen=True, slots=True)
class Camera:
    """A pose with its image: size in pixels, near and far planes in metres, and either a pinhole or a parallel projection.

    ``vertical_fov_deg`` is the full vertical angle in degrees; ``ortho_height_m``, when given, makes the projection
    orthographic and is the world height that the image spans. Pixels are square.
    """

    pose: CameraPose
    width: int
    height: int
    vertical_fov_deg: float = 75.0
    ortho_height_m: float | None = None
    near: float = 0.05
    far: float = 60.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UserError(f"camera image size must be positive, got {self.width}x{self.height}")
        if not 0 < self.near < self.far:
            raise UserError(f"camera needs 0 < near < far, got near={self.near}, far={self.far}")
        if self.ortho_height_m is None and not 1 <= self.vertical_fov_deg <= 170:
            raise UserError(f"vertical_fov_deg must lie in 1..170, got {self.vertical_fov_deg}")
        if self.ortho_height_m is not None and not self.ortho_height_m > 0:
            raise UserError(f"ortho_height_m must be positive, got {self.ortho_height_m}")

    @property
    def projection(self) -> Literal["pinhole", "orthographic"]:
        return "pinhole" if self.ortho_height_m is None else "orthographic"

    @property
    def half_height(self) -> float:
        """Half the image height: on the plane one metre away (pinhole), or in metres (orthographic)."""
        if self.ortho_height_m is not None:
            return self.ortho_height_m / 2
        return math.tan(math.radians(self.vertical_fov_deg) / 2)

    @property
    def metres_per_pixel(self) -> float:
        """World size of a pixel: everywhere (orthographic), or one metre away (pinhole)."""
        return 2 * self.half_height / self.height

    def project(self, points: ArrayLike) -> tuple[Floats, Floats]:
        """World points (..., 3) -> pixel coordinates (..., 2) and planar depth (...,); depth <= 0 lies behind a pinhole."""
        matrix = self.pose.camera_to_world
        local = (np.asarray(points, dtype=np.float64) - matrix[:3, 3]) @ matrix[:3, :3]
        depth = -local[..., 2]
        scale = np.ones_like(depth)
        if self.ortho_height_m is None:
            scale = np.where(np.abs(depth) < 1e-12, np.nan, depth)
        focal = 1 / self.metres_per_pixel
        u = self.width / 2 + focal * local[..., 0] / scale
        v = self.height / 2 - focal * local[..., 1] / scale
        return np.stack([u, v], axis=-1), depth

    def unproject(self, pixels: ArrayLike, depth: ArrayLike) -> Floats:
        """Pixel coordinates (..., 2) and planar depth (...,) in metres -> world points (..., 3)."""
        uv, z = np.asarray(pixels, dtype=np.float64), np.asarray(depth, dtype=np.float64)
        scale = z if self.ortho_height_m is None else np.ones_like(z)
        x = (uv[..., 0] - self.width / 2) * self.metres_per_pixel * scale
        y = (self.height / 2 - uv[..., 1]) * self.metres_per_pixel * scale
        matrix = self.pose.camera_to_world
        return np.stack([x, y, -z], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]

    def rays(self) -> tuple[Floats, Floats]:
        """World origins and directions of the pixel centres, each (height * width, 3), row by row from the top.

        Directions have unit planar depth, so a hit at ``origin + t * direction`` has depth ``t``.
        """
        columns, rows = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        at_one = self.unproject(pixels, np.ones(len(pixels)))
        if self.ortho_height_m is None:
            origins = np.broadcast_to(np.asarray(self.pose.position), at_one.shape)
        else:
            origins = at_one - self.pose.forward
        return np.ascontiguousarray(origins), at_one - origins

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "pose": self.pose.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Camera:
        fields = dict(record)
        return cls(pose=CameraPose.from_json(fields.pop("pose")), **fields)


def wrap_angle(angle: float) -> float:
    """The same angle in (-pi, pi], radians."""
    wrapped = math.remainder(angle, 2 * math.pi)
    return math.pi if wrapped == -math.pi else wrapped
