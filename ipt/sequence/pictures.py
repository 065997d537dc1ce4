"""Images that a segment holds by reference: encoded bytes and the size they are to have.

Nothing is decoded until a batch is laid out, so a segment is small, its tokens can be counted from the file's header, and a
latent found in a cache (by `Picture.key`) spares the decoding, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipt.common.images import open_image

Size = tuple[int, int]
#: Pictures of at most so many pixels stay in memory once they are decoded, up to so many of them: with a tiny model, decoding
#: again and again would cost as much as training.
SMALL_PIXELS, SMALL_KEPT = 64 * 64, 32768


@dataclass(frozen=True)
class Picture:
    """An encoded image (PNG, JPEG or WebP) and the (width, height) pixels of each resize it goes through, in order.

    A copy that an encoder sees of an imagination goes through the size at which the model imagines, so that a ground-truth
    image holds no more detail than a self-made one. ``what`` names the image in errors.
    """

    data: bytes = field(repr=False)
    sizes: tuple[Size, ...]
    what: str = field(default="image", compare=False)

    @property
    def size(self) -> Size:
        """(width, height) of the result."""
        return self.sizes[-1]

    @cached_property
    def key(self) -> str:
        """Hex SHA-256 of the content and the sizes: equal keys give equal pixels."""
        return hashlib.sha256(self.data + repr(self.sizes).encode()).hexdigest()

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
    image = _decoded(picture.data, picture.what)
    for size in picture.sizes:
        image = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


_small_pixels = lru_cache(maxsize=SMALL_KEPT)(_pixels)


@lru_cache(maxsize=8)  # the copies of one image follow each other in a sample
def _decoded(data: bytes, what: str) -> Image.Image:
    return open_image(data, what)
