"""How alike pictures are: peak signal-to-noise ratio and structural similarity on (height, width, 3) uint8 pixels, and how near
drawn pictures come to their own truth, against those of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipt.common.errors import UserError
from ipt.common.images import RGB, open_image
from ipt.common.statistics import Floats
from ipt.evaluation.quality.pictures import of_other_scenes

#: What equal pictures get, instead of infinity; pictures that differ in one channel of one pixel by one stay below up to 70 x 70.
MOST_PSNR = 90.0
RADIUS = 5  # of the window of structural similarity
Picture = NDArray[np.float64]


def psnr(picture: RGB, truth: RGB) -> float:
    """Peak signal-to-noise ratio in decibel, at most 90."""
    check_sizes(picture, truth)
    return decibels(errors(picture[None].astype(np.float64), truth[None].astype(np.float64))).item()


def decibels(squared: Floats) -> Floats:
    """Peak signal-to-noise ratios, at most 90, of mean squared errors on the scale 0 to 255."""
    return 10 * np.log10(255**2 / np.maximum(squared, 255**2 * 10 ** (-MOST_PSNR / 10)))


def errors(pictures: Picture, truth: Picture) -> NDArray[np.float64]:
    """Mean squared errors [B] of pictures [B, H, W, 3] in 0..255."""
    result: NDArray[np.float64] = np.square(pictures - truth).mean((1, 2, 3))
    return result


def ssim(picture: RGB, truth: RGB) -> float:
    """Mean structural similarity in [-1, 1], over channels and over the places where the window fits (Wang et al. 2004: Gaussian
    window of 11 x 11, standard deviation 1.5, K = 0.01 and 0.03). ``ValueError`` for pictures smaller than the window."""
    check_sizes(picture, truth)
    if min(truth.shape[:2]) <= 2 * RADIUS:
        raise UserError(f"structural similarity needs at least {2 * RADIUS + 1} pixels a side, got {truth.shape[:2]}")
    import torch  # both take seconds to import, and PSNR needs neither
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (torch.tensor(each, dtype=torch.float64).permute(2, 0, 1)[None] for each in (picture, truth))
    everywhere = structural_similarity_index_measure(x, y, data_range=255.0, return_full_image=True)[1]
    inside = everywhere[
        ..., RADIUS:-RADIUS, RADIUS:-RADIUS
    ]  # theirs reflects the picture at its edges and counts that, too
    return inside.mean().item()


def check_sizes(picture: RGB, truth: RGB) -> None:
    if picture.shape != truth.shape:
        raise UserError(f"pictures are compared at one size, got {picture.shape} and {truth.shape}")


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
