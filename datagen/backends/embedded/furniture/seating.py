"""Things to sit on. Sizes follow common retail ranges: seats 0.42-0.48 m high, sofas 1.5-2.3 m wide."""

from __future__ import annotations

from math import cos, pi, sin

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.meshes import rotation
from datagen.backends.embedded.style import BLACK, STEEL, Kit, Look, shade


@FURNITURE.register("chair")
def chair(kit: Kit) -> Model:
    """Four legs, a seat and a leaning back: slatted, panelled or upholstered."""
    model, wood = Model(), kit.board()
    side, seat = kit.between(0.40, 0.45), kit.between(0.43, 0.47)
    back = kit.between(0.80, 0.95)
    kind = kit.pick(("slats", "panel", "rails", "soft"))
    model.legs(wood, (side, side), seat - 0.04, 0.036, 0.015)
    model.box(wood, (side, side, 0.035), (0, 0, seat - 0.04))
    lean, hinge = rotation("y", -8), (-side / 2, 0, seat)
    height, x = back - seat, -side / 2 + 0.02
    if kind == "soft":
        cloth = kit.cloth()
        model.soft(cloth, (side - 0.02, side - 0.02, 0.05), (0.005, 0, seat - 0.009), 0.025)
        model.soft(cloth, (0.05, side - 0.03, height), (x, 0, seat - 0.02), 0.03, turn=lean, pivot=hinge)
        return model
    for y in (-side / 2 + 0.025, side / 2 - 0.025):
        model.box(wood, (0.03, 0.032, height), (x, y, seat - 0.008), lean, hinge)
    inner = side - 0.07
    if kind == "panel":
        model.box(wood, (0.018, inner, height - 0.12), (x, 0, seat + 0.1), lean, hinge)
    elif kind == "rails":
        for share in (0.4, 0.65, 0.88):
            model.box(wood, (0.018, inner, 0.05), (x, 0, seat + share * height - 0.025), lean, hinge)
    else:
        model.box(wood, (0.022, inner, 0.06), (x, 0, back - 0.075), lean, hinge)
        for share in (-0.33, -0.11, 0.11, 0.33):
            model.box(wood, (0.014, 0.022, height - 0.08), (x, share * inner, seat - 0.006), lean, hinge)
    if kit.chance(0.3):
        model.soft(kit.textile(), (side - 0.06, side - 0.06, 0.03), (0.01, 0, seat - 0.008), 0.015)
    return model


@FURNITURE.register("stool")
def stool(kit: Kit, height: float = 0.0) -> Model:
    """Round or square stool; bar stools are 0.65 m high."""
    model, wood = Model(), kit.board()
    seat, side = height or kit.between(0.42, 0.48), kit.between(0.30, 0.36)
    if kit.chance(0.5):
        model.rod(wood, side / 2, 0.04, (0, 0, seat - 0.04), segments=14)
        for corner in range(4):
            angle = pi / 4 + corner * pi / 2
            model.rod(wood, 0.014, seat - 0.036, (0.36 * side * cos(angle), 0.36 * side * sin(angle), 0), top=0.018)
    else:
        model.legs(wood, (side, side), seat - 0.05, 0.035, 0.01)
        model.soft(kit.cloth(), (side, side, 0.06), (0, 0, seat - 0.06), 0.02)
    return model


@FURNITURE.register("bench")
def bench(kit: Kit, width: float = 0.0) -> Model:
    """Hall or dining bench, sometimes upholstered."""
    model, wood = Model(), kit.wood()
    width, depth, seat = width or kit.between(0.9, 1.3), kit.between(0.34, 0.40), 0.45
    model.box(wood, (depth, width, 0.045), (0, 0, seat - 0.045))
    for y in (-width / 2 + 0.12, width / 2 - 0.12):
        model.box(wood, (depth - 0.05, 0.05, seat - 0.041), (0, y, 0))
    model.box(wood, (0.03, width - 0.28, 0.07), (0, 0, 0.15))
    if kit.chance(0.5):
        model.soft(kit.cloth(), (depth - 0.03, width - 0.03, 0.05), (0, 0, seat - 0.006), 0.025)
    return model


def _feet(model: Model, kit: Kit, depth: float, width: float, height: float) -> None:
    """Four short tapered feet."""
    model.legs(kit.pick((kit.wood(), kit.metal())), (depth, width), height, 0.05, 0.05, round_=True)


