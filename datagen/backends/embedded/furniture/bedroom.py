"""Beds and what stands around them. Mattresses are 0.9-1.8 m by 2 m."""

from __future__ import annotations

from datagen.backends.embedded.furniture.base import FURNITURE, Model
from datagen.backends.embedded.furniture.tables import kit_front
from datagen.backends.embedded.meshes import rotation
from datagen.backends.embedded.style import WHITE, Kit, Look, shade


@FURNITURE.register("bed")
def bed(kit: Kit, width: float = 0.0) -> Model:
    """Frame, mattress, duvet, pillows and a headboard at the back (x < 0)."""
    model, wood = Model(), kit.board()
    width = width or kit.pick((1.4, 1.6, 1.6, 1.8))
    length, rail, top = 2.02, kit.between(0.26, 0.34), kit.between(0.46, 0.56)
    head, cloth = kit.between(0.9, 1.15), kit.cloth()
    start = -length / 2 - 0.04
    soft = kit.chance(0.5)
    if soft:
        model.soft(cloth, (0.1, width + 0.1, head - 0.05), (start - 0.02, 0, 0.05), 0.04, 0.15)
    else:
        model.box(wood, (0.05, width + 0.08, head), (start, 0, 0))
        model.box(wood, (0.075, width + 0.12, 0.05), (start, 0, head - 0.01))
    frame = cloth if soft else wood
    model.box(frame, (length + 0.05, width + 0.06, rail - 0.1), (0.005, 0, 0.1))
    model.legs(wood, (length, width), 0.1, 0.07, 0.02)
    model.soft(Look("weave", WHITE), (length - 0.02, width - 0.01, top - rail + 0.02), (0.0, 0, rail - 0.02), 0.05, 0.2)
    cover = kit.pick((kit.textile(), Look("weave", kit.accent()), Look("weave", (0.9, 0.88, 0.84)), cloth))
    model.soft(
        cover, (length * 0.68, width + 0.07, top - rail + 0.08), (length * 0.16 + 0.01, 0, rail - 0.045), 0.06, 0.15
    )
    fold = Look("weave", shade(cover.rgb, 1.25))
    model.soft(fold, (0.28, width + 0.085, top - rail + 0.09), (-length * 0.18 + 0.12, 0, rail - 0.043), 0.05, 0.15)
    count = 2 if width > 1.2 else 1
    for index in range(count):
        y = (index - (count - 1) / 2) * width / 2
        model.soft(
            Look("weave", (0.96, 0.95, 0.93)),
            (0.4, min(0.68, width / count - 0.06), 0.13),
            (-length / 2 + 0.27, y, top - 0.012),
            0.06,
            0.5,
            rotation("y", 14),
            (-length / 2 + 0.27, y, top),
        )
    model.surface((0.5, width - 0.4), top + 0.036, (0.4, 0), use="seat")
    return model


def _chest(kit: Kit, depth: float, width: float, height: float, columns: int, rows: int, foot: float) -> Model:
    """A carcass with a grid of drawers."""
    model, wood = Model(), kit.board()
    handle = kit.metal()
    model.legs(wood, (depth, width), foot, 0.05, 0.03)
    model.box(wood, (depth - 0.03, width - 0.02, height - foot - 0.02), (-0.012, 0, foot))
    model.box(wood, (depth, width, 0.025), (0, 0, height - 0.025))
    cell, step = (width - 0.04) / columns, (height - foot - 0.04) / rows
    for row in range(rows):
        for column in range(columns):
            y, z = (column - (columns - 1) / 2) * cell, foot + 0.012 + row * step
            model.box(kit_front(wood), (0.02, cell - 0.012, step - 0.012), (depth / 2 - 0.028, y, z))
            model.box(handle, (0.02, min(0.14, cell * 0.4), 0.014), (depth / 2 - 0.012, y, z + step * 0.55))
    model.surface((depth - 0.04, width - 0.05), height)
    return model


@FURNITURE.register("nightstand")
def nightstand(kit: Kit) -> Model:
    """One or two drawers on short legs."""
    width = kit.between(0.4, 0.5)
    return _chest(
        kit, kit.between(0.36, 0.42), width, kit.between(0.45, 0.55), 1, kit.pick((1, 2)), kit.pick((0.05, 0.18))
    )


@FURNITURE.register("dresser")
def dresser(kit: Kit) -> Model:
    """Chest of drawers, wide or tall."""
    if kit.chance(0.6):
        return _chest(kit, kit.between(0.42, 0.5), kit.between(1.0, 1.4), kit.between(0.74, 0.85), 2, 3, 0.08)
    return _chest(kit, kit.between(0.42, 0.5), kit.between(0.7, 0.85), kit.between(1.0, 1.15), 1, 5, 0.08)


@FURNITURE.register("wardrobe")
def wardrobe(kit: Kit, width: float = 0.0) -> Model:
    """Two or three tall doors, panelled or plain, one perhaps of frosted glass."""
    model, wood = Model(), kit.board()
    doors = 2 if width and width < 1.3 else kit.pick((2, 2, 3))
    width = width or doors * kit.between(0.45, 0.52)
    depth, height = kit.between(0.55, 0.6), kit.between(1.95, 2.15)
    model.box(wood, (depth - 0.03, width - 0.02, height - 0.03), (-0.012, 0, 0))
    model.box(wood, (depth + 0.01, width, 0.035), (0, 0, height - 0.035))
    cell, handle = (width - 0.04) / doors, kit.metal()
    kind, frosted = kit.pick(("plain", "panel")), kit.chance(0.2)
    for door in range(doors):
        y = (door - (doors - 1) / 2) * cell
        look = Look("panel.pair" if kind == "panel" else wood.finish, kit_front(wood).rgb)
        if frosted and door == doors // 2:
            look = Look("glass", (0.72, 0.78, 0.82))
        model.box(look, (0.022, cell - 0.008, height - 0.15), (depth / 2 - 0.028, y, 0.09))
        side = 1 if door < doors / 2 - 0.5 or (doors == 2 and door == 0) else -1
        model.box(handle, (0.03, 0.014, 0.16), (depth / 2 - 0.008, y + side * (cell / 2 - 0.05), height * 0.48))
    model.surface((depth - 0.1, width - 0.1), height, headroom=0.35, use="high")
    return model


@FURNITURE.register("cushion")
def cushion(kit: Kit) -> Model:
    """Scatter cushion, lying back on its lower edge."""
    model, side = Model(), kit.between(0.36, 0.42)
    model.soft(kit.textile(), (0.13, side, side), (-0.02, 0, 0.0), 0.065, 0.7, rotation("y", -16), (-0.085, 0, 0))
    return model
