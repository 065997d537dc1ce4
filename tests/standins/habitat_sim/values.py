"""The value types that habitat-sim returns: magnum's vectors and quaternions, and numpy-quaternion's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def six_digits(value: float) -> str:
    return f"{value:.6g}"


class Vector3:
    """magnum.Vector3: float32, indexed, not a numpy array."""

    size = 3

    def __init__(self, *values: float) -> None:
        given = values[0] if len(values) == 1 else values
        self._values = np.asarray(given, np.float32)
        assert self._values.shape == (self.size,)

    def __getitem__(self, index: int) -> float:
        return float(self._values[index])

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"Vector({', '.join(six_digits(value) for value in self._values)})"

    @property
    def x(self) -> float:
        return self[0]

    @property
    def y(self) -> float:
        return self[1]

    @property
    def z(self) -> float:
        return self[2]


class Vector2i:
    def __init__(self, height: int, width: int) -> None:
        self._values = (int(height), int(width))

    def __getitem__(self, index: int) -> int:
        return self._values[index]

    def __len__(self) -> int:
        return 2


@dataclass(frozen=True)
class Range3D:
    """magnum.Range3D; ``min`` and ``max`` are properties, ``center`` and ``size`` methods."""

    min: Vector3
    max: Vector3

    def center(self) -> Vector3:
        return Vector3((np.array(list(self.min)) + np.array(list(self.max))) / 2)

    def size(self) -> Vector3:
        return Vector3(np.array(list(self.max)) - np.array(list(self.min)))


class Quaternion:
    """magnum.Quaternion: ``vector`` (x, y, z) and ``scalar``."""

    def __init__(self, vector: Sequence[float], scalar: float) -> None:
        self.vector, self.scalar = Vector3(vector), float(scalar)

    def transform_vector(self, vector: Vector3) -> Vector3:
        return Vector3(rotation_matrix([*self.vector, self.scalar]) @ np.array(list(vector)))


class quaternion:
    """numpy-quaternion's type: components w, x, y, z."""

    def __init__(self, w: float, x: float, y: float, z: float) -> None:
        self.w, self.x, self.y, self.z = w, x, y, z

    def __repr__(self) -> str:
        return f"quaternion({', '.join(f'{value:.15g}' for value in (self.w, self.x, self.y, self.z))})"

    def xyzw(self) -> list[float]:
        return [self.x, self.y, self.z, self.w]


def rotation_matrix(xyzw: Sequence[float]) -> np.ndarray:
    """Rotation (3, 3) by a unit quaternion, as v + 2 q x (q x v + w v)."""
    axis, w = np.asarray(xyzw[:3], float), float(xyzw[3])
    turned = [v + 2 * np.cross(axis, np.cross(axis, v) + w * v) for v in np.eye(3)]
    return np.stack(turned, axis=1)


def about(axis: int, angle: float) -> np.ndarray:
    """Rotation (3, 3) about x, y or z."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[other, one], matrix[one, other] = math.sin(angle), -math.sin(angle)
    return matrix


def refuse(owner: str, wanted: str, given: Any, function: str = "") -> TypeError:
    return TypeError(
        f"{function}(): incompatible function arguments. The following argument types are supported:\n"
        f"    1. (self: habitat_sim._ext.habitat_sim_bindings.{owner}, arg0: _magnum.{wanted}) -> None\n\n"
        f"Invoked with: {given!r}"
    )


def to_vector3(given: Any, owner: str = "SensorSpec") -> Vector3:
    """As pybind11 accepts it: floats in a list, tuple or array, or a Vector3; never ints."""
    if isinstance(given, Vector3):
        return given
    floats = given.dtype.kind == "f" if isinstance(given, np.ndarray) else all(type(value) is float for value in given)
    if not floats or len(given) != 3:
        raise refuse(owner, "Vector3", given)
    return Vector3(np.asarray(given))


def to_vector2i(given: Any) -> Vector2i:
    """Two ints."""
    if isinstance(given, Vector2i):
        return given
    if len(given) != 2 or not all(isinstance(value, int | np.integer) for value in given):
        raise refuse("VisualSensorSpec", "Vector2i", given)
    return Vector2i(*given)
