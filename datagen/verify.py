"""Every answer recomputed from depth and instance masks alone.

This path shares nothing with the code that made the questions: no boxes, no projected points, no stored distances. It
reads the frames' pixels, the cameras they were taken with, and the nouns of the instances. A question whose masks do
not give exactly one answer, with a margin, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import (
    TOP_DOWN_HIDES,
    Floats,
    Frame,
    SceneBackend,
    SceneError,
    SceneObject,
    SimulatorDied,
)
from datagen.backends.registry import BACKENDS
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.files import read_manifest
from ipt.common.settings import typed
from ipt.samples.camera import Camera
from ipt.samples.sample import SpatialSample

Facts = Mapping[str, Any]
Frames = Mapping[str, Frame]

MIN_CHANGE_M = 0.25  # half of what a distance question asks for: surfaces stand in for centres
SIDE_MARGIN = 0.05  # of the image width
MIN_SIDE_SHARE = 0.6  # of an object's visible points that must lie on the queried side of the path
MIN_COVERAGE = 0.0005  # of the image: less is not a sighting
SPECK = 0.0002  # of the image: less is not seen at all


def masks_of(frame: Frame, objects: Sequence[SceneObject], noun: Callable[[SceneObject], str]) -> dict[str, set[int]]:
    """Instances with at least one pixel in the frame, by noun."""
    found: dict[str, set[int]] = {}
    for index in np.flatnonzero(shares(frame, len(objects))).tolist():
        found.setdefault(noun(objects[index]), set()).add(index)
    return found


def shares(frame: Frame, count: int) -> Floats:
    """Share of the image, 0..1, that each of ``count`` instances covers."""
    assert frame.instance is not None
    return np.bincount(frame.instance.ravel() + 1, minlength=count + 1)[1:] / frame.instance.size


def surface(frame: Frame, index: int) -> tuple[NDArray[np.intp], Floats]:
    """Columns (n,) of an instance's pixels and their world points (n, 3)."""
    assert frame.instance is not None and frame.depth is not None
    rows, columns = np.nonzero((frame.instance == index) & (frame.depth > 0))
    return columns, frame.camera.unproject(np.stack([columns + 0.5, rows + 0.5], axis=-1), frame.depth[rows, columns])


def perspective_taking(facts: Facts, frames: Frames, objects: Sequence[SceneObject]) -> str | None:
    """``closer`` / ``further`` or ``left`` / ``right`` for the object that the question names, None if unclear."""
    distances, positions = [], []
    for role in ("observation", "view"):
        frame = frames[role]
        instances = masks_of(frame, objects, lambda item: item.name).get(facts["object"]["name"], set())
        if len(instances) != 1:
            return None
        columns, points = surface(frame, instances.pop())
        if not len(points):
            return None
        distances.append(float(np.linalg.norm(points.mean(axis=0) - np.asarray(frame.camera.pose.position))))
        positions.append((float(columns.mean()) + 0.5) / frame.camera.width)
    if facts["kind"] == "distance":
        change = distances[1] - distances[0]
        return None if abs(change) < MIN_CHANGE_M else "closer" if change < 0 else "further"
    sides = [None if abs(u - 0.5) < SIDE_MARGIN else "left" if u < 0.5 else "right" for u in positions]
    return sides[1] if facts["kind"] == f"from_{sides[0]}" else None


def path_tracing(facts: Facts, frames: Frames, objects: Sequence[SceneObject]) -> str | None:
    """The one option that the side view shows on the queried side of the walk at M1, None if there is not exactly one."""
    frame = frames["side_view"]
    assert frame.instance is not None
    seen = masks_of(frame, objects, lambda item: item.name)
    size = frame.instance.size
    turn = 1.0 if facts["side"] == "left" else -1.0
    midpoint, heading = np.asarray(facts["midpoint"][:2]), math.radians(facts["heading_deg"])
    left_of_walk = turn * np.array([-math.sin(heading), math.cos(heading)])
    shown = []
    for option in facts["options"]:
        instances = seen.get(option, set())
        coverage = sum(int((frame.instance == index).sum()) for index in instances) / size
        if coverage < SPECK:
            continue
        points = np.concatenate([surface(frame, index)[1] for index in instances])
        beside = float(((points[:, :2] - midpoint) @ left_of_walk > 0).mean())
        if coverage < MIN_COVERAGE or beside < MIN_SIDE_SHARE:
            return None
        shown.append(option)
    return shown[0] if len(shown) == 1 else None


