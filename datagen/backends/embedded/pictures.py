"""Pictures that are mapped once onto a face: paintings, rugs, screens, book spines, window views, appliance fronts.

Each function draws one coloured picture from a random stream, float (n, n, 3) in 0..1, top row first.
"""

from __future__ import annotations

import colorsys

import numpy as np

from datagen.backends.embedded.textures import Picture, Rng, cloud, coordinates, mix, motif, noise, paint, weave

Rgb = tuple[float, float, float]


def hue(degrees: float, saturation: float, value: float) -> Rgb:
    """Colour by hue in degrees, saturation and value in 0..1."""
    return colorsys.hsv_to_rgb(degrees / 360 % 1, saturation, value)


def blank(size: int, rgb: Rgb) -> Picture:
    return np.broadcast_to(np.asarray(rgb, np.float32), (size, size, 3)).copy()


def landscape(rng: Rng, size: int = 128, *, night: bool = False) -> Picture:
    """Hills under a sky with a sun: a painting."""
    row, column = coordinates(size)
    top, low = (
        (hue(230, 0.6, 0.3), hue(20, 0.5, 0.6))
        if night
        else (hue(rng.uniform(195, 220), 0.45, 0.9), hue(rng.uniform(20, 50), 0.25, 0.98))
    )
    picture: Picture = np.asarray(top) * (1 - row[..., None]) + np.asarray(low) * row[..., None]
    sun = np.hypot(column - rng.uniform(0.2, 0.8), row - rng.uniform(0.2, 0.4)) < 0.08
    picture = mix(picture, (1.0, 0.93, 0.7), sun.astype(np.float32))
    base = rng.uniform(80, 160)
    for layer in range(4):
        ridge = 0.42 + 0.14 * layer + 0.16 * (noise(rng, size, (1, 5))[0] - 0.5)
        colour = hue(base + 12 * layer, 0.3 + 0.12 * layer, 0.78 - 0.13 * layer)
        picture = mix(picture, colour, (row > ridge).astype(np.float32))
    return picture * (0.92 + 0.08 * cloud(rng, size, 16))[..., None]


def seascape(rng: Rng, size: int = 128) -> Picture:
    """Sea, horizon and a sail."""
    row, column = coordinates(size)
    picture = mix(blank(size, hue(205, 0.25, 0.95)), (1, 1, 1), np.clip(cloud(rng, size, 4) * 2 - 1, 0, 1))
    water = paint(0.8 + 0.2 * noise(rng, size, (32, 6)), hue(205, 0.65, 0.62))
    picture = mix(picture, water, (row > 0.55).astype(np.float32))
    left = rng.uniform(0.3, 0.6)
    sail = (row > 0.28) & (row < 0.56) & (column > left) & (column < left + (row - 0.28) * 0.6)
    picture = mix(picture, (0.97, 0.95, 0.9), sail.astype(np.float32))
    hull = (row >= 0.57) & (row < 0.62) & (np.abs(column - left - 0.06) < 0.14)
    return mix(picture, hue(10, 0.7, 0.5), hull.astype(np.float32))


def shapes(rng: Rng, size: int = 128) -> Picture:
    """Abstract painting of discs and bands in a small palette."""
    row, column = coordinates(size)
    base = rng.uniform(0, 360)
    picture = blank(size, hue(base + 40, 0.12, 0.94))
    for index in range(6):
        colour = hue(base + rng.choice([0, 30, 180, 210]), rng.uniform(0.35, 0.8), rng.uniform(0.35, 0.9))
        x, y, reach = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.28)
        if index % 2:
            cover = np.hypot(column - x, row - y) < reach
        else:
            cover = (np.abs(column - x) < reach) & (np.abs(row - y) < reach * rng.uniform(0.3, 1.5))
        picture = mix(picture, colour, cover.astype(np.float32))
    return picture * weave(rng, size, 32, 0.06)


