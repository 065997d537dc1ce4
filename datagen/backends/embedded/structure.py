"""Walls, floors, ceilings, doors and windows of a floor plan as meshes in world coordinates.

Each room owns its half of every wall it touches, so that both faces of a wall have their own paper. Pieces that abut
leave out the faces between them; nothing overlaps in one plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import Layer
from datagen.backends.embedded import meshes
from datagen.backends.embedded.materials import WALL_REPEAT_METRES, finish
from datagen.backends.embedded.rooms import INWARD, WALL, Leaf, Opening, PlannedRoom, Rectangle, SideName, along_x
from datagen.backends.embedded.scene import Mesh, merge_meshes
from datagen.backends.embedded.style import Look, Rgb

Outline = NDArray[np.float64]
_SUNK = 0.004  # how deep a piece reaches into the one that carries it
_FRAME = 0.03
_LIT = 0.7  # metres between the vertices of walls and floors, where the lamp's light is computed
WINDOW_VIEWS = ("trees", "city", "hills", "evening", "dusk", "overcast")


@dataclass
class StructurePiece:
    """One structural object: its meshes with finish, colour and layer, and the floor outlines it blocks."""

    category: str
    room_id: str
    meshes: list[tuple[Mesh, Look, Layer | None]] = field(default_factory=list)
    blocks: list[Outline] = field(default_factory=list)

    def add(self, look: Look, solids: Sequence[Mesh], layer: Layer | None = None) -> None:
        """Add solids of one look; metric texture coordinates are scaled to the finish."""
        if solids:
            mesh, metres = merge_meshes(solids), finish(look.finish).metres
            self.meshes.append((replace(mesh, uv=mesh.uv / np.float32(metres)) if metres else mesh, look, layer))


def rectangle_outline(rectangle: Rectangle) -> Outline:
    """Corners of (x0, y0, x1, y1), counter-clockwise, (4, 2)."""
    x0, y0, x1, y1 = rectangle
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def span_box(
    low: tuple[float, float, float], high: tuple[float, float, float], skip: tuple[str, ...] = (), fit: bool = False
) -> Mesh:
    """Box between two corners."""
    size = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    return meshes.box(size, ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]), skip=skip, fit=fit)


class WallFrame:
    """Coordinates along one side of a room: ``along`` on the wall, ``depth`` into the room (negative inside the wall)."""

    def __init__(self, room: PlannedRoom, side: SideName) -> None:
        self.room, self.side = room, side
        self.level = along_x(side)
        self.axis = "x" if self.level else "y"

    def box(
        self,
        start: float,
        end: float,
        near: float,
        far: float,
        low: float,
        high: float,
        skip: tuple[str, ...] = (),
        fit: bool = False,
    ) -> Mesh:
        """Box from ``start`` to ``end`` along the wall, ``near`` to ``far`` in depth, ``low`` to ``high``; metres."""
        (xa, ya), (xb, yb) = self.room.point(self.side, start, near), self.room.point(self.side, end, far)
        return span_box((min(xa, xb), min(ya, yb), low), (max(xa, xb), max(ya, yb), high), skip, fit)

    def outline(self, start: float, end: float, near: float, far: float) -> Outline:
        (xa, ya), (xb, yb) = self.room.point(self.side, start, near), self.room.point(self.side, end, far)
        return rectangle_outline((min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)))

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the box faces that look along the wall."""
        return ("+" + self.axis, "-" + self.axis)

    @property
    def back(self) -> str:
        """Name of the box face that looks out of the room."""
        x, y = INWARD[self.side]
        return ("-" if x + y > 0 else "+") + ("x" if x else "y")


