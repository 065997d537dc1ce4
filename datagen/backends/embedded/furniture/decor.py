"""What hangs on walls, lies on floors and stands around."""

from __future__ import annotations

from math import cos, pi, sin

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.meshes import leaf, rotation, turned
from datagen.backends.embedded.style import BLACK, WHITE, Kit, Look, Rgb, shade

_MOTIFS = ("landscape", "night", "sea", "shapes", "fields", "bouquet", "portrait")
_GREENS = ((0.25, 0.48, 0.2), (0.33, 0.55, 0.27), (0.2, 0.4, 0.24), (0.45, 0.6, 0.3))


def _leaf(
    model: Model, look: Look, length: float, width: float, at: tuple[float, float, float], yaw: float, pitch: float
) -> None:
    """A leaf from ``at``, turned by ``yaw`` and raised by ``pitch`` degrees."""
    blade = turned(leaf(length, width), rotation("z", yaw) @ rotation("y", -pitch))
    blade.vertices[:] += at
    model.add(look, blade)


@FURNITURE.register("potted plant")
def potted_plant(kit: Kit, scale: float = 0.0) -> Model:
    """Pot with a rosette, a bush or a small palm; ``scale`` 1 is knee to shoulder high, 0.3 a windowsill plant."""
    model, scale = Model(), scale or kit.between(0.8, 1.2)
    pot, green = (
        kit.pick((kit.ceramic(), Look("wicker", (0.75, 0.58, 0.4)), Look("plain", (0.76, 0.45, 0.32)))),
        Look("foliage", kit.pick(_GREENS)),
    )
    radius, height = 0.17 * scale, kit.between(0.28, 0.34) * scale
    model.lathe(
        pot,
        [
            (0, 0),
            (radius * 0.72, 0),
            (radius, height),
            (radius * 0.88, height),
            (radius * 0.86, height * 0.9),
            (0, height * 0.9),
        ],
        segments=12,
    )
    model.rod(Look("soil", (0.3, 0.22, 0.16)), radius * 0.84, height * 0.06, (0, 0, height * 0.88), segments=12)
    kind, base = kit.pick(("rosette", "bush", "palm")), height * 0.9
    if kind == "bush":
        for index in range(5):
            angle, reach = 2 * pi * index / 4, 0.1 * scale * (index < 4)
            model.ball(
                Look("foliage", shade(green.rgb, kit.between(0.85, 1.15))),
                0.17 * scale,
                (
                    reach * cos(angle),
                    reach * sin(angle),
                    base + (0.12 + 0.07 * (index % 2) + 0.16 * (index == 4)) * scale,
                ),
                8,
                1.1,
            )
        model.rod(Look("wood", (0.4, 0.3, 0.2)), 0.02 * scale, 0.26 * scale, (0, 0, base - 0.01))
        return model
    trunk = 0.0 if kind == "rosette" else kit.between(0.35, 0.6) * scale
    if trunk:
        model.rod(Look("wood", (0.45, 0.34, 0.22)), 0.03 * scale, trunk + 0.03, (0, 0, base - 0.01), top=0.02 * scale)
    for ring, (pitch, length) in enumerate(
        ((78, 0.62), (55, 0.58), (28, 0.5)) if not trunk else ((70, 0.4), (35, 0.5), (-5, 0.45))
    ):
        for index in range(6):
            yaw = 60 * index + 25 * ring + kit.between(-8, 8)
            _leaf(
                model,
                Look("foliage", shade(green.rgb, 0.85 + 0.15 * ring)),
                length * scale,
                0.11 * scale,
                (0, 0, base + trunk + 0.003 * index),
                yaw,
                pitch + kit.between(-8, 8),
            )
    return model


@FURNITURE.register("vase")
def vase(kit: Kit) -> Model:
    """Vase, perhaps with flowers."""
    model, height = Model(), kit.between(0.18, 0.3)
    belly = kit.between(0.05, 0.08)
    model.lathe(
        kit.ceramic(),
        [
            (0, 0),
            (belly * 0.6, 0),
            (belly, height * 0.35),
            (belly * 0.5, height * 0.8),
            (belly * 0.62, height),
            (belly * 0.5, height),
            (0, height * 0.8),
        ],
        segments=12,
        smooth=True,
    )
    if kit.chance(0.6):
        petals = Look("satin", kit.pick(((0.9, 0.35, 0.4), (0.95, 0.8, 0.3), (0.95, 0.92, 0.9), (0.65, 0.4, 0.7))))
        for index in range(5):
            turn = rotation("z", 72 * index) @ rotation("y", 16 if index else 0)
            stem = 0.16 + 0.02 * (index % 3)
            model.box(
                Look("foliage", _GREENS[0]),
                (0.006, 0.006, stem + 0.04),
                (0, 0, height - 0.04),
                turn,
                (0, 0, height - 0.04),
            )
            tip = turn @ (0, 0, stem + 0.03)
            model.ball(petals, 0.026, (float(tip[0]), float(tip[1]), height - 0.055 + float(tip[2])), 6)
    return model


