"""Where an imagined view seems to be taken from: of true views from many cameras around the true one, the camera of the nearest.

The views are rendered by ``python -m datagen.shifted``. Nearest is the smallest mean squared error at the imagination's size. A
picture of nothing in particular is near to anything, so the errors are read beside those of a stranger's imagination and of the
mean picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ipt.common.errors import UserError
from ipt.common.images import RGB
from ipt.common.progress import tracked
from ipt.common.statistics import Floats
from ipt.evaluation.quality.pictures import Pictures, Size, resized
from ipt.evaluation.quality.similarity import Picture, errors
from ipt.samples.camera import Camera, wrap_angle
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader

HEADING, PLACE, FOUND = "heading error", "position error", "wrong camera"
#: By name, what is measured; smaller is better.
MEASURES: Mapping[str, str] = {
    HEADING: "degrees from the true heading to that of the nearest true view",
    PLACE: "metres from the true place to that of the nearest true view",
    FOUND: "share of pictures nearest to another view than the true one",
}


@dataclass(frozen=True)
class Views:
    """True views [K, H, W, 3] in 0..255 of one scene, and how far the camera of each is from the true one: degrees [K] and
    metres [K]."""

    pixels: Picture
    degrees: Floats
    metres: Floats

    @classmethod
    def of(cls, sample: SpatialSample, size: Size) -> Views:
        """The views that a sample holds as counterfactuals, at ``size``. ``UserError`` where the true one is not among them, or a
        camera is not known."""
        truth, views = sample.imagination.camera, sample.counterfactuals
        cameras = [view.camera for view in views if view.camera is not None]
        if truth is None or len(cameras) < len(views) or len(views) < 2:
            raise UserError(f"sample '{sample.id}' has no shifted views with cameras")
        degrees, metres = (np.array(each) for each in zip(*(apart(camera, truth) for camera in cameras), strict=True))
        if not ((degrees < 1e-6) & (metres < 1e-6)).any():
            raise UserError(f"sample '{sample.id}': the true view is not among the shifted ones")
        pixels = np.stack([resized(view.pixels(), size) for view in views]).astype(np.float64)
        return cls(pixels, degrees, metres)

    def nearest(self, picture: RGB) -> tuple[float, float, float]:
        """Degrees and metres from the true camera to that of the view nearest to ``picture``, and whether that is another one."""
        found = int(errors(self.pixels, np.broadcast_to(picture.astype(np.float64), self.pixels.shape)).argmin())
        degrees, metres = float(self.degrees[found]), float(self.metres[found])
        return degrees, metres, float(degrees > 1e-6 or metres > 1e-6)


def apart(camera: Camera, truth: Camera) -> tuple[float, float]:
    """Degrees between two headings, metres between two places."""
    away = float(np.linalg.norm(np.subtract(camera.pose.position, truth.pose.position)))
    return abs(math.degrees(wrap_angle(camera.pose.yaw - truth.pose.yaw))), away


def viewpoint_errors(pictures: Pictures, shifted: SampleReader) -> dict[str, dict[str, Floats]]:
    """By measure and by what is looked at (imagined, permuted, mean), a value of each sample [n], NaN where ``shifted`` lacks it.

    ``UserError`` where it lacks all of them, or holds no shifted views.
    """
    rows = {name: row for row, name in enumerate(shifted.ids())}
    known = [place for place, name in enumerate(pictures.ids) if name in rows]
    if not known:
        raise UserError(f"{shifted.source} has none of the {len(pictures.ids)} questions; make it from the run's data")
    values = {
        name: {what: np.full(len(pictures.ids), np.nan) for what in ("imagined", "permuted", "mean")}
        for name in MEASURES
    }
    for place in tracked(known, f"finding viewpoints of {pictures.task}", len(known)):
        views = Views.of(shifted[rows[pictures.ids[place]]], pictures.size)
        shown = {
            "imagined": pictures.imagined[place],
            "permuted": [pictures.permuted[place]],
            "mean": [pictures.mean[place]],
        }
        for what, several in shown.items():
            found = np.mean([views.nearest(picture) for picture in several], axis=0)
            for name, value in zip(MEASURES, found.tolist(), strict=True):
                values[name][what][place] = value
    return values
