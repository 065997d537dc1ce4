"""Small things for kitchens and tables; lathe work mostly."""

from __future__ import annotations

from math import cos, pi, sin

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.meshes import rotation
from datagen.backends.embedded.style import BLACK, STEEL, WHITE, Kit, Look


@FURNITURE.register("microwave")
def microwave(kit: Kit) -> Model:
    """Countertop microwave oven."""
    model, case = Model(), Look("satin", kit.pick((STEEL, BLACK, WHITE)))
    model.box(case, (0.34, 0.44, 0.26), (0, 0, 0.008))
    model.box(Look("microwave"), (0.015, 0.43, 0.25), (0.17, 0, 0.013))
    for y in (-0.18, 0.18):
        model.box(Look("plain", BLACK), (0.26, 0.03, 0.014), (0, y, 0))
    return model


@FURNITURE.register("kettle")
def kettle(kit: Kit) -> Model:
    """Electric kettle with spout and handle."""
    model, skin = Model(), kit.pick((Look("metal", STEEL), Look("gloss", kit.accent()), Look("gloss", BLACK)))
    dark = Look("satin", (0.12, 0.12, 0.13))
    model.rod(dark, 0.08, 0.02, segments=12)
    model.lathe(
        skin,
        [(0, 0.018), (0.078, 0.018), (0.075, 0.08), (0.055, 0.2), (0.04, 0.215), (0, 0.22)],
        segments=12,
        smooth=True,
    )
    model.ball(dark, 0.014, (0, 0, 0.214), 6)
    model.box(skin, (0.06, 0.035, 0.03), (0.07, 0, 0.17), rotation("y", -25), (0.05, 0, 0.17))
    model.box(dark, (0.06, 0.022, 0.02), (-0.078, 0, 0.185))
    model.box(dark, (0.02, 0.024, 0.15), (-0.108, 0, 0.055))
    model.box(dark, (0.05, 0.022, 0.02), (-0.085, 0, 0.056))
    return model


@FURNITURE.register("pot")
def pot(kit: Kit) -> Model:
    """Cooking pot with lid and two handles."""
    model, skin = (
        Model(),
        kit.pick((Look("metal", STEEL), Look("gloss", kit.accent()), Look("metal", (0.72, 0.45, 0.3)))),
    )
    radius, height = kit.between(0.09, 0.12), kit.between(0.1, 0.16)
    model.lathe(skin, [(0, 0), (radius, 0), (radius, height), (0, height)], segments=14)
    model.lathe(
        skin,
        [(0, -0.01), (radius + 0.006, -0.01), (radius + 0.006, 0.006), (radius * 0.5, 0.03), (0, 0.036)],
        (0, 0, height + 0.005),
        14,
    )
    model.ball(Look("satin", BLACK), 0.016, (0, 0, height + 0.036), 6)
    for y in (-radius - 0.02, radius + 0.02):
        model.box(Look("satin", BLACK), (0.07, 0.05, 0.016), (0, y, height - 0.035))
    return model


@FURNITURE.register("pan")
def pan(kit: Kit) -> Model:
    """Frying pan with a long handle."""
    model, skin = Model(), Look("satin", kit.pick(((0.13, 0.13, 0.14), (0.32, 0.14, 0.12))))
    radius = kit.between(0.11, 0.14)
    model.lathe(
        skin,
        [(0, 0), (radius * 0.8, 0), (radius, 0.045), (radius - 0.006, 0.045), (radius * 0.78, 0.008), (0, 0.008)],
        (-0.08, 0, 0),
        16,
    )
    model.box(Look("satin", (0.1, 0.1, 0.1)), (0.2, 0.025, 0.016), (radius + 0.005, 0, 0.03))
    return model


@FURNITURE.register("toaster")
def toaster(kit: Kit) -> Model:
    """Two-slot toaster."""
    model, skin = Model(), kit.pick((Look("metal", STEEL), Look("gloss", kit.accent())))
    model.box(Look("satin", BLACK), (0.15, 0.26, 0.02))
    model.soft(skin, (0.16, 0.27, 0.17), (0, 0, 0.015), 0.035, 0.1)
    for x in (-0.03, 0.03):
        model.box(Look("plain", (0.08, 0.07, 0.07)), (0.022, 0.18, 0.01), (x, 0, 0.18))
    model.box(Look("satin", BLACK), (0.03, 0.02, 0.025), (0, 0.142, 0.11))
    return model


