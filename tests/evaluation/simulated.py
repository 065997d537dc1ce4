"""Predictions with known true accuracies, and run folders of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipt.inference.prediction import Prediction, PredictionWriter, Run, RunManifest, read_run

SUB_CATEGORIES = tuple(f"kind_{number}" for number in range(6))


def prediction(number: int = 0, right: bool = True, **changes: Any) -> Prediction:
    """A prediction for question ``number``, of scene number // 4; ``changes`` replace its fields."""
    fields: dict[str, Any] = {
        "sample_id": f"q-{number:05d}",
        "task": "pet",
        "sub_category": SUB_CATEGORIES[number % 6],
        "scene": f"scene-{number // 4}",
        "split": "test",
        "mode": "answer_only",
        "question": f"Left or right? ({number})",
        "choices": ("Left", "Right"),
        "expected": number % 2,
        "answer": number % 2 if right else 1 - number % 2,
        "text": "<answer>A</answer>",
    }
    return Prediction(**{**fields, **changes})


def clustered(
    rng: np.random.Generator, accuracy: float = 0.7, scenes: int = 200, concentration: float = 2.0
) -> list[Prediction]:
    """Predictions for ``scenes`` scenes of 2 to 12 questions. The accuracy of a scene is drawn from a beta distribution of mean
    ``accuracy``: the smaller its ``concentration``, the more alike are the questions of a scene."""
    sizes = rng.integers(2, 13, scenes)
    rates = rng.beta(accuracy * concentration, (1 - accuracy) * concentration, scenes)
    places = np.repeat(np.arange(scenes), sizes)
    right = rng.random(len(places)) < rates[places]
    return [
        prediction(n, bool(hit), scene=f"s{place}") for n, (hit, place) in enumerate(zip(right, places, strict=True))
    ]


def write_run(folder: Path, predictions: Iterable[Prediction], done: bool = True, **changes: Any) -> Run:
    """A run folder as the engine leaves it."""
    listed: Sequence[Prediction] = list(predictions)
    mode = listed[0].mode if listed else "answer_only"
    manifest = RunManifest(
        **{
            "checkpoint": "m",
            "checkpoint_sha256": "",
            "data": "d",
            "data_sha256": "",
            "mode": mode,
            "settings": {},
            "seed": 0,
            **changes,
        }
    )
    with PredictionWriter(folder, manifest) as writer:
        writer.write(listed)
        if done:
            writer.finish(1.0)
    return read_run(folder)