def wall(room: PlannedRoom, side: SideName, style: str, rgb: Rgb, height: float) -> StructurePiece:
    """The room's half of one wall with its openings; strips above doors are on the lintel layer."""
    frame, outside = WallFrame(room, side), side in room.exterior
    back = -WALL if outside else -WALL / 2
    ends = room.ends(side)
    start, end = (
        at + sign * _reach(room, side, other) for at, other, sign in zip(room.span(side), ends, (-1, 1), strict=True)
    )
    hidden = () if outside else (frame.back,)
    piece = StructurePiece("wall", room.id)
    openings = sorted((o for o in room.openings if o.side == side), key=lambda o: o.start)
    # Ends that meet another wall of this room or of the neighbour have no face; the tip of a notch has one.
    bare = [
        frame.ends[index]
        for index, other in ((1, ends[0]), (0, ends[1]))
        if not frame.level or (other is not None and other not in room.exterior)
    ]
    solid, lintels, reach = [], [], start
    for opening in openings:
        first = (frame.ends[1],) if reach == start and frame.ends[1] in bare else ()
        solid.append(frame.box(reach, opening.start, back, 0, -0.05, height, (*hidden, *first)))
        piece.blocks.append(frame.outline(reach, opening.start, back, 0))
        above = frame.box(opening.start, opening.end, back, 0, opening.high, height, (*hidden, *frame.ends))
        if opening.kind == "window":
            solid += [above, frame.box(opening.start, opening.end, back, 0, -0.05, opening.low, (*hidden, *frame.ends))]
        else:
            lintels.append(above)
        if opening.kind in ("window", "entrance"):
            piece.blocks.append(frame.outline(opening.start, opening.end, back, 0))
        reach = opening.end
    last = tuple(face for face in bare if face == frame.ends[0] or reach == start)
    solid.append(frame.box(reach, end, back, 0, -0.05, height, (*hidden, *last)))
    piece.blocks.append(frame.outline(reach, end, back, 0))
    look = Look(f"wall:{style}", rgb)
    for layer, items in ((None, solid), ("lintel", lintels)):
        if items:
            mesh = meshes.gridded(merge_meshes(items), _LIT, facing=1 if frame.level else 0)
            along = (
                mesh.vertices[:, 0 if frame.level else 1]
                + np.abs(mesh.normals[:, 0 if frame.level else 1]) * mesh.vertices[:, 1 if frame.level else 0]
            )
            uv = np.stack([along / WALL_REPEAT_METRES, np.clip(mesh.vertices[:, 2] / height, 0.002, 0.998)], axis=1)
            piece.meshes.append((replace(mesh, uv=uv.astype(np.float32)), look, layer))  # type: ignore[arg-type]
    return piece


def _reach(room: PlannedRoom, side: SideName, other: SideName | None) -> float:
    """How far a wall goes on beyond the floor where it meets ``other``: walls along x fill the corners of a house, the others
    stop at them. At the tip of a notch (None) neither goes beyond the floor, and that along x fills the tip."""
    if along_x(side):
        return 0.0 if other is None else WALL if other in room.exterior else WALL / 2
    if other is not None:
        return 0.0
    return -WALL if any(inner in room.exterior for inner in room.sides[4:]) else -WALL / 2


def baseboard(room: PlannedRoom, rgb: Rgb) -> StructurePiece:
    """Skirting along all walls, interrupted by doors."""
    solids, thick, tall = [], 0.012, 0.085
    for side in room.sides:
        frame = WallFrame(room, side)
        # Around the tip of a notch both boards go on, almost to each other's face.
        insets = [(-0.003 if frame.level else thick - 0.002) if end else 0.002 - thick for end in room.ends(side)]
        start, end, low = (
            room.span(side)[0] + insets[0],
            room.span(side)[1] - insets[1],
            -0.012 if frame.level else -0.01,
        )
        reach = start
        for opening in sorted(
            (o for o in room.openings if o.side == side and o.kind != "window"), key=lambda o: o.start
        ):
            if opening.start - 0.0585 > reach:
                solids.append(frame.box(reach, opening.start - 0.0585, -_SUNK, thick, low, tall - 0.001 * frame.level))
            reach = opening.end + 0.0585
        if end > reach:
            solids.append(frame.box(reach, end, -_SUNK, thick, low, tall - 0.001 * frame.level))
    piece = StructurePiece("baseboard", room.id)
    piece.add(Look("satin", rgb), solids)
    return piece


def _slab(room: PlannedRoom, low: float, high: float) -> list[Mesh]:
    """A flat box over the floor that reaches 2 mm into the walls, in as many pieces as the floor; their sides are hidden."""
    return [
        span_box((x0, y0, low), (x1, y1, high), skip=() if room.notch is None else ("+x", "-x", "+y", "-y"))
        for x0, y0, x1, y1 in room.floors(0.002)
    ]


def floor(room: PlannedRoom, material: str, rgb: Rgb) -> StructurePiece:
    """The floor slab; its texture covers the rectangle around it once."""
    x0, y0, x1, y1 = room.inner
    mesh = meshes.gridded(merge_meshes(_slab(room, -0.04, 0.0)), _LIT, facing=2)
    uv = (mesh.vertices[:, :2] - (x0, y0)) / (x1 - x0, y1 - y0)
    piece = StructurePiece("floor", room.id)
    piece.meshes.append((replace(mesh, uv=np.clip(uv, 0.001, 0.999).astype(np.float32)), Look(material, rgb), None))
    return piece


def ceiling(room: PlannedRoom, height: float) -> StructurePiece:
    """The ceiling, 4 mm below the tops of the walls."""
    piece = StructurePiece("ceiling", room.id)
    piece.add(Look("ceiling", (0.97, 0.97, 0.96)), _slab(room, height - 0.004, height + 0.06), "ceiling")
    return piece


