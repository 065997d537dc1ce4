"""Repeating surface textures drawn with numpy: floors, walls, wood, cloth, stone.

Each function draws one square picture from a random stream, float (n, n, 3) in 0..1, that tiles without seams. Most
are close to white, so that a part's tint decides the colour; those with a colour of their own say so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating[Any]]
Rng = np.random.Generator


def noise(rng: Rng, size: int, cells: tuple[int, int]) -> Picture:
    """Smooth seamless noise in 0..1 with ``cells`` bumps along (rows, columns), (size, size)."""
    grid = rng.random(cells, dtype=np.float32)

    def stretch(values: Picture, count: int) -> Picture:
        position = np.arange(size, dtype=np.float32) * count / size
        low = position.astype(int)
        share = position - low
        share = (share * share * (3 - 2 * share))[:, None]
        return values[low % count] * (1 - share) + values[(low + 1) % count] * share

    return stretch(stretch(grid, cells[0]).T, cells[1]).T


def cloud(rng: Rng, size: int, cells: int, octaves: int = 3) -> Picture:
    """Sum of ever finer noise, in 0..1, (size, size)."""
    total = sum(noise(rng, size, (cells * 2**k, cells * 2**k)) / 2**k for k in range(octaves))
    return np.asarray(total / (2 - 2 ** (1 - octaves)), np.float32)


def paint(values: Picture, rgb: tuple[float, float, float] = (1, 1, 1)) -> Picture:
    """Grey picture (h, w) times a colour, (h, w, 3)."""
    return values[..., None] * np.asarray(rgb, np.float32)


def mix(below: Picture, colour: tuple[float, float, float] | Picture, cover: Picture) -> Picture:
    """``colour`` laid over ``below`` (h, w, 3) where ``cover`` (h, w) is 1."""
    return below * (1 - cover[..., None]) + np.asarray(colour, np.float32) * cover[..., None]


def coordinates(size: int) -> tuple[Picture, Picture]:
    """Row and column of each pixel as 0..1, both (size, size)."""
    row, column = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return row, column


def wood_grain(rng: Rng, size: int = 256, contrast: float = 0.22) -> Picture:
    """Fibres along u with a few darker growth rings."""
    row, _ = coordinates(size)
    bend = noise(rng, size, (2, 2)) * 0.5 + noise(rng, size, (5, 3)) * 0.12
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (row * 9 + bend * 3))
    fibres = noise(rng, size, (size // 2, 3)) * 0.6 + noise(rng, size, (size // 4, 6)) * 0.4
    return paint(1 - contrast * (0.3 * rings**2 + 0.7 * fibres), (1, 0.985, 0.96))


def planks(rng: Rng, size: int = 256, rows: int = 8, contrast: float = 0.2) -> Picture:
    """Floor boards along u, each with its own shade, staggered joints and dark gaps."""
    grain = wood_grain(rng, size, 0.18)[..., 0]
    height = size // rows
    value = np.empty((size, size), np.float32)
    for index in range(rows):
        band = slice(index * height, (index + 1) * height)
        strip = np.roll(grain[band], int(rng.integers(size)), axis=1)
        joint = int(rng.integers(size))
        tone = np.where((np.arange(size) - joint) % size < size // 2, *(1 - contrast * rng.random(2)))
        strip = strip * tone
        strip[:1] *= 0.62
        strip[:, [joint, (joint + size // 2) % size]] *= 0.62
        value[band] = strip
    return paint(value, (1, 0.98, 0.95))


def herringbone(rng: Rng, size: int = 256) -> Picture:
    """Parquet of blocks laid at right angles, 45 degrees to the walls' direction of view."""
    count, length = 16, 4
    cell = size // count
    value = np.ones((size, size), np.float32)
    tones = 1 - 0.3 * rng.random((count, count)).astype(np.float32)
    grain = wood_grain(rng, size, 0.2)[..., 0]
    for r in range(count):
        for c in range(count):
            phase = (c - r) % (2 * length)
            lying = phase < length
            start = (r, (c - phase) % count) if lying else ((r - (2 * length - 1 - phase)) % count, c)
            block = (slice(r * cell, (r + 1) * cell), slice(c * cell, (c + 1) * cell))
            piece = (grain if lying else grain.T)[block] * tones[start]
            piece[0 if lying else slice(None), slice(None) if lying else 0] *= 0.7
            value[block] = piece
    return paint(value, (1, 0.98, 0.94))


