"""Path Tracing in words: which candidates become questions, their distractors, letters and templates.

With options of the same scene, the candidates of a view, one for each thing that it shows clearly, wait together: the balance of
options chooses which of them is asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datagen.balance import Deck, ordered, quotas
from datagen.language import with_article
from datagen.rationale import SKELETONS, pt_caption, pt_rationale
from datagen.tasks.balanced_options import OptionPool, SetBalancer
from datagen.tasks.base import Question
from datagen.tasks.distractors import QuestionNouns, draw_distractors
from datagen.tasks.path_settings import OPTIONS, PathTracingConfig
from datagen.tasks.paths import BINS
from datagen.tasks.places import place_of
from datagen.tasks.vocabulary import out_of_view
from ipt.samples.questions import word, wordings

BLOCK = 512  # questions whose distractors are drawn together
PRIOR_TRIES = 8.0  # imagined tries with the common outcome: steadies the share of a noun that was tried rarely
Chosen = tuple[str, Mapping[str, Any]]
View = list[Chosen]  # what may be asked of it: ids and facts of candidates


def view_sentence(facts: Mapping[str, Any]) -> str:
    """What the arrow and the pictures after the map show."""
    variant = facts["variant"]
    sentences = ["The blue arrow at M1 points to the side in question."] if variant.endswith("arrow") else []
    if "_ego_dir" in variant:
        sentences.append(
            "The other two pictures show the view ahead, in the direction of travel, at waypoints 1 and 2."
        )
    if "_ego_side" in variant:
        sentences.append(
            f"The other two pictures show the view to the {facts['side']} of the walk at waypoints 1 and 2."
        )
    return " ".join([*sentences, ""])


def option_pool(facts: Mapping[str, Any], min_opposite: int) -> OptionPool:
    """What can stand beside a candidate's answer: nouns of its map that the queried side does not show."""
    wrong = out_of_view(facts["on_map"].keys(), facts["in_view"])
    opposite = tuple(noun for noun in wrong if noun in facts["opposite"])
    elsewhere = tuple(noun for noun in wrong if noun not in facts["opposite"])
    return OptionPool(facts["answer"], opposite, elsewhere, facts["on_map"], min_opposite)


