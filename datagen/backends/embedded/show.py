"""Look at a scene: ``python -m datagen.backends.embedded.show seed=3`` writes a contact sheet.

One row per room with its view, depth and instances, and beside them the plan from above with free space in green and the
names of the objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datagen.backends.base import Frame, SceneInfo
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common import cli
from ipt.common.files import write_bytes
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose

RGB = NDArray[np.uint8]
EYE_HEIGHT = 1.5
SEARCH_SIZE = 48
GAP = 6


@dataclass(frozen=True)
class ShowConfig:
    """Write a contact sheet of one scene of the embedded simulator (views, depth, instances, plan).

    preset: home or blocks; renderer: auto, mujoco or ray; size: pixels of a view; fov: vertical degrees; scene_file: an
    MJCF or GLB file instead of a generated scene; furniture, furniture_root, shadows: as backend.furniture and so on;
    output_dir: where scene.png goes.
    """

    seed: int = 0
    preset: str = "home"
    split: str = "train"
    renderer: str = "auto"
    size: int = 320
    fov: float = 70.0
    views: int = 4
    scene_file: str | None = None
    furniture: str = "ours"
    furniture_root: str | None = None
    shadows: bool = False
    output_dir: str = "outputs/show"


def contact_sheet(backend: EmbeddedBackend, info: SceneInfo, config: ShowConfig) -> RGB:
    """The sheet of the loaded scene, (h, w, 3) uint8."""
    rng = generator(config.seed, "show")
    cameras = [best_view(backend, info, room.id, rng, config) for room in info.rooms[: config.views]]
    while len(cameras) < config.views:
        room = info.rooms[int(rng.integers(len(info.rooms)))]
        cameras.append(best_view(backend, info, room.id, rng, config))
    rows = [frame_row(frame) for frame in backend.render(cameras)]
    views = np.concatenate([pad(row) for row in rows])
    plan = plan_of(backend, info, views.shape[0] - 2 * GAP)
    return np.concatenate([views, pad(plan)], axis=1)


def best_view(
    backend: EmbeddedBackend, info: SceneInfo, room_id: str, rng: np.random.Generator, config: ShowConfig
) -> Camera:
    """Among random places in a room and eight directions each, the view with most to see and nothing in the face."""
    points = backend.sample_navigable(6, rng, 0.2, room_id)
    height = min(EYE_HEIGHT, info.bounds_max[2] * 0.8)
    poses = [
        CameraPose((x, y, height), yaw=math.pi / 4 * turn + 0.3, pitch=math.radians(-12))
        for x, y, _ in points
        for turn in range(8)
    ]
    small = [Camera(pose, SEARCH_SIZE, SEARCH_SIZE, config.fov) for pose in poses]
    furniture = np.array([not thing.is_structure for thing in backend.objects()])
    scores = [richness(frame, furniture) for frame in backend.render(small, ("depth", "instance"))]
    return Camera(poses[int(np.argmax(scores))], config.size, config.size, config.fov)


def richness(frame: Frame, furniture: NDArray[np.bool_]) -> float:
    """Pieces of furniture that fill half a percent of the view, and how much room there is in front of the camera."""
    assert frame.instance is not None and frame.depth is not None
    counts = np.bincount(frame.instance[frame.instance >= 0].ravel(), minlength=len(furniture))
    return float((counts[furniture] > 0.005 * frame.instance.size).sum()) + 2 * min(
        float(np.percentile(frame.depth, 20)), 2.0
    )


def frame_row(frame: Frame) -> RGB:
    """Colour, depth and instances side by side."""
    assert frame.rgb is not None and frame.depth is not None and frame.instance is not None
    scaled = frame.depth / max(float(frame.depth.max()), 1e-6)
    depth = (matplotlib.colormaps["viridis"](1 - scaled)[..., :3] * 255).astype(np.uint8)
    gap = np.full((frame.rgb.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([frame.rgb, gap, depth, gap, instance_colours(frame.instance)], axis=1)


def instance_colours(instance: NDArray[np.int32]) -> RGB:
    """A distinct colour per instance; black is background."""
    palette = generator(0, "palette").integers(50, 255, (int(instance.max()) + 2, 3)).astype(np.uint8)
    palette[-1] = 0
    return palette[instance]


def plan_of(backend: EmbeddedBackend, info: SceneInfo, size: int) -> RGB:
    """The scene from above: free space tinted green, furniture and rooms named."""
    margin = 0.3
    region = (
        info.bounds_min[0] - margin,
        info.bounds_min[1] - margin,
        info.bounds_max[0] + margin,
        info.bounds_max[1] + margin,
    )
    frame = backend.render_top_down(region, size, {"rgb"})
    assert frame.rgb is not None
    pixels = frame.rgb.astype(np.float32)
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    world = frame.camera.unproject(np.stack([columns, rows], -1).reshape(-1, 2), np.ones(size * size))
    free = backend.is_free(world).reshape(size, size)
    pixels[free] = 0.75 * pixels[free] + 0.25 * np.array([60, 200, 90])
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(max(9, size // 90)), ImageFont.load_default(max(12, size // 45))
    overhead = {part.instance for part in backend.scene.parts if part.layer is not None}
    for thing in backend.objects():
        if not thing.is_structure and thing.index not in overhead and max(thing.size[:2]) > 0.3:
            (u, v), _ = frame.camera.project(thing.centre)
            draw.text(
                (u, v), thing.name, fill=(20, 20, 60), font=small, anchor="mm", stroke_width=1, stroke_fill="white"
            )
    for room in info.rooms:
        (u, v), _ = frame.camera.project([*room.polygon.max(axis=0) * [0, 1] + room.polygon.mean(axis=0) * [1, 0], 0.0])
        draw.text(
            (u, v + size // 40),
            room.kind,
            fill=(150, 0, 0),
            font=large,
            anchor="mm",
            stroke_width=2,
            stroke_fill="white",
        )
    return np.asarray(image)


def pad(image: RGB) -> RGB:
    """A white margin around a picture."""
    return np.pad(image, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def show(config: ShowConfig) -> None:
    """Make the scene, draw its sheet, write the PNG and name it."""
    chosen = EmbeddedConfig(
        preset=config.preset,
        renderer=config.renderer,
        scene_file=config.scene_file,
        furniture=config.furniture,
        furniture_root=config.furniture_root,
        shadows=config.shadows,
    )
    with EmbeddedBackend(chosen) as backend:
        info = backend.load(backend.scenes(config.split)[0 if config.scene_file else config.seed])
        path = Path(config.output_dir) / "scene.png"
        write_bytes(path, encode_image(contact_sheet(backend, info, config)))
        names = sorted({thing.category for thing in backend.objects() if not thing.is_structure})
        print(f"{info.scene_id}: {len(info.rooms)} rooms ({', '.join(room.kind for room in info.rooms)})")
        print(f"{len(backend.objects())} objects, {len(names)} categories: {', '.join(names)}")
        print(f"drawn by {backend.version}; wrote {path}")


if __name__ == "__main__":
    cli.run(ShowConfig, show)
