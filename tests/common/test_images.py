"""The image opener refuses everything that is not a whole picture of an allowed kind and size."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from ipt.common.images import BadImage, decode_image, encode_image, image_size, open_image


def picture(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def saved(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def test_png_round_trip_is_exact_and_jpeg_is_close(tmp_path: Path) -> None:
    pixels = picture()
    assert np.array_equal(decode_image(encode_image(pixels)), pixels)
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    assert np.abs(decode_image(encode_image(smooth, "jpeg")).astype(int) - smooth).max() < 12
    (tmp_path / "x.dat").write_bytes(saved(Image.fromarray(pixels), "WEBP"))
    assert decode_image(tmp_path / "x.dat").shape == pixels.shape


@given(st.integers(21, 400))  # the last 20 bytes of a PNG hold no pixels
def test_truncation_is_always_an_error(cut: int) -> None:
    for format in ("png", "jpeg"):
        data = encode_image(picture(), format)
        with pytest.raises(BadImage):
            decode_image(data[: max(0, len(data) - cut)], "x")


def test_kinds_and_sources_that_are_refused(tmp_path: Path) -> None:
    for format in ("BMP", "GIF", "TIFF", "PPM", "EPS"):
        with pytest.raises(BadImage, match=r"row 3: not a PNG, JPEG or WebP"):
            open_image(saved(Image.fromarray(picture()), format), "row 3")
    with pytest.raises(BadImage, match="no such file"):
        open_image(tmp_path / "absent.png")
    with pytest.raises(BadImage, match="expected encoded bytes or a path"):
        open_image("http://example.com/x.png")  # type: ignore[arg-type]
    with pytest.raises(BadImage, match="uint8"):
        encode_image(np.zeros((4, 4, 3)))  # type: ignore[arg-type]


def test_pixel_cap_is_checked_in_the_header_before_decoding() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(BadImage, match="pixels"):
        open_image(bomb)
    with pytest.raises(BadImage, match=r"30x20 pixels, at most 100"):
        open_image(encode_image(picture()), max_pixels=100)


def test_transparency_becomes_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    pixels = decode_image(saved(Image.fromarray(rgba), "PNG"))
    assert pixels[0, 0].tolist() == [10, 20, 30] and pixels[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_upright_as_viewers_show_them(orientation: int, format: str, tmp_path: Path) -> None:
    """Against Pillow's own ``exif_transpose``, in pixels and in size; 0 and 9 are no orientations and change nothing."""
    smooth = np.zeros((16, 24, 3), np.uint8)
    smooth[:8, :12] = (250, 20, 20)
    smooth[8:, 12:] = (20, 20, 250)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, format, exif=exif)
    stored = Image.open(io.BytesIO(buffer.getvalue()))
    expected = ImageOps.exif_transpose(stored).convert("RGB")  # type: ignore[union-attr]
    (tmp_path / "picture").write_bytes(buffer.getvalue())
    for source in (buffer.getvalue(), tmp_path / "picture"):
        assert image_size(source) == expected.size == ((16, 24) if orientation in range(5, 9) else (24, 16))
        assert np.array_equal(decode_image(source), np.asarray(expected))


def test_an_orientation_behind_the_pixels_of_a_png_is_seen_by_size_and_pixels() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    plain = encode_image(picture())
    end = plain.rindex(b"IEND") - 4
    data = plain[:end] + chunk + plain[end:]
    assert image_size(data) == (20, 30)
    assert np.array_equal(decode_image(data), np.rot90(picture(), -1))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 50])
def test_broken_orientations_are_none(exif: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", exif=exif)
    assert image_size(buffer.getvalue()) == (30, 20) and decode_image(buffer.getvalue()).shape == (20, 30, 3)


def test_grey_of_16_bits_is_scaled_to_8() -> None:
    grey = np.array([[0, 128, 129, 257], [32768, 65278, 65407, 65535]], np.uint16)
    pixels = decode_image(saved(Image.fromarray(grey), "PNG"))
    assert pixels[..., 0].tolist() == [[0, 0, 1, 1], [128, 254, 255, 255]]
    assert (pixels == pixels[..., :1]).all()
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", transparency=257)
    assert decode_image(buffer.getvalue())[0, 3].tolist() == [255, 255, 255]