def _couch(kit: Kit, width: float, depth: float, seats: int) -> Model:
    """Base, seat cushions, back cushions and arms: the body of sofas and armchairs."""
    model, cloth = Model(), kit.cloth()
    foot, base, seat = kit.between(0.06, 0.14), 0.30, kit.between(0.42, 0.46)
    arm, arm_top, back_top = kit.between(0.12, 0.2), kit.between(0.55, 0.64), kit.between(0.76, 0.88)
    _feet(model, kit, depth, width, foot)
    model.soft(cloth, (depth - 0.012, width - 0.02, base - foot), (0, 0, foot), 0.03, 0.05)
    model.soft(
        cloth, (0.2, width - 0.03, back_top - 0.06 - base + 0.05), (-depth / 2 + 0.107, 0, base - 0.05), 0.05, 0.1
    )
    for y in (-(width - arm) / 2, (width - arm) / 2):
        model.soft(cloth, (depth - 0.02, arm, arm_top - base + 0.05), (0.006, y, base - 0.05), 0.05, 0.1)
    pad = (width - 2 * arm - 0.012) / seats
    pale = Look(cloth.finish, shade(cloth.rgb, 1.06))
    for index in range(seats):
        y = (index - (seats - 1) / 2) * pad
        model.soft(pale, (depth - 0.2, pad - 0.012, seat - base + 0.03), (0.105, y, base - 0.03), 0.05, 0.35)
        model.soft(
            pale,
            (0.16, pad - 0.02, back_top - seat),
            (-depth / 2 + 0.27, y, seat - 0.02),
            0.06,
            0.4,
            rotation("y", -9),
            (-depth / 2 + 0.27, 0, seat),
        )
        model.surface((0.26, pad - 0.1), seat, (0.06, y), use="seat")
    return model


@FURNITURE.register("sofa")
def sofa(kit: Kit, width: float = 0.0) -> Model:
    """Two or three seats."""
    width = width or kit.pick((1.55, 1.75, 1.95, 2.15))
    return _couch(kit, width, kit.between(0.84, 0.95), 3 if width > 1.9 else 2)


@FURNITURE.register("armchair")
def armchair(kit: Kit) -> Model:
    """One padded seat, or a wooden-armed lounge chair."""
    if kit.chance(0.6):
        return _couch(kit, kit.between(0.78, 0.92), kit.between(0.78, 0.88), 1)
    model, wood, cloth = Model(), kit.wood(), kit.cloth()
    width, depth = kit.between(0.66, 0.74), kit.between(0.70, 0.78)
    for y in (-width / 2 + 0.025, width / 2 - 0.025):
        model.box(wood, (0.05, 0.045, 0.56), (depth / 2 - 0.06, y, 0))
        model.box(wood, (0.05, 0.045, 0.56), (-depth / 2 + 0.08, y, 0))
        model.box(wood, (depth - 0.02, 0.055, 0.03), (0, y, 0.556))
    for x in (depth / 2 - 0.06, -depth / 2 + 0.08):
        model.box(wood, (0.035, width - 0.07, 0.06), (x, 0, 0.26))
    model.soft(cloth, (depth - 0.12, width - 0.12, 0.14), (0.02, 0, 0.315), 0.05)
    model.soft(
        cloth,
        (0.14, width - 0.13, 0.5),
        (-depth / 2 + 0.14, 0, 0.42),
        0.06,
        0.4,
        rotation("y", -12),
        (-depth / 2 + 0.14, 0, 0.4),
    )
    model.surface((0.2, width - 0.35), 0.455, (0.12, 0), use="seat")
    return model


@FURNITURE.register("office chair")
def office_chair(kit: Kit) -> Model:
    """Five-star base on castors, gas column, seat, back and arms."""
    model = Model()
    cloth = Look(kit.pick(("weave", "leather")), kit.pick((BLACK, (0.35, 0.36, 0.38), kit.accent())))
    black, steel = Look("satin", (0.14, 0.14, 0.15)), Look("metal", STEEL)
    for spoke in range(5):
        turn = rotation("z", 72 * spoke)
        model.box(black, (0.27, 0.045, 0.03), (0.145, 0, 0.06 + 0.0004 * spoke), turn)
        model.ball(black, 0.027, (0.265 * cos(2 * pi * spoke / 5), 0.265 * sin(2 * pi * spoke / 5), 0.001), 6)
    model.rod(steel, 0.028, 0.34, (0, 0, 0.075))
    model.soft(cloth, (0.46, 0.48, 0.09), (0.02, 0, 0.41), 0.04, 0.3)
    model.box(black, (0.05, 0.08, 0.34), (-0.24, 0, 0.43), rotation("y", -6), (-0.235, 0, 0.43))
    model.soft(
        cloth,
        (0.07, 0.44, kit.between(0.42, 0.58)),
        (-0.225, 0, 0.55),
        0.035,
        0.3,
        rotation("y", -6),
        (-0.235, 0, 0.43),
    )
    if kit.chance(0.7):
        for y in (-0.262, 0.262):
            model.box(black, (0.04, 0.025, 0.23), (0, y, 0.44))
            model.box(black, (0.24, 0.05, 0.025), (0.02, y, 0.664))
        model.box(black, (0.05, 0.53, 0.02), (0, 0, 0.423))
    return model


@FURNITURE.register("ottoman")
def ottoman(kit: Kit) -> Model:
    """Footstool: a padded cube or a round pouf."""
    model = Model()
    if kit.chance(0.5):
        model.lathe(
            Look("weave", kit.accent()),
            [(0, 0), (0.2, 0), (0.27, 0.08), (0.28, 0.2), (0.22, 0.34), (0, 0.37)],
            (0, 0, 0),
            14,
            True,
        )
        return model
    side, cloth = kit.between(0.45, 0.6), kit.cloth()
    _feet(model, kit, side, side, 0.08)
    model.soft(cloth, (side, side, 0.34), (0, 0, 0.08), 0.05, 0.25)
    return model
