"""Colours that go together: one style per house decides woods, upholstery, accents, metals and walls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

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
    upholstery: tuple[Rgb, ...]
    accents: tuple[Rgb, ...]
    metal: Rgb
    walls: tuple[Rgb, ...]


# fmt: off
STYLES: tuple[Style, ...] = (
    Style("scandinavian", (0.86, 0.70, 0.51), (0.62, 0.45, 0.30), (0.95, 0.95, 0.94), ((0.60, 0.63, 0.66), (0.85, 0.82, 0.76)), ((0.20, 0.46, 0.47), (0.85, 0.64, 0.20), (0.83, 0.52, 0.42)), (0.20, 0.20, 0.21), ((0.95, 0.94, 0.91), (0.80, 0.86, 0.86), (0.90, 0.87, 0.80))),
    Style("walnut", (0.50, 0.33, 0.21), (0.33, 0.21, 0.14), (0.92, 0.88, 0.78), ((0.52, 0.21, 0.19), (0.76, 0.67, 0.54)), ((0.18, 0.25, 0.42), (0.78, 0.60, 0.22), (0.38, 0.45, 0.30)), (0.72, 0.60, 0.34), ((0.94, 0.90, 0.80), (0.76, 0.80, 0.69), (0.88, 0.80, 0.70))),
    Style("modern", (0.46, 0.38, 0.32), (0.24, 0.21, 0.20), (0.38, 0.40, 0.43), ((0.34, 0.36, 0.39), (0.76, 0.76, 0.75)), ((0.87, 0.43, 0.18), (0.93, 0.76, 0.20), (0.25, 0.55, 0.62)), (0.75, 0.76, 0.78), ((0.94, 0.94, 0.94), (0.74, 0.77, 0.80), (0.86, 0.85, 0.83))),
    Style("bohemian", (0.70, 0.48, 0.29), (0.47, 0.31, 0.20), (0.86, 0.79, 0.68), ((0.29, 0.47, 0.42), (0.86, 0.76, 0.63)), ((0.78, 0.39, 0.26), (0.87, 0.57, 0.52), (0.86, 0.66, 0.26)), (0.60, 0.48, 0.28), ((0.96, 0.92, 0.85), (0.88, 0.76, 0.66), (0.80, 0.84, 0.76))),
    Style("coastal", (0.83, 0.76, 0.66), (0.58, 0.50, 0.42), (0.93, 0.95, 0.96), ((0.27, 0.42, 0.60), (0.92, 0.90, 0.86)), ((0.92, 0.50, 0.42), (0.35, 0.68, 0.70), (0.93, 0.80, 0.48)), (0.80, 0.81, 0.83), ((0.95, 0.96, 0.96), (0.74, 0.84, 0.90), (0.93, 0.90, 0.83))),
    Style("retro", (0.64, 0.41, 0.22), (0.42, 0.26, 0.15), (0.55, 0.70, 0.66), ((0.80, 0.57, 0.20), (0.35, 0.50, 0.50)), ((0.74, 0.25, 0.19), (0.48, 0.52, 0.24), (0.90, 0.75, 0.45)), (0.22, 0.21, 0.20), ((0.94, 0.89, 0.78), (0.80, 0.85, 0.74), (0.90, 0.80, 0.68))),
    Style("plum", (0.58, 0.43, 0.32), (0.36, 0.26, 0.22), (0.90, 0.88, 0.90), ((0.43, 0.27, 0.42), (0.80, 0.77, 0.79)), ((0.22, 0.50, 0.50), (0.84, 0.68, 0.34), (0.75, 0.45, 0.55)), (0.78, 0.70, 0.52), ((0.95, 0.93, 0.94), (0.84, 0.79, 0.87), (0.90, 0.88, 0.84))),
    Style("nordic", (0.77, 0.60, 0.40), (0.40, 0.29, 0.21), (0.26, 0.33, 0.38), ((0.19, 0.29, 0.40), (0.71, 0.67, 0.61)), ((0.87, 0.66, 0.30), (0.62, 0.22, 0.21), (0.50, 0.62, 0.55)), (0.25, 0.25, 0.26), ((0.94, 0.94, 0.92), (0.70, 0.77, 0.80), (0.86, 0.85, 0.78))),
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
    """What a furniture builder draws from: the house's style and a random stream of its own."""

    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self.style, self.rng = style, rng

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
