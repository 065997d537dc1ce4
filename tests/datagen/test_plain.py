"""Plain questions: few words, options in a fixed order, and answers that are as even as ever."""

from __future__ import annotations

from collections import Counter

import numpy as np

from datagen.tasks.multiview_counting import MultiviewCountingSelector
from datagen.tasks.perspective_questions import PerspectiveTakingSelector

PET = {
    "object": {"name": "cube"}, "turn": "left", "arrow": False, "position_after": [0.2, 0.5], "distance_before_m": 2.0,
    "distance_after_m": 1.0, "object_from_start": [2, 0], "target_from_start": [1, 0], "object_from_target": [1, 0],
    "visible_after": [], "layout": [],
}  # fmt: skip


def test_the_letter_of_a_plain_pet_answer_is_that_of_the_answer_itself() -> None:
    selector = PerspectiveTakingSelector(0.1, 60, np.random.default_rng(0), plain=True)
    letters = {}
    for sides in (("left", "left"), ("left", "right"), ("right", "left"), ("right", "right")):
        facts = {
            **PET,
            "kind": f"from_{sides[0]}",
            "answer": sides[1],
            "sub_category": "relative_position_{}_{}".format(*sides),
        }
        for _ in range(10):
            (question,) = selector.offer("x", facts)
            assert question.choices == ("Left", "Right") and len(question.question.split()) < 12
            letters.setdefault(sides[1], set()).add(question.answer)
    assert letters == {"left": {"A"}, "right": {"B"}}


def test_plain_counts_stand_in_order_and_every_place_is_right_equally_often() -> None:
    rng = np.random.default_rng(0)
    selector, places = MultiviewCountingSelector(400, 1.0, rng, plain=True), Counter[int]()
    for number in range(4000):
        facts = {
            "category": "cube", "members": ["cube"], "count": int(rng.integers(1, 5)), "movement": "rotation",
            "instances_per_frame": [["a"]], "also_on_map": {}, "layout": [],
        }  # fmt: skip
        for question in selector.offer(f"scene-{number}-00-cube", facts):
            assert question.choices == ("1", "2", "3", "4")
            places[int(question.answer_text)] += 1
    assert places.total() == 400 and max(places.values()) - min(places.values()) < 60