def colour_fields(rng: Rng, size: int = 128) -> Picture:
    """Abstract painting of stacked soft rectangles."""
    row, column = coordinates(size)
    base = rng.uniform(0, 360)
    picture = blank(size, hue(base, 0.5, 0.45))
    for low, high in ((0.08, 0.42), (0.47, 0.68), (0.73, 0.92)):
        edge = np.minimum.reduce([row - low, high - row, column - 0.08, 0.92 - column])
        picture = mix(
            picture, hue(base + rng.uniform(-50, 50), 0.65, rng.uniform(0.55, 0.95)), np.clip(edge * 25 + 0.5, 0, 1)
        )
    return picture * (0.9 + 0.1 * cloud(rng, size, 8))[..., None]


def bouquet(rng: Rng, size: int = 128) -> Picture:
    """Flowers in a vase: a painting."""
    row, column = coordinates(size)
    picture = paint(0.9 + 0.1 * cloud(rng, size, 4), hue(rng.uniform(30, 60), 0.2, 0.85))
    picture = mix(picture, hue(25, 0.35, 0.55), (row > 0.8).astype(np.float32))
    vase = (row > 0.55) & (row < 0.88) & (np.abs(column - 0.5) < 0.1 + 0.05 * np.sin((row - 0.55) * 9))
    picture = mix(picture, hue(rng.uniform(180, 240), 0.5, 0.6), vase.astype(np.float32))
    for index in range(22):
        x, y = 0.5 + rng.normal(0, 0.15), 0.36 + rng.normal(0, 0.1)
        colour = hue(rng.uniform(90, 140), 0.5, 0.5) if index < 8 else hue(rng.choice([340, 10, 45, 290]), 0.65, 0.9)
        picture = mix(picture, colour, (np.hypot(column - x, row - y) < rng.uniform(0.03, 0.07)).astype(np.float32))
    return picture


def portrait(rng: Rng, size: int = 128) -> Picture:
    """Head and shoulders before a dark ground."""
    row, column = coordinates(size)
    picture = paint(0.7 + 0.3 * cloud(rng, size, 3), hue(rng.uniform(0, 360), 0.4, 0.45))
    shoulders = row > 0.68 + 0.9 * (column - 0.5) ** 2
    picture = mix(picture, hue(rng.uniform(0, 360), 0.5, 0.5), shoulders.astype(np.float32))
    hair = ((column - 0.5) / 0.2) ** 2 + ((row - 0.38) / 0.25) ** 2 < 1
    picture = mix(picture, hue(25, 0.6, rng.uniform(0.15, 0.6)), hair.astype(np.float32))
    face = ((column - 0.5) / 0.14) ** 2 + ((row - 0.44) / 0.2) ** 2 < 1
    return mix(picture, hue(25, 0.4, rng.uniform(0.55, 0.92)), face.astype(np.float32))


def rug(rng: Rng, size: int = 256, kind: str = "border") -> Picture:
    """Woven rug seen from above: "border" (oriental), "stripes", "diamonds" or "shag"."""
    row, column = coordinates(size)
    base = float(rng.choice([5, 20, 35, 205, 215, 165, 345]))
    ground, second, third = hue(base, 0.5, 0.52), hue(base + 25, 0.16, 0.88), hue(base + 195, 0.32, 0.4)
    picture = blank(size, second if kind in ("stripes", "diamonds") else ground)
    edge = np.minimum(np.minimum(row, 1 - row), np.minimum(column, 1 - column))
    if kind == "border":
        picture = mix(picture, second, (motif(rng, size, 8, 1, "leaves")[..., 0] < 0.5).astype(np.float32) * 0.7)
        centre = np.abs(row - 0.5) / 0.3 + np.abs(column - 0.5) / 0.3
        picture = mix(picture, third, (centre < 1).astype(np.float32))
        picture = mix(picture, second, (np.abs(centre - 0.7) < 0.06).astype(np.float32))
        for low, high, colour in ((0.0, 0.11, third), (0.045, 0.06, second), (0.11, 0.125, second)):
            picture = mix(picture, colour, ((edge >= low) & (edge < high)).astype(np.float32))
    elif kind == "stripes":
        phase = np.floor(row * 12).astype(int) % 4
        for index, colour in ((1, ground), (3, third)):
            picture = mix(picture, colour, (phase == index).astype(np.float32))
    elif kind == "diamonds":
        lattice = np.abs((row * 4 + column * 4) % 1 - 0.5) < 0.06
        lattice |= np.abs((row * 4 - column * 4) % 1 - 0.5) < 0.06
        picture = mix(picture, third, lattice.astype(np.float32))
    pile = 0.8 + 0.2 * rng.random((size, size), dtype=np.float32)
    return picture * pile[..., None]


