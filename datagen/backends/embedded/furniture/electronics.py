"""Screens and lamps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.meshes import lathe, rotation, turned
from datagen.backends.embedded.style import BLACK, STEEL, Kit, Look

_CASE = Look("gloss", (0.09, 0.09, 0.10))
_SHADE_COLOURS = ((0.98, 0.94, 0.84), (0.97, 0.90, 0.76), (0.95, 0.95, 0.93))


@FURNITURE.register("television")
def television(kit: Kit, diagonal: float = 0.0) -> Model:
    """Flat screen on a foot; ``diagonal`` in metres."""
    model = Model()
    diagonal = diagonal or kit.between(1.0, 1.35)
    width, height = diagonal * 0.872, diagonal * 0.49
    model.box(_CASE, (0.045, width, height), (0, 0, 0.07))
    screen = Look(kit.variant("screen.broadcast", 3)) if kit.chance(0.6) else Look("gloss", (0.05, 0.05, 0.06))
    model.box(screen, (0.012, width - 0.03, height - 0.03), (0.02, 0, 0.085))
    model.box(_CASE, (0.03, 0.1, 0.08), (-0.002, 0, 0.01))
    model.box(_CASE, (0.2, width * 0.4, 0.014))
    return model


@FURNITURE.register("monitor")
def monitor(kit: Kit) -> Model:
    """Computer screen with its foot."""
    model, width = Model(), kit.between(0.5, 0.62)
    height = width * 0.58
    model.box(_CASE, (0.035, width, height), (0, 0, 0.14))
    model.box(Look(kit.variant("screen.desktop", 3)), (0.012, width - 0.025, height - 0.025), (0.015, 0, 0.1525))
    model.box(Look("metal", STEEL), (0.02, 0.06, 0.2), (-0.025, 0, 0.01))
    model.box(Look("metal", STEEL), (0.17, 0.22, 0.014))
    return model


@FURNITURE.register("laptop")
def laptop(kit: Kit) -> Model:
    """Open laptop; the screen leans back."""
    model, case = Model(), Look("metal", kit.pick((STEEL, (0.3, 0.31, 0.33))))
    model.box(case, (0.23, 0.33, 0.016))
    model.box(Look("keyboard", (0.25, 0.25, 0.27)), (0.11, 0.29, 0.008), (-0.02, 0, 0.0115))
    lean, hinge = rotation("y", -18), (-0.115, 0, 0.012)
    model.box(case, (0.008, 0.33, 0.22), (-0.111, 0, 0.012), lean, hinge)
    model.box(Look(kit.variant("screen.desktop", 3)), (0.007, 0.305, 0.19), (-0.108, 0, 0.028), lean, hinge)
    return model


@FURNITURE.register("keyboard")
def keyboard(kit: Kit) -> Model:
    """Keyboard with its keys."""
    model, colour = Model(), kit.pick((BLACK, (0.85, 0.85, 0.86)))
    model.box(Look("satin", colour), (0.14, 0.44, 0.014))
    model.box(Look("keyboard", kit.pick((colour, (0.95, 0.95, 0.95)))), (0.12, 0.42, 0.012), (0, 0, 0.0105))
    return model


@FURNITURE.register("speaker")
def speaker(kit: Kit) -> Model:
    """Floor-standing loudspeaker."""
    model, case = Model(), kit.pick((kit.wood(), Look("satin", BLACK)))
    height = kit.between(0.8, 1.05)
    model.box(case, (0.28, 0.22, height))
    model.box(Look("weave", (0.13, 0.13, 0.14)), (0.012, 0.19, height - 0.05), (0.138, 0, 0.025))
    for z, radius in ((height - 0.16, 0.04), (height - 0.34, 0.075), (height - 0.56, 0.075)):
        model.rod(Look("satin", (0.3, 0.3, 0.31)), radius, 0.01, (0.14, 0, z), "x", segments=12)
    return model


def _shade(model: Model, kit: Kit, radius: float, height: float, z: float) -> None:
    """A lit drum or cone of cloth, open at both ends as lamp shades are."""
    top = radius * kit.pick((1.0, 0.75, 0.55))
    glow = Look("glow", kit.pick(_SHADE_COLOURS))
    model.lathe(
        glow,
        [(radius - 0.006, 0), (radius, 0), (top, height), (top - 0.006, height), (radius - 0.006, 0)],
        (0, 0, z),
        14,
    )


@FURNITURE.register("floor lamp")
def floor_lamp(kit: Kit) -> Model:
    """Pole or tripod under a lit shade."""
    model, height = Model(), kit.between(1.45, 1.7)
    body = kit.pick((kit.metal(), kit.wood()))
    if kit.chance(0.35):
        apex = (0, 0, height * 0.75)
        for leg in range(3):
            lean = rotation("z", 120 * leg) @ rotation("y", 12)
            model.box(body, (0.022, 0.022, height * 0.75), (0, 0, 0), lean, apex)
        model.rod(body, 0.011, height * 0.25, (0, 0, height * 0.72))
    else:
        model.rod(body, 0.14, 0.025, segments=16)
        model.rod(body, 0.011, height - 0.12, (0, 0, 0.012))
    _shade(model, kit, kit.between(0.17, 0.23), 0.28, height - 0.28)
    model.ball(Look("glow", (1.0, 0.96, 0.85)), 0.045, (0, 0, height - 0.19), 8)
    return model


@FURNITURE.register("table lamp")
def table_lamp(kit: Kit) -> Model:
    """Ceramic or metal foot under a lit shade."""
    model, height = Model(), kit.between(0.36, 0.52)
    look = kit.pick((kit.ceramic(), kit.metal(), kit.wood()))
    body = height - 0.2
    kind = kit.pick(("ball", "column", "cone"))
    if kind == "ball":
        model.lathe(
            look,
            [(0, 0), (0.05, 0), (0.06, 0.02), (0.085, body * 0.45), (0.05, body * 0.85), (0.015, body), (0, body)],
            segments=12,
            smooth=True,
        )
    elif kind == "column":
        model.rod(look, 0.07, 0.02, segments=12)
        model.rod(look, 0.02, body, (0, 0, 0.01))
    else:
        model.rod(look, 0.08, body, top=0.02, segments=12)
    model.rod(Look("metal", STEEL), 0.008, 0.1, (0, 0, body - 0.01), segments=6)
    _shade(model, kit, kit.between(0.11, 0.15), 0.18, height - 0.18)
    model.ball(Look("glow", (1.0, 0.96, 0.85)), 0.03, (0, 0, height - 0.13), 6)
    return model


@FURNITURE.register("ceiling lamp")
def ceiling_lamp(kit: Kit, drop: float = 0.0) -> Model:
    """Hangs from z = 0 downwards: a pendant on a cable of ``drop`` metres, or a flush disc."""
    model = Model()
    if drop:
        look = kit.pick((kit.metal(), Look("satin", kit.accent())))
        model.rod(Look("plain", BLACK), 0.006, drop - 0.1, (0, 0, 0.13 - drop), segments=6)
        model.rod(look, 0.05, 0.03, (0, 0, -0.0305), segments=10)
        radius = kit.between(0.16, 0.24)
        model.lathe(
            look,
            [
                (radius - 0.006, 0),
                (radius, 0),
                (0.05, 0.18),
                (0, 0.18),
                (0, 0.172),
                (0.046, 0.172),
                (radius - 0.006, 0),
            ],
            (0, 0, -drop),
            16,
        )
        model.ball(Look("glow", (1.0, 0.96, 0.85)), 0.05, (0, 0, 0.03 - drop), 8)
        return model
    radius = kit.between(0.18, 0.26)
    model.rod(Look("metal", STEEL), radius, 0.02, (0, 0, -0.0205), segments=16)
    model.lathe(
        Look("glow", (1.0, 0.98, 0.92)),
        [(0, -0.085), (radius * 0.6, -0.075), (radius * 0.93, -0.04), (radius * 0.93, -0.015), (0, -0.015)],
        segments=16,
    )
    return model


@FURNITURE.register("fan")
def fan(kit: Kit) -> Model:
    """Pedestal fan."""
    model, white = Model(), Look("satin", kit.pick(((0.93, 0.93, 0.94), BLACK)))
    model.rod(white, 0.18, 0.03, segments=16)
    model.rod(white, 0.016, 0.95, (0, 0, 0.02))
    model.box(white, (0.12, 0.09, 0.09), (-0.02, 0, 0.95))
    blade = Look("satin", kit.pick((kit.accent(), (0.7, 0.75, 0.8))))
    for index in range(3):
        model.box(blade, (0.012, 0.1, 0.17), (0.075, 0, 1.015), rotation("x", 120 * index), (0.075, 0, 0.995))
    model.rod(white, 0.035, 0.06, (0.035, 0, 0.995), "x")
    guard = lathe([(0.2, -0.012), (0.212, -0.012), (0.212, 0.012), (0.2, 0.012), (0.2, -0.012)], segments=18)
    upright = turned(guard, rotation("y", 90))
    model.add(white, replace(upright, vertices=upright.vertices + np.array([0.075, 0, 0.995], np.float32)))
    return model