@FURNITURE.register("coffee machine")
def coffee_machine(kit: Kit) -> Model:
    """Drip coffee maker with a glass jug."""
    model, skin = Model(), Look("satin", kit.pick((BLACK, (0.6, 0.15, 0.13), WHITE)))
    model.box(skin, (0.24, 0.18, 0.035))
    model.box(skin, (0.09, 0.176, 0.3), (-0.072, 0, 0.03))
    model.box(skin, (0.236, 0.18, 0.09), (0, 0, 0.27))
    model.lathe(
        Look("glass", (0.25, 0.16, 0.1)),
        [(0, 0), (0.055, 0), (0.065, 0.05), (0.045, 0.13), (0, 0.13)],
        (0.045, 0, 0.036),
        12,
    )
    model.box(Look("satin", BLACK), (0.03, 0.018, 0.1), (0.125, 0, 0.055))
    return model


@FURNITURE.register("bowl")
def bowl(kit: Kit) -> Model:
    """Open bowl."""
    model, radius = Model(), kit.between(0.08, 0.13)
    profile = [
        (0, 0),
        (radius * 0.45, 0),
        (radius * 0.8, radius * 0.3),
        (radius, radius * 0.62),
        (radius - 0.008, radius * 0.62),
        (radius * 0.75, radius * 0.33),
        (radius * 0.4, 0.012),
        (0, 0.012),
    ]
    model.lathe(kit.pick((kit.ceramic(), kit.wood())), profile, segments=16)
    return model


@FURNITURE.register("fruit bowl")
def fruit_bowl(kit: Kit) -> Model:
    """Bowl heaped with apples, oranges and lemons."""
    model = Model()
    model.lathe(
        kit.pick((kit.ceramic(), kit.wood())),
        [(0, 0), (0.07, 0), (0.13, 0.05), (0.15, 0.085), (0.142, 0.085), (0.12, 0.052), (0, 0.03)],
        segments=16,
    )
    colours = ((0.8, 0.16, 0.12), (0.93, 0.55, 0.12), (0.95, 0.85, 0.25), (0.5, 0.68, 0.2))
    for index in range(5):
        angle = 2 * pi * index / 5
        model.ball(Look("satin", kit.pick(colours)), 0.038, (0.075 * cos(angle), 0.075 * sin(angle), 0.045), 8)
    model.ball(Look("satin", kit.pick(colours)), 0.04, (0, 0, 0.085), 8)
    return model


@FURNITURE.register("cup")
def cup(kit: Kit) -> Model:
    """Mug with a handle."""
    model, look = Model(), kit.ceramic()
    model.lathe(look, [(0, 0), (0.036, 0), (0.042, 0.095), (0.037, 0.095), (0.032, 0.01), (0, 0.01)], segments=12)
    model.box(look, (0.03, 0.012, 0.012), (0.051, 0, 0.07))
    model.box(look, (0.012, 0.013, 0.06), (0.066, 0, 0.022))
    model.box(look, (0.03, 0.012, 0.012), (0.051, 0, 0.021))
    return model


@FURNITURE.register("plate")
def plate(kit: Kit) -> Model:
    """Dinner plate."""
    model = Model()
    model.lathe(
        kit.ceramic(), [(0, 0), (0.08, 0), (0.13, 0.018), (0.13, 0.023), (0.085, 0.008), (0, 0.008)], segments=18
    )
    return model


@FURNITURE.register("bottle")
def bottle(kit: Kit) -> Model:
    """Wine or water bottle with a label."""
    model = Model()
    glass = Look("glass", kit.pick(((0.12, 0.25, 0.13), (0.35, 0.16, 0.08), (0.55, 0.68, 0.72))))
    model.lathe(glass, [(0, 0), (0.038, 0), (0.038, 0.19), (0.015, 0.24), (0.014, 0.3), (0, 0.3)], segments=12)
    model.rod(Look("plain", kit.pick((WHITE, kit.accent()))), 0.0395, 0.08, (0, 0, 0.06), segments=12)
    model.rod(Look("satin", kit.accent()), 0.0165, 0.04, (0, 0, 0.27))
    return model


@FURNITURE.register("knife block")
def knife_block(kit: Kit) -> Model:
    """Leaning wooden block with knife handles."""
    model, lean = Model(), rotation("y", -18)
    model.box(kit.wood(), (0.1, 0.12, 0.2), (0.03, 0, 0), rotation("y", -14), (-0.02, 0, 0))
    for y in (-0.035, 0.0, 0.035):
        model.box(Look("satin", BLACK), (0.018, 0.02, 0.09), (0.02, y, 0.19), lean, (-0.02, 0, 0))
    return model