def books(rng: Rng, size: int = 256) -> Picture:
    """A row of spines that repeats along u; a column of the picture belongs to one book."""
    picture = np.zeros((size, size, 3), np.float32)
    left = 0
    while left < size:
        width = int(rng.integers(9, 22))
        colour = np.asarray(
            hue(rng.choice([0, 15, 30, 45, 120, 200, 215, 230, 350]), rng.uniform(0.1, 0.75), rng.uniform(0.25, 0.9))
        )
        picture[:, left : left + width] = colour
        label = slice(int(size * rng.uniform(0.15, 0.3)), int(size * rng.uniform(0.35, 0.6)))
        picture[label, left + 2 : left + width - 2] = colour * 0.6 + 0.35 * rng.random()
        picture[:, left : left + 1] *= 0.35
        left += width
    return picture


def desktop(rng: Rng, size: int = 128) -> Picture:
    """Computer screen with windows and lines of text."""
    row, column = coordinates(size)
    picture = blank(size, hue(rng.uniform(190, 260), 0.6, 0.45)) * (1.2 - row[..., None] * 0.6)
    for left, top, width, height, rgb in (
        (0.06, 0.1, 0.5, 0.62, (0.95, 0.95, 0.96)),
        (0.42, 0.3, 0.5, 0.5, (0.16, 0.17, 0.2)),
    ):
        inside = (column > left) & (column < left + width) & (row > top) & (row < top + height)
        picture = mix(picture, rgb, inside.astype(np.float32))
        length = rng.random(size) * 0.6 + 0.3
        text = (
            inside
            & (np.floor(row * 40) % 2 == 0)
            & (row > top + 0.07)
            & (column - left - 0.03 < width * length[:, None])
        )
        picture = mix(
            picture, hue(rng.uniform(0, 360), 0.5, 0.6), (text & (column > left + 0.03)).astype(np.float32) * 0.8
        )
    return mix(picture, (0.1, 0.1, 0.12), (row > 0.93).astype(np.float32))


def broadcast(rng: Rng, size: int = 128) -> Picture:
    """Television picture: a landscape with a caption bar."""
    row, column = coordinates(size)
    picture = landscape(rng, size) * 0.9
    return mix(
        picture, hue(rng.uniform(0, 360), 0.7, 0.5), ((row > 0.82) & (row < 0.92) & (column < 0.6)).astype(np.float32)
    )


#: Colours of a sky at its top and at the horizon, and what the light of the hour leaves of the colours below it.
SKIES: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "day": (hue(210, 0.42, 0.95), hue(205, 0.1, 1.0), (1.0, 1.0, 1.0)),
    "evening": (hue(255, 0.3, 0.62), hue(28, 0.5, 1.0), (0.86, 0.66, 0.6)),
    "overcast": (hue(212, 0.08, 0.7), hue(212, 0.04, 0.88), (0.82, 0.84, 0.86)),
}


