"""Lessons in reading: what is asked of a picture is so, and can be seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from datagen.tasks.drawing import DrawingConfig, DrawingSelector
from datagen.tasks.lessons import NEARER, WHICH, lesson

VIEW = [["lamp", 0.2, 3.0], ["sofa", 0.8, 1.0], ["chair", 0.55, 3.2], ["chair", 0.1, 2.0]]
ELSEWHERE = {"lamp", "sofa", "chair", "bed", "rug", "oven", "stool"}


def asked(layout: list[list[object]], from_above: bool = False, nouns: set[str] = ELSEWHERE) -> list[dict[str, object]]:
    found = [lesson(layout, from_above, nouns, np.random.default_rng(seed)) for seed in range(300)]
    return [one for one in found if one is not None]


def test_each_kind_is_asked_and_right() -> None:
    found = asked(VIEW)
    for one in found:
        choices = one["choices"]
        assert isinstance(choices, list) and one["answer"] in choices and len({*choices}) == len(choices)
        if one["question"] == WHICH:
            assert len(choices) == 4
            assert [choice for choice in choices if choice in ("a lamp", "a sofa", "a chair")] == [one["answer"]]
        elif one["question"] == NEARER:
            assert {*choices} == {"a lamp", "a sofa"} and one["answer"] == "a sofa", "there are two chairs"
    sides = {str(one["question"]): one["answer"] for one in found if {*one["choices"]} == {"Left", "Right"}}  # type: ignore[misc]
    assert sides == {"Is the lamp left or right?": "Left", "Is the sofa left or right?": "Right"}
    kinds = Counter("side" if str(one["question"]).startswith("Is") else str(one["question"]) for one in found)
    assert len(found) == 300 and min(kinds.values()) > 60 and len(kinds) == 3
    letters = Counter(one["choices"].index(one["answer"]) for one in found if one["question"] == WHICH)  # type: ignore[attr-defined]
    assert len(letters) == 4, "in random order"


def test_what_cannot_be_told_is_not_asked() -> None:
    middle, far = [["lamp", 0.55, 3.0]], [["lamp", 0.55, 3.0], ["sofa", 0.45, 2.6]]
    assert {one["question"] for one in asked(middle)} == {WHICH}
    assert {one["question"] for one in asked(far)} == {WHICH}, "less than half a metre apart"
    assert NEARER not in {one["question"] for one in asked(VIEW, from_above=True)}
    assert asked(middle, nouns={"lamp"}) == [] and asked([]) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_a_pair_has_a_question_where_it_is_asked_for(wanted: bool) -> None:
    selector = DrawingSelector(DrawingConfig(asked=wanted), 8, np.random.default_rng(0))
    facts = {"kind": "move_turn", "turn": "left", "layout": VIEW}
    selector.offer("a", {**facts, "layout": [["bed", 0.5, 1.0]]})
    (question,) = selector.offer("b", facts)
    assert ("asked" in question.facts) == wanted and question.choices == ()
    if wanted:
        assert question.facts["asked"]["answer"] in question.facts["asked"]["choices"]
