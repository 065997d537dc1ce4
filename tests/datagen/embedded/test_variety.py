"""What makes homes differ: open plans where they are asked for, and what is seen through windows."""

import numpy as np
import pytest

from datagen.backends.base import SceneError
from datagen.backends.embedded.house import HouseConfig, make_house
from datagen.backends.embedded.layout import OPEN_PLAN, Layout, draw_layout, open_up
from datagen.backends.embedded.materials import material
from datagen.backends.embedded.structure import WINDOW_VIEWS
from ipt.common.seeding import derived_seed, generator
from tests.datagen.embedded.geometry import coplanar_overlaps, footprints, penetrations
from tests.datagen.embedded.test_house import doorways

KINDS = ("living room", "kitchen", "bedroom", "bathroom")


def passages(layout: Layout) -> list[float]:
    return [o.end - o.start for room in layout.rooms for o in room.openings if o.kind == "passage"]


def plan(seed: int, share: float) -> Layout:
    layout = draw_layout(generator(seed, "plan"), KINDS)
    assert layout is not None
    open_up(generator(seed, "open"), layout, share)
    return layout


def test_a_share_of_passages_become_open_plans() -> None:
    widths = {share: [max(passages(plan(seed, share)), default=0.0) for seed in range(40)] for share in (0.0, 0.5, 1.0)}
    narrow, some, wide = (np.array(widths[share]) for share in (0.0, 0.5, 1.0))
    there = narrow > 0
    assert there.sum() > 10 and narrow.max() <= 1.3
    assert (wide[there] > 1.31).mean() > 0.8 and wide.max() <= OPEN_PLAN
    assert 0.2 < (some[there] > 1.31).mean() < 0.8


@pytest.mark.parametrize("seed", range(12))
def test_both_sides_of_an_open_plan_agree_and_nothing_else_lies_in_it(seed: int) -> None:
    layout = plan(seed, 1.0)
    for room in layout.rooms:
        for opening in room.openings:
            low, high = room.span(opening.side)
            assert low < opening.start < opening.end < high
            others = [o for o in room.openings if o.side == opening.side and o is not opening]
            assert all(o.end <= opening.start or o.start >= opening.end for o in others)
            if opening.to_room is not None:
                (back,) = (o for o in layout.rooms[opening.to_room].openings if o.to_room == room.index)
                assert (back.start, back.end, back.high) == (opening.start, opening.end, opening.high)
                assert opening.high < layout.height


def test_the_setting_reaches_the_homes_and_leaves_others_as_they_are() -> None:
    def walkable(seed: int, share: float) -> float:
        scene = make_house(
            "home", derived_seed(seed, "open"), HouseConfig(2, 2, ("living room", "kitchen"), open_plans=share)
        )
        assert not penetrations(scene, footprints(scene)) and not coplanar_overlaps(scene)
        return max(float(np.ptp(outline, axis=0).max()) for outline in doorways(scene))

    assert any(walkable(seed, 1.0) > 1.5 > walkable(seed, 0.0) for seed in range(4))
    with pytest.raises(SceneError, match=r"house\.open_plans is a share, 0 to 1, got 2"):
        HouseConfig(open_plans=2)


def test_windows_show_several_skies() -> None:
    """By day it is blue at the top, in the evening red at the horizon, and under clouds grey."""
    assert len(WINDOW_VIEWS) == 6
    sky = {view: material(f"view.{view}-0").texture[:100].astype(float).mean(axis=(0, 1)) for view in WINDOW_VIEWS}
    assert sky["hills"][2] - sky["hills"][0] > 1.5 * np.ptp(sky["overcast"])
    assert sky["evening"][0] > sky["evening"][1] and sky["evening"].mean() < sky["hills"].mean() - 15
    pictures = [material(f"view.{view}-0").texture for view in WINDOW_VIEWS]
    assert all(np.abs(a.astype(int) - b).mean() > 8 for i, a in enumerate(pictures) for b in pictures[:i])


def test_mirrors_hang_only_where_they_are_wanted() -> None:
    """They reflect nothing; by default a bathroom has a cabinet over its basin instead."""

    def found(**settings: object) -> set[str]:
        config = HouseConfig(1, 1, require_rooms=("bathroom",), **settings)  # type: ignore[arg-type]
        return {thing.category for seed in range(4) for thing in make_house("home", seed, config).objects}

    assert "mirror" not in found() and "wall cabinet" in found()
    assert "mirror" in found(mirrors=True) and "mirror" in found(include=("mirror",))
    assert "mirror" not in found(mirrors=True, exclude=("mirror",))
