"""A made-up world whose imaginations can be read: a coloured block before a dark wall, and runs that imagine it well or badly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.files import MANIFEST, sha256_file, write_bytes
from ipt.common.images import RGB, encode_image
from ipt.common.seeding import generator
from ipt.inference.prediction import Prediction, Run, image_name
from ipt.samples.sample import Provenance, SampleImage, SpatialSample
from ipt.samples.store import seal, write_shard
from tests.evaluation.simulated import write_run

COLOURS = {"red cube": (220, 30, 30), "blue cube": (40, 60, 230)}
SIDE = 16
NEAR, FAR = 1.0, 3.0


def view(noun: str, place: float, near: bool, rng: np.random.Generator) -> RGB:
    """A block of 6 (near) or 3 pixels with its middle at ``place`` (share of the width), with noise."""
    pixels = np.full((SIDE, SIDE, 3), 60.0) + rng.normal(0, 6, (SIDE, SIDE, 3))
    half = 3 if near else 1.5
    columns, rows = np.abs(np.arange(SIDE) + 0.5 - place * SIDE) <= half, slice(int(12 - 2 * half), 12)
    pixels[rows, columns] = COLOURS[noun]
    return pixels.clip(0, 255).astype(np.uint8)


def block(number: int, **changes: Any) -> SpatialSample:
    """The ``number``-th sample: its block's colour, side and distance are drawn; two samples share a scene."""
    rng = generator(3, "block", number)
    noun = sorted(COLOURS)[int(rng.integers(2))]
    place, near = float(rng.choice([0.25, 0.75])), bool(rng.integers(2))
    kind = ("distance", "from_left")[number % 2]
    answer = ("Closer" if near else "Further") if kind == "distance" else ("Left" if place < 0.5 else "Right")
    choices = ("Closer", "Further") if kind == "distance" else ("Left", "Right")
    facts = {
        "object": {"name": noun},
        "visible_after": [noun],
        "position_after": [place, 0.6],
        "distance_after_m": NEAR if near else FAR,
        "distance_before_m": 2.0,
        "kind": kind,
    }
    image = SampleImage(encode_image(view(noun, 0.5, near, rng)), "observation")
    fields: dict[str, Any] = {
        "id": f"block-{number:03d}",
        "task": "pet",
        "split": "test",
        "question": f"Where is the {noun}, or how far? ({number})",
        "question_type": kind,
        "choices": choices,
        "answer": "AB"[choices.index(answer)],
        "images": (image,),
        "imagination": SampleImage(encode_image(view(noun, place, near, rng)), "view"),
        "rationale": "r",
        "caption": "c",
        "provenance": Provenance("toy", "1", f"scene-{number // 2}", number // 2),
        "facts": facts,
    }
    return SpatialSample(**{**fields, **changes})


def world(folder: Path, count: int, **changes: Any) -> list[SpatialSample]:
    """A sealed dataset of blocks in ``folder``, and its samples."""
    samples = [block(number, **changes) for number in range(count)]
    write_shard(folder / "part-00000.parquet", samples)
    seal(folder, {})
    return samples


def truth(number: int, samples: Sequence[SpatialSample]) -> RGB:
    return samples[number].imagination.pixels()


def answered(
    folder: Path,
    data: Path,
    samples: Sequence[SpatialSample],
    mode: str,
    right: Callable[[int], bool],
    imagine: Callable[[int, Sequence[SpatialSample]], RGB] | None = None,
    **changes: Any,
) -> Run:
    """A run over ``samples``: question ``n`` is answered rightly if ``right(n)``, with the picture ``imagine(n, samples)``;
    ``changes`` are those of its predictions."""
    predictions = []
    for number, sample in enumerate(samples):
        names = (image_name(sample.id),) if imagine is not None else ()
        if imagine is not None:
            write_bytes(folder / names[0], encode_image(imagine(number, samples)))
        index = sample.answer_index if right(number) else 1 - sample.answer_index
        fields = {
            "sample_id": sample.id,
            "task": sample.task,
            "sub_category": sample.question_type,
            "scene": sample.provenance.scene_id,
            "split": sample.split,
            "mode": mode,
            "question": sample.question,
            "choices": sample.choices,
            "expected": sample.answer_index,
            "answer": index,
            "probabilities": (0.75, 0.25) if index == 0 else (0.25, 0.75),
            "text": f"<answer>{'AB'[index]}</answer>",
            "images": names,
        }
        predictions.append(Prediction(**{**fields, **changes}))
    return write_run(folder, predictions, data=str(data), data_sha256=sha256_file(data / MANIFEST), mode=mode)
