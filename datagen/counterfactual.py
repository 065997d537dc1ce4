"""Imaginations that are wrong on purpose, for later analysis: wrong pose, mirrored, or of a scene that was changed.

Each differs from the truth in what it shows, and it is said by how much: the share of the pixels whose colour changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datagen.backends.base import Floats, Frame, SceneEdit, SceneObject
from datagen.tasks.base import SceneView
from datagen.visibility import fractions, inside
from datagen.yields import Yields
from ipt.common.images import RGB
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SampleImage

Decorate = Callable[[Frame], RGB]
#: The inputs of a question, of the scene as it is when this is called.
Inputs = Callable[[], Sequence[SampleImage]]
NOTICEABLE = 16  # of 255: what an eye tells apart
PLACES = 6  # tried for what is moved or added, until it is seen
DIRECTIONS = (math.pi, math.pi / 2, -math.pi / 2, 0.0)  # backwards first: it keeps the target in view


@dataclass(frozen=True, slots=True)
class Wrong:
    """Wrong imaginations and, by role, the share of their pixels that differ from the truth."""

    images: tuple[SampleImage, ...] = ()
    changes: Mapping[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        return {"counterfactual_changes": dict(self.changes)} if self.images else {}


def counterfactuals(
    scene: SceneView,
    camera: Camera,
    target: SceneObject,
    yields: Yields,
    decorate: Decorate,
    inputs: Inputs = tuple,
    asked: Collection[int] = (),
) -> Wrong:
    """What was asked for in ``scene.config.counterfactuals``; roles such as ``yaw+30``, ``distance+1.0``, ``mirrored``,
    ``remove``; of minimal pairs (`minimal_pairs`; ``asked``: further objects that the question is about)
    ``remove/observation``, ``other`` and ``other/observation``. What a scene cannot give (no free place at that distance), or
    what looks like the truth, is counted in ``yields`` and left out.
    """
    config = scene.config.counterfactuals
    if not config.enabled:
        return Wrong()
    cameras = {f"yaw+{angle:g}": turned(camera, math.radians(angle)) for angle in config.yaw_offsets_deg}
    for distance in config.distance_offsets_m:
        moved = displaced(scene, camera, distance)
        if yields.check(f"counterfactual.distance+{distance:g}", moved is not None) and moved is not None:
            cameras[f"distance+{distance:g}"] = moved
    truth, *frames = render_alike(scene, [camera, *cameras.values()])
    shown = decorate(truth)
    found: dict[str, tuple[RGB, Camera | None]]
    found = {role: (decorate(frame), frame.camera) for role, frame in zip(cameras, frames, strict=True)}
    if config.mirrored:
        found["mirrored"] = shown[:, ::-1], None
    for kind in config.edits:
        against = [shown] + [found[other][0] for other in ("remove",) if kind != "remove" and other in found]
        edited = edited_picture(scene, kind, camera, target, against, decorate)
        if yields.check(f"counterfactual.{kind}", edited is not None) and edited is not None:
            found[kind] = edited, camera
    images, changes = [], {}
    for role, (pixels, taken) in found.items():
        share = changed(shown, pixels)
        if yields.check("counterfactual.differs", share >= config.min_changed):
            images.append(SampleImage(scene.encode(pixels, role, camera).data, role, taken))
            changes[role] = round(share, 5)
    if config.pairs:
        images += minimal_pairs(scene, camera, {target.index, *asked}, target, yields, decorate, inputs)
    return Wrong(tuple(images), changes)


def minimal_pairs(
    scene: SceneView,
    camera: Camera,
    asked: Collection[int],
    target: SceneObject,
    yields: Yields,
    decorate: Decorate,
    inputs: Inputs,
) -> list[SampleImage]:
    """The inputs without the target, and the unseen view (``other``) and the inputs without something that cannot be taken for
    what is asked about. Only where the inputs, and the other thing's view, look different."""
    before, unseen = inputs(), decorate(render_alike(scene, [camera])[0])
    nouns = {scene.names[index] for index in asked}
    things = [scene.objects[i] for i in sorted(scene.candidates) if nouns.isdisjoint(scene.lookalikes[scene.names[i]])]
    others = [item for item in things if inside(fractions(camera, item.centre[None]), 0.0)[0]]
    least, found = scene.config.counterfactuals.min_changed, list[SampleImage]()
    for role, items in (("remove", [target]), ("other", others[:PLACES])):
        for item in items:
            with scene.backend.edited([SceneEdit("remove", item.id)]):
                view, after = decorate(render_alike(scene, [camera])[0]), inputs()
            pairs = [(old.pixels(), new.pixels()) for old, new in zip(before, after, strict=False)]
            if after and changed(unseen, view) >= least and max(changed(*pair) for pair in pairs) >= least:
                found += [replace(image, role=f"{role}/{image.role}") for image in after]
                found += [scene.encode(view, role, camera)] if role == "other" else []
                break
        yields.check(f"counterfactual.pair_{role}", bool(found) and found[-1].role.startswith(role))
    return found


