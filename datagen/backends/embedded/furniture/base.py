"""How a piece of furniture is described: solids gathered by look, support surfaces, and the registry of categories.

Local frame: x points to the front, y to the left, z up; the piece stands on z = 0 with its footprint centred on the
origin. Wall-mounted pieces have their back at x = 0 and hang at the height where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embedded import meshes
from datagen.backends.embedded.materials import finish
from datagen.backends.embedded.meshes import Vector
from datagen.backends.embedded.scene import Floats32, Material, Mesh, merge_meshes
from datagen.backends.embedded.style import Kit, Look
from ipt.common.registry import Registry

Axis = Literal["x", "y", "z"]
_SETTLES = 0.035
_SAME_PLANE = 0.0008
_CUT = 0.0011
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
    """A finished piece: meshes by look, the box of each solid (n, 2, 3) as (low, high) corners, and its surfaces.

    A piece from elsewhere brings the ``materials`` that its looks name, and the ``credit`` that its licence asks for.
    """

    category: str
    pieces: tuple[tuple[Mesh, Look], ...]
    solids: NDArray[np.float64]
    surfaces: tuple[Surface, ...]
    materials: tuple[Material, ...] = ()
    credit: str = ""

    @cached_property
    def low(self) -> NDArray[np.float64]:
        return self.solids[:, 0].min(axis=0)

    @cached_property
    def high(self) -> NDArray[np.float64]:
        return self.solids[:, 1].max(axis=0)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each solid, (n, 3)."""
        return (self.solids[:, 0] + self.solids[:, 1]) / 2

    @cached_property
    def halves(self) -> NDArray[np.float64]:
        """Half the size of each solid, (n, 3)."""
        return (self.solids[:, 1] - self.solids[:, 0]) / 2

    @cached_property
    def size(self) -> tuple[float, float, float]:
        """Depth, width, height in metres."""
        depth, width, height = self.high - self.low
        return float(depth), float(width), float(height)


class Model:
    """Collects the solids of one piece; solids of one look become one mesh."""

    def __init__(self) -> None:
        self._solids: list[tuple[Look, Mesh]] = []
        self.surfaces: list[Surface] = []

    def add(self, look: Look, mesh: Mesh, turn: Floats32 | None = None, pivot: Vector = (0, 0, 0)) -> None:
        """Add a mesh, turned about ``pivot``; metric texture coordinates are scaled to the finish's repeat."""
        if turn is not None:
            mesh = meshes.turned(mesh, turn, pivot)
        metres = finish(look.finish).metres
        if metres is not None and metres != 1.0:
            mesh = replace(mesh, uv=mesh.uv / np.float32(metres))
        self._solids.append((look, mesh))

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
        self,
        look: Look,
        profile: Sequence[tuple[float, float]],
        at: Vector = (0, 0, 0),
        segments: int = 12,
        smooth: bool = False,
    ) -> None:
        """Surface of revolution of (radius, height) pairs."""
        self.add(look, meshes.lathe(profile, at, segments, smooth))

    def ball(self, look: Look, radius: float, at: Vector = (0, 0, 0), segments: int = 10, stretch: float = 1.0) -> None:
        """Ball whose lowest point is ``at``."""
        self.add(look, meshes.sphere(radius, at, segments, stretch))

    def legs(
        self,
        look: Look,
        size: tuple[float, float],
        height: float,
        thick: float = 0.045,
        inset: float = 0.03,
        round_: bool = False,
    ) -> None:
        """Four legs under a top of ``size`` (depth, width); they reach 4 mm into whatever rests on ``height``."""
        x, y = size[0] / 2 - inset - thick / 2, size[1] / 2 - inset - thick / 2
        for at in ((x, y, 0), (x, -y, 0), (-x, y, 0), (-x, -y, 0)):
            if round_:
                self.rod(look, thick * 0.35, height + 0.004, at, top=thick / 2)
            else:
                self.box(look, (thick, thick, height + 0.004), at)

    def surface(
        self,
        size: tuple[float, float],
        height: float,
        at: tuple[float, float] = (0, 0),
        headroom: float = 0.6,
        use: str = "top",
    ) -> None:
        """Declare a rectangle of ``size`` (depth, width) around ``at`` that things may stand on."""
        (depth, width), (x, y) = size, at
        rectangle = (x - depth / 2, y - width / 2, x + depth / 2, y + width / 2)
        self.surfaces.append(Surface(rectangle, height, headroom, use))

    def finish(self, category: str) -> Furniture:
        """The piece, one mesh per look; what leans (legs, pillows) is set down so that it touches z = 0."""
        solids = np.array(
            [(mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)) for _, mesh in self._solids], np.float64
        )
        fitted = separate_faces(solids)
        drop = fitted[:, 0, 2].min()
        if abs(drop) < _SETTLES:
            fitted[:, :, 2] -= drop
        by_look: dict[Look, list[Mesh]] = {}
        for (look, mesh), old, new in zip(self._solids, solids, fitted, strict=True):
            if not np.array_equal(old, new):
                scale = (new[1] - new[0]) / (old[1] - old[0])
                mesh = replace(mesh, vertices=((mesh.vertices - old[0]) * scale + new[0]).astype(np.float32))
            by_look.setdefault(look, []).append(mesh)
        pieces = tuple((merge_meshes(items), look) for look, items in by_look.items())
        return Furniture(category, pieces, fitted, tuple(self.surfaces))


def separate_faces(solids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (n, 2, 3) of which no two share a stretch of one plane: later ones are cut back by about a millimetre.

    Faces in one plane flicker (z-fighting) and leave renderers free to disagree about what is seen there.
    """
    result = solids.copy()
    for _ in range(4):
        low, high = result[:, 0], result[:, 1]
        reach = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
        faces = np.stack([low, high], axis=1)
        near = np.abs(faces[:, None, :, None] - faces[None, :, None, :]) < _SAME_PLANE
        across = np.stack(
            [
                np.minimum(reach[..., 1], reach[..., 2]),
                np.minimum(reach[..., 0], reach[..., 2]),
                np.minimum(reach[..., 0], reach[..., 1]),
            ],
            axis=-1,
        )
        clash = near & (across > _SAME_PLANE)[:, :, None, None, :]
        clash &= np.tri(len(result), k=-1, dtype=bool)[:, :, None, None, None]
        moved: NDArray[np.bool_] = np.asarray(clash.any(axis=(1, 3)))
        if not moved.any():
            break
        step = _CUT * (1 + 0.37 * (np.arange(len(result)) % 5))[:, None]
        result[:, 0] += np.where(moved[:, 0], step, 0)
        result[:, 1] -= np.where(moved[:, 1], step, 0)
    return result


FURNITURE: Registry[Callable[..., Model]] = Registry("object category")


def build(category: str, kit: Kit, **options: Any) -> Furniture:
    """A variant of ``category``, ours or one of the kit's shop; an unknown category is an error that lists the valid ones."""
    if kit.shop is not None and (found := kit.shop.draw(category, kit.rng, options)) is not None:
        return found
    return FURNITURE[category](kit, **options).finish(category)
