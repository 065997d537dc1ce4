"""Which samples a report shows, and what it says about each: how every run answered it, and what imagination changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ipt.common.seeding import generator
from ipt.inference.prediction import Prediction, Run

OUTCOMES = ("right", "wrong", "invalid", "error", "not asked")
WITHOUT = "answer_only"


@dataclass(frozen=True)
class Shown:
    """A sample of the gallery: the data that it is of, and the prediction of each run, ``None`` where a run has none."""

    data_sha256: str
    sample_id: str
    predictions: tuple[Prediction | None, ...]

    @property
    def example(self) -> Prediction:
        """A prediction that repeats the sample's words."""
        return next(prediction for prediction in self.predictions if prediction is not None)

    @property
    def outcomes(self) -> tuple[str, ...]:
        return tuple(outcome(prediction) for prediction in self.predictions)


@dataclass(frozen=True)
class Gallery:
    """The ``shown`` of ``total`` samples, drawn with ``seed`` by turns from the ``patterns``: samples by outcomes of the runs."""

    shown: tuple[Shown, ...]
    total: int
    seed: int
    patterns: Mapping[tuple[str, ...], int]


def outcome(prediction: Prediction | None) -> str:
    """One of `OUTCOMES`."""
    if prediction is None:
        return "not asked"
    if prediction.error is not None:
        return "error"
    if prediction.answer is None:
        return "invalid"
    return "right" if prediction.correct else "wrong"


def without_imagination(runs: Sequence[Run]) -> list[int | None]:
    """For each run, the one in which the same checkpoint answers the same data without an imagination; ``None`` for that run
    itself, and where there is none."""
    plain = {
        (run.manifest.checkpoint_sha256, run.manifest.data_sha256): number
        for number, run in reversed(list(enumerate(runs)))
        if run.manifest.mode == WITHOUT
    }
    return [
        None if run.manifest.mode == WITHOUT else plain.get((run.manifest.checkpoint_sha256, run.manifest.data_sha256))
        for run in runs
    ]


def flip(before: str, after: str) -> str:
    """What an imagination changed, from the outcomes without it and with it."""
    if "not asked" in (before, after):
        return "not asked"
    kinds = {(True, True): "right in both", (False, False): "wrong in both", (False, True): "corrected"}
    return kinds.get((before == "right", after == "right"), "broken")


def choose(runs: Sequence[Run], limit: int, seed: int) -> Gallery:
    """At most ``limit`` samples: one by one from each combination of outcomes in turn, so that rare ones are seen, too."""
    found: dict[tuple[str, str], list[Prediction | None]] = {}
    for number, run in enumerate(runs):
        for prediction in run.predictions:
            if prediction.choices:
                row = found.setdefault((run.manifest.data_sha256, prediction.sample_id), [None] * len(runs))
                row[number] = prediction
    patterns: dict[tuple[str, ...], list[Shown]] = {}
    for (data, name), predictions in sorted(found.items()):
        sample = Shown(data, name, tuple(predictions))
        patterns.setdefault(sample.outcomes, []).append(sample)
    queues = []
    for pattern, samples in sorted(patterns.items()):
        order = generator(seed, "gallery", *pattern).permutation(len(samples))
        queues.append([samples[place] for place in order])
    chosen: list[Shown] = []
    for turn in range(max(map(len, queues), default=0)):
        chosen += [queue[turn] for queue in queues if turn < len(queue)][: limit - len(chosen)]
    counts = {pattern: len(samples) for pattern, samples in sorted(patterns.items())}
    return Gallery(tuple(chosen), len(found), seed, counts)
