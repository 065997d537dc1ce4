"""Sanitary ware, towels and the washing machine."""

from __future__ import annotations

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.furniture.tables import kit_front
from datagen.backends.embedded.meshes import box, lathe
from datagen.backends.embedded.scene import Mesh
from datagen.backends.embedded.style import STEEL, WHITE, Kit, Look

_CERAMIC, _CHROME = Look("gloss", WHITE), Look("metal", STEEL)


def _oval(mesh: Mesh, stretch: float, x: float) -> Mesh:
    """``mesh`` stretched along x and moved: bowls that are longer than wide."""
    vertices = mesh.vertices.copy()
    vertices[:, 0] = vertices[:, 0] * stretch + x
    return Mesh(vertices, mesh.normals, mesh.uv, mesh.faces)


@FURNITURE.register("toilet")
def toilet(kit: Kit) -> Model:
    """Bowl, seat, lid up against the cistern."""
    model = Model()
    seat = Look("gloss", kit.pick((WHITE, WHITE, (0.3, 0.22, 0.16))))
    model.add(
        _CERAMIC,
        _oval(
            lathe(
                [(0, 0), (0.12, 0), (0.11, 0.12), (0.17, 0.34), (0.18, 0.39), (0.13, 0.39), (0.1, 0.25), (0, 0.22)],
                segments=16,
            ),
            1.3,
            0.1,
        ),
    )
    model.add(
        seat,
        _oval(lathe([(0.125, 0), (0.19, 0), (0.19, 0.022), (0.125, 0.022), (0.125, 0)], (0, 0, 0.386), 16), 1.3, 0.1),
    )
    model.box(_CERAMIC, (0.16, 0.22, 0.386), (-0.19, 0, 0.0))
    model.soft(_CERAMIC, (0.17, 0.38, 0.36), (-0.262, 0, 0.38), 0.03, 0.0)
    model.soft(_CERAMIC, (0.19, 0.4, 0.035), (-0.262, 0, 0.735), 0.012, 0.0)
    model.soft(seat, (0.025, 0.36, 0.38), (-0.15, 0, 0.405), 0.012, 0.0)
    model.rod(_CHROME, 0.02, 0.012, (-0.262, 0, 0.765))
    return model


@FURNITURE.register("bathtub")
def bathtub(kit: Kit, width: float = 1.7) -> Model:
    """Built-in tub along a wall: panels, rim, basin and tap; ``width`` is its length along the wall (y)."""
    model, depth, height, rim = Model(), 0.75, 0.56, 0.07
    panel = kit.pick((_CERAMIC, _CERAMIC, Look("panel", (0.92, 0.92, 0.91)), kit.wood()))
    model.box(panel, (0.02, width - 0.01, height - 0.02), (depth / 2 - 0.018, 0, 0))
    for y in (-width / 2 + 0.018, width / 2 - 0.018):
        model.box(panel, (depth - 0.055, 0.02, height - 0.021), (-0.008, y, 0))
    model.box(_CERAMIC, (0.022, width - 0.06, height - 0.022), (-depth / 2 + 0.018, 0, 0))
    for x in (-(depth - rim) / 2, (depth - rim) / 2):
        model.box(_CERAMIC, (rim, width, 0.035), (x, 0, height - 0.035))
    for y in (-(width - rim) / 2, (width - rim) / 2):
        model.add(_CERAMIC, box((depth - 2 * rim, rim, 0.035), (0, y, height - 0.035), skip=("+x", "-x")))
    inner_depth, inner_width = depth - 2 * rim, width - 2 * rim
    for x in (-inner_depth / 2 - 0.006, inner_depth / 2 + 0.006):
        model.box(_CERAMIC, (0.018, inner_width + 0.03, 0.41), (x, 0, height - 0.418))
    for y in (-inner_width / 2 - 0.006, inner_width / 2 + 0.006):
        model.box(_CERAMIC, (inner_depth + 0.006, 0.018, 0.408), (0, y, height - 0.416))
    model.box(_CERAMIC, (inner_depth + 0.02, inner_width + 0.02, 0.02), (0, 0, height - 0.42))
    if kit.chance(0.3):
        model.box(
            Look("glass", (0.55, 0.75, 0.8)), (inner_depth - 0.004, inner_width - 0.004, 0.01), (0, 0, height - 0.2)
        )
    model.rod(_CHROME, 0.018, 0.13, (0, -width / 2 + 0.035, height - 0.008))
    model.rod(_CHROME, 0.014, 0.13, (0, -width / 2 + 0.03, height + 0.11), "y")
    return model


