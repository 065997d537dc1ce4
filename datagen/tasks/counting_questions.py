"""Multiview Counting in words: which candidates become questions, their options, letters and templates.

Options are four of five consecutive numbers, and a question is released only when the pool holds a place for each of the
four with the same noun; which of them is asked is then drawn. The published distractors, at most 2 away from the answer,
give it away: the smallest and the largest of four different numbers are 3 apart or more, so neither could be the answer,
and guessing between the other two is right half the time. Hence the ends have one distractor that is 3 or 4 away. With
four in a row, places wait longer for each other: a fifth fewer questions come from as many homes.

One frame alone should not tell either: a count is never smaller than the largest number that a frame shows, and in the paper's
procedure it is mostly that number. So of the places that wait for a count, the one whose frames show the fewest at a time is
asked. With ``match_frames`` the four places show equally many in their fullest frame, and no option is less than that:
whichever is asked, the frames must be merged, and nothing less helps (few places are so: runs take long).

Pictures serve one question. A scene is asked about a noun once: its places show the same things, so they would give the
same answer again and again, and the answers of a part of the scenes would tell those of the rest (the other answers are
rarer there).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from datagen.balance import Deck, ordered
from datagen.language import plural
from datagen.rationale import SKELETONS, mvc_caption, mvc_rationale
from datagen.tasks.base import Question
from datagen.tasks.places import place_of, scene_of
from ipt.samples.questions import word, wordings

OPTIONS = 4
SPAN = 5  # consecutive numbers that the options are taken from
POOL = 40  # waiting places per noun and count


class MultiviewCountingSelector:
    """Releases a question when each of its four options could have been asked; evens out nouns."""

    def __init__(
        self,
        count: int,
        max_share: float,
        rng: np.random.Generator,
        plain: bool = False,
        match_frames: bool = False,
    ) -> None:
        self._wanted, self._max_share, self._rng, self._plain = count, max_share, rng, plain
        self._match_frames = match_frames
        self._pool: dict[tuple[str, int], dict[int, deque[tuple[str, Mapping[str, Any]]]]] = {}
        self._asked: set[tuple[str, str]] = set()  # scenes and nouns
        self._places: set[str] = set()  # whose pictures have served
        self._given: Counter[str] = Counter()
        self._letters, self._skeletons = Deck(range(OPTIONS), rng), Deck(range(SKELETONS), rng)
        self._templates = Deck(wordings(plain)["mvc_count"], rng)

    @property
    def remaining(self) -> int:
        return self._wanted - self._given.total()

    def pending(self) -> list[str]:
        return [name for counts in self._pool.values() for queue in counts.values() for name, _ in queue]

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        noun = facts["category"]
        if (scene_of(candidate_id), noun) in self._asked or place_of(candidate_id) in self._places:
            return []
        fullest = fullest_frame(facts) if self._match_frames else 0
        queues = self._pool.setdefault((noun, fullest), {})
        queue = queues.setdefault(facts["count"], deque())
        if len(queue) < POOL:
            queue.append((candidate_id, facts))
        numbers = sorted(number for number, places in queues.items() if places)
        possible = [some for some in combinations(numbers, OPTIONS) if some[-1] - some[0] < SPAN]
        if not possible or not self.remaining or self._too_common(noun):
            return []
        options = possible[int(self._rng.integers(len(possible)))]
        waiting = queues[options[int(self._rng.integers(OPTIONS))]]
        chosen_id, chosen = min(waiting, key=lambda place: fullest_frame(place[1]))
        waiting.remove((chosen_id, chosen))
        self._given[noun] += 1
        self._asked.add((scene_of(chosen_id), noun))
        self._places.add(place_of(chosen_id))
        self._forget(place_of(chosen_id), scene_of(chosen_id), noun)
        return [self._word(chosen_id, chosen, options)]

    def _too_common(self, noun: str) -> bool:
        """Whether a noun has had its share of all questions; the share grows where the scenes hold few nouns."""
        nouns = len({name for name, _ in self._pool})
        share = max(self._max_share, 1.25 / nouns)
        return self._given[noun] + 1 > max(2.0, share * self._wanted)

    def _forget(self, place: str, scene: str, noun: str) -> None:
        """Drop the other questions about the same pictures, and those about the same noun in the same scene."""
        for (other, _), queues in self._pool.items():
            for number, queue in queues.items():
                queues[number] = deque(
                    item
                    for item in queue
                    if place_of(item[0]) != place and not (other == noun and scene_of(item[0]) == scene)
                )

    def _word(self, candidate_id: str, facts: Mapping[str, Any], options: Sequence[int]) -> Question:
        template, position = self._templates.deal(), self._letters.deal()
        noun, kinds = facts["category"], facts.get("kinds", ())
        objects = plural(noun)
        if kinds:
            others = " and others" if noun in kinds else ""
            objects += f" ({', '.join(plural(kind) for kind in kinds if kind != noun)}{others})"
        right = str(facts["count"])
        wrong = [str(option) for option in options if option != facts["count"]]
        return Question(
            candidate_id=candidate_id,
            question=word(template, objects=objects),
            question_type=facts["movement"],
            choices=tuple(map(str, options)) if self._plain else ordered(right, wrong, position, self._rng),
            answer_text=right,
            rationale=mvc_rationale(facts, self._skeletons.deal()),
            caption=mvc_caption(facts),
            facts={**facts, "template": template.id, "person": template.person},
        )


def fullest_frame(facts: Mapping[str, Any]) -> int:
    """The largest number of what is asked for that one frame shows."""
    return max(map(len, facts["instances_per_frame"]), default=0)
