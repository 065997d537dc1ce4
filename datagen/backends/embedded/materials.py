"""The library of finishes: every texture is drawn once per process, on first use, and tinted per part.

A finish name may carry a variant number ("painting.landscape-2"); variants differ by their random stream only, so the
library is the same in every process. Room surfaces get contact shading baked in: floors one texture per room
(:func:`shaded_floor`), walls a gradient over their full height (:func:`wall_material`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from datagen.backends.embedded import pictures, textures
from datagen.backends.embedded.scene import Material
from datagen.backends.embedded.textures import Picture, Rng
from ipt.common.registry import unknown_name
from ipt.common.seeding import generator

FLOOR_PIXELS_PER_METRE = 100
FLOOR_REPEAT_METRES = 1.6
WALL_REPEAT_METRES = 1.75
_WALL_PIXELS = (384, 256)
_SHADE_CELL = 0.1

Draw = Callable[[Rng], Picture]


@dataclass(frozen=True)
class Finish:
    """How a surface is drawn. ``metres`` is the size of one texture repeat; None maps the picture once onto a face.

    ``grain`` turns the texture along the longer side of each face.
    """

    draw: Draw | None = None
    metres: float | None = 1.0
    emission: float = 0.0
    specular: float = 0.0
    grain: bool = False


def _once(draw: Draw, emission: float = 0.0, specular: float = 0.0) -> Finish:
    return Finish(draw, None, emission, specular)


FINISHES: dict[str, Finish] = {
    "plain": Finish(),
    "satin": Finish(specular=0.25),
    "gloss": Finish(specular=0.5),
    "metal": Finish(specular=0.7),
    "glass": Finish(specular=0.6, emission=0.12),
    "glow": Finish(emission=0.85),
    "ceiling": Finish(textures.plaster, 2.0, emission=0.4),
    "wood": Finish(textures.wood_grain, 0.9, specular=0.1, grain=True),
    "weave": Finish(textures.weave, 0.25),
    "tweed": Finish(partial(textures.weave, threads=64, depth=0.35), 0.3),
    "plaid": Finish(textures.plaid, 0.5),
    "stripe": Finish(textures.stripes, 0.5),
    "dotted": Finish(partial(textures.motif, depth=0.3), 0.25),
    "diamond": Finish(partial(textures.motif, depth=0.3, kind="diamonds"), 0.3),
    "leather": Finish(textures.leather, 0.3, specular=0.3),
    "towel": Finish(partial(textures.carpet, depth=0.3), 0.3),
    "fur": Finish(textures.fur, 0.2),
    "wicker": Finish(textures.wicker, 0.3),
    "curtain": Finish(textures.folds, 0.6),
    "foliage": Finish(textures.foliage, 0.2),
    "soil": Finish(partial(textures.carpet, depth=0.6), 0.2),
    "marble": Finish(textures.marble, 0.8, specular=0.4),
    "granite": Finish(textures.granite, 0.4, specular=0.35),
    "panel": _once(textures.panels),
    "panel.pair": _once(partial(textures.panels, count=2)),
    "painting.landscape": _once(pictures.landscape),
    "painting.night": _once(partial(pictures.landscape, night=True)),
    "painting.sea": _once(pictures.seascape),
    "painting.shapes": _once(pictures.shapes),
    "painting.fields": _once(pictures.colour_fields),
    "painting.bouquet": _once(pictures.bouquet),
    "painting.portrait": _once(pictures.portrait),
    "rug.border": _once(pictures.rug),
    "rug.stripes": _once(partial(pictures.rug, kind="stripes")),
    "rug.diamonds": _once(partial(pictures.rug, kind="diamonds")),
    "rug.shag": _once(partial(pictures.rug, kind="shag")),
    "books": Finish(pictures.books, 0.9),
    "screen.desktop": _once(pictures.desktop, emission=0.35),
    "screen.broadcast": _once(pictures.broadcast, emission=0.35),
    "view.trees": _once(pictures.window_view, emission=0.6),
    "view.city": _once(partial(pictures.window_view, kind="city"), emission=0.6),
    "view.hills": _once(partial(pictures.window_view, kind="hills"), emission=0.6),
    "view.evening": _once(partial(pictures.window_view, kind="hills", sky="evening"), emission=0.6),
    "view.dusk": _once(partial(pictures.window_view, kind="city", sky="evening"), emission=0.6),
    "view.overcast": _once(partial(pictures.window_view, sky="overcast"), emission=0.6),
    "clock": _once(pictures.clock_face),
    "hob": _once(pictures.hob, specular=0.4),
    "oven": _once(pictures.oven_front, specular=0.3),
    "drum": _once(pictures.drum_front, specular=0.3),
    "microwave": _once(pictures.microwave_front, specular=0.3),
    "keyboard": _once(pictures.keyboard_keys),
    "basketball": _once(pictures.basketball_skin),
    "cardboard": _once(pictures.cardboard),
}

FLOORS: dict[str, Draw] = {
    "planks": partial(textures.planks, size=320, rows=10),
    "wide planks": partial(textures.planks, size=320, rows=8),
    "parquet": partial(textures.herringbone, size=320),
    "tiles": partial(textures.tiles, size=320, count=4, spread=0.1),
    "large tiles": partial(textures.tiles, size=320, count=2),
    "marble tiles": partial(textures.tiles, size=320, count=2, veins=0.16),
    "small tiles": partial(textures.tiles, size=320, count=8, spread=0.1),
    "checker": partial(textures.checker, size=320),
    "terrazzo": partial(textures.terrazzo, size=320),
    "carpet": partial(textures.carpet, size=320),
}

WALLS: dict[str, Draw] = {
    "plaster": textures.plaster,
    "stripes": partial(textures.stripes, depth=0.045),
    "dots": partial(textures.motif, depth=0.05),
    "diamonds": partial(textures.motif, depth=0.05, kind="diamonds"),
    "leaves": partial(textures.motif, depth=0.055, kind="leaves"),
    "rings": partial(textures.motif, depth=0.045, kind="rings"),
    "brick": partial(textures.bricks, size=128, rows=16, columns=4, rgb=(0.72, 0.44, 0.36), grout=0.7, spread=0.22),
    "white brick": partial(textures.bricks, size=128, rows=16, columns=4, grout=0.88, spread=0.06),
    "wall tiles": partial(textures.tiles, size=128, count=4, grout=0.8, spread=0.04),
    "half tiles": partial(textures.bricks, size=128, rows=8, columns=4, spread=0.04, grout=0.78),
    "boards": partial(textures.stripes, count=6, depth=0.05),
}


def split_variant(name: str) -> tuple[str, int]:
    """Base name and variant number: "books-2" is ("books", 2), "books" is ("books", 0)."""
    base, _, number = name.rpartition("-")
    return (base, int(number)) if base and number.isdigit() else (name, 0)


def finish(name: str) -> Finish:
    """The finish ``name`` (with or without a variant); an unknown one is a ValueError that lists the valid names."""
    base = split_variant(name)[0]
    if base not in FINISHES:
        raise ValueError(unknown_name("finish", base, FINISHES))
    return FINISHES[base]


def _bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


@cache
def material(name: str) -> Material:
    """The material of finish ``name``, drawn on first use."""
    base, variant = split_variant(name)
    look = finish(name)
    texture = None if look.draw is None else _bytes(look.draw(generator(variant, "texture", base)))
    return Material(name, texture=texture, emission=look.emission, specular=look.specular)


@cache
def wall_material(style: str) -> Material:
    """A wall texture: u repeats every WALL_REPEAT_METRES, v spans the height of the room once, darker at both ends."""
    if style not in WALLS:
        raise ValueError(unknown_name("wall style", style, WALLS))
    tile = WALLS[style](generator(0, "wall", style))
    height, width = _WALL_PIXELS
    picture = np.tile(tile, (height // len(tile), width // len(tile), 1))
    above = 1 - np.arange(height, dtype=np.float32) / height
    if style == "half tiles":
        upper = np.tile(textures.plaster(generator(0, "wall", "plaster")), (3, 2, 1))
        picture = np.where((above > 0.55)[:, None, None], upper, picture)
        picture[(above > 0.55) & (above < 0.565)] *= 0.8
    gradient = (1 - 0.16 * np.exp(-above / 0.06)) * (1 - 0.1 * np.exp(-(1 - above) / 0.05))
    return Material(f"wall:{style}", texture=_bytes(picture * gradient[:, None, None]), emission=0.1)


@cache
def _floor_tile(style: str) -> NDArray[np.uint16]:
    """One repeat of a floor at FLOOR_PIXELS_PER_METRE, (160, 160, 3)."""
    if style not in FLOORS:
        raise ValueError(unknown_name("floor style", style, FLOORS))
    picture = FLOORS[style](generator(0, "floor", style))
    side = round(FLOOR_PIXELS_PER_METRE * FLOOR_REPEAT_METRES)
    step = len(picture) // side
    return _bytes(picture.reshape(side, step, side, step, 3).mean(axis=(1, 3))).astype(np.uint16)


@cache
def _stretch(cells: int, pixels: int) -> NDArray[np.float32]:
    """Linear interpolation from ``cells`` cell centres to ``pixels`` pixel centres, (pixels, cells)."""
    position = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    low = np.minimum(position.astype(int), max(cells - 2, 0))
    share = position - low
    matrix = np.zeros((pixels, cells), np.float32)
    matrix[np.arange(pixels), low] = 1 - share
    matrix[np.arange(pixels), np.minimum(low + 1, cells - 1)] += share
    return matrix


def _coverage(low: float, high: float, origin: float, cells: int) -> NDArray[np.float32]:
    """Share of each of ``cells`` shade cells that the interval [low, high] covers."""
    edges = origin + _SHADE_CELL * np.arange(cells + 1)
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) / _SHADE_CELL


def shaded_floor(
    name: str,
    style: str,
    rectangle: tuple[float, float, float, float],
    shadows: Sequence[tuple[float, float, float, float, float]],
    lights: Sequence[tuple[float, float]],
    cut: tuple[float, float, float, float] | None = None,
) -> Material:
    """The floor of one room with contact shading: darker along walls and under furniture, lighter at windows.

    ``rectangle`` is (x0, y0, x1, y1) in metres and is covered by the texture once; ``shadows`` are
    (x0, y0, x1, y1, strength 0..1); ``lights`` are points (x, y) in front of windows; ``cut`` is what an L lacks of it.
    """
    x0, y0, x1, y1 = rectangle
    columns, rows = (max(2, round(side / _SHADE_CELL)) for side in (x1 - x0, y1 - y0))
    dark = np.zeros((rows, columns), np.float32)
    for left, low, right, high, strength in shadows:
        across, along = _coverage(left, right, x0, columns), _coverage(low, high, y0, rows)
        np.maximum(dark, np.float32(strength) * np.outer(along, across), out=dark)
    dark = gaussian_filter(dark, 0.7) * 0.65 + gaussian_filter(dark, 2.2) * 0.35
    x, y = x0 + _SHADE_CELL * (np.arange(columns) + 0.5), (y0 + _SHADE_CELL * (np.arange(rows) + 0.5))[:, None]
    edge = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
    if cut is not None:
        off_x, off_y = (np.maximum(np.maximum(cut[k] - v, v - cut[k + 2]), 0) for k, v in ((0, x), (1, y)))
        edge = np.minimum(edge, np.hypot(off_x, off_y))
    bright = np.float32(0.93) - 0.14 * np.exp(-edge / 0.16)
    for light_x, light_y in lights:
        bright = bright + 0.13 * np.exp(-((x - light_x) ** 2 + (y - light_y) ** 2) / 1.6)
    shade = (bright * (1 - 0.55 * dark)).astype(np.float32)[::-1]
    height, width = round((y1 - y0) * FLOOR_PIXELS_PER_METRE), round((x1 - x0) * FLOOR_PIXELS_PER_METRE)
    fine = (_stretch(rows, height) @ shade @ _stretch(columns, width).T * 128).astype(np.uint16)
    tile = _floor_tile(style)
    repeats = (-(-height // len(tile)), -(-width // len(tile)), 1)
    picture = np.tile(tile, repeats)[-height:, :width]
    return Material(name, texture=np.minimum((picture * fine[..., None]) >> 7, 255).astype(np.uint8), specular=0.08)
