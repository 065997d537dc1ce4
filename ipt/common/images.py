"""The only place that opens or encodes images.

Accepted are PNG, JPEG and WebP, recognised by content. The pixel count is checked in the header before anything is
decoded, and a truncated file is an error. Pictures come out as (height, width, 3) uint8 RGB arrays, upright as viewers show
them (EXIF orientation), 16-bit grey scaled to 8 bits; transparency is flattened onto white, as the reference transforms do
(BAGEL, ``pil_img2rgb``).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ipt.common.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 32_000_000
#: What turns a stored picture upright, by EXIF orientation; from 5 on width and height change places.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

RGB = NDArray[np.uint8]
Format = Literal["png", "jpeg"]


class BadImage(UserError):
    """An image that cannot be used; the message names it and says why."""


def open_image(source: bytes | Path, what: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A decoded RGB picture from encoded bytes or a file. ``what`` names it in errors (default: the path)."""
    with opened(source, what, max_pixels) as image:
        image.load()
        turn = UPRIGHT.get(orientation(image))
        picture = flatten(image)
        return picture if turn is None else picture.transpose(turn)


def image_size(source: bytes | Path, what: str = "", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) of the upright picture from the header alone, with the checks of `open_image` that need no pixels."""
    with opened(source, what, max_pixels) as image:
        if image.format == "PNG" and "exif" not in image.info:
            data = source if isinstance(source, bytes) else source.read_bytes()
            if b"eXIf" in data:  # it may stand behind the pixels
                image.load()
        return image.size if orientation(image) < 5 else (image.height, image.width)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) where none is given, or one that cannot be read, which viewers ignore as well."""
    if not any(key in image.info for key in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")):
        return 1  # what follows would decode a PNG
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of broken EXIF
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's reader of EXIF raises whatever broken bytes lead it to
        return 1
    return value if value in range(1, 9) else 1


@contextmanager
def opened(source: bytes | Path, what: str, max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header has been checked; errors that occur while it is open become ``BadImage``."""
    name = what or (str(source) if isinstance(source, Path) else "image bytes")
    if not isinstance(source, Path | bytes):
        raise BadImage(f"{name}: expected encoded bytes or a path, got {type(source).__name__}")
    if source == b"":
        raise BadImage(f"{name}: there is no image")
    if isinstance(source, Path) and not source.is_file():
        raise BadImage(f"{name}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower cap follows
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        with image:
            if image.width * image.height > max_pixels:
                raise BadImage(f"{name}: {image.width}x{image.height} pixels, at most {max_pixels:,} are allowed")
            yield image
    except UnidentifiedImageError:
        raise BadImage(f"{name}: not a PNG, JPEG or WebP image") from None
    except Image.DecompressionBombError as error:
        raise BadImage(f"{name}: too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{name}: broken or truncated image ({error})") from error


def decode_image(source: bytes | Path, what: str = "", max_pixels: int = MAX_PIXELS) -> RGB:
    """Pixels of an encoded image, (height, width, 3) uint8."""
    return np.asarray(open_image(source, what, max_pixels))


def encode_image(pixels: RGB, format: Format = "png", quality: int = 92) -> bytes:
    """Encode (height, width, 3) uint8 pixels; ``quality`` concerns JPEG only (4:4:4 chroma: markers are small and red)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadImage(f"expected (height, width, 3) uint8 pixels, got {pixels.shape} {pixels.dtype}")
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if format == "png":
        image.save(buffer, "PNG", compress_level=4)  # 2.5 times faster than 6, files 5 % larger
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def flatten(image: Image.Image) -> Image.Image:
    """RGB copy of a picture, transparency pasted on white, 16-bit grey scaled from 0-65535 to 0-255."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint32)
        scaled = ((grey * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8)
        if "transparency" in image.info:
            scaled[grey == image.info["transparency"]] = 255
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, (255, 255, 255))
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image.convert("RGB")
