"""Imagination quality of a run: every figure for what was imagined, for a stranger's imagination and for the mean picture.

Likeness (PSNR, SSIM, LPIPS where its weights are at hand) compares pictures with the truth at the imagination's size. What a
picture is for is read by a probe (`ipt.evaluation.quality.probe`) that never saw the scene: fitted on other scenes of the same
data in two folds, or on a dataset of its own. The probe is validated on the true pictures of the very same samples; a figure
that it does not read from them better than chance and than from the mean picture is withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.common.images import RGB
from ipt.common.seeding import generator
from ipt.common.statistics import Floats, clustered_mean
from ipt.evaluation.metrics import Interval
from ipt.evaluation.quality.labels import Labels
from ipt.evaluation.quality.lpips import Lpips
from ipt.evaluation.quality.pictures import Pictures, Size, judged_pictures, resized, training_pictures
from ipt.evaluation.quality.probe import Probe, fit_probe, pixels
from ipt.evaluation.quality.reading import READ_METRICS, ReadMetric
from ipt.evaluation.quality.similarity import RADIUS, psnr, ssim
from ipt.evaluation.quality.viewpoints import MEASURES, viewpoint_errors
from ipt.evaluation.settings import QualityConfig
from ipt.inference.prediction import Run
from ipt.samples.store import SampleReader

PROBE_SIDE = 64
REFERENCES = ("imagined", "permuted", "mean")


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean and its 95% interval over scenes; no interval with fewer than two."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One metric of one task. ``truth``: what the probe reads from the true pictures, its own held-out accuracy, and ``chance``:
    the best constant guess (both ``None`` for likeness). ``figures``: of `imagined`, `permuted` and `mean`, empty where the probe
    is not ``valid``. ``gains``: paired differences of `imagined` from the other two, positive where it is better."""

    task: str
    metric: str
    meaning: str
    higher_is_better: bool
    count: int
    scenes: int
    valid: bool
    truth: Figure | None
    chance: float | None
    figures: Mapping[str, Figure]
    gains: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one task of a run: ``judged`` of ``imagined`` samples, of ``size`` (width, height). ``notes``: what could not be."""

    task: str
    size: Size
    judged: int
    imagined: int
    rows: tuple[QualityRow, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(run: Run, config: QualityConfig, seed: int = 0, perceptual: Lpips | None = None) -> list[Quality]:
    """The quality of a run, task by task; nothing for a run without imaginations or a ``config.limit`` of 0.

    Raises ``ValueError`` and ``OSError`` where data and pictures are not where they should be, or there are not two scenes.
    """
    tasks = sorted({prediction.task for prediction in run.predictions if prediction.images})
    if not tasks or not config.limit:
        return []
    reader = SampleReader(run.manifest.data)
    return [_judge_task(run, reader, task, config, perceptual, seed) for task in tasks]


def _judge_task(
    run: Run, reader: SampleReader, task: str, config: QualityConfig, perceptual: Lpips | None, seed: int
) -> Quality:
    pictures = judged_pictures(run, reader, task, config.limit, seed)
    rows, notes = likeness(pictures, perceptual), []
    if config.shifted is not None:
        try:
            rows += viewpoints(pictures, SampleReader(config.shifted))
        except UserError as error:
            notes.append(f"Where pictures seem to be taken from was not judged: {error}.")
    if config.probe:
        source = reader if config.probe_data is None else SampleReader(config.probe_data)
        try:
            rows += contents(pictures, source, config, seed)
        except UserError as error:
            notes.append(f"What the pictures show was not read: {error}.")
    return Quality(task, pictures.size, len(pictures.scenes), pictures.drawn_from, tuple(rows), tuple(notes))


def likeness(pictures: Pictures, perceptual: Lpips | None) -> list[QualityRow]:
    """PSNR, SSIM and LPIPS against the truth."""
    measures: dict[str, tuple[str, bool, Callable[[RGB, RGB], float]]] = {"PSNR": ("decibel, at most 90", True, psnr)}
    if min(pictures.size) > 2 * RADIUS:
        measures["SSIM"] = ("structural similarity, 1 is equal", True, ssim)
    if perceptual is not None:
        measures["LPIPS"] = (
            "perceptual distance, 0 is equal",
            False,
            lambda one, other: float(perceptual(pixels(one[None]), pixels(other[None]))[0]),
        )
    rows = []
    for name, (meaning, higher, measure) in measures.items():
        values = {
            "imagined": np.array(
                [
                    np.mean([measure(one, truth) for one in several])
                    for several, truth in zip(pictures.imagined, pictures.truth, strict=True)
                ]
            ),
            "permuted": np.array(list(map(measure, pictures.permuted, pictures.truth))),
            "mean": np.array(list(map(measure, pictures.mean, pictures.truth))),
        }
        rows.append(row_of(pictures, name, meaning, higher, values))
    return rows


def viewpoints(pictures: Pictures, shifted: SampleReader) -> list[QualityRow]:
    """How far from the true camera pictures seem to be taken. ``UserError`` where there are no shifted views of them."""
    errors = viewpoint_errors(pictures, shifted)
    return [row_of(pictures, name, MEASURES[name], False, values) for name, values in errors.items()]


def contents(pictures: Pictures, source: SampleReader, config: QualityConfig, seed: int) -> list[QualityRow]:
    """What a probe reads: objects, and what the task's questions are about. ``ValueError`` where facts or other scenes lack."""
    if pictures.unlabelled:
        raise UserError(pictures.unlabelled)
    side = max(16, min(PROBE_SIDE, *pictures.size) // 8 * 8)
    known = training_pictures(source, pictures.task, pictures.size, side, config.probe_limit, seed)
    small = np.stack([picture for _, picture, _ in known])
    owners, labels = np.array([scene for scene, _, _ in known]), [label for _, _, label in known]
    names = sorted(set(pictures.scenes))
    shuffled = generator(seed, "folds", pictures.task).permutation(names).tolist()
    parts = [shuffled] if config.probe_data is not None else [shuffled[::2], shuffled[1::2]]
    values: dict[tuple[str, str], Floats] = {}
    for part in parts:
        held = np.flatnonzero(np.isin(pictures.scenes, part))
        rows = np.flatnonzero(~np.isin(owners, part))
        if not len(rows):
            raise UserError(f"{source.source} has no scene that was not asked about; set quality.probe_data=FOLDER")
        probe = fit_probe(small[rows], [labels[row] for row in rows], seed)
        for (metric, shown), read in read_all(probe, pictures, held, side).items():
            values.setdefault((metric, shown), np.full(len(pictures.scenes), np.nan))[held] = read
    return [
        row_of(
            pictures,
            metric.name,
            metric.meaning,
            True,
            {s: values[metric.name, s] for s in (*REFERENCES, "truth")},
            metric,
        )
        for metric in READ_METRICS[pictures.task]
    ]


def read_all(probe: Probe, pictures: Pictures, held: NDArray[np.int_], side: int) -> dict[tuple[str, str], Floats]:
    """Values of the ``held`` samples by metric and by what was looked at."""
    labels = [pictures.labels[row] for row in held]

    def read(shown: Sequence[RGB], about: Sequence[Labels]) -> dict[str, Floats]:
        readings = probe.read(np.stack([resized(picture, (side, side)) for picture in shown]))
        return {metric.name: metric.values(readings, probe.nouns, about) for metric in READ_METRICS[pictures.task]}

    found = {
        (metric, name): values
        for name, all_shown in (("truth", pictures.truth), ("permuted", pictures.permuted), ("mean", pictures.mean))
        for metric, values in read([all_shown[row] for row in held], labels).items()
    }
    several = [(number, picture) for number, row in enumerate(held) for picture in pictures.imagined[row]]
    owners = np.array([number for number, _ in several])
    for metric, values in read([picture for _, picture in several], [labels[number] for number in owners]).items():
        found[metric, "imagined"] = np.bincount(owners, values, len(held)) / np.bincount(owners, minlength=len(held))
    return found


def row_of(
    pictures: Pictures,
    name: str,
    meaning: str,
    higher: bool,
    values: Mapping[str, Floats],
    metric: ReadMetric | None = None,
) -> QualityRow:
    """Values (n,) of everything looked at, NaN where the metric does not apply, as a row."""
    applies = np.flatnonzero(np.isfinite(values["imagined"]))
    scenes = [pictures.scenes[row] for row in applies]
    sign, limits = 1.0 if higher else -1.0, () if metric is None else (0.0, 1.0)
    truth, chance, valid = None, None, bool(len(applies))
    if metric is not None and valid:
        truth = figure(values["truth"][applies], scenes, *limits)
        chance = metric.chance([pictures.labels[row] for row in applies])
        over_mean = figure((values["truth"] - values["mean"])[applies], scenes)
        valid = all(
            each.interval is not None and each.interval[0] > floor
            for each, floor in ((truth, chance), (over_mean, 0.0))
        )
    return QualityRow(
        pictures.task,
        name,
        meaning,
        higher,
        len(applies),
        len(set(scenes)),
        valid,
        truth,
        chance,
        {each: figure(values[each][applies], scenes, *limits) for each in REFERENCES} if valid else {},
        {each: figure(sign * (values["imagined"] - values[each])[applies], scenes) for each in REFERENCES[1:] if valid},
    )


def figure(values: Floats, scenes: Sequence[str], low: float = -np.inf, high: float = np.inf) -> Figure:
    """The mean of values (n,) with its interval over scenes, cut to what a value may be."""
    if len(set(scenes)) < 2:
        return Figure(float(values.mean()), None)
    estimate = clustered_mean(values, scenes)
    return Figure(estimate.value, (max(estimate.low, low), min(estimate.high, high)))
