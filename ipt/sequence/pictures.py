"""From images to model inputs: images that a segment holds by reference (encoded bytes and the size they are to have), BAGEL's
resize rule, normalisation, and the token order inside a patch.

Nothing is decoded until a batch is laid out, so a segment is small, its tokens can be counted from the file's header, and a
latent found in a cache (by `Picture.key`) spares the decoding, too.

Shape suffixes: C channels, H / W image height and width, L tokens of an image, D numbers per token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.images import open_image

Size = tuple[int, int]
#: Pictures of at most so many pixels stay in memory once they are decoded, up to so many of them: with a tiny model, decoding
#: again and again would cost as much as training.
SMALL_PIXELS, SMALL_KEPT = 64 * 64, 32768


@dataclass(frozen=True)
class Picture:
    """An encoded image (PNG, JPEG or WebP) and the (width, height) pixels of each resize it goes through, in order.

    A copy that an encoder sees of an imagination goes through the size at which the model imagines, so that a ground-truth
    image holds no more detail than a self-made one. ``what`` names the image in errors. ``shrunk``: a size to which the image is
    brought before, with Lanczos.
    """

    data: bytes = field(repr=False)
    sizes: tuple[Size, ...]
    what: str = field(default="image", compare=False)
    shrunk: Size | None = None

    @property
    def size(self) -> Size:
        """(width, height) of the result."""
        return self.sizes[-1]

    @cached_property
    def key(self) -> str:
        """Hex SHA-256 of the content and the sizes: equal keys give equal pixels."""
        sizes = self.sizes if self.shrunk is None else (("lanczos", self.shrunk), *self.sizes)
        return hashlib.sha256(self.data + repr(sizes).encode()).hexdigest()

    @cached_property
    def decoded(self) -> Tensor:
        """The `pixels`, kept with the picture from then on, also where it is sent to another process."""
        return self.pixels()

    def pixels(self) -> Tensor:
        """uint8 [3, height, width], bicubic and antialiased; not to be written to. A broken file is a ``BadImage`` error."""
        if "decoded" in self.__dict__:
            return self.decoded
        small = max(width * height for width, height in self.sizes) <= SMALL_PIXELS
        return _small_pixels(self) if small else _pixels(self)


def _pixels(picture: Picture) -> Tensor:
    image = _decoded(picture.data, picture.what, picture.shrunk)
    for size in picture.sizes:
        image = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


_small_pixels = lru_cache(maxsize=SMALL_KEPT)(_pixels)


@lru_cache(maxsize=8)  # the copies of one image follow each other in a sample
def _decoded(data: bytes, what: str, shrunk: Size | None = None) -> Image.Image:
    image = open_image(data, what)
    return image if shrunk in (None, image.size) else image.resize(shrunk, Image.Resampling.LANCZOS)


def shrunk_size(size: Size, longest: int) -> Size:
    """(width, height) in the same proportion, the longest side at most ``longest``."""
    scale = min(longest / max(size), 1.0)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass(frozen=True)
class ResizeRule:
    """BAGEL's ``MaxLongEdgeMinShortEdgeResize``: long side <= ``max_side``, short side >= ``min_side`` where both can be
    had, sides multiples of ``stride``, area <= ``max_pixels`` / number of images (all in pixels)."""

    max_side: int
    min_side: int
    stride: int
    max_pixels: int = 14 * 14 * 9 * 1024

    def size(self, width: int, height: int, images: int = 1) -> tuple[int, int]:
        """(width, height) after the resize. The area rule scales by the area ratio, not its root, as the reference does."""
        scale = min(self.max_side / max(width, height), 1.0)
        scale = max(scale, self.min_side / min(width, height))
        width, height = self._snap(width * scale), self._snap(height * scale)
        if width * height > self.max_pixels / images:
            scale = self.max_pixels / images / (width * height)
            width, height = self._snap(width * scale), self._snap(height * scale)
        if max(width, height) > self.max_side:
            scale = self.max_side / max(width, height)
            width, height = self._snap(width * scale), self._snap(height * scale)
        return width, height

    def _snap(self, side: float) -> int:
        return max(self.stride, round(round(side) / self.stride) * self.stride)

    def __call__(self, image: Image.Image, images: int = 1) -> Image.Image:
        """Bicubic, antialiased."""
        return image.resize(self.size(*image.size, images), Image.Resampling.BICUBIC)


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image to float32 [3, H, W] in [-1, 1]."""
    return normalised(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous())


def normalised(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [-1, 1]."""
    return (pixels.float() / 255 - 0.5) / 0.5


def to_image(pixels_CHW: Tensor) -> Image.Image:
    """Float [3, H, W] in [-1, 1] to an RGB image, clamped and truncated as the reference does."""
    array = (pixels_CHW.float() * 0.5 + 0.5).clamp(0, 1) * 255
    return Image.fromarray(array.byte().permute(1, 2, 0).cpu().numpy())


def grid_of(image_CHW: Tensor, patch: int) -> tuple[int, int]:
    """(rows, columns) of patches; ``ValueError`` where a side is no multiple of ``patch``."""
    return grid_of_size(image_CHW.shape[-2], image_CHW.shape[-1], patch)


def grid_of_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """`grid_of` an image of this size."""
    if height % patch or width % patch or not height * width:
        raise UserError(f"an image of {height} x {width} cannot be cut into patches of {patch}")
    return height // patch, width // patch


def patchify(image_CHW: Tensor, patch: int) -> Tensor:
    """[C, H, W] to tokens [L, patch * patch * C], row-major over the grid, (row, column, channel) inside a patch."""
    return rearrange(image_CHW, "c (h p) (w q) -> (h w) (p q c)", p=patch, q=patch)


def unpatchify(tokens_LD: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse of `patchify`; leading batch dimensions are kept: [..., L, D] to [..., C, H, W]."""
    return rearrange(tokens_LD, "... (h w) (p q c) -> ... c (h p) (w q)", h=grid[0], w=grid[1], p=patch, q=patch)