def multiview_counting(facts: Facts, frames: Frames, objects: Sequence[SceneObject]) -> str | None:
    """How many instances the views show together, None if the map from above shows others or one is barely seen."""
    members = np.array([item.category in facts["members"] for item in objects])
    best = np.max([shares(frame, len(objects)) for role, frame in frames.items() if role.startswith("frame_")], axis=0)
    above = shares(frames["bev"], len(objects))
    clear = members & (best >= MIN_COVERAGE)
    if (clear != members & (best >= SPECK)).any() or (clear != members & (above >= MIN_COVERAGE)).any():
        return None
    return str(int(clear.sum())) if clear.any() else None


RECOMPUTE: Mapping[str, Callable[[Facts, Frames, Sequence[SceneObject]], str | None]] = {
    "pet": perspective_taking,
    "pt": path_tracing,
    "mvc": multiview_counting,
}


def agrees(task: str, facts: Facts, frames: Frames, objects: Sequence[SceneObject], yields: Yields) -> bool:
    """Whether the masks give the answer in ``facts``; unclear and different answers are counted apart."""
    answer = RECOMPUTE[task](facts, frames, objects)
    return yields.check("verify.unclear", answer is not None) and yields.check(
        "verify.contradiction", answer == facts["answer"]
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """What has to be recomputed of a sample, without its pictures; cameras by role. ``answer_text`` is empty without choices."""

    sample_id: str
    scene_id: str
    task: str
    facts: Facts
    answer_text: str
    cameras: Mapping[str, Camera | None]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A sample whose stored answer is not what its scene shows; or, with an ``error``, one whose scene shows nothing."""

    sample_id: str
    stored: str
    recomputed: str | None
    error: str = ""


def maker(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """The simulator that made ``folder``, by its manifest, and its settings. ``UserError`` for a single shard, and for a folder
    that no simulator made."""
    if not folder.is_dir():
        raise UserError(f"{folder} is a single shard, without the manifest that says how it was made")
    config = read_manifest(folder).get("config", {})
    if "backend_config" not in config:
        raise UserError(f"{folder} was not made by a simulator of ours")
    return config["backend"], config["backend_config"]


def maker_of(folder: Path) -> SceneBackend:
    """`maker`, ready to make the scenes again. ``UserError``, too, where it is not installed."""
    name, values = maker(folder)
    entry = BACKENDS[name]
    return entry.make(typed(entry.config_class(), values, f"backend {name}"))


def recheck(
    samples: Iterable[SpatialSample],
    backend: SceneBackend,
    watch: Callable[[Sequence[Stored]], Iterable[Stored]] = iter,
) -> Iterator[Mismatch]:
    """Load each sample's scene, render its stored cameras again and compare the answers; yields what differs.

    All samples are read, without keeping their pictures, before the first scene is loaded: those of a scene may lie far
    apart, and each is loaded once. ``watch`` passes them on one by one, for a progress bar. A scene that the simulator
    refuses, or dies of, leaves its samples unchecked, with the reason, and the others are checked all the same.
    """
    by_scene: dict[str, list[Stored]] = {}
    for sample in samples:
        scene_id = sample.provenance.scene_id
        cameras = {image.role: image.camera for image in (*sample.images, sample.imagination)}
        told = sample.answer_text if sample.choices else ""
        stored = Stored(sample.id, scene_id, sample.task, sample.facts, told, cameras)
        by_scene.setdefault(scene_id, []).append(stored)
    for scene_id, group in groupby(watch(list(chain(*by_scene.values()))), key=lambda stored: stored.scene_id):
        waiting = list(group)
        try:
            backend.load(scene_id)
            for stored in list(waiting):
                answer = recomputed(stored, backend)
                waiting.remove(stored)
                if answer != stored.facts["answer"] or stored.facts.get("answer_text", "") != stored.answer_text:
                    yield Mismatch(stored.sample_id, stored.answer_text, answer)
        except (SceneError, SimulatorDied) as error:
            reason = f"scene {scene_id}: {str(error).splitlines()[0]}"
            yield from (Mismatch(stored.sample_id, stored.answer_text, None, reason) for stored in waiting)


def recomputed(stored: Stored, backend: SceneBackend) -> str | None:
    """The answer that the stored cameras show in the loaded scene, or that the labels of recorded pictures give."""
    if "instance" not in backend.capabilities:
        return backend.answer_from_labels(stored.facts)
    frames = {}
    for role, camera in stored.cameras.items():
        assert camera is not None, "generated samples keep the camera of every picture"
        hide = TOP_DOWN_HIDES if role in ("bev", "map") else frozenset()
        frames[role] = backend.render([camera], ("depth", "instance"), hide)[0]
    return RECOMPUTE[stored.task](stored.facts, frames, backend.objects())
