"""Books, toys, instruments, bags."""

from __future__ import annotations

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.meshes import cylinder, prism, rotation, sphere, turned
from datagen.backends.embedded.style import BLACK, STEEL, Kit, Look, shade


@FURNITURE.register("books")
def books(kit: Kit, width: float = 0.0, lying: bool = False) -> Model:
    """A row of upright books of ``width`` metres in two heights, or a small pile."""
    model = Model()
    if lying:
        z = 0.0
        for _ in range(kit.pick((1, 2, 3, 4))):
            thick, turn = kit.between(0.02, 0.04), rotation("z", kit.between(-15, 15))
            model.box(
                Look("satin", shade(kit.pick((kit.accent(), kit.pick(kit.style.upholstery))), 0.9)),
                (0.15, 0.21, thick),
                (0, 0, z),
                turn,
            )
            model.box(Look("plain", (0.93, 0.91, 0.85)), (0.148, 0.2, thick - 0.008), (0.005, 0, z + 0.004), turn)
            z += thick + 0.0005
        return model
    width, look = width or kit.between(0.2, 0.45), Look(kit.variant("books", 4))
    first = width * kit.pick((0.4, 0.55, 0.7))
    for span, y, height in (
        (first, -(width - first) / 2, kit.between(0.22, 0.27)),
        (width - first, first / 2, kit.between(0.18, 0.24)),
    ):
        model.box(look, (kit.between(0.15, 0.19), span - 0.002, height), (0, y, 0))
    return model


@FURNITURE.register("teddy bear")
def teddy_bear(kit: Kit) -> Model:
    """Sitting bear."""
    model, fur = (
        Model(),
        Look("fur", kit.pick(((0.66, 0.45, 0.26), (0.82, 0.68, 0.5), (0.5, 0.35, 0.24), (0.85, 0.75, 0.78)))),
    )
    pale = Look("fur", shade(fur.rgb, 1.3))
    model.ball(fur, 0.095, (0, 0, 0.0), 10, 1.15)
    model.ball(fur, 0.078, (0.01, 0, 0.19), 10)
    model.ball(pale, 0.034, (0.075, 0, 0.225), 8)
    model.ball(Look("gloss", BLACK), 0.012, (0.104, 0, 0.262), 6)
    for side in (-1, 1):
        model.ball(fur, 0.03, (0.0, side * 0.062, 0.315), 6)
        model.ball(fur, 0.04, (0.1, side * 0.075, 0.0), 8)
        model.ball(fur, 0.034, (0.045, side * 0.098, 0.1), 8)
        model.ball(Look("gloss", BLACK), 0.009, (0.078, side * 0.03, 0.285), 6)
    return model


@FURNITURE.register("basketball")
def basketball(kit: Kit) -> Model:
    """Size 7 ball."""
    model = Model()
    ball = turned(sphere(0.12, segments=16), rotation("x", kit.between(0, 90)), (0, 0, 0.12))
    model.add(Look("basketball"), ball)
    return model


@FURNITURE.register("guitar")
def guitar(kit: Kit) -> Model:
    """Acoustic guitar on a stand, leaning back."""
    model, wood = Model(), Look("wood", kit.pick(((0.85, 0.6, 0.32), (0.6, 0.3, 0.16), (0.2, 0.17, 0.15))))
    outline = [
        (0.0, -0.2),
        (0.12, -0.185),
        (0.18, -0.1),
        (0.17, -0.02),
        (0.115, 0.05),
        (0.135, 0.13),
        (0.1, 0.2),
        (0.0, 0.22),
        (-0.1, 0.2),
        (-0.135, 0.13),
        (-0.115, 0.05),
        (-0.17, -0.02),
        (-0.18, -0.1),
        (-0.12, -0.185),
    ]
    upright = rotation("z", 90) @ rotation("x", 90)
    lean, foot = rotation("y", -12), (0, 0, 0.0)
    body = turned(prism(outline, 0.09, (0, 0, -0.045)), upright)
    body.vertices[:, 2] += 0.27
    model.add(wood, body, lean, foot)
    hole = turned(cylinder(0.045, 0.008, segments=12), rotation("y", 90))
    hole.vertices[:] += (0.042, 0, 0.34)
    model.add(Look("plain", (0.08, 0.06, 0.05)), hole, lean, foot)
    dark = Look("wood", (0.25, 0.17, 0.12))
    model.box(dark, (0.03, 0.05, 0.46), (0.036, 0, 0.44), lean, foot)
    model.box(dark, (0.022, 0.07, 0.14), (0.034, 0, 0.89), lean, foot)
    model.box(dark, (0.012, 0.1, 0.02), (0.046, 0, 0.17), lean, foot)
    for y in (-0.1, 0.1):
        model.box(Look("metal", BLACK), (0.3, 0.018, 0.018), (-0.05, y, 0.0))
        model.box(Look("metal", BLACK), (0.018, 0.017, 0.3), (-0.15, y, 0.01))
    return model


