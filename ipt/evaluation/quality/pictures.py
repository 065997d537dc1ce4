"""The pictures that are judged: what a run imagined, the truth at the same size, and two references for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image, image_size
from ipt.common.progress import tracked
from ipt.common.seeding import generator
from ipt.common.statistics import Floats
from ipt.evaluation.quality.labels import Labels, labels_of
from ipt.inference.prediction import Prediction, Run
from ipt.samples.store import SampleReader

Size = tuple[int, int]


@dataclass(frozen=True)
class Pictures:
    """``n`` samples of one task, by their ``ids``, with the ``imagined`` pictures of each, all of one ``size`` (width, height).

    ``permuted``: what the run imagined for a sample of another scene. ``mean``: the mean of the true pictures of all other
    scenes. ``drawn_from``: how many samples had imaginations. ``unlabelled``: why there are no ``labels``, if so.
    """

    task: str
    size: Size
    ids: list[str]
    scenes: list[str]
    labels: list[Labels]
    imagined: list[list[RGB]]
    truth: list[RGB]
    permuted: list[RGB]
    mean: list[RGB]
    drawn_from: int
    unlabelled: str


def judged_pictures(run: Run, reader: SampleReader, task: str, limit: int, seed: int) -> Pictures:
    """The imaginations of at most ``limit`` samples, drawn by seed. ``ValueError`` where there are fewer than two scenes."""
    found = [prediction for prediction in run.predictions if prediction.task == task and prediction.images]
    order = generator(seed, "judged", task).permutation(len(found))[:limit]
    chosen = sorted((found[row] for row in order), key=lambda prediction: prediction.sample_id)
    if len({prediction.scene for prediction in chosen}) < 2:
        raise UserError(
            f"{run.folder}: imaginations of '{task}' are judged against other scenes; there are not two scenes"
        )
    sizes = Counter(image_size(run.folder / prediction.images[0]) for prediction in chosen)
    size = sizes.most_common(1)[0][0]
    rows = rows_of(chosen, reader)
    samples = (reader[row] for row in tracked(rows, f"reading true imaginations of {task}", len(rows)))
    truths: list[RGB] = []
    labels: list[Labels] = []
    unlabelled = ""
    for sample in samples:
        truths.append(resized(sample.imagination.pixels(), size))
        try:
            labels.append(labels_of(sample))
        except UserError as error:
            unlabelled = unlabelled or str(error)
    imagined = [[resized(decode_image(run.folder / name), size) for name in p.images] for p in chosen]
    scenes = [prediction.scene for prediction in chosen]
    (others,) = of_other_scenes(scenes, 1, generator(seed, "permuted", task))
    permuted = [imagined[other][0] for other in others]
    mean = mean_of_other_scenes(truths, scenes)
    ids = [prediction.sample_id for prediction in chosen]
    return Pictures(task, size, ids, scenes, labels, imagined, truths, permuted, mean, len(found), unlabelled)


def rows_of(predictions: Sequence[Prediction], reader: SampleReader) -> list[int]:
    """The rows of samples; ``ValueError`` names one that the dataset lacks."""
    rows = {name: row for row, name in enumerate(reader.ids())}
    if lacking := [p.sample_id for p in predictions if p.sample_id not in rows]:
        raise UserError(
            f"{reader.source} lacks {len(lacking)} samples that the run answered, such as '{lacking[0]}': not the run's data"
        )
    return [rows[prediction.sample_id] for prediction in predictions]


def resized(picture: RGB, size: Size) -> RGB:
    """Bicubic, antialiased, as the model's own inputs and targets are."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def of_other_scenes(scenes: Sequence[str], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count, n) for each of n samples, ``count`` different ones of other scenes, at random. ``UserError`` where there are not as
    many."""
    names, drawn = np.array(scenes), []
    for scene in scenes:
        others = np.flatnonzero(names != scene)
        if len(others) < count:
            raise UserError(
                f"scene '{scene}' is compared with {count} pictures of other scenes, there are {len(others)}"
            )
        drawn.append(rng.choice(others, count, replace=False))
    return np.array(drawn, dtype=np.int64).reshape(len(drawn), count).T


def mean_of_other_scenes(pictures: Sequence[RGB], scenes: Sequence[str]) -> list[RGB]:
    """For each picture, the mean of those of all other scenes, rounded."""
    return [np.rint(mean).astype(np.uint8) for mean in means_of_other_scenes(pictures, scenes)]


def means_of_other_scenes(values: Sequence[NDArray[Any]], scenes: Sequence[str]) -> list[Floats]:
    """For each of ``values``, the mean of those of all other scenes."""
    sums: dict[str, Floats] = {}
    for value, scene in zip(values, scenes, strict=True):
        sums[scene] = sums.get(scene, 0) + value.astype(np.float64)
    total, sizes = sum(sums.values()), Counter(scenes)
    means = {scene: (total - own) / (len(scenes) - sizes[scene]) for scene, own in sums.items()}
    return [means[scene] for scene in scenes]


def training_pictures(
    reader: SampleReader, task: str, size: Size, side: int, limit: int, seed: int
) -> list[tuple[str, RGB, Labels]]:
    """Scene, true picture and labels of at most ``limit`` samples of a task, drawn by seed; brought to ``size`` and then to
    ``side`` x ``side``, as imaginations are."""
    rows = [row for row, name in enumerate(reader.column("task")) if name == task]
    chosen = sorted(generator(seed, "probe", task).permutation(rows)[:limit].tolist())
    samples = (reader[row] for row in tracked(chosen, f"reading {task} for the probe", len(chosen)))
    return [
        (
            sample.provenance.scene_id,
            resized(resized(sample.imagination.pixels(), size), (side, side)),
            labels_of(sample),
        )
        for sample in samples
    ]
