"""``python -m datagen.shifted data=DIR output_dir=DIR``: a dataset's true views from places and headings around the true ones.

Every sample comes out with a grid of wrong views as its counterfactuals, each with its camera: what a report needs to say where
an imagined view seems to be taken from (`ipt.evaluation.quality.viewpoints`). Scenes are made again by the simulator that made
the dataset. A scene that it does not make, or makes differently, and a picture that is no view from somewhere (a map) are left
out, and counted by reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path

import numpy as np

from datagen.backends.base import Frame, Modality, SceneBackend, SceneError, SimulatorDied
from datagen.tasks.base import resized
from datagen.verify import maker_of
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.images import RGB, encode_image
from ipt.common.progress import tracked
from ipt.samples.camera import Camera, CameraPose, wrap_angle
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards

CLEARANCE_M = 0.1  # of a shifted camera from walls and things
SAME = 3.0  # of 255: the mean difference up to which a scene counts as made again
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
    left_out: Counter[str] = Counter()
    source, folder = Path(config.data), Path(config.output_dir)
    if folder.exists() and any(folder.glob("*.parquet")):
        raise UserError(f"{folder} holds samples already; set another output_dir")
    with ExitStack() as stack:
        backend = stack.enter_context(maker_of(source))
        reader = SampleReader(source)
        rows = range(min(config.limit or len(reader), len(reader)))
        scenes = [provenance["scene_id"] for provenance in reader.column("provenance")]
        samples = (reader[row] for row in sorted(rows, key=scenes.__getitem__))  # each scene is loaded once
        made = shifted(iter(tracked(samples, "rendering shifted views", len(rows))), backend, config, left_out)
        kept = list(write_shards(folder, PREFIX, made))
    told = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.most_common())
    if not kept:
        raise UserError(f"no view of {source} could be rendered again ({told or 'it holds no samples'})")
    seal(folder, {"shifted": {"of": reader.digest(), "left_out": dict(left_out)}})
    print(f"{folder}: {len(SampleReader(folder))} samples{f'; {told}' if told else ''}")


def shifted(
    samples: Iterator[SpatialSample], backend: SceneBackend, config: ShiftedConfig, left_out: Counter[str]
) -> Iterator[SpatialSample]:
    """The samples, in scenes, with shifted views; why others are left out is counted in ``left_out``."""
    for scene_id, group in groupby(samples, key=lambda sample: sample.provenance.scene_id):
        loaded = ""
        try:
            backend.load(scene_id)
        except (SceneError, SimulatorDied) as error:
            loaded = f"the scene is not made again: {str(error).splitlines()[0]}"
        for sample in group:
            why = loaded or problem(sample, backend)
            if why:
                left_out[why] += 1
            else:
                yield with_shifts(sample, backend, config)


def problem(sample: SpatialSample, backend: SceneBackend) -> str:
    """Why there are no shifted views of a sample; empty where there are."""
    camera = sample.imagination.camera
    if camera is None:
        return "the camera of the true picture is not known"
    if camera.ortho_height_m is not None:
        return "the true picture is a map, not a view from somewhere"
    stored, (again,) = sample.imagination.pixels(), colours(backend, [camera])
    difference = float(np.abs(stored.astype(int) - again).mean()) if stored.shape == again.shape else math.inf
    return "" if difference <= SAME else "the scene that is made again differs from the dataset's"


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


def colours(backend: SceneBackend, cameras: Sequence[Camera]) -> list[RGB]:
    """What cameras see."""
    wanted: tuple[Modality, ...] = ("rgb",)
    return [pixels_of(frame) for frame in backend.render(cameras, wanted)]


def pixels_of(frame: Frame) -> RGB:
    """The picture of a frame."""
    assert frame.rgb is not None
    return frame.rgb


if __name__ == "__main__":
    cli.run(ShiftedConfig, main)
