"""``python -m datagen.depth data=DIR output_dir=DIR``: depth maps of true pictures, one PNG per sample, named by its id.

What ``imagination.discrete.target=depth`` writes as codes. Scenes are made again by the simulator that made the dataset; a
sample whose picture does not come out again is left out, and counted by reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.again import Again, render
from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.images import RGB, encode_image
from ipt.samples.camera import Camera
from ipt.samples.sample import picture_path


@dataclass(frozen=True)
class DepthConfig:
    """Write the depth of a dataset's true pictures as grey PNGs, for imagination.discrete.depth_maps=DIR.

    far_m: of a view, the distance that is black (0 m is white). height_m: of a map, the height above the floor that is white
    (the floor is black). Where nothing is seen it is black. limit: only the first so many samples; 0 for all.
    """

    data: str
    output_dir: str
    far_m: float = 10.0
    height_m: float = 3.0
    limit: int = 0

    def __post_init__(self) -> None:
        if min(self.far_m, self.height_m) <= 0 or self.limit < 0:
            raise UserError("far_m and height_m must be positive, and limit at least 0")


def main(config: DepthConfig) -> None:
    """Write the folder and say how many maps are in it, and why others are not."""
    folder, again, count = Path(config.output_dir), Again(Path(config.data), maps=True, limit=config.limit), 0
    for sample, backend, info in again.samples("rendering depth"):
        camera = sample.imagination.camera
        assert camera is not None
        depth = render(backend, camera, "depth").depth
        assert depth is not None
        write_bytes(picture_path(folder, sample.id), encode_image(grey(depth, camera, info.floor_z, config)))
        count += 1
    print(f"{folder}: {count} depth maps{f'; {again.told}' if again.told else ''}")


def grey(depth: NDArray[np.float32], camera: Camera, floor_z: float, config: DepthConfig) -> RGB:
    """Planar metres (h, w), 0 where nothing is seen, as (h, w, 3) levels: what is near, or high on a map, is bright."""
    if camera.ortho_height_m is None:
        level = 1 - depth / config.far_m
    else:
        level = (camera.pose.position[2] - floor_z - depth) / config.height_m
    levels = np.rint(255 * np.clip(np.where(depth > 0, level, 0), 0, 1)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


if __name__ == "__main__":
    cli.run(DepthConfig, main)
