"""Rationales and captions, word for word, from facts that are known: every side, number and direction that they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Frame
from datagen.rationale import (
    SKELETONS,
    again_words,
    bearing,
    mvc_caption,
    mvc_rationale,
    pet_caption,
    pet_rationale,
    pt_caption,
    pt_rationale,
)
from datagen.visibility import layout_of, map_layout_of
from ipt.samples.camera import Camera, CameraPose


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
    "layout": [["sofa", 0.1, 3.0], ["lamp", 0.8, 2.8], ["armchair", 0.9, 1.5], ["sofa", 0.2, 4.0]],
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
    assert (
        lines[4] == "5. Its distance on the ground changes from 3.2 m to 2.8 m, so it gets closer." and len(lines) == 5
    )


def test_the_other_skeletons_of_pet_say_the_same() -> None:
    assert pet_rationale(PET, 1) == (
        "The X is 1.0 m ahead and 1.0 m to the right and the lamp 3.0 m ahead and 1.0 m to the left. Standing on the X without "
        "turning, one has the lamp 2.0 m ahead and 2.0 m to the left. A quarter turn to the left brings what was on the left to "
        "the front and what was ahead to the right, which leaves the lamp 2.0 m ahead and 2.0 m to the right. It ends up on the "
        "right."
    )
    far = {**PET, "turn": "right", "kind": "distance", "answer": "closer", "object": {"name": "tv stand"}}
    assert "what was on the right to the front and what was ahead to the left" in pet_rationale(far, 1)
    assert pet_rationale(far, 1).endswith("3.2 m before, 2.8 m after: it is closer.")
    assert pet_rationale(far, 2) == (
        "1. Go to the X: 1.0 m ahead and 1.0 m to the right.\n"
        "2. The TV stand, 3.0 m ahead and 1.0 m to the left at first, is 2.0 m ahead and 2.0 m to the left from there.\n"
        "3. Turn right: now it is 2.0 m ahead and 2.0 m to the right.\n"
        "4. That is 2.8 m instead of 3.2 m, so the TV stand gets closer."
    )
    assert pet_rationale(PET, 2).endswith("4. The lamp is seen on the right.")


@pytest.mark.parametrize("skeleton", range(SKELETONS))
def test_distances_in_words_are_those_of_the_coordinates_beside_them(skeleton: int) -> None:
    """Also for an object high above the floor, whose distance from the eye is another one."""
    facts = {**PET, "kind": "distance", "answer": "further", "object_from_target": [0.0, -4.0], "distance_after_m": 9.9}
    words = pet_rationale(facts, skeleton)
    assert "3.2 m" in words and "4.0 m" in words and "9.9" not in words


def test_a_pet_caption_lays_out_the_view_and_names_the_object_among_others() -> None:
    assert pet_caption(PET) == (
        "From the X, facing left. On the left: two sofas. On the right, from near to far: an armchair and a lamp."
    )
    assert pet_caption({**PET, "turn": "right", "layout": []}) == "From the X, facing right. Nothing stands out."
    middle = {**PET, "layout": [["rug", 0.34, 1.0], ["tv stand", 0.65, 2.0], ["books", 0.67, 1.0]]}
    assert pet_caption(middle).endswith(
        "In the middle, from near to far: a rug and a TV stand. On the right: some books."
    )


PT: dict[str, Any] = {
    "variant": "td_path",
    "start": "waypoint 2",
    "end": "waypoint 1",
    "side": "left",
    "path_length_m": 3.24,
    "heading_on_map": "top",
    "side_on_map": "left",
    "object": {"name": "armchair", "distance_m": 1.66, "bearing_deg": 71.4},
    "distractors": ["books", "desk", "oven"],
    "opposite": ["desk", "books", "sofa"],
    "layout": [["armchair", 0.5, 1.7], ["rug", 0.5, 1.0]],
}


def test_a_pt_rationale_walks_looks_and_strikes_out() -> None:
    assert pt_rationale(PT) == (
        "1. The walk goes from waypoint 2 to waypoint 1 and is 3.2 m long; M1 is halfway.\n"
        "2. At M1 one heads towards the top of the map.\n"
        "3. For someone who heads there, the left-hand side is towards the left of the map.\n"
        "4. On that side there is an armchair, 1.7 m from M1 and about 71 degrees off the heading.\n"
        "5. Some books and a desk would be seen on the right.\n"
        "6. Looking left from M1 does not show an oven.\n"
        "7. So the object on the left is an armchair."
    )


def test_a_pt_rationale_of_the_other_side_with_nothing_opposite() -> None:
    facts = {
        **PT,
        "side": "right",
        "side_on_map": "bottom",
        "heading_on_map": "right",
        "opposite": [],
        "object": {**PT["object"], "bearing_deg": -120.2},
    }
    lines = pt_rationale(facts).splitlines()
    assert lines[2] == "3. For someone who heads there, the right-hand side is towards the bottom of the map."
    assert lines[3].endswith("about 120 degrees off the heading.")
    assert lines[4] == "5. Looking right from M1 does not show some books, a desk and an oven."
    assert lines[5] == "6. So the object on the right is an armchair." and len(lines) == 6
    across = pt_rationale({**facts, "distractors": ["desk"], "opposite": ["desk"]}).splitlines()
    assert across[4] == "5. A desk would be seen on the left." and len(across) == 6


def test_the_other_skeletons_of_pt_say_the_same() -> None:
    assert pt_rationale(PT, 1) == (
        "Walking from waypoint 2 to waypoint 1, one passes M1 after half of the 3.2 m. The heading there is towards the top of "
        "the map, so left means towards the left of the map. That rules out some books and a desk: to be seen on the right. An "
        "oven cannot be seen from there on the left. What remains, 1.7 m from M1 and about 71 degrees off the heading, is an "
        "armchair."
    )
    assert pt_rationale(PT, 2) == (
        "1. Go from waypoint 2 to waypoint 1; M1 is in the middle.\n"
        "2. Ahead is the top of the map, left is the left of the map.\n"
        "3. The left side has an armchair, 1.7 m from M1 and about 71 degrees off the heading.\n"
        "4. The right side has some books and a desk.\n"
        "5. Out of sight on the left: an oven.\n"
        "6. The answer is an armchair."
    )


@pytest.mark.parametrize("skeleton", range(SKELETONS))
def test_every_rationale_ends_with_the_answer(skeleton: int) -> None:
    near = {**PET, "kind": "distance", "answer": "closer"}
    ends = {"on the right": pet_rationale(PET, skeleton), "closer": pet_rationale(near, skeleton)}
    ends |= {"an armchair": pt_rationale(PT, skeleton), "is 3": mvc_rationale(MVC, skeleton)}
    assert all(words.endswith(f"{answer}.") for answer, words in ends.items())


@pytest.mark.parametrize("skeleton", range(SKELETONS))
def test_where_no_walk_is_drawn_none_is_told(skeleton: int) -> None:
    words = pt_rationale({**PT, "variant": "td_midpoint"}, skeleton)
    assert "waypoint" not in words and "3.2 m" not in words and "arrow" in words


def test_a_pt_caption_lists_all_that_the_side_view_shows() -> None:
    assert pt_caption(PT) == "Looking left from M1. In the middle, from near to far: a rug and an armchair."
    many = {**PT, "layout": [[f"thing{number}", 0.1, number] for number in range(9)]}
    assert all(f"thing{number}" in pt_caption(many) for number in range(9))


MVC: dict[str, Any] = {
    "category": "chair",
    "count": 3,
    "instances_per_frame": [["a", "b"], [], ["b", "c"], ["c"]],
    "layout": [["chair", 0.1, 0.1], ["chair", 0.2, 0.1], ["chair", 0.9, 0.9], ["table", 0.5, 0.5], ["chair", 0.5, 0.5]],
}


def test_an_mvc_rationale_counts_each_instance_once() -> None:
    assert mvc_rationale(MVC) == (
        "1. Frame 1 shows two chairs; that makes two so far.\n"
        "2. Frame 2 shows no chair.\n"
        "3. Frame 3 shows two chairs, one of which was seen before; that makes three so far.\n"
        "4. Frame 4 shows one chair, which was seen before; that makes three so far.\n"
        "5. The total number is 3."
    )
    assert mvc_rationale(MVC, 1) == (
        "Count the chairs, each of them once. Frame 1 has two chairs, two in all by then. Frame 2 has none. Frame 3 has two "
        "chairs, one of which was seen before, three in all by then. Frame 4 has one chair, which was seen before, three in all "
        "by then. The total number is 3."
    )
    assert mvc_rationale(MVC, 2) == (
        "1. Frame 1: two chairs, so two more.\n2. Frame 2: none.\n"
        "3. Frame 3: two chairs, one of which was seen before, so one more.\n"
        "4. Frame 4: one chair, which was seen before, so zero more.\n"
        "5. 2 + 0 + 1 + 0 = 3: the total number is 3."
    )


@pytest.mark.parametrize(
    ("seen", "again", "words"),
    [
        (1, 0, ""),
        (1, 1, ", which was seen before"),
        (2, 2, ", both of which were seen before"),
        (3, 3, ", all of which were seen before"),
        (3, 1, ", one of which was seen before"),
        (4, 2, ", two of which were seen before"),
    ],
)
def test_what_was_seen_before_agrees_in_number(seen: int, again: int, words: str) -> None:
    assert again_words(seen, again) == words


def test_an_mvc_caption_lays_out_the_map_and_leaves_the_counting_to_its_reader() -> None:
    assert mvc_caption(MVC) == (
        "Seen from above. In the upper left: two chairs. In the middle: a chair and a table. In the lower right: a chair."
    )
    assert mvc_caption({**MVC, "layout": []}) == "Seen from above. The map is empty."


def test_layouts_are_read_off_the_pictures() -> None:
    """A lamp of four pixels in the right third of a view, 2 m away, and the sofa that is not asked for is left out."""
    instance, depth = np.full((9, 9), -1), np.full((9, 9), 5.0)
    instance[2:4, 7:9], depth[2:4, 7:9] = 0, 2.0
    instance[6, 0] = 1
    frame = Frame(Camera(CameraPose((0, 0, 1.5), 0.0), 9, 9), None, depth, instance)
    assert layout_of(frame, ["lamp", "sofa"], [0]) == [["lamp", 0.889, 2.0]]
    assert map_layout_of(frame, ["lamp", "sofa"], [0, 1]) == [["lamp", 0.889, 0.333], ["sofa", 0.056, 0.722]]
