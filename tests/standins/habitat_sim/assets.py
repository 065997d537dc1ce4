"""What scene files hold: the golden room's parts, or an embedded home that a file is named after; and how rays hit it.

``home-train-3.glb`` is that home, ``home-train-3-raised.glb`` the same with its floor at 3 m.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

if TYPE_CHECKING:
    from datagen.backends.embedded.free_space import FreeSpace
    from datagen.backends.embedded.scene import Scene


@dataclass
class SemanticThing:
    """An annotation: id, category, region, and the points (n, 3) that it covers, y up, in the axes of its box."""

    semantic_id: int
    category: str
    region: int
    centre: np.ndarray
    half_size: np.ndarray
    rotation_xyzw: list[float]


@dataclass
class Asset:
    """Triangles (n, 3, 3) in habitat's frame with a colour (0..255) and a semantic id each."""

    triangles: np.ndarray
    colour: np.ndarray
    semantic_id: np.ndarray
    things: list[SemanticThing] = field(default_factory=list)
    space: FreeSpace | None = None
    golden: Path | None = None

    def tree(self) -> Any:
        tree = EmbreeScene()
        TriangleMesh(tree, self.triangles.astype(np.float32))
        return tree


def load_asset(scene_id: str) -> Asset | None:
    """The scene of a file; None for "NONE" and the empty id, which open nothing."""
    if scene_id in ("", "NONE"):
        return None
    path = Path(scene_id)
    if not path.is_file():
        raise AssertionError(
            f"ESP_CHECK failed: No Stage Attributes exists for requested scene '{scene_id}' in currently specified "
            "Scene Dataset `default`. Likely cause is either the Scene Dataset Configuration requested was not found, "
            "or the paths to the various dataset component configuration files cannot be found."
        )
    name = path.name.split(".")[0]
    parts = path.with_name(f"{name}.parts.json")
    if parts.is_file():
        return golden_room(json.loads(parts.read_text()), path.parent.parent / "navmesh")
    preset = name.partition("-")[0]
    if preset not in ("home", "blocks"):
        raise AssertionError(f"ESP_CHECK failed: Error loading general mesh data from file '{scene_id}'")
    from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig  # slow, and only homes need it

    kind: type[EmbeddedBackend] = EmbeddedBackend
    if name.endswith("-raised"):
        from tests.datagen.embedded.scenes import RaisedBackend as kind  # type: ignore[no-redef]
    backend = kind(EmbeddedConfig(preset=preset, renderer="ray"))
    backend.load(name.removesuffix("-raised"))
    return embedded_scene(backend.scene)


def golden_room(parts: list[dict[str, Any]], navmesh: Path) -> Asset:
    triangles, colours, ids, things = [], [], [], []
    for part in parts:
        quads = np.array(part["quads"], float)
        for quad in quads:
            triangles += [quad[[0, 1, 2]], quad[[0, 2, 3]]]
            colours += [np.rint(np.array(part["base_color_linear"]) * 255)] * 2
            ids += [part["id"]] * 2
        points = quads.reshape(-1, 3)
        low, high = points.min(axis=0), points.max(axis=0)
        things.append(
            SemanticThing(
                part["id"], part["category"], part["region"], (low + high) / 2, (high - low) / 2, [0, 0, 0, 1]
            )
        )
    return Asset(np.array(triangles), np.array(colours, np.uint8), np.array(ids), things, golden=navmesh)


def y_up(points: np.ndarray) -> np.ndarray:
    """An asset that is z up, turned upright: (x, y, z) -> (x, z, -y)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def embedded_scene(scene: Scene) -> Asset:
    """The same triangles, y up; semantic id = object index + 1, because 0 means nothing."""
    from datagen.backends.embedded.free_space import FreeSpace

    triangles, colours, ids = [], [], []
    for part in scene.parts:
        if part.visible:
            corners = y_up(part.world_vertices()[part.mesh.faces].astype(float))
            material = scene.materials[part.material]
            look = np.array(material.rgb) * part.tint
            if material.texture is not None:
                look = look * material.texture.mean(axis=(0, 1)) / 255
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
            light = 0.6 + 0.4 * np.abs(normal @ np.array([0.48, 0.8, 0.36]))
            triangles.append(corners)
            colours.append(np.clip(look * light[:, None] * 255, 0, 255))
            ids.append(np.full(len(corners), part.instance + 1))
    things = []
    for thing in scene.objects:
        assert thing.obb is not None
        centre, axes = thing.obb.centre, thing.obb.rotation
        # The box stands upright, turned about the vertical by the angle of its first axis.
        half_angle = np.arctan2(axes[1, 0], axes[0, 0]) / 2
        half = thing.obb.half_size[[0, 2, 1]]
        rotation = [0.0, float(np.sin(half_angle)), 0.0, float(np.cos(half_angle))]
        things.append(SemanticThing(thing.index + 1, thing.raw_category, 0, y_up(centre), half, rotation))
    return Asset(
        np.concatenate(triangles),
        np.concatenate(colours).astype(np.uint8),
        np.concatenate(ids),
        things,
        space=FreeSpace(scene),
    )