@FURNITURE.register("backpack")
def backpack(kit: Kit) -> Model:
    """Standing school bag."""
    model, cloth = Model(), Look("weave", kit.pick((kit.accent(), (0.2, 0.25, 0.4), (0.3, 0.33, 0.3))))
    dark = Look("weave", shade(cloth.rgb, 0.7))
    model.soft(cloth, (0.18, 0.3, 0.42), (0, 0, 0), 0.06, 0.2)
    model.soft(dark, (0.08, 0.24, 0.2), (0.09, 0, 0.03), 0.03, 0.2)
    model.box(Look("metal", STEEL), (0.012, 0.2, 0.01), (0.129, 0, 0.19))
    for y in (-0.08, 0.08):
        model.box(dark, (0.02, 0.045, 0.34), (-0.095, y, 0.04))
    model.box(dark, (0.02, 0.1, 0.025), (-0.02, 0, 0.415))
    return model


@FURNITURE.register("suitcase")
def suitcase(kit: Kit) -> Model:
    """Trolley case."""
    model, skin = Model(), Look("satin", kit.pick((kit.accent(), (0.25, 0.27, 0.3))))
    model.soft(skin, (0.24, 0.4, 0.55), (0, 0, 0.05), 0.04, 0.0)
    for x in (-0.08, 0.08):
        for y in (-0.14, 0.14):
            model.ball(Look("satin", BLACK), 0.026, (x, y, 0), 6)
    for y in (-0.08, 0.08):
        model.box(Look("metal", STEEL), (0.014, 0.014, 0.3), (-0.09, y, 0.59))
    model.box(Look("satin", BLACK), (0.022, 0.19, 0.025), (-0.09, 0, 0.886))
    return model


@FURNITURE.register("piano")
def piano(kit: Kit) -> Model:
    """Upright piano with its keys."""
    model, case = Model(), kit.pick((Look("gloss", BLACK), kit.wood()))
    model.box(case, (0.32, 1.45, 1.15), (-0.14, 0, 0))
    model.box(case, (0.36, 1.49, 0.03), (-0.135, 0, 1.146))
    model.box(case, (0.34, 1.44, 0.05), (0.14, 0, 0.6))
    for y in (-0.68, 0.68):
        model.box(case, (0.06, 0.07, 0.604), (0.26, y, 0))
        model.box(case, (0.3, 0.05, 0.1), (0.14, y, 0.64))
    model.box(Look("plain", (0.95, 0.94, 0.9)), (0.14, 1.3, 0.02), (0.2, 0, 0.646))
    for key in range(25):
        if key % 7 not in (2, 6):
            model.box(Look("satin", BLACK), (0.08, 0.022, 0.016), (0.165, -0.62 + key * 0.0517, 0.66))
    model.surface((0.26, 1.3), 1.176, (-0.14, 0))
    return model


@FURNITURE.register("toy blocks")
def toy_blocks(kit: Kit) -> Model:
    """A small tower of coloured blocks."""
    model, side = Model(), 0.07
    colours = [(0.85, 0.2, 0.16), (0.15, 0.4, 0.8), (0.95, 0.78, 0.15), (0.2, 0.62, 0.3)]
    order = kit.rng.permutation(4)
    for index, (x, y, level) in enumerate(((0, -0.045, 0), (0, 0.045, 0), (0.0, 0.0, 1), (0.09, -0.02, 0))):
        red, green, blue = colours[int(order[index])]
        model.box(
            Look("satin", (red, green, blue)),
            (side, side, side),
            (x, y, level * (side + 0.0005)),
            rotation("z", kit.between(-8, 8)),
            (x, y, 0),
        )
    return model
