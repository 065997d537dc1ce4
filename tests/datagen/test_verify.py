"""The second opinion on every answer: each of its clauses, on masks drawn by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen import verify
from datagen.backends.base import TOP_DOWN_HIDES, Frame, SceneObject
from datagen.yields import Yields
from ipt.samples.camera import Camera, CameraPose
from tests.synthetic import make_sample

SIZE = 100  # pixels a side: one pixel is 0.01 % of the picture
ORIGIN = (0.0, 0.0, 0.0)


def things(*names: str) -> list[SceneObject]:
    return [SceneObject(f"o{i}", i, name, name, name, ORIGIN, ORIGIN) for i, name in enumerate(names)]


def masks(*patches: tuple[int, int, int, int, int, float], yaw: float = 0.0) -> Frame:
    """A camera at the origin sees patches (index, left, right, top, bottom, depth in metres); nothing elsewhere."""
    instance, depth = np.full((SIZE, SIZE), -1, np.int32), np.zeros((SIZE, SIZE), np.float32)
    for index, left, right, top, bottom, metres in patches:
        instance[top:bottom, left:right], depth[top:bottom, left:right] = index, metres
    return Frame(Camera(CameraPose(ORIGIN, yaw), SIZE, SIZE, 90), None, depth, instance)


def pet(kind: str, before: Frame, after: Frame, names: tuple[str, ...] = ("lamp", "sofa")) -> str | None:
    facts = {"object": {"name": "lamp"}, "kind": kind}
    return verify.perspective_taking(facts, {"observation": before, "view": after}, things(*names))


def lamp(left: int, metres: float, index: int = 0) -> tuple[int, int, int, int, int, float]:
    return (index, left, left + 10, 45, 55, metres)


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [(3.0, 2.0, "closer"), (2.0, 3.0, "further"), (3.0, 2.8, None), (3.0, 3.2, None), (3.0, 2.74, "closer")],
)
def test_distances_need_a_clear_change(before: float, after: float, answer: str | None) -> None:
    assert pet("distance", masks(lamp(45, before)), masks(lamp(45, after))) == answer


@pytest.mark.parametrize(
    ("kind", "before", "after", "answer"),
    [
        ("from_left", 10, 80, "right"),
        ("from_left", 10, 20, "left"),
        ("from_right", 80, 20, "left"),
        ("from_right", 10, 20, None),  # it was on the left before
        ("from_left", 10, 46, None),  # its middle is within five hundredths of the picture's
        ("from_left", 10, 51, "right"),
        ("from_left", 42, 80, None),
    ],
)
def test_sides_need_a_clear_place_in_both_views(kind: str, before: int, after: int, answer: str | None) -> None:
    assert pet(kind, masks(lamp(before, 3)), masks(lamp(after, 3))) == answer


def test_one_thing_of_that_name_is_seen_in_both_views() -> None:
    one, other = lamp(10, 3.0), lamp(30, 3.0, index=1)
    assert pet("from_left", masks(one, other), masks(lamp(80, 3.0))) == "right"
    assert pet("from_left", masks(one, other), masks(lamp(80, 3.0)), ("lamp", "lamp")) is None
    assert pet("from_left", masks(one), masks(lamp(80, 3.0), other), ("lamp", "lamp")) is None
    assert pet("from_left", masks(one), masks(other)) is None, "it is gone in the second view"
    assert pet("from_left", masks(other), masks(one)) is None


def path(
    frame: Frame, side: str = "left", options: tuple[str, ...] = ("lamp", "sofa"), heading: float = 0.0
) -> str | None:
    facts = {"side": side, "options": options, "midpoint": ORIGIN, "heading_deg": heading}
    return verify.path_tracing(facts, {"side_view": frame}, things("lamp", "sofa", "lamp", "rug"))


LOOKS_LEFT = np.pi / 2


def test_a_side_view_shows_one_option_on_the_asked_side() -> None:
    """A traveller who heads along +x and looks along +y: what is before the camera is on the left."""
    view = masks((0, 40, 60, 40, 60, 3.0), (3, 0, 10, 0, 10, 2.0), yaw=LOOKS_LEFT)
    assert path(view) == "lamp"
    assert path(view, side="right") is None
    assert path(view, side="right", heading=180.0) == "lamp", "someone who comes the other way has it on the right"
    assert path(view, options=("sofa", "oven")) is None, "none of the options is there"
    assert path(view, options=("lamp", "rug")) is None, "two of them are"


@pytest.mark.parametrize(
    ("pixels", "answer"), [(1, "lamp"), (2, None), (4, None), (5, None)]
)  # a speck is 2 of 10,000 pixels, a sighting 5
def test_a_distractor_may_leave_a_speck_and_no_more(pixels: int, answer: str | None) -> None:
    view = masks((0, 40, 60, 40, 60, 3.0), (1, 20, 20 + pixels, 50, 51, 3.0), yaw=LOOKS_LEFT)
    assert path(view) == answer


@pytest.mark.parametrize(("pixels", "answer"), [(1, None), (4, None), (5, "lamp"), (50, "lamp")])
def test_the_answer_is_seen_well_enough(pixels: int, answer: str | None) -> None:
    assert path(masks((0, 40, 40 + pixels, 50, 51, 3.0), yaw=LOOKS_LEFT)) == answer


@pytest.mark.parametrize(("ahead", "answer"), [(0, "lamp"), (5, "lamp"), (10, None), (30, None)])
def test_most_of_the_answer_lies_beside_the_walk(ahead: int, answer: str | None) -> None:
    """A camera that looks straight ahead has the left of the walk in the left half of its picture: 60 % must lie there."""
    assert path(masks((0, 20 + ahead, 60 + ahead, 40, 60, 3.0), yaw=0.0)) == answer


def count(frames: list[Frame], bev: Frame, members: tuple[str, ...] = ("chair",)) -> str | None:
    named = {f"frame_{number}": frame for number, frame in enumerate(frames)}
    objects = things("chair", "chair", "stool", "table")
    return verify.multiview_counting({"members": members}, {**named, "bev": bev}, objects)


CHAIR, OTHER, STOOL = (0, 10, 20, 10, 20, 2.0), (1, 60, 70, 10, 20, 2.0), (2, 30, 40, 60, 70, 2.0)


def seen(index: int, pixels: int) -> tuple[int, int, int, int, int, float]:
    return (index, 0, pixels, 90, 91, 2.0)


def test_counting_joins_the_views_and_asks_the_map() -> None:
    assert count([masks(CHAIR), masks(OTHER)], masks(CHAIR, OTHER)) == "2"
    assert count([masks(CHAIR, OTHER), masks(OTHER)], masks(CHAIR, OTHER, STOOL)) == "2", "each is counted once"
    assert count([masks(CHAIR, STOOL)], masks(CHAIR, STOOL), ("chair", "stool")) == "2"
    assert count([masks(STOOL)], masks(STOOL)) is None, "nothing to count"


def test_the_map_shows_neither_more_nor_less_than_the_views() -> None:
    assert count([masks(CHAIR)], masks(CHAIR, OTHER)) is None, "a chair on the map that no view shows"
    assert count([masks(CHAIR, OTHER)], masks(CHAIR)) is None, "a chair in a view that the map lacks"
    assert count([masks(CHAIR)], masks(CHAIR, seen(1, 4))) == "1", "four pixels on the map are no sighting"
    assert count([masks(CHAIR)], masks(CHAIR, seen(1, 5))) is None


@pytest.mark.parametrize(("pixels", "answer"), [(1, "1"), (2, None), (4, None), (5, "2")])
def test_no_instance_is_barely_seen(pixels: int, answer: str | None) -> None:
    """The best of the views decides: below a speck it is not seen, from 0.05 % on it is, and between is refused."""
    bev = masks(CHAIR, OTHER) if pixels >= 5 else masks(CHAIR)
    assert count([masks(CHAIR, seen(1, pixels)), masks(seen(1, 1))], bev) == answer


def test_only_views_count_not_the_map() -> None:
    assert count([masks(CHAIR)], masks(CHAIR, (1, 0, 1, 0, 1, 2.0))) == "1"


def test_disagreement_and_doubt_are_counted_apart() -> None:
    facts: dict[str, Any] = {"object": {"name": "lamp"}, "kind": "distance", "answer": "further"}
    yields = Yields()
    frames = {"observation": masks(lamp(45, 3.0)), "view": masks(lamp(45, 2.0))}
    assert not verify.agrees("pet", facts, frames, things("lamp"), yields)
    assert (yields.rejected["verify.unclear"], yields.rejected["verify.contradiction"]) == (0, 1)
    unclear = {**frames, "view": masks(lamp(45, 2.9))}
    assert not verify.agrees("pet", facts, unclear, things("lamp"), yields)
    assert (yields.rejected["verify.unclear"], yields.tested["verify.contradiction"]) == (1, 1)
    assert verify.agrees("pet", {**facts, "answer": "closer"}, frames, things("lamp"), yields)


@pytest.mark.parametrize(
    ("changes", "different"),
    [({}, False), ({"answer": "2"}, True), ({"answer_text": "2"}, True), ({"members": ["sofa"]}, True)],
)
def test_a_stored_answer_is_compared_in_the_facts_and_among_the_choices(
    changes: dict[str, Any], different: bool
) -> None:
    """Maps are looked at without ceilings, first-person views with them."""
    hidden: list[frozenset[str]] = []

    def render(cameras: list[Camera], modalities: tuple[str, ...], hide: frozenset[str]) -> list[Frame]:
        hidden.append(hide)
        return [masks(CHAIR)]

    backend = SimpleNamespace(
        capabilities={"instance"}, load=lambda scene_id: None, objects=lambda: things("chair", "table"), render=render
    )
    sample = make_sample(0, facts={"members": ["chair"], "answer": "1", "answer_text": "1", **changes})
    found = list(verify.recheck([sample], backend))  # type: ignore[arg-type]
    assert [mismatch.sample_id for mismatch in found] == ([sample.id] if different else [])
    assert hidden == [frozenset(), frozenset(), TOP_DOWN_HIDES]