def window_view(rng: Rng, size: int = 256, kind: str = "trees", sky: str = "day") -> Picture:
    """What is seen through a window: a sky of ``SKIES`` over "trees", "city" or "hills"."""
    top, horizon, light = SKIES[sky]
    row, _ = coordinates(size)
    shade: Picture = np.asarray(top) * (1 - row[..., None]) + np.asarray(horizon) * row[..., None]
    picture = mix(shade, light, np.clip(cloud(rng, size, 3, 4) * 3 - 1.5, 0, 0.85))
    return _below_the_sky(rng, size, kind, picture, np.asarray(light, np.float32))


def _below_the_sky(rng: Rng, size: int, kind: str, picture: Picture, light: Picture) -> Picture:
    """``picture`` with towers, or with far hills, trees or hills, and grass in front, in that light."""
    row, column = coordinates(size)
    if kind == "city":
        for layer in range(2):
            heights = np.repeat(rng.uniform(0.45 + 0.12 * layer, 0.75, 16), size // 16)
            towers = row > heights[None, :]
            lit = ((row * 48) % 1 < 0.5) & ((column * 64) % 1 < 0.5)
            colour = paint(np.where(lit, 0.95, 0.7), hue(rng.uniform(200, 240), 0.12, 0.72 - 0.16 * layer))
            picture = mix(picture, colour * light, towers.astype(np.float32))
        return picture
    far = (row > 0.55 + 0.2 * (noise(rng, size, (1, 3))[0] - 0.5)).astype(np.float32)
    picture = mix(picture, np.asarray(hue(215, 0.3, 0.75)) * light, far)
    ragged = 0.62 + 0.22 * (noise(rng, size, (1, 9))[0] - 0.5) + 0.06 * (noise(rng, size, (1, 48))[0] - 0.5)
    green = paint(0.6 + 0.5 * cloud(rng, size, 16), hue(110, 0.5, 0.42 if kind == "trees" else 0.6))
    picture = mix(picture, green * light, (row > (ragged if kind == "trees" else ragged + 0.06)).astype(np.float32))
    grass = paint(0.8 + 0.2 * cloud(rng, size, 16), hue(95, 0.45, 0.62))
    return mix(picture, grass * light, (row > 0.84).astype(np.float32))


def clock_face(rng: Rng, size: int = 128) -> Picture:
    """Dial with twelve marks and two hands."""
    row, column = coordinates(size)
    x, y = column - 0.5, 0.5 - row
    radius, angle = np.hypot(x, y), np.arctan2(x, y) % (2 * np.pi)
    picture = blank(size, (0.96, 0.95, 0.92))
    marks = (radius > 0.38) & (radius < 0.45) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.09)
    for turn, reach, width in ((rng.uniform(0, 6.28), 0.24, 0.022), (rng.uniform(0, 6.28), 0.36, 0.014)):
        along, across = x * np.sin(turn) + y * np.cos(turn), x * np.cos(turn) - y * np.sin(turn)
        marks |= (along > -0.03) & (along < reach) & (np.abs(across) < width)
    return mix(picture, (0.1, 0.1, 0.12), (marks | (radius > 0.475)).astype(np.float32))


def hob(rng: Rng, size: int = 128) -> Picture:
    """Four burners on dark glass."""
    row, column = coordinates(size)
    picture = paint(0.95 + 0.05 * cloud(rng, size, 8), (0.09, 0.09, 0.1))
    for x, y, reach in ((0.28, 0.28, 0.16), (0.72, 0.28, 0.2), (0.28, 0.72, 0.2), (0.72, 0.72, 0.16)):
        distance = np.hypot(column - x, row - y)
        ring = (np.abs(distance - reach) < 0.018) | (np.abs(distance - reach * 0.55) < 0.012)
        picture = mix(picture, (0.62, 0.6, 0.58), ring.astype(np.float32))
    return picture


