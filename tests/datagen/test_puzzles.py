"""Sets of puzzles: options that say nothing about the answer, whatever the filters prefer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Path
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks.path_questions import PathTracingSelector
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.path_tracing import PathTracing
from datagen.tasks.paths import BINS, Sight, Walk
from datagen.tasks.puzzles import PuzzleSets, all_puzzles
from tests.datagen.conftest import candidates_of

NOUNS = [f"noun{number:02d}" for number in range(24)]
SURVIVAL = {noun: 0.3 if number % 3 else 1.0 for number, noun in enumerate(NOUNS)}  # of the search for a side view


def walks_of_a_scene(rng: np.random.Generator) -> list[tuple[Sight, Sight]]:
    """The sides of twelve walks through five rooms, common nouns in more of them; both sides of a walk show one room each."""
    rooms = [[noun for place, noun in enumerate(NOUNS) if rng.random() < 0.5 * 0.9**place] for _ in range(5)]
    pairs = []
    for _ in range(12):
        walk = Walk(Path(np.zeros((2, 3)), 1.0), np.zeros(2), 0.0, "short", "room")
        first, second = (frozenset(rooms[place]) for place in rng.permutation(5)[:2])
        clear = [{noun: 0 for noun in sorted(nouns) if rng.random() < 0.6} for nouns in (first, second)]
        pairs.append((Sight(walk, "left", clear[0], first), Sight(walk, "right", clear[1], second)))
    return pairs


def asked_and_offered(scenes: int, chosen_first: bool = False) -> tuple[Counter[str], Counter[str]]:
    """How often each noun is right and how often it is an option, in ten questions of each scene.

    ``chosen_first``: what happens where the answer is drawn before the filters are asked.
    """
    right, offered = Counter[str](), Counter[str]()
    for seed in range(scenes):
        rng = np.random.default_rng(seed)
        puzzles = all_puzzles(walks_of_a_scene(rng))
        passes = {puzzle: bool(rng.random() < SURVIVAL[puzzle.noun]) for puzzle in puzzles}
        sets = PuzzleSets(puzzles, 4)
        for _ in range(10):
            found = sets.draw(lambda puzzle: puzzle.sight.any if chosen_first or passes[puzzle] else None, rng)  # noqa: B023
            if found is not None and passes[found[0]]:
                right[found[0].noun] += 1
                offered.update(puzzle.noun for puzzle in found)
    return right, offered


def surplus(right: Counter[str], offered: Counter[str]) -> np.ndarray:
    """Right answers beyond one in four, per noun, in standard deviations of a fair draw."""
    return np.array([(right[noun] - offered[noun] / 4) / np.sqrt(offered[noun] * 3 / 16) for noun in sorted(offered)])


def test_a_noun_is_right_one_time_in_four_whatever_the_filters_prefer() -> None:
    assert np.mean(surplus(*asked_and_offered(60)) ** 2) < 2
    assert np.mean(surplus(*asked_and_offered(60, chosen_first=True)) ** 2) > 2.5, "the filters must matter"


def test_no_side_of_a_set_shows_another_noun_and_opposite_sides_are_preferred() -> None:
    shares = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sets = PuzzleSets(all_puzzles(walks_of_a_scene(rng)), 4)
        hidden = {puzzle: frozenset(rng.choice(NOUNS, 2).tolist()) for puzzle in sets.puzzles}
        used: set[int] = set()
        while (chosen := sets.draw(hidden.__getitem__, rng)) is not None:
            nouns = {puzzle.noun for puzzle in chosen}
            assert len(nouns) == 4
            for puzzle in chosen:
                assert nouns & (puzzle.sight.any | hidden[puzzle]) == {puzzle.noun}
                others = nouns - {puzzle.noun}
                shares.append(
                    (len(others & puzzle.opposite) / 3, len(puzzle.opposite) / len(set(NOUNS) - puzzle.sight.any))
                )
            walk = chosen[0].sight.walk
            assert id(walk) not in used
            used.add(id(walk))
            sets.drop(walk)
    drawn, chance = np.mean(shares, axis=0)
    assert drawn > 1.5 * chance > 0


def test_what_the_selector_takes_does_not_depend_on_which_of_a_set_is_asked() -> None:
    rng = np.random.default_rng(1)
    kinds = ["bathroom", "kitchen", "living room"]
    rounds: list[dict[str, Any]] = []
    for number in range(90):
        rooms = sorted(str(kind) for kind in rng.choice(kinds, 4, p=[0.1, 0.2, 0.7]))
        rounds.append(
            {"name": f"s{number}", "bin": BINS[number % 3], "rooms": rooms, "nouns": NOUNS[number % 20 :][:4]}
        )
    taken = []
    for place in (0, 3):
        selector = PathTracingSelector(24, np.random.default_rng(2))
        picked = []
        for one in rounds:
            facts = {
                "distance_bin": one["bin"],
                "rooms": one["rooms"],
                "room": one["rooms"][place],
                "answer": one["nouns"][place],
                "distractors": [noun for noun in one["nouns"] if noun != one["nouns"][place]],
                "in_view": [one["nouns"][place]],
                "opposite": [],
            }
            picked += [question.candidate_id for question in selector.offer(one["name"], told(facts))]
        taken.append(picked)
    assert taken[0] == taken[1] and len(taken[0]) == 24
    assert Counter(BINS[int(name[1:]) % 3] for name in taken[0]) == dict.fromkeys(BINS, 8)


def told(facts: dict[str, Any]) -> dict[str, Any]:
    """``facts`` with what wording needs besides."""
    noun = {"name": facts["answer"], "bearing_deg": 90.0, "distance_m": 2.0}
    return {
        **{"variant": "td_path", "direction": "forward", "side": "left", "start": "waypoint 1", "end": "waypoint 2"},
        **{"heading_on_map": "top", "side_on_map": "left", "visible_side": [facts["answer"]], "path_length_m": 1.5},
        **{"object": noun, "options": [facts["answer"]]},
        **facts,
    }


@pytest.mark.parametrize("plain", [False, True])
def test_plain_options_stand_in_the_order_of_the_alphabet(plain: bool) -> None:
    selector = PathTracingSelector(24, np.random.default_rng(0), plain)
    ordered, letters = [], Counter[str]()
    for number in range(24):
        one, *others = (NOUNS[(7 * number + step) % len(NOUNS)] for step in range(4))
        facts = {"distance_bin": BINS[number % 3], "rooms": ["kitchen"], "room": "kitchen", "answer": one}
        facts |= {"distractors": others, "in_view": [one], "opposite": []}
        for question in selector.offer(f"s{number}", told(facts)):
            ordered.append(list(question.choices) == sorted(question.choices))
            letters[question.answer] += 1
            assert question.choices["ABCD".index(question.answer)].endswith(one)
    assert len(ordered) == 24 and all(ordered) == plain and len(letters) == 4


def test_a_home_asks_with_its_own_nouns_as_options() -> None:
    config = PathTracingConfig(samples_per_scene=2, walks_per_bin=4, variants=("td_path",))
    with EmbeddedBackend() as backend:
        found = candidates_of(PathTracing(config), backend, range(9, 10), size=64)
        nouns = {item.name for item in backend.objects()}
    assert len(found) == 2
    selector = PathTracingSelector(6, np.random.default_rng(0))
    for scene_id, candidate, _ in found:
        facts = candidate.facts
        assert len(set(facts["distractors"])) == 3 and set(facts["distractors"]) <= nouns
        assert set(facts["distractors"]) <= set(facts["options"][1:]) and len(facts["rooms"]) == 4
        (question,) = selector.offer(f"{scene_id}-{candidate.key}", facts)
        assert sorted(question.facts["options"]) == sorted([facts["answer"], *facts["distractors"]])
