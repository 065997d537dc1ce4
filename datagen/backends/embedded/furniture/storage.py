"""Shelves, racks, boxes and bins."""

from __future__ import annotations

from math import cos, pi, sin

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.furniture.tables import kit_front
from datagen.backends.embedded.meshes import rotation
from datagen.backends.embedded.style import BLACK, STEEL, WHITE, Kit, Look, shade


@FURNITURE.register("bookshelf")
def bookshelf(kit: Kit) -> Model:
    """Open case with shelves; books and boxes go on its "shelf" surfaces."""
    model, wood = Model(), kit.board()
    width, depth = kit.between(0.7, 1.0), kit.between(0.28, 0.34)
    rows = kit.pick((3, 5, 5, 6))
    height = 0.1 + rows * 0.34
    for y in (-width / 2 + 0.011, width / 2 - 0.011):
        model.box(wood, (depth, 0.022, height - 0.018), (0, y, 0))
    model.box(wood, (0.012, width - 0.036, height - 0.01), (-depth / 2 + 0.012, 0, 0.005))
    for z in (0.06 + row * 0.34 for row in range(rows)):
        model.box(wood, (depth - 0.012, width - 0.036, 0.022), (0.001, 0, z))
        model.surface((depth - 0.06, width - 0.06), z + 0.022, (0.01, 0), 0.30, "shelf")
    model.box(wood, (depth + 0.01, width + 0.01, 0.022), (0.004, 0, height - 0.022))
    model.box(wood, (0.02, width - 0.036, 0.065), (depth / 2 - 0.03, 0, 0.0))
    model.surface((depth - 0.05, width - 0.06), height, use="top" if height < 1.3 else "high", headroom=0.4)
    return model


@FURNITURE.register("tv stand")
def tv_stand(kit: Kit, width: float = 0.0) -> Model:
    """Low cabinet with an open bay between two doors."""
    model, wood = Model(), kit.board()
    width, depth, height = width or kit.between(1.2, 1.7), kit.between(0.38, 0.44), kit.between(0.42, 0.52)
    foot, front = 0.09, kit_front(wood)
    model.legs(kit.pick((wood, kit.metal())), (depth, width), foot, 0.05, 0.04)
    model.box(wood, (depth, width, 0.025), (0, 0, height - 0.025))
    model.box(wood, (depth - 0.012, width - 0.01, 0.025), (0, 0, foot))
    model.box(wood, (0.012, width - 0.02, height - foot - 0.03), (-depth / 2 + 0.014, 0, foot + 0.01))
    bay = width / 3
    for side in (-1, 1):
        y = side * (width - bay) / 2
        model.box(wood, (depth - 0.03, bay - 0.02, height - foot - 0.04), (0.0, y, foot + 0.02))
        model.box(front, (0.02, bay - 0.03, height - foot - 0.07), (depth / 2 - 0.019, y, foot + 0.035))
        model.box(kit.metal(), (0.018, 0.012, 0.1), (depth / 2 - 0.006, y - side * (bay / 2 - 0.05), foot + 0.13))
    model.surface((depth - 0.06, width - 0.06), height, headroom=1.2)
    model.surface((depth - 0.14, bay - 0.1), foot + 0.025, (0.02, 0), height - foot - 0.08, "shelf")
    return model


@FURNITURE.register("cabinet")
def cabinet(kit: Kit) -> Model:
    """Sideboard with doors and a row of drawers."""
    model, wood = Model(), kit.board()
    width, depth, height = kit.between(1.0, 1.4), kit.between(0.4, 0.46), kit.between(0.78, 0.88)
    model.legs(wood, (depth, width), 0.12, 0.05, 0.03)
    model.box(wood, (depth - 0.03, width - 0.02, height - 0.14), (-0.012, 0, 0.12))
    model.box(wood, (depth, width, 0.025), (0, 0, height - 0.025))
    cell, handle = (width - 0.04) / 3, kit.metal()
    for column in range(3):
        y = (column - 1) * cell
        model.box(kit_front(wood), (0.02, cell - 0.012, 0.15), (depth / 2 - 0.028, y, height - 0.19))
        model.box(handle, (0.02, 0.1, 0.012), (depth / 2 - 0.012, y, height - 0.11))
        model.box(Look("panel", kit_front(wood).rgb), (0.02, cell - 0.012, height - 0.37), (depth / 2 - 0.028, y, 0.16))
    model.surface((depth - 0.05, width - 0.06), height)
    return model


@FURNITURE.register("shoe rack")
def shoe_rack(kit: Kit) -> Model:
    """Low slatted rack with pairs of shoes."""
    model, wood = Model(), kit.wood()
    width, depth = kit.between(0.65, 0.85), 0.3
    for y in (-width / 2 + 0.012, width / 2 - 0.012):
        model.box(wood, (depth, 0.024, 0.5), (0, y, 0))
    for level in (0.08, 0.28, 0.48):
        for x in (-0.1, 0.0, 0.1):
            model.box(wood, (0.06, width - 0.04, 0.016), (x, 0, level))
    for level in (0.096, 0.296):
        pairs = int((width - 0.15) / 0.24)
        for pair in range(pairs):
            leather = Look("leather", kit.pick(((0.16, 0.13, 0.12), (0.45, 0.28, 0.17), (0.9, 0.9, 0.9), kit.accent())))
            for side in (-0.045, 0.045):
                y = (pair - (pairs - 1) / 2) * 0.24 + side
                model.soft(leather, (0.25, 0.085, 0.055), (0.01, y, level + 0.0005), 0.03)
                model.soft(leather, (0.1, 0.075, 0.06), (-0.06, y, level + 0.03), 0.03)
    model.surface((depth - 0.08, width - 0.1), 0.496)
    return model