@FURNITURE.register("shower")
def shower(kit: Kit) -> Model:
    """Corner tray with two glazed screens in a metal frame, column and head; the back and right sides touch walls."""
    model, side, height = Model(), kit.between(0.82, 0.95), 2.0
    half = side / 2
    model.box(_CERAMIC, (side, side, 0.09))
    model.rod(_CHROME, 0.045, 0.006, (0, 0, 0.087), segments=12)
    model.rod(_CHROME, 0.014, 1.1, (-half + 0.05, 0, 0.95))
    model.rod(_CHROME, 0.013, 0.28, (-half + 0.04, 0, 2.03), "x")
    model.rod(_CHROME, 0.1, 0.02, (-half + 0.31, 0, 2.005), segments=14)
    model.box(_CHROME, (0.06, 0.22, 0.05), (-half + 0.06, 0, 1.05))
    frame = kit.pick((_CHROME, Look("metal", (0.12, 0.12, 0.13))))
    for x, y in ((half - 0.02, half - 0.02), (half - 0.02, -half + 0.02), (-half + 0.02, half - 0.02)):
        model.box(frame, (0.03, 0.03, height - 0.086), (x, y, 0.086))
    for z in (0.1, height - 0.03):
        model.box(frame, (0.024, side - 0.06, 0.024), (half - 0.02, 0, z))
        model.box(frame, (side - 0.06, 0.024, 0.024), (0, half - 0.02, z))
    model.box(Look("glass", (0.74, 0.84, 0.86)), (side * 0.5, 0.008, height - 0.2), (-half * 0.4, half - 0.02, 0.12))
    return model


@FURNITURE.register("bathroom sink")
def bathroom_sink(kit: Kit) -> Model:
    """Vanity with a basin on top, or a pedestal basin."""
    model = Model()
    if kit.chance(0.3):
        model.rod(_CERAMIC, 0.13, 0.72, (-0.05, 0, 0), top=0.09, segments=12)
        model.add(
            _CERAMIC,
            _oval(
                lathe(
                    [(0, 0), (0.12, 0), (0.27, 0.13), (0.27, 0.15), (0.235, 0.15), (0.1, 0.04), (0, 0.04)],
                    (0, 0, 0.7),
                    18,
                ),
                0.8,
                0,
            ),
        )
        model.rod(_CHROME, 0.014, 0.13, (-0.19, 0, 0.82))
        model.rod(_CHROME, 0.011, 0.11, (-0.195, 0, 0.935), "x")
        return model
    width, depth, top = kit.between(0.6, 0.9), 0.46, 0.8
    wood = kit.board()
    model.box(wood, (depth - 0.04, width - 0.02, top - 0.2), (-0.01, 0, 0.18))
    model.legs(wood, (depth, width), 0.18, 0.04, 0.03)
    model.box(kit.pick((Look("marble"), _CERAMIC, wood)), (depth, width, 0.03), (0, 0, top - 0.03))
    for y in (-width / 4, width / 4):
        model.box(kit_front(wood), (0.02, width / 2 - 0.025, top - 0.26), (depth / 2 - 0.025, y, 0.2))
        model.box(_CHROME, (0.02, 0.012, 0.12), (depth / 2 - 0.01, y * 0.25, top - 0.28))
    model.lathe(
        _CERAMIC,
        [(0, 0), (0.12, 0), (0.19, 0.11), (0.19, 0.12), (0.17, 0.12), (0.1, 0.03), (0, 0.025)],
        (0.02, 0, top - 0.004),
        18,
    )
    model.rod(_CHROME, 0.014, 0.22, (-0.195, 0, top - 0.005))
    model.rod(_CHROME, 0.011, 0.13, (-0.2, 0, top + 0.2), "x")
    model.surface((0.22, width / 2 - 0.24), top, (0.02, width / 2 - (width / 2 - 0.2) / 2 - 0.02), 0.4)
    return model


@FURNITURE.register("towel")
def towel(kit: Kit) -> Model:
    """Towel on a rail at 1.2 m; back at x = 0."""
    model, width = Model(), kit.between(0.4, 0.6)
    model.rod(_CHROME, 0.01, width + 0.12, (0.07, -width / 2 - 0.06, 1.2), "y")
    for y in (-width / 2 - 0.05, width / 2 + 0.05):
        model.box(_CHROME, (0.074, 0.016, 0.016), (0.037, y, 1.192))
    cloth, length = Look("towel", kit.pick((WHITE, kit.accent(), kit.accent()))), kit.between(0.5, 0.7)
    model.soft(cloth, (0.05, width, length), (0.07, 0, 1.222 - length), 0.02, 0.1)
    return model


@FURNITURE.register("washing machine")
def washing_machine(kit: Kit) -> Model:
    """Front loader."""
    model, skin = Model(), kit.pick((WHITE, WHITE, (0.62, 0.64, 0.67), (0.3, 0.31, 0.33)))
    model.box(Look("gloss", skin), (0.56, 0.6, 0.835), (-0.01, 0, 0.015))
    model.box(Look("plain", (0.2, 0.2, 0.2)), (0.5, 0.54, 0.02))
    model.box(Look("drum", skin), (0.02, 0.594, 0.82), (0.268, 0, 0.02))
    model.surface((0.46, 0.52), 0.85, (-0.01, 0))
    return model