def tiles(
    rng: Rng, size: int = 256, count: int = 4, *, grout: float = 0.7, veins: float = 0.0, spread: float = 0.06
) -> Picture:
    """Square tiles with grout lines, each tile slightly different; ``veins`` adds marble."""
    row, column = coordinates(size)
    tones = 1 - spread * rng.random((count, count)).astype(np.float32)
    value = np.kron(tones, np.ones((size // count, size // count), np.float32)) * (0.95 + 0.05 * cloud(rng, size, 8))
    if veins:
        value = value * marble(rng, size, veins)[..., 0]
    edge = np.minimum((row * count) % 1, (column * count) % 1) < 2.2 * count / size
    return paint(np.where(edge, grout, value))


def bricks(
    rng: Rng,
    size: int = 256,
    rows: int = 16,
    columns: int = 4,
    *,
    rgb: tuple[float, float, float] = (1, 1, 1),
    spread: float = 0.1,
    grout: float = 0.82,
) -> Picture:
    """Running bond of upright-wall bricks or glazed wall tiles (long side horizontal)."""
    row, column = coordinates(size)
    course = np.floor(row * rows)
    shifted = (column * columns + 0.5 * (course % 2)) % columns
    tones = 1 - spread * rng.random((rows, columns)).astype(np.float32)
    value = tones[course.astype(int), np.floor(shifted).astype(int)]
    joint = ((row * rows) % 1 < 1.8 * rows / size) | (shifted % 1 < 1.8 * columns / size)
    picture = paint(value * (0.9 + 0.1 * cloud(rng, size, 16)), rgb)
    return mix(picture, (grout, grout, grout * 0.97), joint.astype(np.float32))


def checker(rng: Rng, size: int = 256, count: int = 4, dark: float = 0.35) -> Picture:
    """Chessboard tiles."""
    row, column = coordinates(size)
    odd = (np.floor(row * count) + np.floor(column * count)) % 2
    edge = np.minimum((row * count) % 1, (column * count) % 1) < 1.6 * count / size
    return paint(np.where(edge, 0.6, 1 - (1 - dark) * odd) * (0.94 + 0.06 * cloud(rng, size, 8)))


def carpet(rng: Rng, size: int = 128, depth: float = 0.2) -> Picture:
    """Short pile: fine speckle over broad shading."""
    return paint(1 - depth * rng.random((size, size), dtype=np.float32) - 0.08 * cloud(rng, size, 4))


def plaster(rng: Rng, size: int = 128, depth: float = 0.05) -> Picture:
    """Painted wall: faint mottling."""
    return paint(1 - depth * cloud(rng, size, 6, 4))


def stripes(rng: Rng, size: int = 128, count: int = 8, depth: float = 0.12, *, rows: bool = False) -> Picture:
    """Soft stripes, upright or (``rows``) level, with a thin accent line."""
    row, column = coordinates(size)
    phase = ((row if rows else column) * count) % 1
    return paint(1 - depth * (phase < 0.5) - depth * (np.abs(phase - 0.75) < 0.04) - 0.03 * cloud(rng, size, 8))


def motif(rng: Rng, size: int = 128, count: int = 4, depth: float = 0.16, kind: str = "dots") -> Picture:
    """Small repeated ornaments of a wallpaper or a fabric: "dots", "diamonds", "leaves" or "rings"."""
    row, column = coordinates(size)
    y, x = (row * count) % 1 - 0.5, (column * count + 0.5 * (np.floor(row * count) % 2)) % 1 - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    shape = {
        "dots": radius < 0.16,
        "diamonds": np.abs(np.abs(x) + np.abs(y) - 0.38) < 0.05,
        "leaves": radius < 0.34 * np.abs(np.cos(2.5 * angle)),
        "rings": np.abs(radius - 0.3) < 0.05,
    }[kind]
    return paint(1 - depth * shape - 0.03 * cloud(rng, size, 8))


def weave(rng: Rng, size: int = 128, threads: int = 32, depth: float = 0.22) -> Picture:
    """Plain weave with threads of varying shade."""
    row, column = coordinates(size)
    over = (np.floor(row * threads) + np.floor(column * threads)) % 2
    tone = np.repeat(rng.random(threads, dtype=np.float32), size // threads)
    shade = np.where(over == 1, tone[None, :], tone[:, None])
    return paint(1 - depth * (0.4 * over + 0.6 * shade))


def plaid(rng: Rng, size: int = 128, depth: float = 0.35) -> Picture:
    """Crossing bands of a blanket."""
    band = np.repeat(rng.random(8, dtype=np.float32), size // 8)
    return paint(1 - depth * 0.5 * (band[None, :] + band[:, None])) * weave(rng, size, 32, 0.08)


def leather(rng: Rng, size: int = 128) -> Picture:
    """Fine creases."""
    fold = np.abs(noise(rng, size, (24, 24)) - 0.5) + np.abs(noise(rng, size, (12, 12)) - 0.5)
    return paint(0.92 + 0.08 * np.clip(fold * 3, 0, 1) - 0.05 * cloud(rng, size, 3))


def marble(rng: Rng, size: int = 256, depth: float = 0.3) -> Picture:
    """Pale stone with dark veins."""
    warp = cloud(rng, size, 3, 4)
    veins = np.exp(-((np.abs(warp - 0.5) * 60) ** 2)) + 0.5 * np.exp(
        -((np.abs(cloud(rng, size, 5, 3) - 0.5) * 40) ** 2)
    )
    return paint(1 - depth * np.clip(veins, 0, 1) - 0.05 * warp)


def granite(rng: Rng, size: int = 128) -> Picture:
    """Speckled worktop."""
    return paint(
        0.8
        + 0.2 * cloud(rng, size, 16)
        - 0.35 * (rng.random((size, size)) < 0.1) * rng.random((size, size)).astype(np.float32)
    )


def terrazzo(rng: Rng, size: int = 256) -> Picture:
    """Chips of three colours in a pale ground (coloured)."""
    picture = paint(0.93 + 0.05 * cloud(rng, size, 8))
    for rgb in ((0.62, 0.45, 0.36), (0.42, 0.46, 0.5), (0.78, 0.72, 0.6)):
        picture = mix(picture, rgb, (noise(rng, size, (52, 52)) > 0.86).astype(np.float32))
    return picture


def wicker(rng: Rng, size: int = 128, strands: int = 16) -> Picture:
    """Basket work."""
    row, column = coordinates(size)
    bulge = np.abs(np.sin(np.pi * row * strands)) * np.abs(
        np.sin(np.pi * (column * strands / 2 + 0.5 * np.floor(row * strands)))
    )
    return paint(0.55 + 0.45 * bulge * (0.8 + 0.2 * rng.random((size, size), dtype=np.float32)), (1, 0.95, 0.85))


def folds(rng: Rng, size: int = 128, count: int = 6) -> Picture:
    """Hanging cloth: vertical folds."""
    _, column = coordinates(size)
    phase = column * count + 0.25 * noise(rng, size, (2, 8))
    return paint(0.82 + 0.18 * np.sin(2 * np.pi * phase)) * weave(rng, size, 64, 0.06)


def fur(rng: Rng, size: int = 128) -> Picture:
    """Plush."""
    return paint(0.75 + 0.25 * noise(rng, size, (64, 32)) - 0.1 * cloud(rng, size, 8))


def foliage(rng: Rng, size: int = 64) -> Picture:
    """Leaf surface with lighter veins."""
    _, column = coordinates(size)
    return paint(0.82 + 0.12 * np.abs(np.sin(np.pi * column * 8)) + 0.06 * cloud(rng, size, 8))


def panels(rng: Rng, size: int = 256, count: int = 1) -> Picture:
    """A frame-and-panel door or wainscot field: grooves around a raised middle, with shading on the edges."""
    row, column = coordinates(size)
    x, y = (column * count) % 1, (row * count) % 1
    inset = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    groove = 0.22 * np.exp(-(((inset - 0.13) / 0.012) ** 2)) - 0.05 * np.exp(-(((inset - 0.155) / 0.012) ** 2))
    return paint(1 - groove - 0.02 * cloud(rng, size, 8))