class PathTracingSelector:
    """Equal quotas for the distance bins, rooms as even as a short queue allows; distractors are drawn block by block."""

    LEAD, QUEUE, SUPPLY = 2, 8, 0.6

    def __init__(self, config: PathTracingConfig, count: int, rng: np.random.Generator) -> None:
        self._open = quotas(count, BINS, rng)
        self._queues: dict[str, dict[str, deque[View]]] = {name: {} for name in BINS}
        self._taken: dict[str, dict[str, int]] = {name: {} for name in BINS}
        self._block: list[View] = []
        self._latest: tuple[str, View] = "", []
        self._history: list[QuestionNouns] = []
        self._balancer = SetBalancer(OPTIONS - 1)
        self._offers = 0
        self._in_view: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._letters, self._skeletons = Deck(range(OPTIONS), rng), Deck(range(SKELETONS), rng)
        self._templates = {name: Deck(wordings(config.plain)[name], rng) for name in ("pt_path", "pt_midpoint")}
        self._rng, self._config = rng, config

    @property
    def remaining(self) -> int:
        return sum(self._open.values())

    def pending(self) -> list[str]:
        queued = (view for queues in self._queues.values() for queue in queues.values() for view in queue)
        return [name for view in (*queued, *self._block) for name, _ in view]

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        name, room, same_scene = facts["distance_bin"], facts["room"], self._config.options == "same_scene"
        place, view = self._latest
        if same_scene and place_of(candidate_id) == place:  # candidates of a view are offered one after the other
            view.append((candidate_id, facts))
            return []
        view = [(candidate_id, facts)]
        self._latest = place_of(candidate_id), view
        self._tried.update(facts.get("tried", {}))
        self._kept[facts["answer"]] += 1
        if not self._open[name]:
            return []
        if not same_scene and not self._spare(facts):
            self._kept[facts["answer"]] -= 1
            return []
        queues, taken = self._queues[name], self._taken[name]
        queues.setdefault(room, deque()).append(view)
        taken.setdefault(room, 0)
        while self._open[name] and any(queues.values()):
            room = min((kind for kind in queues if queues[kind]), key=lambda kind: (taken[kind], kind))
            waiting = sum(len(queue) for queue in queues.values())
            if taken[room] > min(taken.values()) + self.LEAD and waiting <= self.QUEUE:
                break
            taken[room] += 1
            self._open[name] -= 1
            self._block.append(queues[room].popleft())
        if not self._open[name]:
            queues.clear()
        return self._worded() if len(self._block) >= BLOCK or not self.remaining else []

    def _spare(self, facts: Mapping[str, Any]) -> bool:
        """Whether the noun asked for is out of view often enough to serve as a distractor three times as often.

        Of the places where it could serve, at most SUPPLY are counted on, for other nouns want them too.
        """
        self._offers += 1
        self._in_view.update(facts["in_view"])
        noun = facts["answer"]
        if (OPTIONS - 1) * (self._asked[noun] + 1) > self.SUPPLY * (self._offers - self._in_view[noun]) + OPTIONS:
            return False
        self._asked[noun] += 1
        return True

    def _worded(self) -> list[Question]:
        """The questions of the block that come with distractors; the others are wanted again."""
        same_scene = self._config.options == "same_scene"
        chosen = self._balanced() if same_scene else self._drawn()
        questions = []
        for view, choice in zip(self._block, chosen, strict=True):
            if choice is None:
                facts = view[0][1]
                self._open[facts["distance_bin"]] += 1
                self._taken[facts["distance_bin"]][facts["room"]] -= 1
            else:
                answer, wrong = choice
                candidate_id, facts = next(one for one in view if one[1]["answer"] == answer)
                questions.append(self._word(candidate_id, facts, list(wrong)))
        self._block = []
        return questions

    def _balanced(self) -> Sequence[tuple[str, Sequence[str]] | None]:
        """Answers and distractors of the views' own maps, None for views whose questions would give themselves away."""
        views = [[option_pool(facts, self._config.min_opposite) for _, facts in view] for view in self._block]
        drawn = self._balancer.draw(views, self._rng)
        return [None if choice is None else (choice.pool.answer, choice.wrong) for choice in drawn]

    def _drawn(self) -> Sequence[tuple[str, Sequence[str]]]:
        """The answers of the block, with distractors of all scenes."""
        asked = [
            QuestionNouns(
                facts["answer"],
                facts["chances"],
                frozenset(facts["in_view"]),
                frozenset(facts["opposite"]),
                frozenset(facts["options"]),
            )
            for ((_, facts),) in self._block
        ]
        common = self._kept.total() / max(self._tried.total(), 1)
        kept = {
            noun: (self._kept[noun] + PRIOR_TRIES * common) / (tried + PRIOR_TRIES)
            for noun, tried in self._tried.items()
        }
        drawn = draw_distractors(asked, self._history, kept, OPTIONS - 1, self._rng)
        self._history = [*self._history, *asked][-4 * BLOCK :]
        return [(one.answer, wrong) for one, wrong in zip(asked, drawn, strict=True)]

    def _word(self, candidate_id: str, facts: Mapping[str, Any], wrong: list[str]) -> Question:
        template = self._templates["pt_midpoint" if facts["variant"].endswith("midpoint") else "pt_path"].deal()
        wording = {"template": template.id, "person": template.person}
        decided = {**facts, "options": [facts["answer"], *wrong], "distractors": wrong, **wording}
        text = word(
            template,
            map="dollhouse view" if facts["variant"].startswith("dh") else "top-down map",
            start=facts["start"].split()[-1],
            end=facts["end"].split()[-1],
            side=facts["side"],
            views=view_sentence(facts),
        )
        right = with_article(facts["answer"])
        choices = ordered(right, [with_article(noun) for noun in wrong], self._letters.deal(), self._rng)
        return Question(
            candidate_id=candidate_id,
            question=text,
            question_type=f"{facts['direction']}_{facts['side']}",
            choices=tuple(sorted(choices)) if self._config.plain else choices,
            answer_text=right,
            rationale=pt_rationale(decided, self._skeletons.deal()),
            caption=pt_caption(facts),
            facts=decided,
        )
