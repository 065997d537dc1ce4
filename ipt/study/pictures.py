"""How near imagined pictures come to the truth, by peak signal-to-noise ratio: small pictures need no learned measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipt.common.images import decode_image, open_image
from ipt.evaluation.quality.pictures import of_other_scenes, resized
from ipt.evaluation.quality.similarity import decibels
from ipt.inference.prediction import Run
from ipt.samples.sample import SampleImage

Picture = NDArray[np.float64]
CANDIDATES = 20
SIDE, GAP = 96, 6


@dataclass(frozen=True)
class PictureScores:
    """Means over the imagined pictures of a run. ``own``, ``mean``, ``other``: PSNR in dB of the imagined picture, of the mean
    training picture, and of another scene's truth, all against the truth. ``closer``: share of pictures that are nearer to their
    own truth than to that of another scene; ``found``: share whose own truth is the nearest of 20, 19 of other scenes."""

    own: float
    mean: float
    other: float
    closer: float
    found: float
    count: float

    @staticmethod
    def header() -> list[str]:
        return [
            "imagined",
            "mean picture",
            "another scene's truth",
            "nearer to own truth than to another scene's",
            f"own truth nearest of {CANDIDATES}",
            "pictures",
        ]

    def cells(self) -> list[str]:
        shares = [f"{100 * value:.1f} %" for value in (self.closer, self.found)]
        return [f"{self.own:.2f}", f"{self.mean:.2f}", f"{self.other:.2f}", *shares, f"{self.count:.0f}"]


def picture_scores(
    run: Run, truth: Mapping[str, SampleImage], mean: NDArray[Any] | None, rng: np.random.Generator
) -> PictureScores:
    """The scores of a run that drew pictures; ``truth`` by sample id. Truths of other scenes are drawn by ``rng``; ``UserError``
    where there are not enough."""
    drawn = [prediction for prediction in run.predictions if prediction.images]
    imagined = np.stack([decode_image(run.folder / p.images[0]) for p in drawn]).astype(np.float64)
    size = imagined.shape[2], imagined.shape[1]  # a dataset's pictures may be larger than those that are drawn
    own = np.stack([resized(truth[p.sample_id].pixels(), size) for p in drawn]).astype(np.float64)
    others = of_other_scenes([p.scene for p in drawn], CANDIDATES - 1, rng)
    if mean is not None:
        mean = resized(np.rint(mean).astype(np.uint8), size).astype(np.float64)
    right = errors(imagined, own)
    wrong = np.stack([errors(imagined, own[other]) for other in others])
    return PictureScores(
        own=float(decibels(right).mean()),
        mean=float("nan") if mean is None else float(decibels(errors(np.broadcast_to(mean, own.shape), own)).mean()),
        other=float(decibels(errors(own[others[0]], own)).mean()),
        closer=float((right < wrong[0]).mean()),
        found=float((right < wrong).all(0).mean()),
        count=float(len(drawn)),
    )


def errors(pictures: Picture, truth: Picture) -> NDArray[np.float64]:
    """Mean squared errors [B] of pictures [B, H, W, 3] in 0..255."""
    result: NDArray[np.float64] = np.square(pictures - truth).mean((1, 2, 3))
    return result


def mean_scores(scores: Sequence[PictureScores]) -> PictureScores:
    """The mean of several runs' scores."""
    names = [entry.name for entry in fields(PictureScores)]
    return PictureScores(*(float(np.mean([getattr(score, name) for score in scores])) for name in names))


def sheet(columns: Sequence[Sequence[bytes]]) -> Image.Image:
    """Encoded pictures as a table of squares; every column holds as many."""
    step = SIDE + GAP
    made = Image.new("RGB", (len(columns) * step - GAP, len(columns[0]) * step - GAP), "white")
    for x, column in enumerate(columns):
        for y, data in enumerate(column):
            made.paste(open_image(data).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x * step, y * step))
    return made