def edited_picture(
    scene: SceneView, kind: str, camera: Camera, target: SceneObject, against: Sequence[RGB], decorate: Decorate
) -> RGB | None:
    """The picture after an edit of the target that differs from all of ``against``; None where no place gives one."""
    for edit in scene_edits(scene, kind, camera, target):
        with scene.backend.edited([edit]):
            pixels = decorate(render_alike(scene, [camera])[0])
        if all(changed(other, pixels) >= scene.config.counterfactuals.min_changed for other in against):
            return pixels
    return None


def changed(before: RGB, after: RGB) -> float:
    """Share of the pixels, 0..1, of which some channel differs by more than ``NOTICEABLE``."""
    return float((np.abs(before.astype(int) - after).max(axis=2) > NOTICEABLE).mean())


def render_alike(scene: SceneView, cameras: list[Camera]) -> list[Frame]:
    """Pictures as the imagination was taken: from above without ceilings, else through the eyes of the agent."""
    from_above = bool(cameras) and cameras[0].ortho_height_m is not None
    hide: Any = ("ceiling", "lintel") if from_above else ()
    return scene.backend.render(cameras, ("rgb", "depth"), hide)


def turned(camera: Camera, angle: float) -> Camera:
    """The same place, another heading."""
    return replace(camera, pose=camera.pose.turned(angle))


def displaced(scene: SceneView, camera: Camera, distance: float) -> Camera | None:
    """The camera moved ``distance`` metres to a free place, or None where no direction is free."""
    pose = camera.pose
    for turn in DIRECTIONS:
        step = distance * np.array([math.cos(pose.yaw + turn), math.sin(pose.yaw + turn)])
        place = np.array([[pose.position[0] + step[0], pose.position[1] + step[1]]])
        if camera.ortho_height_m is not None or scene.backend.is_free(place, scene.config.clearance_m)[0]:
            position = (float(place[0, 0]), float(place[0, 1]), pose.position[2])
            return replace(camera, pose=CameraPose(position, pose.yaw, pose.pitch, pose.roll))
    return None


def scene_edits(scene: SceneView, kind: str, camera: Camera, target: SceneObject) -> list[SceneEdit]:
    """Remove the target, or move or copy it to free places on the floor, those first that the camera has in view."""
    if kind == "remove":
        return [SceneEdit("remove", target.id)]
    return [
        SceneEdit("move" if kind == "move" else "add", target.id, offset)
        for offset in floor_offsets(scene, camera, target)
    ]


def floor_offsets(scene: SceneView, camera: Camera, target: SceneObject) -> list[tuple[float, float, float]]:
    """Up to ``PLACES`` displacements (metres) that set the target on free floor in view of the camera, nearest first."""
    half = float(np.hypot(*(target.size[:2] / 2)))
    drop = scene.info.floor_z - target.aabb_min[2]
    angles = np.arange(8) * math.pi / 4
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    steps: Floats = np.concatenate(
        [scene.config.counterfactuals.edit_distance_m * times * around for times in range(1, 5)]
    )
    steps = steps[scene.backend.is_free(target.centre[:2] + steps, min(half, 0.6))]
    there = target.centre + np.column_stack([steps, np.full(len(steps), drop)])
    steps = steps[inside(fractions(camera, there), 0.02)]
    return [(float(x), float(y), float(drop)) for x, y in steps[:PLACES]]
