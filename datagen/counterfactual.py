"""Imaginations that are wrong on purpose, for later analysis: wrong pose, mirrored, or of a scene that was changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from datagen.backends.base import Floats, Frame, SceneEdit, SceneObject
from datagen.tasks.base import SceneView
from datagen.yields import Yields
from ipt.common.images import RGB
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SampleImage

Decorate = Callable[[Frame], RGB]
DIRECTIONS = (math.pi, math.pi / 2, -math.pi / 2, 0.0)  # backwards first: it keeps the target in view


def counterfactuals(
    scene: SceneView, camera: Camera, target: SceneObject, yields: Yields, decorate: Decorate
) -> tuple[SampleImage, ...]:
    """What was asked for in ``scene.config.counterfactuals``; roles such as ``yaw+30``, ``distance+1.0``, ``mirrored``,
    ``remove``. What a scene cannot give (no free place at that distance) is counted in ``yields`` and left out.
    """
    config = scene.config.counterfactuals
    if not config.enabled:
        return ()
    cameras = {f"yaw+{angle:g}": turned(camera, math.radians(angle)) for angle in config.yaw_offsets_deg}
    for distance in config.distance_offsets_m:
        moved = displaced(scene, camera, distance)
        if yields.check(f"counterfactual.distance+{distance:g}", moved is not None) and moved is not None:
            cameras[f"distance+{distance:g}"] = moved
    images = [
        scene.encode(decorate(frame), role, frame.camera)
        for role, frame in zip(cameras, render_alike(scene, list(cameras.values())), strict=True)
    ]
    if config.mirrored:
        pixels = decorate(render_alike(scene, [camera])[0])[:, ::-1]
        images.append(SampleImage(scene.encode(pixels, "mirrored", camera).data, "mirrored", None))
    for kind in config.edits:
        edit = scene_edit(scene, kind, target)
        if yields.check(f"counterfactual.{kind}", edit is not None) and edit is not None:
            with scene.backend.edited([edit]):
                frame = render_alike(scene, [camera])[0]
            images.append(scene.encode(decorate(frame), kind, camera))
    return tuple(images)


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


def scene_edit(scene: SceneView, kind: str, target: SceneObject) -> SceneEdit | None:
    """Remove the target, or move or copy it to a free place on the floor; None where there is no such place."""
    if kind == "remove":
        return SceneEdit("remove", target.id)
    offset = floor_offset(scene, target)
    if offset is None:
        return None
    return SceneEdit("move" if kind == "move" else "add", target.id, offset)


def floor_offset(scene: SceneView, target: SceneObject) -> tuple[float, float, float] | None:
    """A displacement that sets the target on free floor, as near as its footprint allows; metres."""
    half = float(np.hypot(*(target.size[:2] / 2)))
    clearance = min(half, 0.6)
    drop = scene.info.floor_z - target.aabb_min[2]
    for distance in scene.config.counterfactuals.edit_distance_m * np.arange(1, 4):
        angles = np.arange(8) * math.pi / 4
        steps: Floats = distance * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        free = scene.backend.is_free(target.centre[:2] + steps, clearance)
        if free.any():
            step = steps[int(np.argmax(free))]
            return float(step[0]), float(step[1]), float(drop)
    return None
