"""Colours that go together: one style per house decides woods, upholstery, accents, metals and walls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from datagen.backends.embedded.models.shop import Shop

T = TypeVar("T")
Rgb = tuple[float, float, float]


class Look(NamedTuple):
    """A finish of the material library and the colour that multiplies it."""

    finish: str
    rgb: Rgb = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Style:
    """A palette: a light and a dark wood, cabinet paint, upholstery, accents, metal, and wall colours."""

    name: str
    wood: Rgb
    dark_wood: Rgb
    cabinet: Rgb
    metal: Rgb
    upholstery: tuple[Rgb, ...]
    accents: tuple[Rgb, ...]
    walls: tuple[Rgb, ...]


def _rgb(colours: str) -> tuple[Rgb, ...]:
    """Colours written as "dbb282 9e734d", red, green and blue in hexadecimal."""
    return tuple((int(c[:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:], 16) / 255) for c in colours.split())


def _style(name: str, main: str, upholstery: str, accents: str, walls: str) -> Style:
    """``main`` is wood, dark wood, cabinet paint and metal."""
    wood, dark_wood, cabinet, metal = _rgb(main)
    return Style(name, wood, dark_wood, cabinet, metal, _rgb(upholstery), _rgb(accents), _rgb(walls))


# fmt: off
STYLES: tuple[Style, ...] = (
    _style("scandinavian", "dbb282 9e734c f2f2f0 333336", "99a1a8 d9d1c2", "337578 d9a333 d4856b", "f2f0e8 ccdbdb e6decc"),
    _style("walnut", "805436 543624 ebe0c7 b89957", "853630 c2ab8a", "2e406b c79938 61734c", "f0e6cc c2ccb0 e0ccb2"),
    _style("modern", "756152 3d3633 61666e bfc2c7", "575c63 c2c2bf", "de6e2e edc233 408c9e", "f0f0f0 bdc4cc dbd9d4"),
    _style("bohemian", "b27a4a 784f33 dbc9ad 997a47", "4a786b dbc2a1", "c76342 de9185 dba842", "f5ebd9 e0c2a8 ccd6c2"),
    _style("coastal", "d4c2a8 94806b edf2f5 cccfd4", "456b99 ebe6db", "eb806b 59adb2 edcc7a", "f2f5f5 bdd6e6 ede6d4"),
    _style("retro", "a36938 6b4226 8cb2a8 383633", "cc9133 598080", "bd4030 7a853d e6bf73", "f0e3c7 ccd9bd e6ccad"),
    _style("plum", "946e52 5c4238 e6e0e6 c7b285", "6e456b ccc4c9", "388080 d6ad57 bf738c", "f2edf0 d6c9de e6e0d6"),
    _style("nordic", "c49966 664a36 425461 404042", "304a66 b5ab9c", "dea84c 9e3836 809e8c", "f0f0eb b2c4cc dbd9c7"),
)
# fmt: on

WHITE: Rgb = (0.94, 0.94, 0.94)
BLACK: Rgb = (0.10, 0.10, 0.11)
STEEL: Rgb = (0.78, 0.79, 0.80)


def shade(rgb: Rgb, factor: float) -> Rgb:
    """``rgb`` made darker (factor < 1) or lighter, clipped to 0..1."""
    red, green, blue = (min(1.0, max(0.0, channel * factor)) for channel in rgb)
    return (red, green, blue)


class Kit:
    """What a furniture builder draws from: the house's style, a random stream of its own, and perhaps a shop of models."""

    def __init__(self, style: Style, rng: np.random.Generator, shop: Shop | None = None) -> None:
        self.style, self.rng, self.shop = style, rng, shop

    def between(self, low: float, high: float) -> float:
        """A length in metres, to the centimetre."""
        return round(float(self.rng.uniform(low, high)), 2)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def wood(self) -> Look:
        return Look("wood", self.pick((self.style.wood, self.style.wood, self.style.dark_wood)))

    def board(self) -> Look:
        """Wood or painted board."""
        return Look("satin", self.style.cabinet) if self.chance(0.25) else self.wood()

    def cloth(self) -> Look:
        """Upholstery in the style's main colours."""
        return Look(self.pick(("weave", "tweed", "weave", "leather")), self.pick(self.style.upholstery))

    def accent(self) -> Rgb:
        return self.pick(self.style.accents)

    def textile(self) -> Look:
        """Bright cloth: cushions, blankets, towels."""
        return Look(self.pick(("weave", "stripe", "dotted", "diamond", "plaid")), self.accent())

    def metal(self) -> Look:
        return Look("metal", self.style.metal)

    def ceramic(self) -> Look:
        return Look("gloss", self.pick((WHITE, *self.style.accents)))

    def variant(self, name: str, count: int) -> str:
        """One of ``count`` library variants of a picture."""
        return f"{name}-{int(self.rng.integers(count))}"
