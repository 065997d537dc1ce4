"""The kitchen run and its machines. Worktops are 0.9 m high and 0.6 m deep; modules stand side by side."""

from __future__ import annotations

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.furniture.tables import kit_front
from datagen.backends.embedded.meshes import box
from datagen.backends.embedded.style import BLACK, STEEL, WHITE, Kit, Look

HEIGHT, DEPTH, TOP = 0.90, 0.60, 0.035
OVERHANG = 0.3  # of an island's worktop


class KitchenLook:
    """What all modules of one kitchen share: fronts, worktop and handles."""

    def __init__(self, kit: Kit) -> None:
        self.front = kit.pick(
            (Look("satin", kit.style.cabinet), Look("panel", kit.style.cabinet), kit.wood(), Look("gloss", WHITE))
        )
        self.top = kit.pick(
            (Look("granite", (0.35, 0.35, 0.37)), Look("marble"), kit.wood(), Look("granite", (0.9, 0.88, 0.85)))
        )
        self.handle = kit.metal()
        self.steel = kit.pick((Look("metal", STEEL), Look("metal", STEEL), Look("gloss", WHITE), Look("gloss", BLACK)))


def _carcass(model: Model, look: KitchenLook, width: float, height: float = HEIGHT - TOP) -> None:
    """Plinth and body of a base cabinet."""
    model.box(Look("plain", (0.16, 0.16, 0.17)), (DEPTH - 0.09, width - 0.004, 0.104), (-0.04, 0, 0))
    model.box(
        Look(look.front.finish if look.front.finish != "panel" else "satin", look.front.rgb),
        (DEPTH - 0.04, width - 0.002, height - 0.1),
        (-0.015, 0, 0.1),
    )


def _fronts(model: Model, look: KitchenLook, width: float, kit: Kit) -> None:
    """The front of a base cabinet: columns of drawers or doors, one up to 1.1 m and more for the long cabinets."""
    columns = 1 if width <= 1.1 else round(width / 0.7)
    for column in range(columns):
        y = (column - (columns - 1) / 2) * width / columns
        _doors(model, look, width / columns, 0.115, HEIGHT - TOP - 0.015, kit.chance(0.4), y)


def _doors(
    model: Model, look: KitchenLook, width: float, low: float, high: float, drawers: bool, middle: float = 0.0
) -> None:
    """A column of drawers or one or two doors on the front, around ``middle`` along it."""
    x = DEPTH / 2 - 0.03
    if drawers:
        step = (high - low) / 3
        for level in range(3):
            model.box(kit_front(look.front), (0.022, width - 0.012, step - 0.01), (x, middle, low + level * step))
            model.box(
                look.handle,
                (0.025, min(0.2, width * 0.4), 0.014),
                (x + 0.02, middle, low + (level + 1) * step - 0.06),
            )
        return
    leaves = 2 if width > 0.55 else 1
    for leaf in range(leaves):
        cell = width / leaves
        y = middle + (leaf - (leaves - 1) / 2) * cell
        model.box(kit_front(look.front), (0.022, cell - 0.01, high - low), (x, y, low))
        side = 1 if leaf == 0 and leaves == 2 else -1
        model.box(look.handle, (0.025, 0.014, 0.16), (x + 0.02, y + side * (cell / 2 - 0.05), high - 0.24))


@FURNITURE.register("kitchen counter")
def kitchen_counter(kit: Kit, look: KitchenLook | None = None, width: float = 0.6) -> Model:
    """Base cabinet with a worktop."""
    model, look = Model(), look or KitchenLook(kit)
    _carcass(model, look, width)
    _fronts(model, look, width, kit)
    model.box(look.top, (DEPTH, width, TOP), (0, 0, HEIGHT - TOP - 0.004))
    model.surface((DEPTH - 0.16, width - 0.04), HEIGHT - 0.004, (-0.03, 0), 0.5)
    return model


@FURNITURE.register("kitchen island")
def kitchen_island(kit: Kit, look: KitchenLook | None = None, width: float = 1.5) -> Model:
    """Base cabinet that stands free; its worktop reaches 0.3 m beyond the back (x < 0), for stools to stand under."""
    model, look = Model(), look or KitchenLook(kit)
    _carcass(model, look, width - 0.04)
    _fronts(model, look, width - 0.04, kit)
    model.box(look.top, (DEPTH + OVERHANG, width, TOP), (-OVERHANG / 2, 0, HEIGHT - TOP - 0.004))
    model.surface((DEPTH + OVERHANG - 0.1, width - 0.1), HEIGHT - 0.004, (-OVERHANG / 2, 0), 0.5)
    return model