def door(
    room: PlannedRoom,
    opening: Opening,
    leaf: Leaf | None,
    leaf_room: PlannedRoom | None,
    frame_rgb: Rgb,
    leaf_look: Look,
    sill: Look,
) -> StructurePiece:
    """Frame with casings on both faces, threshold, and a leaf: open, closed (entrance) or none (passage)."""
    frame, piece = WallFrame(room, opening.side), StructurePiece("door", room.id)
    back = -WALL
    a, b, top = opening.start, opening.end, opening.high
    posts, heads = [], []
    for start, end in ((a - _SUNK, a + _FRAME), (b - _FRAME, b + _SUNK)):
        posts.append(frame.box(start, end, back - 0.004, 0.004, -0.03, top + 0.006))
    heads.append(frame.box(a + _FRAME - _SUNK, b - _FRAME + _SUNK, back - 0.003, 0.003, top - _FRAME, top + _SUNK))
    for near, far, inset in ((-0.006, 0.015, 0.001), (back - 0.015, back + 0.006, -0.001)):
        for start, end in ((a - 0.06, a + 0.012), (b - 0.012, b + 0.06)):
            posts.append(frame.box(start, end, near, far, -0.008, top + 0.06))
        heads.append(frame.box(a + 0.01, b - 0.01, near + inset, far - inset, top - 0.012, top + 0.058))
    look = Look("satin", frame_rgb)
    piece.add(look, posts)
    piece.add(look, heads, "lintel")
    piece.add(sill, [frame.box(a + 0.002, b - 0.002, back - 0.002, 0.002, -0.045, 0.004)])
    if opening.kind == "entrance":
        panel = frame.box(a + _FRAME - 0.002, b - _FRAME + 0.002, -0.09, -0.045, 0.005, top - _FRAME + 0.002, fit=True)
        piece.add(leaf_look, [panel])
        knob = a + _FRAME + 0.07 if opening.middle < sum(room.span(opening.side)) / 2 else b - _FRAME - 0.07
        piece.add(Look("metal", (0.75, 0.72, 0.66)), [frame.box(knob - 0.06, knob + 0.06, -0.046, 0.01, 1.0, 1.025)])
    elif leaf is not None and leaf_room is not None:
        _open_leaf(piece, leaf_room, leaf, opening, leaf_look)
    return piece


def _open_leaf(piece: StructurePiece, room: PlannedRoom, leaf: Leaf, opening: Opening, look: Look) -> None:
    """The leaf standing at right angles to the wall, beside the opening."""
    frame, width = WallFrame(room, leaf.opening.side), opening.end - opening.start - 2 * _FRAME
    inner = leaf.hinge + (0.03 if leaf.towards < 0 else -0.03)
    edges = sorted((inner, inner + leaf.towards * 0.04))
    piece.add(
        look, [frame.box(edges[0], edges[1], 0.016, 0.016 + width, 0.02, opening.high - _FRAME - 0.005, fit=True)]
    )
    handle = [
        frame.box(edges[0] - 0.05, edges[1] + 0.05, width - 0.07, width - 0.05, 1.01, 1.03),
        frame.box(edges[0] - 0.065, edges[0] - 0.046, width - 0.16, width - 0.051, 1.008, 1.032),
        frame.box(edges[1] + 0.046, edges[1] + 0.065, width - 0.16, width - 0.051, 1.008, 1.032),
    ]
    piece.add(Look("metal", (0.75, 0.74, 0.72)), handle)
    piece.blocks.append(frame.outline(edges[0], edges[1], 0.016, 0.016 + width))


def window(room: PlannedRoom, opening: Opening, view: str, rgb: Rgb) -> StructurePiece:
    """Frame with a mullion, sill board, and the view behind it."""
    frame, piece = WallFrame(room, opening.side), StructurePiece("window", room.id)
    a, b, low, top = opening.start, opening.end, opening.low, opening.high
    bars = [
        frame.box(a - _SUNK, a + 0.05, -0.11, -0.05, low - _SUNK, top + _SUNK),
        frame.box(b - 0.05, b + _SUNK, -0.11, -0.05, low - _SUNK, top + _SUNK),
        frame.box(a + 0.046, b - 0.046, -0.105, -0.055, low - 0.003, low + 0.05),
        frame.box(a + 0.046, b - 0.046, -0.105, -0.055, top - 0.05, top + 0.003),
    ]
    if b - a > 0.9:
        middle = (a + b) / 2
        bars.append(frame.box(middle - 0.025, middle + 0.025, -0.1, -0.06, low + 0.046, top - 0.046))
    bars.append(frame.box(a - 0.04, b + 0.04, -0.001, 0.05, low - 0.035, low - 0.002))
    piece.add(Look("satin", rgb), bars)
    piece.add(Look(view), [frame.box(a + 0.045, b - 0.045, -0.097, -0.085, low + 0.045, top - 0.045, fit=True)])
    return piece


def doorway(room: PlannedRoom, opening: Opening) -> Outline:
    """The walkable strip through an opening, a little into both rooms."""
    return WallFrame(room, opening.side).outline(opening.start, opening.end, -WALL - 0.05, 0.05)