@FURNITURE.register("rug")
def rug(kit: Kit, depth: float = 1.4, width: float = 2.0) -> Model:
    """Woven rug, 9 mm thick."""
    model = Model()
    look = Look(kit.variant(kit.pick(("rug.border", "rug.border", "rug.stripes", "rug.diamonds", "rug.shag")), 3))
    model.box(look, (depth, width, 0.008))
    return model


@FURNITURE.register("bath mat")
def bath_mat(kit: Kit) -> Model:
    """Small towelling mat."""
    model = Model()
    model.box(Look("towel", kit.pick((kit.accent(), WHITE))), (0.5, 0.75, 0.012))
    return model


@FURNITURE.register("painting")
def painting(kit: Kit, width: float = 0.0) -> Model:
    """Framed picture with a mount; back at x = 0, centre at eye height."""
    model, width = Model(), width or kit.between(0.4, 0.9)
    height, thick = width * kit.pick((0.75, 1.0, 1.3)), 0.03
    low = 1.55 - height / 2
    frame = kit.pick((kit.wood(), Look("satin", BLACK), Look("satin", WHITE), Look("metal", (0.75, 0.62, 0.33))))
    model.box(frame, (0.026, width, thick), (0.013, 0, low))
    model.box(frame, (0.026, width, thick), (0.013, 0, low + height - thick))
    for y in (-(width - thick) / 2, (width - thick) / 2):
        model.box(frame, (0.0255, thick, height - 2 * thick + 0.008), (0.01275, y, low + thick - 0.004))
    mount = kit.chance(0.5)
    if mount:
        model.box(Look("plain", (0.96, 0.95, 0.92)), (0.012, width - 0.052, height - 0.052), (0.008, 0, low + 0.026))
    margin = 0.15 * width if mount else 0.05
    picture = Look(kit.variant(f"painting.{kit.pick(_MOTIFS)}", 3))
    model.box(picture, (0.014, width - margin, height - margin), (0.011, 0, low + margin / 2))
    return model


@FURNITURE.register("mirror")
def mirror(kit: Kit, width: float = 0.0, low: float = 1.1) -> Model:
    """Framed looking-glass; back at x = 0."""
    model, width = Model(), width or kit.between(0.45, 0.7)
    height = kit.between(0.7, 0.9)
    model.box(kit.pick((kit.wood(), kit.metal(), Look("satin", WHITE))), (0.022, width, height), (0.011, 0, low))
    model.box(Look("glass", (0.75, 0.82, 0.86)), (0.012, width - 0.06, height - 0.06), (0.02, 0, low + 0.03))
    return model


@FURNITURE.register("clock")
def clock(kit: Kit) -> Model:
    """Round wall clock at 1.8 m; back at x = 0."""
    model, radius = Model(), kit.between(0.13, 0.18)
    rim = kit.pick((Look("satin", BLACK), kit.wood(), Look("satin", kit.accent())))
    model.rod(rim, radius, 0.03, (0, 0, 1.85), "x", segments=20)
    model.box(Look(kit.variant("clock", 3)), (0.012, radius * 1.38, radius * 1.38), (0.027, 0, 1.85 - radius * 0.69))
    return model


@FURNITURE.register("wall shelf")
def wall_shelf(kit: Kit) -> Model:
    """Board on the wall at 1.45 m; back at x = 0."""
    model, width = Model(), kit.between(0.6, 1.0)
    model.box(kit.wood(), (0.22, width, 0.028), (0.11, 0, 1.42))
    for y in (-width * 0.35, width * 0.35):
        model.box(kit.metal(), (0.15, 0.02, 0.1), (0.075, y, 1.324))
    model.surface((0.16, width - 0.06), 1.448, (0.11, 0), 0.4, "shelf")
    return model


@FURNITURE.register("curtain")
def curtain(kit: Kit, width: float = 0.35, height: float = 2.3, low: float = 0.05, rgb: Rgb = WHITE) -> Model:
    """One drawn panel from ``low`` to the rod at ``height``; back at x = 0."""
    model, cloth = Model(), Look("curtain", rgb)
    folds = max(3, round(width / 0.09))
    pitch = width / folds
    for index in range(folds):
        y = (index - (folds - 1) / 2) * pitch
        model.soft(
            cloth,
            (0.07 + 0.012 * (index % 2), pitch + 0.008, height - low),
            (0.05, y, low + 0.002 * (index % 2)),
            0.03,
            0.1,
        )
    model.rod(kit.metal(), 0.012, width + 0.06, (0.05, -width / 2 - 0.03, height + 0.012), "y")
    return model
