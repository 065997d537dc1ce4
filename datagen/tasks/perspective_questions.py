"""Perspective Taking in words: which candidates become questions, their options, letters and templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from datagen.balance import Deck, ordered, quotas
from datagen.language import spelled
from datagen.rationale import SKELETONS, pet_caption, pet_rationale
from datagen.tasks.base import Question
from ipt.samples.questions import word, wordings

SUB_CATEGORIES = (
    "distance_change_closer",
    "distance_change_further",
    "relative_position_left_left",
    "relative_position_left_right",
    "relative_position_right_left",
    "relative_position_right_right",
)
#: A kind of question and its two answers: the object's distance, or its side after the move given its side before.
KINDS: Mapping[str, tuple[str, str]] = {
    "distance": ("closer", "further"),
    "from_left": ("left", "right"),
    "from_right": ("left", "right"),
}


class PerspectiveTakingSelector:
    """Six equal quotas, no object name much more often than its share; letters and templates dealt evenly."""

    SLACK = 4  # questions that a noun may be ahead of its share, so that the first ones are not turned away (ours)

    def __init__(self, max_object_share: float, count: int, rng: np.random.Generator, plain: bool = False) -> None:
        self._max_share, self._offered = max_object_share, set[str]()
        self._given: Counter[str] = Counter()
        self._open = quotas(count, SUB_CATEGORIES, rng)
        self._letters = {kind: Deck((0, 1), rng) for kind in KINDS}
        texts = wordings(plain)
        self._templates = {name: Deck(texts[name], rng) for name in texts if name.startswith("pet_")}
        self._skeletons = Deck(range(SKELETONS), rng)
        self._plain = plain
        self._rng = rng

    @property
    def remaining(self) -> int:
        return sum(self._open.values())

    def pending(self) -> frozenset[str]:
        return frozenset()

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        noun = facts["object"]["name"]
        self._offered.add(noun)
        share = max(self._max_share, 2 / len(self._offered))
        if not self._open[facts["sub_category"]] or self._given[noun] > self.SLACK + share * self._given.total():
            return []
        self._given[noun] += 1
        self._open[facts["sub_category"]] -= 1
        kind, right = facts["kind"], facts["answer"].capitalize()
        (wrong,) = (answer.capitalize() for answer in KINDS[kind] if answer != facts["answer"])
        family = f"pet_{'distance' if kind == 'distance' else 'position'}{'_arrow' if facts['arrow'] else ''}"
        template, position = self._templates[family].deal(), self._letters[kind].deal()
        if self._plain:
            position = KINDS[kind].index(facts["answer"])
        return [
            Question(
                candidate_id=candidate_id,
                question=word(template, object=spelled(facts["object"]["name"]), turn=facts["turn"]),
                question_type=facts["sub_category"],
                choices=ordered(right, [wrong], position, self._rng),
                answer_text=right,
                rationale=pet_rationale(facts, self._skeletons.deal()),
                caption=pet_caption(facts),
                facts={**facts, "template": template.id, "person": template.person},
            )
        ]
