"""What a frame shows of each instance, and where boxes fall in a camera: the measures that filters compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import Frame
from ipt.samples.camera import Camera, CameraPose

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class InstanceStats:
    """Per-instance measures of one frame; ``n`` objects, all positions as fractions of the image (0..1).

    ``pixels`` (n,) counts; ``area`` (n,) fraction of the image; ``centre`` (n, 2) mean (u, v) of the mask, NaN where
    unseen; ``median_depth`` in metres over the whole frame.
    """

    pixels: NDArray[np.int64]
    area: Floats
    centre: Floats
    median_depth: float

    @classmethod
    def of(cls, frame: Frame, count: int) -> InstanceStats:
        """Measures of a frame with depth and instances in a scene of ``count`` objects."""
        assert frame.instance is not None and frame.depth is not None, "render depth and instance first"
        height, width = frame.instance.shape
        ids = frame.instance.ravel() + 1  # the background, -1, gets the first place
        pixels = np.bincount(ids, minlength=count + 1)[1:]
        columns, rows = np.tile(np.arange(width) + 0.5, height), np.repeat(np.arange(height) + 0.5, width)
        sums = [np.bincount(ids, weights=values, minlength=count + 1)[1:] for values in (columns, rows)]
        with np.errstate(invalid="ignore"):
            centre = np.stack([sums[0] / pixels / width, sums[1] / pixels / height], axis=-1)
        depth = frame.depth[frame.depth > 0]
        return cls(pixels, pixels / (height * width), centre, float(np.median(depth)) if depth.size else 0.0)


def layout_of(frame: Frame, names: Sequence[str], indices: Iterable[int]) -> list[list[str | float]]:
    """Where a view shows things: [name, place from the left (0..1), median metres away] of each of ``indices`` that it shows."""
    assert frame.instance is not None and frame.depth is not None, "render depth and instance first"
    found: list[list[str | float]] = []
    for index in indices:
        mask = frame.instance == index
        columns = np.nonzero(mask)[1]
        if len(columns):
            away = float(np.median(frame.depth[mask]))
            found.append([names[index], round((float(columns.mean()) + 0.5) / frame.camera.width, 3), round(away, 2)])
    return found


def map_layout_of(frame: Frame, names: Sequence[str], indices: Iterable[int]) -> list[list[str | float]]:
    """Where a map shows things: [name, place from the left, place from the top] (0..1) of each of ``indices`` that it shows."""
    assert frame.instance is not None, "render instances first"
    found: list[list[str | float]] = []
    for index in indices:
        rows, columns = np.nonzero(frame.instance == index)
        if len(rows):
            u, v = (float(columns.mean()) + 0.5) / frame.camera.width, (float(rows.mean()) + 0.5) / frame.camera.height
            found.append([names[index], round(u, 3), round(v, 3)])
    return found


def pixel_counts(frame: Frame, count: int) -> NDArray[np.int64]:
    """Pixels (count,) of each of ``count`` instances in a frame: all that counting needs, at a tenth of the cost."""
    assert frame.instance is not None, "render instances first"
    return np.bincount(frame.instance.ravel() + 1, minlength=count + 1)[1:]


def inside(centre: Floats, margin: float) -> NDArray[np.bool_]:
    """Whether image positions (..., 2), as fractions, keep ``margin`` from every edge; NaN is outside."""
    return np.all((centre >= margin) & (centre <= 1 - margin), axis=-1)


def fractions(camera: Camera, points: Floats) -> Floats:
    """World points (..., 3) -> image positions (..., 2) as fractions of the image, NaN behind the camera."""
    pixels, depth = camera.project(points)
    scaled = pixels / np.array([camera.width, camera.height])
    return np.where((depth > camera.near)[..., None], scaled, np.nan)


def seen_from(eyes: Floats, yaw: float, pitch: float, vertical_fov_deg: float, points: Floats) -> Floats:
    """Where square pinhole cameras at ``eyes`` (m, 3), all heading one way, see points (n, 3): fractions (m, n, 2).

    The same as :meth:`Camera.project` for each camera, in one product. NaN behind a camera.
    """
    axes = CameraPose((0, 0, 0), yaw, pitch).camera_to_world[:3, :3]
    local = (points - eyes[:, None]) @ axes
    depth = -local[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = local[..., :2] / depth / (2 * math.tan(math.radians(vertical_fov_deg) / 2))
    return np.where(depth > 0, 0.5 + offset * [1, -1], np.nan)


def floor_points(frame: Frame, floor_like: Iterable[int], floor_z: float, tolerance: float) -> tuple[Floats, Floats]:
    """Pixels (n, 2), as fractions, and world points (n, 3) where the frame shows floor within ``tolerance`` metres."""
    assert frame.instance is not None and frame.depth is not None, "render depth and instance first"
    height, width = frame.instance.shape
    rows, columns = np.nonzero(np.isin(frame.instance, list(floor_like)) & (frame.depth > 0))
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1)
    points = frame.camera.unproject(pixels, frame.depth[rows, columns])
    level = np.abs(points[:, 2] - floor_z) <= tolerance
    return pixels[level] / np.array([width, height]), points[level]
