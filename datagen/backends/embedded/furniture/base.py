"""How a piece of furniture is described: solids gathered by look, support surfaces, and the registry of categories.

Local frame: x points to the front, y to the left, z up; the piece stands on z = 0 with its footprint centred on the
origin. Wall-mounted pieces have their back at x = 0 and hang at the height where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embedded import meshes
from datagen.backends.embedded.materials import finish
from datagen.backends.embedded.meshes import Vector
from datagen.backends.embedded.scene import Floats32, Mesh, merge_meshes
from datagen.backends.embedded.style import Kit, Look
from ipt.common.registry import Registry

Axis = Literal["x", "y", "z"]
_SETTLES = 0.025
_LYING = {"x": meshes.rotation("y", 90), "y": meshes.rotation("x", -90)}


@dataclass(frozen=True, slots=True)
class Surface:
    """A level rectangle that carries things: (x0, y0, x1, y1) and its height, with ``headroom`` above; metres, local."""

    rectangle: tuple[float, float, float, float]
    height: float
    headroom: float = 0.6
    use: str = "top"


@dataclass(frozen=True, eq=False)
class Furniture:
    """A finished piece: meshes by look, the box of each solid (n, 2, 3) as (low, high) corners, and its surfaces."""

    category: str
    pieces: tuple[tuple[Mesh, Look], ...]
    solids: NDArray[np.float64]
    surfaces: tuple[Surface, ...]

    @property
    def low(self) -> NDArray[np.float64]:
        return self.solids[:, 0].min(axis=0)  # type: ignore[no-any-return]

    @property
    def high(self) -> NDArray[np.float64]:
        return self.solids[:, 1].max(axis=0)  # type: ignore[no-any-return]

    @property
    def size(self) -> tuple[float, float, float]:
        """Depth, width, height in metres."""
        depth, width, height = self.high - self.low
        return float(depth), float(width), float(height)


class Model:
    """Collects the solids of one piece; solids of one look become one mesh."""

    def __init__(self) -> None:
        self._meshes: dict[Look, list[Mesh]] = {}
        self._solids: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self.surfaces: list[Surface] = []

    def add(self, look: Look, mesh: Mesh, turn: Floats32 | None = None, pivot: Vector = (0, 0, 0)) -> None:
        """Add a mesh, turned about ``pivot``; metric texture coordinates are scaled to the finish's repeat."""
        if turn is not None:
            mesh = meshes.turned(mesh, turn, pivot)
        metres = finish(look.finish).metres
        if metres is not None and metres != 1.0:
            mesh = replace(mesh, uv=mesh.uv / np.float32(metres))
        self._meshes.setdefault(look, []).append(mesh)
        self._solids.append((mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)))

    def box(
        self, look: Look, size: Vector, at: Vector = (0, 0, 0), turn: Floats32 | None = None, pivot: Vector = (0, 0, 0)
    ) -> None:
        """Cuboid whose bottom centre is ``at``."""
        recipe = finish(look.finish)
        self.add(look, meshes.box(size, at, grain=recipe.grain, fit=recipe.metres is None), turn, pivot)

    def soft(
        self,
        look: Look,
        size: Vector,
        at: Vector = (0, 0, 0),
        radius: float = 0.05,
        puff: float = 0.3,
        turn: Floats32 | None = None,
        pivot: Vector = (0, 0, 0),
    ) -> None:
        """Cuboid with soft edges: cushions, pillows, appliances."""
        self.add(look, meshes.rounded_box(size, at, radius, puff), turn, pivot)

    def rod(
        self,
        look: Look,
        radius: float,
        length: float,
        at: Vector = (0, 0, 0),
        axis: Axis = "z",
        top: float | None = None,
        segments: int = 8,
    ) -> None:
        """Cylinder or frustum from ``at`` along ``axis``."""
        mesh = meshes.cylinder(radius, length, top_radius=top, segments=segments)
        if axis != "z":
            mesh = meshes.turned(mesh, _LYING[axis])
        self.add(look, replace(mesh, vertices=mesh.vertices + np.asarray(at, np.float32)))

    def lathe(
        self, look: Look, profile: Sequence[tuple[float, float]], at: Vector = (0, 0, 0), segments: int = 12, smooth: bool = False
    ) -> None:  # fmt: skip
        """Surface of revolution of (radius, height) pairs."""
        self.add(look, meshes.lathe(profile, at, segments, smooth))

    def ball(self, look: Look, radius: float, at: Vector = (0, 0, 0), segments: int = 10, stretch: float = 1.0) -> None:
        """Ball whose lowest point is ``at``."""
        self.add(look, meshes.sphere(radius, at, segments, stretch))

    def legs(self, look: Look, size: tuple[float, float], height: float, thick: float = 0.045, inset: float = 0.03, round_: bool = False) -> None:  # fmt: skip
        """Four legs under a top of ``size`` (depth, width); they reach 4 mm into whatever rests on ``height``."""
        x, y = size[0] / 2 - inset - thick / 2, size[1] / 2 - inset - thick / 2
        for at in ((x, y, 0), (x, -y, 0), (-x, y, 0), (-x, -y, 0)):
            if round_:
                self.rod(look, thick * 0.35, height + 0.004, at, top=thick / 2)
            else:
                self.box(look, (thick, thick, height + 0.004), at)

    def surface(
        self, size: tuple[float, float], height: float, at: tuple[float, float] = (0, 0), headroom: float = 0.6, use: str = "top"
    ) -> None:  # fmt: skip
        """Declare a rectangle of ``size`` (depth, width) around ``at`` that things may stand on."""
        (depth, width), (x, y) = size, at
        rectangle = (x - depth / 2, y - width / 2, x + depth / 2, y + width / 2)
        self.surfaces.append(Surface(rectangle, height, headroom, use))

    def finish(self, category: str) -> Furniture:
        """The piece, one mesh per look; what leans (legs, pillows) is set down so that it touches z = 0."""
        solids = np.array(self._solids, np.float64)
        low = solids[:, 0, 2].min()
        drop = low if abs(low) < _SETTLES else 0.0
        solids[:, :, 2] -= drop
        pieces = []
        for look, items in self._meshes.items():
            mesh = merge_meshes(items)
            if drop:
                mesh = replace(mesh, vertices=mesh.vertices - np.array([0, 0, drop], np.float32))
            pieces.append((mesh, look))
        return Furniture(category, tuple(pieces), solids, tuple(self.surfaces))


FURNITURE: Registry[Callable[..., Model]] = Registry("object category")


def build(category: str, kit: Kit, **options: object) -> Furniture:
    """A variant of ``category``; an unknown category is an error that lists the valid ones."""
    return FURNITURE[category](kit, **options).finish(category)