def oven_front(rng: Rng, size: int = 128) -> Picture:
    """Knobs, a handle and a dark window."""
    row, column = coordinates(size)
    picture = paint(0.97 + 0.03 * noise(rng, size, (2, 64)), (0.86, 0.86, 0.87))
    panel = (row < 0.2).astype(np.float32)
    picture = mix(picture, (0.7, 0.7, 0.72), panel)
    knobs = (np.hypot((column * 5) % 1 - 0.5, (row - 0.1) * 5) < 0.3) & (row < 0.2)
    picture = mix(picture, (0.12, 0.12, 0.13), knobs.astype(np.float32))
    glass = (row > 0.38) & (row < 0.85) & (column > 0.12) & (column < 0.88)
    return mix(picture, (0.08, 0.08, 0.1), glass.astype(np.float32))


def drum_front(rng: Rng, size: int = 128) -> Picture:
    """Washing machine: control strip and round door."""
    row, column = coordinates(size)
    picture = paint(0.98 + 0.02 * cloud(rng, size, 4), (0.96, 0.96, 0.97))
    distance = np.hypot(column - 0.5, row - 0.58)
    picture = mix(picture, (0.7, 0.71, 0.74), (distance < 0.31).astype(np.float32))
    picture = mix(picture, (0.13, 0.15, 0.2), (distance < 0.235).astype(np.float32))
    picture = mix(picture, (0.35, 0.4, 0.48), ((distance < 0.2) & (column + row < 0.95)).astype(np.float32))
    strip = (row > 0.05) & (row < 0.17)
    picture = mix(picture, (0.8, 0.81, 0.83), strip.astype(np.float32))
    knob = np.hypot(column - 0.82, row - 0.11) < 0.045
    display = strip & (column > 0.45) & (column < 0.68) & (row > 0.08) & (row < 0.14)
    return mix(picture, (0.15, 0.17, 0.2), (knob | display).astype(np.float32))


def microwave_front(rng: Rng, size: int = 128) -> Picture:
    """Dark door with a lit display and buttons beside it."""
    row, column = coordinates(size)
    picture = paint(0.95 + 0.05 * cloud(rng, size, 4), (0.2, 0.2, 0.21))
    door = (column > 0.05) & (column < 0.7) & (row > 0.12) & (row < 0.88)
    picture = mix(picture, (0.06, 0.06, 0.07), door.astype(np.float32))
    keys = (column > 0.77) & (column < 0.96) & (row > 0.4) & ((column * 16) % 1 < 0.6) & ((row * 10) % 1 < 0.55)
    picture = mix(picture, (0.7, 0.7, 0.7), keys.astype(np.float32))
    display = (column > 0.77) & (column < 0.95) & (row > 0.14) & (row < 0.3)
    return mix(picture, (0.3, 0.85, 0.6), display.astype(np.float32))


def keyboard_keys(rng: Rng, size: int = 128) -> Picture:
    """Key caps in rows."""
    row, column = coordinates(size)
    cap = ((row * 5) % 1 > 0.16) & (((column * 14) + 0.3 * np.floor(row * 5)) % 1 > 0.16)
    return paint(np.where(cap, 0.92 + 0.06 * cloud(rng, size, 4), 0.35))


def basketball_skin(rng: Rng, size: int = 128) -> Picture:
    """Orange with dark seams."""
    row, column = coordinates(size)
    seam = (np.abs(row - 0.5) < 0.02) | (np.abs((column * 4) % 1 - 0.5) < 0.05)
    return mix(
        paint(0.85 + 0.15 * noise(rng, size, (64, 64)), (0.88, 0.43, 0.14)), (0.1, 0.08, 0.07), seam.astype(np.float32)
    )


def cardboard(rng: Rng, size: int = 128) -> Picture:
    """Box face with packing tape and a label."""
    row, column = coordinates(size)
    picture = paint(0.92 + 0.08 * noise(rng, size, (64, 4)), (0.74, 0.57, 0.38))
    picture = mix(picture, (0.83, 0.72, 0.5), (np.abs(column - 0.5) < 0.07).astype(np.float32))
    label = (column > 0.64) & (column < 0.9) & (row > 0.15) & (row < 0.38)
    return mix(picture, (0.95, 0.95, 0.93), label.astype(np.float32))