@FURNITURE.register("sink")
def sink(kit: Kit, look: KitchenLook | None = None, width: float = 0.8) -> Model:
    """Base cabinet whose worktop has a steel basin and a tap."""
    model, look = Model(), look or KitchenLook(kit)
    _carcass(model, look, width, HEIGHT - TOP - 0.16)
    _doors(model, look, width, 0.115, HEIGHT - TOP - 0.015, False)
    steel, z = Look("metal", STEEL), HEIGHT - TOP - 0.004
    basin = (0.38, min(0.5, width - 0.16))
    rim = (DEPTH - basin[0]) / 2
    for x in (-(DEPTH - rim) / 2, (DEPTH - rim) / 2):
        model.box(look.top, (rim, width, TOP), (x, 0, z))
    side = (width - basin[1]) / 2
    for y in (-(width - side) / 2, (width - side) / 2):
        model.add(look.top, box((basin[0], side, TOP), (0, y, z), skip=("+x", "-x")))
    back = Look(look.front.finish if look.front.finish != "panel" else "satin", look.front.rgb)
    for x in (-DEPTH / 2 + 0.016, DEPTH / 2 - 0.045):
        model.box(back, (0.02, width - 0.006, 0.17), (x, 0, z - 0.168))
    for y in (-width / 2 + 0.011, width / 2 - 0.011):
        model.box(back, (DEPTH - 0.075, 0.018, 0.168), (-0.015, y, z - 0.166))
    model.box(steel, (basin[0] + 0.02, basin[1] + 0.02, 0.01), (0, 0, z - 0.135))
    for x in (-basin[0] / 2 - 0.005, basin[0] / 2 + 0.005):
        model.box(steel, (0.016, basin[1] + 0.03, 0.16), (x, 0, z - 0.13))
    for y in (-basin[1] / 2 - 0.005, basin[1] / 2 + 0.005):
        model.box(steel, (basin[0] + 0.01, 0.016, 0.158), (0, y, z - 0.129))
    model.rod(steel, 0.016, 0.24, (-0.235, 0, HEIGHT - 0.008))
    model.rod(steel, 0.012, 0.2, (-0.24, 0, HEIGHT + 0.22), "x")
    model.rod(steel, 0.011, 0.05, (-0.05, 0, HEIGHT + 0.178))
    model.surface((0.3, side - 0.05), HEIGHT - 0.004, (0.02, (width - side) / 2), 0.5)
    return model


@FURNITURE.register("stove")
def stove(kit: Kit, look: KitchenLook | None = None, width: float = 0.6) -> Model:
    """Cooker: oven below, hob on top."""
    model, look = Model(), look or KitchenLook(kit)
    model.box(Look("plain", (0.16, 0.16, 0.17)), (DEPTH - 0.09, width - 0.01, 0.104), (-0.04, 0, 0))
    model.box(look.steel, (DEPTH - 0.03, width - 0.004, HEIGHT - 0.125), (-0.012, 0, 0.1))
    model.box(Look("oven", look.steel.rgb), (0.022, width - 0.014, HEIGHT - 0.16), (DEPTH / 2 - 0.03, 0, 0.12))
    model.rod(Look("metal", STEEL), 0.011, width * 0.7, (DEPTH / 2 + 0.005, -width * 0.35, HEIGHT - 0.245), "y")
    for y in (-width * 0.3, width * 0.3):
        model.box(Look("metal", STEEL), (0.03, 0.02, 0.02), (DEPTH / 2 - 0.012, y, HEIGHT - 0.255))
    model.box(look.steel, (DEPTH - 0.01, width - 0.002, 0.03), (0, 0, HEIGHT - 0.034))
    model.box(Look("hob"), (DEPTH - 0.06, width - 0.04, 0.012), (0, 0, HEIGHT - 0.007))
    model.surface((0.52, width - 0.06), HEIGHT + 0.005, (0.0, 0), 0.45, "hob")
    return model


