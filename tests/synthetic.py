"""Small samples made up for tests: no simulator, a few hundred bytes each."""

from __future__ import annotations

from typing import Any

import numpy as np

from ipt.common.images import RGB, encode_image
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import Provenance, SampleImage, SpatialSample

CAMERA = Camera(CameraPose((1.0, 2.0, 1.4), 0.5), 16, 16)


def picture(seed: int, size: int = 16) -> RGB:
    """A smooth random picture, (size, size, 3) uint8."""
    coarse = generator(seed, "picture").integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((size // 4, size // 4, 1), np.uint8))


def make_sample(number: int = 0, pixels: RGB | None = None, **changes: Any) -> SpatialSample:
    """A valid multiview-counting sample; ``changes`` replace its fields."""
    scene = number // 4
    images = [
        SampleImage(encode_image(picture(100 * number + view) if pixels is None else pixels), f"frame_{view}", CAMERA)
        for view in range(2)
    ]
    fields: dict[str, Any] = {
        "id": f"sample-{number:05d}",
        "task": "mvc",
        "split": "train",
        "question": f"How many chairs are in this area? ({number % 10})",
        "question_type": "rotation",
        "choices": ("1", "2", "3", "4"),
        "answer": "ABCD"[number % 4],
        "images": tuple(images),
        "imagination": SampleImage(encode_image(picture(100 * number + 50)), "bev", CAMERA),
        "rationale": "Frame 0 shows one chair.",
        "caption": "A view from above.",
        "provenance": Provenance("toy", "1", f"scene-{scene}", scene),
        "facts": {"count": number % 4 + 1, "category": "chair", "room": ["kitchen", "hall"][scene % 2]},
    }
    return SpatialSample(**{**fields, **changes})
