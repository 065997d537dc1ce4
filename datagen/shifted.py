"""``python -m datagen.shifted data=DIR output_dir=DIR``: a dataset's true views from places and headings around the true ones.

Every sample comes out with a grid of wrong views as its counterfactuals, each with its camera: what a report needs to say where
an imagined view seems to be taken from (`ipt.evaluation.quality.viewpoints`). Scenes are made again by the simulator that made
the dataset; what cannot be rendered again (`datagen.again`), or is a map, is left out, and counted by reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from datagen.again import Again
from datagen.backends.base import Modality, SceneBackend
from datagen.tasks.base import resized
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.images import RGB, encode_image
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards

CLEARANCE_M = 0.1  # of a shifted camera from walls and things
PREFIX = "shifted"


@dataclass(frozen=True)
class ShiftedConfig:
    """Render the true views of a dataset from shifted cameras, for the report's view fidelity (quality.shifted=DIR).

    headings_deg: turns from the true heading. distances_m: steps ahead, back, left and right of the true place. size: pixels of
    the longer side. limit: only the first so many samples; 0 for all.
    """

    data: str
    output_dir: str
    headings_deg: tuple[float, ...] = (-150, -120, -90, -60, -45, -30, -15, 0, 15, 30, 45, 60, 90, 120, 150, 180)
    distances_m: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    size: int = 64
    limit: int = 0

    def __post_init__(self) -> None:
        if not self.headings_deg or min(self.distances_m, default=1.0) <= 0:
            raise UserError("headings_deg needs at least one turn, and distances_m positive steps")
        if self.size < 8 or self.limit < 0:
            raise UserError(f"size must be at least 8 and limit at least 0, got {self.size} and {self.limit}")


def main(config: ShiftedConfig) -> None:
    """Write the folder and say how many samples are in it, and why others are not."""
    source, folder = Path(config.data), Path(config.output_dir)
    if folder.exists() and any(folder.glob("*.parquet")):
        raise UserError(f"{folder} holds samples already; set another output_dir")
    again = Again(source, maps=False, limit=config.limit)
    made = (with_shifts(sample, backend, config) for sample, backend, _ in again.samples("rendering shifted views"))
    for _ in write_shards(folder, PREFIX, made):
        pass
    seal(folder, {"shifted": {"of": SampleReader(source).digest(), "left_out": dict(again.left_out)}})
    print(f"{folder}: {len(SampleReader(folder))} samples{f'; {again.told}' if again.told else ''}")


def with_shifts(sample: SpatialSample, backend: SceneBackend, config: ShiftedConfig) -> SpatialSample:
    """The sample with its true view, and others around it, as counterfactuals."""
    assert sample.imagination.camera is not None
    truth = resized(sample.imagination.camera, config.size)
    cameras = {"true": truth, **around(truth, backend, config.headings_deg, config.distances_m)}
    pictures = zip(cameras.items(), colours(backend, list(cameras.values())), strict=True)
    views = tuple(SampleImage(encode_image(pixels), role, camera) for (role, camera), pixels in pictures)
    return replace(sample, counterfactuals=views)


def around(
    truth: Camera, backend: SceneBackend, headings_deg: Sequence[float], distances_m: Sequence[float]
) -> dict[str, Camera]:
    """Cameras at free places around the true one, with every heading, by role."""
    found, pose = dict[str, Camera](), truth.pose
    steps = [(0.0, 0.0)] + [
        (away * ahead, away * left) for away in distances_m for ahead, left in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    for (ahead, left), turn in product(steps, headings_deg):
        x, y = pose.position[0] + ahead * cos - left * sin, pose.position[1] + ahead * sin + left * cos
        if not (ahead or left):
            if not turn:
                continue  # the truth
        elif not backend.is_free(np.array([[x, y]]), CLEARANCE_M)[0]:
            continue
        yaw = wrap_angle(pose.yaw + math.radians(turn))
        moved = CameraPose((x, y, pose.position[2]), yaw, pose.pitch, pose.roll)
        found[f"ahead{ahead:+g} left{left:+g} yaw{turn:+g}"] = replace(truth, pose=moved)
    return found


def colours(backend: SceneBackend, cameras: Sequence[Camera]) -> Iterator[RGB]:
    """What cameras see."""
    wanted: tuple[Modality, ...] = ("rgb",)
    for frame in backend.render(cameras, wanted):
        assert frame.rgb is not None
        yield frame.rgb


if __name__ == "__main__":
    cli.run(ShiftedConfig, main)
