"""Tables and desks. Dining tables are 0.74 m high, coffee tables 0.38-0.45 m."""

from __future__ import annotations

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.style import WHITE, Kit, Look


def _plain_table(kit: Kit, depth: float, width: float, height: float, thick: float = 0.032) -> Model:
    """Rectangular top on four legs with an apron, on trestle panels, or on a metal frame."""
    model, wood = Model(), kit.wood()
    under = height - thick
    kind = kit.pick(("apron", "apron", "panels", "metal"))
    top = kit.pick((wood, wood, Look("marble", (0.95, 0.94, 0.92)))) if kind == "metal" else wood
    model.box(top, (depth, width, thick), (0, 0, under))
    if kind == "apron":
        model.legs(wood, (depth, width), under, 0.06, 0.03)
        for x in (-(depth / 2 - 0.06), depth / 2 - 0.06):
            model.box(wood, (0.022, width - 0.16, 0.085), (x, 0, under - 0.081))
        for y in (-(width / 2 - 0.06), width / 2 - 0.06):
            model.box(wood, (depth - 0.16, 0.022, 0.085), (0, y, under - 0.081))
    elif kind == "panels":
        for y in (-(width / 2 - 0.14), width / 2 - 0.14):
            model.box(wood, (depth - 0.14, 0.045, under + 0.004), (0, y, 0))
        model.box(wood, (0.035, width - 0.3, 0.1), (0, 0, under * 0.45))
    else:
        metal = kit.metal()
        model.legs(metal, (depth, width), under, 0.04, 0.025)
        for y in (-(width / 2 - 0.045), width / 2 - 0.045):
            model.box(metal, (depth - 0.12, 0.03, 0.03), (0, y, 0.05))
    model.surface((depth - 0.06, width - 0.06), height)
    return model


def _round_table(kit: Kit, radius: float, height: float) -> Model:
    """Disc on a central foot."""
    model, wood = Model(), kit.board()
    model.rod(wood, radius, 0.03, (0, 0, height - 0.03), segments=20)
    model.lathe(
        wood,
        [
            (0, 0),
            (radius * 0.55, 0),
            (radius * 0.5, 0.025),
            (0.05, 0.05),
            (0.045, height - 0.09),
            (0.12, height - 0.026),
            (0, height - 0.026),
        ],
        segments=14,
    )
    model.surface((radius * 1.3, radius * 1.3), height)
    return model


@FURNITURE.register("dining table")
def dining_table(kit: Kit, seats: int = 4) -> Model:
    """For two, four, six or eight; small ones may be round."""
    if seats <= 4 and kit.chance(0.3):
        return _round_table(kit, 0.42 if seats == 2 else 0.54, 0.74)
    width = {2: kit.between(0.75, 0.9), 4: kit.between(1.2, 1.4), 6: kit.between(1.6, 1.9), 8: 2.3}[seats]
    return _plain_table(kit, kit.between(0.78, 0.92) if seats > 2 else 0.75, width, 0.74)


@FURNITURE.register("meeting table")
def meeting_table(kit: Kit, seats: int = 4) -> Model:
    """For two or four to sit together at in an office; often round."""
    if kit.chance(0.5):
        return _round_table(kit, 0.42 if seats == 2 else 0.55, 0.74)
    return _plain_table(kit, kit.between(0.75, 0.85), 0.85 if seats == 2 else kit.between(1.2, 1.5), 0.74)


@FURNITURE.register("coffee table")
def coffee_table(kit: Kit) -> Model:
    """Low table: with a shelf, round, or plain."""
    height = kit.between(0.38, 0.45)
    kind = kit.pick(("plain", "round", "shelf"))
    if kind == "round":
        return _round_table(kit, kit.between(0.36, 0.45), height)
    depth, width = kit.between(0.5, 0.62), kit.between(0.9, 1.2)
    if kind == "plain":
        return _plain_table(kit, depth, width, height, 0.03)
    model, wood = Model(), kit.board()
    model.box(wood, (depth, width, 0.04), (0, 0, height - 0.04))
    model.legs(wood, (depth, width), height - 0.04, 0.06, 0.012)
    model.box(wood, (depth - 0.05, width - 0.05, 0.02), (0, 0, 0.12))
    model.surface((depth - 0.05, width - 0.05), height)
    model.surface((depth - 0.2, width - 0.25), 0.14, headroom=height - 0.2, use="shelf")
    return model


@FURNITURE.register("side table")
def side_table(kit: Kit) -> Model:
    """Beside a sofa: round, or a small square table."""
    height = kit.between(0.48, 0.58)
    if kit.chance(0.5):
        return _round_table(kit, kit.between(0.2, 0.26), height)
    side = kit.between(0.4, 0.48)
    return _plain_table(kit, side, side, height, 0.025)


@FURNITURE.register("desk")
def desk(kit: Kit, width: float = 0.0) -> Model:
    """Writing desk; the sitter faces its back edge (x < 0) from the front. A drawer block may stand on one side."""
    model, wood = Model(), kit.board()
    width, depth, height = width or kit.between(1.1, 1.5), kit.between(0.58, 0.68), 0.74
    under = height - 0.03
    model.box(wood, (depth, width, 0.03), (0, 0, under))
    legs = kit.pick((kit.metal(), wood, Look("satin", WHITE)))
    model.box(legs, (0.02, width - 0.2, 0.28), (-depth / 2 + 0.05, 0, under - 0.276))
    sides = [-1, 1]
    if kit.chance(0.6):
        side = kit.pick((-1, 1))
        sides.remove(side)
        y = side * (width / 2 - 0.22)
        model.box(wood, (depth - 0.05, 0.38, under + 0.004), (0, y, 0))
        for level in range(3):
            model.box(kit_front(wood), (0.018, 0.34, 0.2), (depth / 2 - 0.02, y, 0.04 + level * 0.222))
            model.box(legs, (0.015, 0.1, 0.012), (depth / 2 - 0.006, y, 0.19 + level * 0.222))
    for side in sides:
        y = side * (width / 2 - 0.05)
        for x in (-depth / 2 + 0.05, depth / 2 - 0.05):
            model.box(legs, (0.05, 0.05, under + 0.004), (x, y, 0))
    model.surface((depth - 0.08, width - 0.1), height)
    return model


def kit_front(look: Look) -> Look:
    """The same look, a little lighter: drawer fronts read against their carcass."""
    red, green, blue = look.rgb
    return Look(look.finish, (min(1.0, red * 1.08), min(1.0, green * 1.08), min(1.0, blue * 1.08)))


@FURNITURE.register("console table")
def console_table(kit: Kit) -> Model:
    """Narrow hall table with a shelf."""
    model, wood = Model(), kit.wood()
    width, depth, height = kit.between(0.8, 1.1), kit.between(0.28, 0.34), 0.8
    model.box(wood, (depth, width, 0.03), (0, 0, height - 0.03))
    model.legs(kit.pick((wood, kit.metal())), (depth, width), height - 0.03, 0.035, 0.012)
    model.box(wood, (depth - 0.04, width - 0.04, 0.02), (0, 0, 0.2))
    model.surface((depth - 0.05, width - 0.08), height)
    model.surface((depth - 0.12, width - 0.18), 0.22, headroom=0.4, use="shelf")
    return model
