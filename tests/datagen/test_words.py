"""Rationales and captions, word for word, from facts that are known: every side, number and direction that they say."""

from __future__ import annotations

from typing import Any

import pytest

from datagen.rationale import (
    bearing,
    half,
    mvc_caption,
    mvc_rationale,
    pet_caption,
    pet_rationale,
    pt_caption,
    pt_rationale,
)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ([2.0, 0.8], "2.0 m ahead and 0.8 m to the left"),
        ([2.0, -0.8], "2.0 m ahead and 0.8 m to the right"),
        ([-1.5, 0.0], "1.5 m behind"),
        ([0.0, 3.0], "3.0 m to the left"),
        ([0.04, -0.04], "right here"),
        ([0.06, 0.0], "0.1 m ahead"),
    ],
)
def test_places_are_told_ahead_and_to_the_side(place: list[float], words: str) -> None:
    assert bearing(place) == words


@pytest.mark.parametrize(
    ("u", "words"),
    [(0.1, "left half"), (0.46, "left half"), (0.5, "middle"), (0.54, "right half"), (0.9, "right half")],
)
def test_halves_of_a_view(u: float, words: str) -> None:
    assert half(u) == words


#: Someone at the origin heads east; a lamp 3 m ahead and 1 m left; the X 1 m ahead and 1 m right. From the X the lamp is
#: 2 m ahead and 2 m left; after a left turn it is 2 m ahead and 2 m to the right.
PET: dict[str, Any] = {
    "object": {"name": "lamp"},
    "turn": "left",
    "kind": "from_left",
    "answer": "right",
    "object_from_start": [3.0, 1.0],
    "target_from_start": [1.0, -1.0],
    "object_from_target": [2.0, -2.0],
    "distance_before_m": 3.162,
    "distance_after_m": 2.828,
    "position_after": [0.8, 0.5],
    "visible_after": ["sofa", "lamp", "armchair"],
}


def test_a_pet_rationale_says_where_everything_is() -> None:
    assert pet_rationale(PET) == (
        "1. In this view the lamp is 3.0 m ahead and 1.0 m to the left, 3.2 m away.\n"
        "2. The X is 1.0 m ahead and 1.0 m to the right.\n"
        "3. From the X, still facing the same way, the lamp is 2.0 m ahead and 2.0 m to the left.\n"
        "4. After turning left by 90 degrees, what was left is ahead: the lamp is 2.0 m ahead and 2.0 m to the right.\n"
        "5. So the lamp is on the right."
    )


def test_a_pet_rationale_turns_the_other_way_and_compares_distances() -> None:
    right = {**PET, "turn": "right", "kind": "distance", "answer": "closer", "object_from_target": [-2.0, 2.0]}
    lines = pet_rationale(right).splitlines()
    assert lines[3] == (
        "4. After turning right by 90 degrees, what was right is ahead: the lamp is 2.0 m behind and 2.0 m to the left."
    )
    assert lines[4] == "5. Its distance changes from 3.2 m to 2.8 m, so it gets closer." and len(lines) == 5


def test_a_pet_caption_says_which_half_and_what_else() -> None:
    assert pet_caption(PET) == (
        "From the X, facing left, the lamp is in the right half of the view, 2.8 m away. "
        "Also in view: a sofa and an armchair."
    )
    alone = {**PET, "turn": "right", "position_after": [0.2, 0.5], "visible_after": ["lamp"]}
    assert pet_caption(alone) == "From the X, facing right, the lamp is in the left half of the view, 2.8 m away."


PT: dict[str, Any] = {
    "start": "waypoint 2",
    "end": "waypoint 1",
    "side": "left",
    "path_length_m": 3.24,
    "heading_on_map": "top",
    "side_on_map": "left",
    "object": {"name": "armchair", "distance_m": 1.66, "bearing_deg": 71.4},
    "distractors": ["books", "desk", "oven"],
    "opposite": ["desk", "books", "sofa"],
    "visible_side": ["armchair", "rug"],
}


def test_a_pt_rationale_walks_looks_and_strikes_out() -> None:
    assert pt_rationale(PT) == (
        "1. The walk goes from waypoint 2 to waypoint 1 and is 3.2 m long; M1 is halfway.\n"
        "2. At M1 the heading on the map is top.\n"
        "3. Facing top, left is left on the map.\n"
        "4. On that side there is an armchair, 1.7 m from M1 and about 71 degrees off the heading.\n"
        "5. Some books and a desk would be seen on the right.\n"
        "6. Looking left from M1 does not show an oven.\n"
        "7. So the object on the left is an armchair."
    )


def test_a_pt_rationale_of_the_other_side_with_nothing_opposite() -> None:
    facts = {
        **PT,
        "side": "right",
        "side_on_map": "right",
        "opposite": [],
        "object": {**PT["object"], "bearing_deg": -120.2},
    }
    lines = pt_rationale(facts).splitlines()
    assert lines[2] == "3. Facing top, right is right on the map."
    assert lines[3].endswith("about 120 degrees off the heading.")
    assert lines[4] == "5. Looking right from M1 does not show some books, a desk and an oven."
    assert lines[5] == "6. So the object on the right is an armchair." and len(lines) == 6
    across = pt_rationale({**facts, "distractors": ["desk"], "opposite": ["desk"]}).splitlines()
    assert across[4] == "5. A desk would be seen on the left." and len(across) == 6


def test_a_pt_caption_lists_what_the_side_view_shows() -> None:
    assert pt_caption(PT) == "Looking left from M1: an armchair and a rug."


MVC: dict[str, Any] = {
    "category": "chair",
    "count": 3,
    "instances_per_frame": [["a", "b"], [], ["b", "c"], ["c"]],
    "also_on_map": {"bookshelf": 2, "table": 1},
}


def test_an_mvc_rationale_counts_each_instance_once() -> None:
    assert mvc_rationale(MVC) == (
        "1. Frame 1 shows two chairs; that makes two so far.\n"
        "2. Frame 2 shows no chair.\n"
        "3. Frame 3 shows two chairs, one of them seen before; that makes three so far.\n"
        "4. Frame 4 shows one chair, all of them seen before; that makes three so far.\n"
        "5. The total number is 3."
    )


def test_an_mvc_caption_counts_what_is_on_the_map() -> None:
    assert mvc_caption(MVC) == "Seen from above, the area holds three chairs, with two bookshelves and one table."
    assert mvc_caption({**MVC, "count": 1, "also_on_map": {}}) == "Seen from above, the area holds one chair."
