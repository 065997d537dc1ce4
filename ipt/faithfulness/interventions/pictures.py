"""What can be done to pictures. Sources: Ablate-to-Validate (arXiv 2605.21642) for those matched in distribution, the IPT paper
(2606.03988) for sizes and the truth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image
from scipy import ndimage

from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image
from ipt.common.statistics import Floats
from ipt.faithfulness.interventions.base import Case, opposite, register
from ipt.imagination.base import Mediator

GREY = 128


@register("picture", "identity", "control")
def same_picture(case: Case) -> Mediator:
    """Decoded and encoded again: must change nothing."""
    return case.drawn(case.pixels)


@register("picture", "zeros", "destroy")
def black(case: Case) -> Mediator:
    return case.drawn(np.zeros_like(case.pixels))


@register("picture", "grey", "destroy")
def grey(case: Case) -> Mediator:
    return case.drawn(np.full_like(case.pixels, GREY))


def pixels_of(mediator: Mediator) -> Floats:
    """[height, width, 3]"""
    assert mediator.image is not None
    return decode_image(mediator.image.data).astype(np.float64)


@register("picture", "mean", "destroy")
def mean(case: Case) -> Mediator:
    """The mean picture of all questions of other scenes."""
    return case.drawn(np.rint(case.elsewhere(pixels_of)).astype(np.uint8))


@register("picture", "noise", "destroy")
def noise(case: Case) -> Mediator:
    """Independent normal pixels with the mean and deviation of each channel."""
    flat = case.pixels.reshape(-1, 3).astype(np.float64)
    drawn = case.rng.normal(flat.mean(0), flat.std(0), case.pixels.shape)
    return case.drawn(drawn.clip(0, 255).astype(np.uint8))


@register("picture", "phase", "destroy")
def scrambled_phase(case: Case) -> Mediator:
    """The power spectrum of each channel with the phases of noise: statistics of a picture and no things in it."""
    pixels = case.pixels.astype(np.float64)
    turn = np.angle(np.fft.fft2(case.rng.normal(size=pixels.shape[:2])))[:, :, None]
    spectrum = np.fft.fft2(pixels, axes=(0, 1)) * np.exp(1j * turn)
    spectrum[0, 0] = pixels.sum((0, 1))
    return case.drawn(np.fft.ifft2(spectrum, axes=(0, 1)).real.clip(0, 255).astype(np.uint8))


@register("picture", "shuffle_patches", "destroy")
def shuffled(case: Case, grid: str = "4") -> Mediator:
    """The same pixels without layout: ``grid`` x ``grid`` tiles in random order."""
    tiles, cut = tiled(case.pixels, int(grid))
    return case.drawn(untiled(tiles[case.rng.permutation(len(tiles))], int(grid), cut))


def tiled(pixels: RGB, grid: int) -> tuple[RGB, RGB]:
    """Equal tiles [grid * grid, h, w, 3], and the picture, whose rest at the right and lower edge belongs to none."""
    height, width = pixels.shape[0] // grid, pixels.shape[1] // grid
    if not height * width:
        raise UserError(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} cannot be cut into {grid} x {grid} tiles")
    inner = pixels[: height * grid, : width * grid].reshape(grid, height, grid, width, 3)
    return inner.swapaxes(1, 2).reshape(grid * grid, height, width, 3), pixels


def untiled(tiles: RGB, grid: int, around: RGB) -> RGB:
    """Inverse of `tiled`."""
    height, width = tiles.shape[1:3]
    made = around.copy()
    rows = tiles.reshape(grid, grid, height, width, 3).swapaxes(1, 2)
    made[: height * grid, : width * grid] = rows.reshape(height * grid, width * grid, 3)
    return made


@register("picture", "mirror", "direct", target=opposite)
def mirror(case: Case) -> Mediator:
    """Left and right change places; so does an answer about them."""
    return case.drawn(case.pixels[:, ::-1])


@register("picture", "blur", "dose", "1", "2", "4", "8")
def blurred(case: Case, sigma: str) -> Mediator:
    """Gaussian blur of ``sigma`` pixels."""
    smooth = ndimage.gaussian_filter(case.pixels.astype(np.float64), (float(sigma), float(sigma), 0))
    return case.drawn(smooth.round().clip(0, 255).astype(np.uint8))


@register("picture", "size", "dose", "2", "4", "8", "16")
def smaller(case: Case, times: str) -> Mediator:
    """Reduced ``times`` per side and enlarged again."""
    image = Image.fromarray(case.pixels)
    small = image.resize([max(1, side // int(times)) for side in image.size], Image.Resampling.BOX)
    return case.drawn(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)))


@register("picture", "drop", "dose", "0.25", "0.5", "0.75", "0.9")
def dropped(case: Case, share: str, grid: str = "8") -> Mediator:
    """A ``share`` of ``grid`` x ``grid`` tiles grey: fewer tokens hold content, none is missing."""
    tiles, cut = tiled(case.pixels, int(grid))
    lost = case.rng.permutation(len(tiles))[: round(float(share) * len(tiles))]
    tiles = tiles.copy()
    tiles[lost] = GREY
    return case.drawn(untiled(tiles, int(grid), cut))


@register("picture", "fade", "dose", "0.25", "0.5", "0.75")
def faded(case: Case, share: str) -> Mediator:
    """Mixed with pixel noise of its own statistics, at equal variance: what is left of a picture early on the flow's path."""
    keep, drowned = 1 - float(share), decode_image(noise(case).image.data)  # type: ignore[union-attr]
    centre = case.pixels.reshape(-1, 3).mean(0)
    mixed = centre + np.sqrt(keep) * (case.pixels - centre) + np.sqrt(1 - keep) * (drowned - centre)
    return case.drawn(mixed.round().clip(0, 255).astype(np.uint8))


@register("picture", "round_trip", "truth")
def through_codec(case: Case) -> Mediator:
    """What the codec keeps: of the truth, the most that a picture of this model can show."""
    assert case.mediator.image is not None
    return replace(case.mediator, image=case.others.round_trip(case.mediator.image))
