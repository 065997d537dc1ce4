"""What the audit keeps of a sample: texts, scalar facts and cheap picture features instead of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from datagen.audit.clues import clues_of
from ipt.common.images import RGB
from ipt.samples.sample import SampleImage, SpatialSample

Floats = NDArray[np.float32]
Scalar = str | int | bool

THUMBNAIL = 12
ORIENTATIONS = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """Features (560,) float32, 64-bit perceptual hash and SHA-256 of one image."""

    role: str
    features: Floats
    perceptual_hash: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Item:
    """One question as the audit sees it; nested facts have dotted names. ``clues``: see `datagen.audit.clues`."""

    id: str
    task: str
    split: str
    scene: str
    question: str
    question_type: str
    choices: tuple[str, ...]
    answer: int
    rationale: str
    caption: str
    facts: Mapping[str, Scalar]
    views: tuple[Picture, ...]
    imagination: Picture
    clues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def chance(self) -> float:
        """Accuracy of a guess: one over the number of choices of this very question."""
        return 1 / len(self.choices)


def to_item(sample: SpatialSample) -> Item:
    """Reduce a sample."""
    return Item(
        id=sample.id,
        task=sample.task,
        split=sample.split,
        scene=f"{sample.provenance.backend}/{sample.provenance.scene_id}",
        question=sample.question,
        question_type=sample.question_type,
        choices=sample.choices,
        answer=sample.answer_index,
        rationale=sample.rationale,
        caption=sample.caption,
        facts=dict(scalars(sample.facts)),
        views=tuple(describe(image) for image in sample.images),
        imagination=describe(sample.imagination),
        clues=clues_of(sample),
    )


def scalars(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Names and values of the strings, whole numbers and truth values in ``facts``."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}.")
        elif isinstance(value, str | int):
            yield prefix + name, value


def describe(image: SampleImage) -> Picture:
    pixels = image.pixels()
    grey = (
        np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float32) / 255
    )
    features = np.concatenate([colour_thumbnail(pixels), gradient_histograms(grey)])
    return Picture(image.role, features, perceptual_hash(grey), hashlib.sha256(image.data).hexdigest())


def colour_thumbnail(pixels: RGB) -> Floats:
    """Area-averaged colours on a 12 x 12 lattice, centred on grey, (432,)."""
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / np.float32(255) - np.float32(0.5)


def gradient_histograms(grey: NDArray[np.floating[Any]]) -> Floats:
    """Unit-norm histograms of 8 gradient orientations on 4 x 4 cells of a (32, 32) grey image, (128,) (Dalal, Triggs 2005)."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    orientation = ((np.arctan2(down, right) % np.pi) * (ORIENTATIONS / np.pi)).astype(int) % ORIENTATIONS
    rows, columns = np.indices(grey.shape) // 8
    cells = (rows * 4 + columns) * ORIENTATIONS + orientation
    histogram = np.bincount(cells.ravel(), strength.ravel(), 16 * ORIENTATIONS).astype(np.float32)
    return histogram / np.float32(np.linalg.norm(histogram) + 1e-6)


def perceptual_hash(grey: NDArray[np.floating[Any]]) -> int:
    """64 signs of the lowest frequencies of a (32, 32) grey image around their median (pHash, Zauner 2010)."""
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    low[0] = 0  # mean brightness says nothing about content
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


def by_task(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Items of each task, in order of appearance."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.task, []).append(item)
    return groups
