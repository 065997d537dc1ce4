"""How alike two pictures are: peak signal-to-noise ratio and structural similarity, on (height, width, 3) uint8 pixels."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ipt.common.errors import UserError
from ipt.common.images import RGB
from ipt.common.statistics import Floats

#: What equal pictures get, instead of infinity; pictures that differ in one channel of one pixel by one stay below up to 70 x 70.
MOST_PSNR = 90.0
SIGMA, TRUNCATE, RADIUS = 1.5, 3.5, 5
STABILISERS = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(picture: RGB, truth: RGB) -> float:
    """Peak signal-to-noise ratio in decibel, at most 90."""
    check_sizes(picture, truth)
    return decibels(np.mean((picture.astype(np.float64) - truth) ** 2, keepdims=True)).item()


def decibels(squared: Floats) -> Floats:
    """Peak signal-to-noise ratios, at most 90, of mean squared errors on the scale 0 to 255."""
    return 10 * np.log10(255**2 / np.maximum(squared, 255**2 * 10 ** (-MOST_PSNR / 10)))


def ssim(picture: RGB, truth: RGB) -> float:
    """Mean structural similarity in [-1, 1], over channels and over the places where the window fits (Wang et al. 2004: Gaussian
    window of 11 x 11, standard deviation 1.5, K = 0.01 and 0.03). ``ValueError`` for pictures smaller than the window."""
    check_sizes(picture, truth)
    if min(truth.shape[:2]) <= 2 * RADIUS:
        raise UserError(f"structural similarity needs at least {2 * RADIUS + 1} pixels a side, got {truth.shape[:2]}")
    x, y = picture.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = smoothed(x), smoothed(y)
    variance_x, variance_y = smoothed(x * x) - mean_x**2, smoothed(y * y) - mean_y**2
    covariance = smoothed(x * y) - mean_x * mean_y
    first, second = STABILISERS
    similarity = (2 * mean_x * mean_y + first) * (2 * covariance + second)
    similarity /= (mean_x**2 + mean_y**2 + first) * (variance_x + variance_y + second)
    return float(similarity[RADIUS:-RADIUS, RADIUS:-RADIUS].mean())


def smoothed(values: Floats) -> Floats:
    """Gaussian means over height and width of values (height, width, channels)."""
    return gaussian_filter(values, (SIGMA, SIGMA, 0), truncate=TRUNCATE)


def check_sizes(picture: RGB, truth: RGB) -> None:
    if picture.shape != truth.shape:
        raise UserError(f"pictures are compared at one size, got {picture.shape} and {truth.shape}")