@FURNITURE.register("coat rack")
def coat_rack(kit: Kit) -> Model:
    """Standing pole with hooks, perhaps with a coat."""
    model, wood = Model(), kit.pick((kit.wood(), kit.metal()))
    model.rod(wood, 0.2, 0.025, top=0.17, segments=14)
    model.rod(wood, 0.022, 1.73, (0, 0, 0.02))
    model.ball(wood, 0.035, (0, 0, 1.735), 8)
    for hook in range(4):
        model.box(
            wood,
            (0.16, 0.022, 0.022),
            (0.08, 0, 1.6 + 0.001 * hook),
            rotation("z", 45 + 90 * hook) @ rotation("y", -35),
            (0, 0, 1.6),
        )
    if kit.chance(0.7):
        cloth = Look("tweed", kit.pick((kit.accent(), (0.2, 0.22, 0.27), (0.55, 0.45, 0.33))))
        model.lathe(
            cloth,
            [(0, 0.72), (0.15, 0.72), (0.13, 1.1), (0.12, 1.45), (0.05, 1.58), (0, 1.585)],
            segments=10,
            smooth=False,
        )
    return model


@FURNITURE.register("laundry basket")
def laundry_basket(kit: Kit) -> Model:
    """Tall wicker basket with a lid."""
    model, wicker = Model(), Look("wicker", kit.pick(((0.78, 0.6, 0.4), (0.92, 0.88, 0.8), (0.5, 0.37, 0.26))))
    height = kit.between(0.48, 0.6)
    if kit.chance(0.5):
        model.rod(wicker, 0.18, height, top=0.22, segments=14)
        model.rod(Look("wicker", shade(wicker.rgb, 0.9)), 0.228, 0.04, (0, 0, height - 0.02), segments=14)
    else:
        model.box(wicker, (0.32, 0.42, height))
        model.box(Look("wicker", shade(wicker.rgb, 0.9)), (0.34, 0.44, 0.035), (0, 0, height - 0.01))
    return model


@FURNITURE.register("trash bin")
def trash_bin(kit: Kit) -> Model:
    """Open paper bin or pedal bin."""
    model, colour = Model(), kit.pick((BLACK, STEEL, WHITE, kit.accent()))
    if kit.chance(0.5):
        skin = Look("satin", colour)
        model.lathe(skin, [(0, 0), (0.11, 0), (0.145, 0.32), (0.137, 0.32), (0.104, 0.012), (0, 0.012)], segments=14)
        return model
    model.rod(Look("metal", colour), 0.135, 0.4, segments=14)
    model.lathe(
        Look("satin", (0.15, 0.15, 0.16)),
        [(0, 0), (0.142, 0), (0.142, 0.03), (0.1, 0.07), (0, 0.085)],
        (0, 0, 0.396),
        14,
    )
    model.box(Look("satin", (0.15, 0.15, 0.16)), (0.1, 0.08, 0.015), (0.15, 0, 0.012))
    return model


@FURNITURE.register("box")
def box(kit: Kit) -> Model:
    """Cardboard box or fabric storage box with a lid."""
    model = Model()
    depth, width, height = kit.between(0.28, 0.42), kit.between(0.32, 0.5), kit.between(0.2, 0.36)
    if kit.chance(0.6):
        model.box(Look(kit.variant("cardboard", 2)), (depth, width, height))
        return model
    cloth = kit.textile()
    model.box(cloth, (depth - 0.02, width - 0.02, height - 0.01))
    model.box(Look(cloth.finish, shade(cloth.rgb, 0.85)), (depth, width, 0.05), (0, 0, height - 0.05))
    return model


@FURNITURE.register("basket")
def basket(kit: Kit) -> Model:
    """Open basket with rolled towels or toys."""
    model, wicker = Model(), Look("wicker", kit.pick(((0.78, 0.6, 0.4), (0.55, 0.42, 0.3))))
    radius = kit.between(0.17, 0.22)
    model.lathe(
        wicker,
        [(0, 0), (radius * 0.85, 0), (radius, 0.24), (radius - 0.015, 0.24), (radius * 0.83, 0.03), (0, 0.03)],
        segments=14,
    )
    for index in range(3):
        angle = 2 * pi * index / 3 + 0.4
        model.ball(
            Look("towel", kit.pick((WHITE, kit.accent()))),
            radius * 0.38,
            (0.42 * radius * cos(angle), 0.42 * radius * sin(angle), 0.13),
            8,
        )
    return model