@FURNITURE.register("dishwasher")
def dishwasher(kit: Kit, look: KitchenLook | None = None, width: float = 0.6) -> Model:
    """Built under the worktop; a steel front with a control strip."""
    model, look = Model(), look or KitchenLook(kit)
    _carcass(model, look, width)
    x = DEPTH / 2 - 0.03
    model.box(look.steel, (0.024, width - 0.012, 0.62), (x, 0, 0.115))
    model.box(Look("satin", (0.2, 0.2, 0.21)), (0.024, width - 0.012, 0.105), (x, 0, 0.742))
    model.rod(Look("metal", STEEL), 0.01, width * 0.7, (x + 0.03, -width * 0.35, 0.69), "y")
    for y in (-width * 0.3, width * 0.3):
        model.box(Look("metal", STEEL), (0.03, 0.02, 0.018), (x + 0.02, y, 0.681))
    model.box(look.top, (DEPTH, width, TOP), (0, 0, HEIGHT - TOP - 0.004))
    model.surface((DEPTH - 0.16, width - 0.04), HEIGHT - 0.004, (-0.03, 0), 0.5)
    return model


@FURNITURE.register("fridge")
def fridge(kit: Kit, look: KitchenLook | None = None) -> Model:
    """Fridge over freezer, or the other way round."""
    model, look = Model(), look or KitchenLook(kit)
    width, height, depth = kit.between(0.6, 0.7), kit.between(1.65, 1.9), 0.64
    skin = kit.pick((look.steel, Look("gloss", WHITE), Look("gloss", kit.accent()), Look("metal", STEEL)))
    model.box(skin, (depth - 0.06, width, height - 0.02), (-0.03, 0, 0.02))
    model.box(Look("plain", BLACK), (depth - 0.1, width - 0.06, 0.03), (-0.03, 0, 0))
    split = height * kit.pick((0.36, 0.68))
    for low, high in ((0.05, split - 0.006), (split + 0.006, height - 0.01)):
        model.soft(skin, (0.06, width - 0.006, high - low), (depth / 2 - 0.042, 0, low), 0.015, 0.0)
        centre = high - 0.25 if low < 0.1 else low + 0.22
        model.rod(look.handle, 0.011, 0.3, (depth / 2 + 0.02, -width / 2 + 0.06, centre - 0.15))
        for z in (centre - 0.12, centre + 0.1):
            model.box(look.handle, (0.04, 0.014, 0.014), (depth / 2 + 0.002, -width / 2 + 0.06, z))
    model.surface((depth - 0.2, width - 0.1), height, (-0.05, 0), 0.4, "high")
    return model


@FURNITURE.register("wall cabinet")
def wall_cabinet(kit: Kit, look: KitchenLook | None = None, width: float = 0.6) -> Model:
    """Hangs over the worktop from 1.45 to 2.1 m; back at x = 0."""
    model, look = Model(), look or KitchenLook(kit)
    body = Look(look.front.finish if look.front.finish != "panel" else "satin", look.front.rgb)
    model.box(body, (0.32, width - 0.002, 0.65), (0.16, 0, 1.45))
    leaves = 2 if width > 0.55 else 1
    for leaf in range(leaves):
        cell = width / leaves
        y = (leaf - (leaves - 1) / 2) * cell
        model.box(kit_front(look.front), (0.02, cell - 0.01, 0.638), (0.326, y, 1.456))
        side = 1 if leaf == 0 and leaves == 2 else -1
        model.box(look.handle, (0.025, 0.014, 0.12), (0.346, y + side * (cell / 2 - 0.045), 1.5))
    return model


@FURNITURE.register("range hood")
def range_hood(kit: Kit, width: float = 0.6) -> Model:
    """Extractor over the stove; back at x = 0."""
    model, steel = (
        Model(),
        kit.pick((Look("metal", STEEL), Look("metal", STEEL), Look("gloss", BLACK), Look("gloss", WHITE))),
    )
    width -= 0.01
    model.box(steel, (0.48, width, 0.07), (0.24, 0, 1.58))
    model.box(steel, (0.3, 0.3, 0.09), (0.165, 0, 1.645))
    model.box(steel, (0.24, 0.24, 0.66), (0.13, 0, 1.73))
    return model
