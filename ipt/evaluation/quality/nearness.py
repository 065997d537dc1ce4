"""How near drawn pictures come to the truth, by peak signal-to-noise ratio: small pictures need no learned measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipt.common.images import open_image
from ipt.evaluation.quality.pictures import of_other_scenes
from ipt.evaluation.quality.similarity import decibels

Picture = NDArray[np.float64]
CANDIDATES = 20
SIDE, GAP = 96, 6


@dataclass(frozen=True)
class PictureScores:
    """Means over drawn pictures. ``own``, ``mean``, ``other``: PSNR in dB of the drawn picture, of the mean picture, and of
    another sample's truth, all against the truth. ``closer``: share of pictures that are nearer to their own truth than to that
    of another scene; ``found``: share whose own truth is the nearest of 20, 19 of other scenes."""

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
            "nearer to own truth than to another's",
            f"own truth nearest of {CANDIDATES}",
            "pictures",
        ]

    def cells(self) -> list[str]:
        shares = [f"{100 * value:.1f} %" for value in (self.closer, self.found)]
        return [f"{self.own:.2f}", f"{self.mean:.2f}", f"{self.other:.2f}", *shares, f"{self.count:.0f}"]


def scored(
    drawn: Picture, truth: Picture, mean: NDArray[Any] | None, scenes: Sequence[str], rng: np.random.Generator
) -> PictureScores:
    """The scores of pictures [B, H, W, 3] in 0..255 of ``scenes``; ``mean``: [H, W, 3], or one each. Truths of other scenes are
    drawn by ``rng``; ``UserError`` where there are not enough."""
    others = of_other_scenes(scenes, CANDIDATES - 1, rng)
    right = errors(drawn, truth)
    wrong = np.stack([errors(drawn, truth[other]) for other in others])
    return PictureScores(
        own=float(decibels(right).mean()),
        mean=float("nan")
        if mean is None
        else float(decibels(errors(np.broadcast_to(mean, truth.shape), truth)).mean()),
        other=float(decibels(errors(truth[others[0]], truth)).mean()),
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
