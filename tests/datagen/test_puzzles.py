"""Options that say nothing of the answer, by what they are or by where they stand, whatever is common and near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import Path
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.tasks import path_questions
from datagen.tasks.balanced_options import MEASURES, Choice, OptionPool, SetBalancer, shared_ranks
from datagen.tasks.distractors import QuestionNouns, preference
from datagen.tasks.path_questions import PathTracingSelector, option_pool
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.path_tracing import PathTracing, taken_for
from datagen.tasks.paths import BINS, OnMap, Sight, Walk
from datagen.tasks.places import place_of
from datagen.tasks.puzzles import draw_puzzle, draw_puzzles, with_distractors
from datagen.tasks.vocabulary import out_of_view
from tests.datagen.conftest import candidates_of

NOUNS = [f"noun{number:02d}" for number in range(14)]
ANY_SCENE = PathTracingConfig(options="any_scene")


def biased_pool(rng: np.random.Generator) -> OptionPool:
    """Common nouns are near and large, the answer is the nearest of all one time in two, and noun 0 is a wall of curtains: hardly
    ever out of view."""
    names = [noun for place, noun in enumerate(NOUNS) if rng.random() < 0.9 - 0.04 * place]
    names = [names[index] for index in rng.permutation(len(names))]
    answer, others = names[0], [noun for noun in names[1:] if noun != NOUNS[0] or rng.random() < 0.05]
    near = {noun: float(rng.uniform(0.5, 5) + 0.1 * int(noun[4:])) for noun in names}
    if rng.random() < 0.4:
        near[answer] = 0.4
    on_map = {
        noun: (near[noun], 0.8 * near[noun], float(rng.uniform(0.1, 1)), int(rng.integers(1, 4))) for noun in names
    }
    half = len(others) // 2
    return OptionPool(answer, tuple(others[:half]), tuple(others[half:]), on_map, 2)


def pools(count: int, seed: int) -> list[OptionPool]:
    rng = np.random.default_rng(seed)
    found = (biased_pool(rng) for _ in range(10 * count))
    return [pool for pool in found if pool.sets(3)][:count]


@cache
def drawn(balanced: bool) -> list[tuple[OptionPool, tuple[str, ...]]]:
    """Questions with their distractors: balanced, or any set of their scene."""
    rng = np.random.default_rng(3)
    balancer, found = SetBalancer(3), []
    for seed in range(3):
        block = pools(300, seed)
        any_set = [pool.sets(3)[int(rng.integers(len(pool.sets(3))))] for pool in block]
        picks = sets_of(balancer.draw([[pool] for pool in block], rng)) if balanced else any_set
        found += [(pool, pick) for pool, pick in zip(block, picks, strict=True) if pick is not None]
    return found


def sets_of(choices: Sequence[Choice | None]) -> list[tuple[str, ...] | None]:
    return [None if choice is None else choice.wrong for choice in choices]


def surplus(questions: list[tuple[OptionPool, tuple[str, ...]]], what: str) -> float:
    """Right answers beyond one in four: mean square over nouns, pairs of nouns, or ranks, in variances of a guess."""
    right, offered = Counter[Any](), Counter[Any]()
    for pool, wrong in questions:
        options = (pool.answer, *wrong)
        if what in MEASURES:
            ranks = shared_ranks([pool.on_map[noun][MEASURES.index(what)] for noun in options])
            for place, shares in enumerate(ranks):
                for rank, share in enumerate(shares):
                    right[rank] += share * (place == 0)
                    offered[rank] += share
            continue
        for noun in options:
            names = [noun] if what == "noun" else [(noun, other) for other in options if other != noun]
            offered.update(names)
            right.update(names if noun == pool.answer else [])
    often = [name for name in offered if offered[name] >= 60]
    return float(np.mean([(right[n] - offered[n] / 4) ** 2 / (offered[n] * 3 / 16) for n in often]))


@pytest.mark.parametrize("what", ["noun", "pair", *MEASURES])
def test_nothing_of_the_options_tells_which_is_right(what: str) -> None:
    balanced = drawn(True)
    assert len(balanced) > 500, "few are refused"
    assert surplus(balanced, what) < 2.0
    if what in ("noun", "from_m1_m", "from_path_m"):
        assert surplus(drawn(False), what) > 4, "what is to be balanced must matter"


def test_equal_measures_share_their_ranks() -> None:
    assert shared_ranks([2.0, 1.0, 2.0]).tolist() == [[0, 0.5, 0.5], [1, 0, 0], [0, 0.5, 0.5]]


@pytest.mark.parametrize(("least", "count"), [(0, 20), (2, 10), (3, 1)])
def test_so_many_distractors_stand_opposite(least: int, count: int) -> None:
    pool = OptionPool("lamp", ("a", "b", "c"), ("x", "y", "z"), {}, least)
    sets = pool.sets(3)
    assert len(sets) == count == len(set(sets)) and all(len({*one} & {"a", "b", "c"}) >= least for one in sets)


def test_a_noun_in_view_or_off_the_map_is_no_distractor() -> None:
    facts = {"answer": "lamp", "in_view": ["lamp", "rug"], "opposite": ["sofa", "desk"]}
    pool = option_pool({**facts, "on_map": {"lamp": [], "rug": [], "sofa": [], "bed": []}}, 1)
    assert (pool.opposite, pool.elsewhere, pool.min_opposite) == (("sofa",), ("bed",), 1)


def test_what_something_in_view_may_be_taken_for_is_no_distractor() -> None:
    """A bowl beside a fruit bowl, a television beside a monitor; with distractors of all scenes, too."""
    assert out_of_view(["bowl", "fruit bowl", "plant"], ["fruit bowl", "lamp"]) == ["plant"]
    assert taken_for({"monitor", "lamp"}, "embedded") == {"television"}
    one = QuestionNouns("fruit bowl", {}, frozenset({"fruit bowl", "side table"}), frozenset({"plant"}), frozenset())
    welcome = {noun: preference(one, noun) for noun in ("bowl", "coffee table", "plant", "bed")}
    assert welcome == {"bowl": 0.0, "coffee table": 0.0, "plant": 4.0, "bed": 1.0}


def sight_pair(opposite: dict[str, float], elsewhere: dict[str, float]) -> tuple[Sight, Sight]:
    """A lamp on the left, 2 m from M1; on the right and elsewhere things at other distances; a rug is seen on the left, too."""
    walk = Walk(Path(np.zeros((2, 3)), 1.0), np.zeros(2), 0.0, "short", "room")
    away = {"lamp": 2.0, "rug": 1.0, "bath mat": 1.0, **opposite, **elsewhere}
    on_map = {noun: OnMap(distance, 1.0, 1.0, 1) for noun, distance in away.items()}
    here = Sight(walk, "left", {"lamp": 0}, frozenset({"lamp", "rug", "mat"}), on_map)
    return here, Sight(walk, "right", dict.fromkeys(opposite, 1), frozenset(opposite), on_map)


@pytest.mark.parametrize(
    ("opposite", "elsewhere", "numbers"),
    [
        ({"a": 1, "b": 3}, {"c": 4}, [1]),
        ({"a": 1, "b": 1}, {"c": 1}, [3]),
        ({"a": 3, "b": 3}, {"c": 1, "d": 4}, [0, 1]),
        ({"a": 1, "b": 3}, {"c": 1, "d": 4}, [1, 2]),
        ({"a": 1, "b": 1, "c": 3, "d": 3}, {"e": 1, "f": 3}, [0, 1, 2, 3]),
        ({"a": 1, "b": 3}, {}, []),
        ({"a": 1}, {"c": 1, "d": 4}, []),
    ],
)
def test_a_side_is_asked_about_only_with_enough_distractors(
    opposite: dict[str, float], elsewhere: dict[str, float], numbers: list[int]
) -> None:
    here, across = sight_pair(opposite, elsewhere)
    assert dict(with_distractors(2)(here, across)) == ({"lamp": numbers} if numbers else {})
    off_the_map = Sight(here.walk, "left", {"lamp": 0}, here.any, {n: m for n, m in here.on_map.items() if n != "lamp"})
    assert not with_distractors(2)(off_the_map, across)


def test_the_number_of_nearer_distractors_is_drawn_before_the_noun() -> None:
    """Nine things that are nearest of all and one for which three are nearer: it is asked for half of the time."""
    names = [f"thing {number}" for number in range(10)]
    here, across = sight_pair({}, {})
    sight = Sight(here.walk, "left", dict.fromkeys(names, 0), here.any, here.on_map)
    possible = {name: [0] for name in names[:9]} | {names[9]: [3]}

    def askable(one: Sight, _: Sight) -> dict[str, list[int]]:
        return possible if one.side == "left" else {}

    asked = Counter(
        getattr(draw_puzzle((sight, across), np.random.default_rng(seed), askable), "noun", None) for seed in range(400)
    )
    assert 160 < asked[names[9]] < 240 and len(asked) == 10


def told(facts: dict[str, Any]) -> dict[str, Any]:
    """``facts`` with what wording needs besides."""
    noun = {"name": facts["answer"], "bearing_deg": 90.0, "distance_m": 2.0}
    return {
        **{"variant": "td_path", "direction": "forward", "side": "left", "start": "waypoint 1", "end": "waypoint 2"},
        **{
            "heading_on_map": "top",
            "side_on_map": "left",
            "visible_side": [facts["answer"]],
            "layout": [],
            "path_length_m": 1.5,
        },
        **{"object": noun, "options": [facts["answer"]], "room": "kitchen", "on_map": {}},
        **facts,
    }


def pooled(number: int) -> dict[str, Any]:
    """The facts of a question with its pool of distractors."""
    (pool,) = pools(1, number)
    facts = {"answer": pool.answer, "opposite": list(pool.opposite), "in_view": [pool.answer], "on_map": pool.on_map}
    return told({**facts, "distance_bin": BINS[number % 3]})


@pytest.mark.parametrize("plain", [False, True])
def test_plain_options_stand_in_the_order_of_the_alphabet(plain: bool) -> None:
    selector = PathTracingSelector(PathTracingConfig(plain=plain), 24, np.random.default_rng(0))
    ordered, letters, number = [], Counter[str](), 0
    while selector.remaining:
        facts = pooled(number)
        number += 1
        for question in selector.offer(f"s{number}", facts):
            ordered.append(list(question.choices) == sorted(question.choices))
            letters[question.answer] += 1
            assert question.choices["ABCD".index(question.answer)].endswith(question.facts["answer"])
    assert len(ordered) == 24 and all(ordered) == plain and len(letters) == 4


def test_refused_questions_are_asked_for_again_and_the_bins_come_out_even() -> None:
    selector = PathTracingSelector(PathTracingConfig(), 60, np.random.default_rng(0))
    bins, number = Counter[str](), 0
    while selector.remaining:
        bins.update(question.facts["distance_bin"] for question in selector.offer(f"s{number}", pooled(number)))
        number += 1
    assert bins == dict.fromkeys(BINS, 20) and number > 61


def test_a_home_asks_with_its_own_nouns_as_options() -> None:
    config = PathTracingConfig(samples_per_scene=2, walks_per_bin=4, variants=("td_path",))
    with EmbeddedBackend() as backend:
        found = candidates_of(PathTracing(config), backend, range(9, 10), size=64)
        nouns = {item.name for item in backend.objects()}
    assert {place_of(candidate.key) for _, candidate, _ in found} == {"00", "01"}
    selector = PathTracingSelector(config, 60, np.random.default_rng(0))
    for scene_id, candidate, _ in found:
        facts = candidate.facts
        assert set(facts["options"]) == set(facts["on_map"]) <= nouns
        pool = option_pool(facts, 2)
        assert pool.sets(3) and set(pool.opposite) <= set(facts["opposite"])
        assert all(len(measures) == len(MEASURES) for measures in facts["on_map"].values())
        assert 30 <= abs(facts["object"]["bearing_deg"]) <= 120, "whichever way one goes"
        selector.offer(f"{scene_id}-{candidate.key}", facts)
    assert len(selector.pending()) == len(found) > 2 and selector.remaining == 58, "several answers of each view"


def test_the_balance_asks_for_what_makes_nothing_of_the_options_tell() -> None:
    """One noun is never out of view, so that it cannot be a wrong option: asked for often, it would be known for the answer."""
    rng, others = np.random.default_rng(0), NOUNS[1:]
    views = []
    for _ in range(300):
        shown, *wrong = (others[n] for n in rng.permutation(len(others))[:6])
        on_map = dict.fromkeys(NOUNS, (1.0, 1.0, 1.0, 1))
        views.append([OptionPool(answer, tuple(wrong), (), on_map, 2) for answer in (NOUNS[0], shown)])
    first, both = (SetBalancer(3).draw(some, rng) for some in ([view[:1] for view in views], views))
    assert sum(choice is not None for choice in first) < 100
    asked = Counter(choice.pool.answer for choice in both if choice)
    assert asked.total() > 240 and asked[NOUNS[0]] < 30
    assert all(choice.pool in view for choice, view in zip(both, views, strict=True) if choice)


def test_candidates_of_a_view_wait_together_and_one_of_them_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of each view here; the view that closes a block has offered one when the block is drawn."""
    monkeypatch.setattr(path_questions, "BLOCK", 3)
    monkeypatch.setattr(
        SetBalancer, "draw", lambda _, views, rng: [Choice(view[-1], view[-1].sets(3)[0]) for view in views]
    )
    selector, asked = PathTracingSelector(PathTracingConfig(), 6, np.random.default_rng(0)), []
    for number in range(9):
        facts = pooled(number)
        for noun in (facts["answer"], "vase", "globe"):
            waiting = len(selector.pending())
            asked += selector.offer(f"s{number}-00-{noun}", {**facts, "answer": noun})
            assert len(selector.pending()) == (waiting + 1 if number % 3 < 2 and number < 6 else 0)
    assert [question.candidate_id.split("-")[0] for question in asked] == [f"s{number}" for number in range(6)]
    assert [question.facts["answer"] == "globe" for question in asked] == [True, True, False] * 2
    assert all(question.candidate_id.endswith(question.facts["answer"]) for question in asked)


def test_bins_take_turns_and_what_both_sides_show_is_not_opposite() -> None:
    walks = [Walk(Path(np.zeros((2, 3)), 1.0), np.zeros(2), 0.0, name, "room") for name in BINS for _ in range(3)]
    looked = []

    def look(walk: Walk) -> tuple[Sight, Sight]:
        looked.append(walk)
        left = Sight(walk, "left", {"lamp": 0}, frozenset({"lamp", "rug"}))
        return left, Sight(walk, "right", {"rug": 1, "sofa": 2}, frozenset({"rug", "sofa"}))

    full = set[str]()
    turns = draw_puzzles(walks, look, full, np.random.default_rng(0))
    first = next(turns)
    assert looked == [first.sight.walk], "one looks around where it is a walk's turn"
    puzzles = [first, *turns]
    assert len(puzzles) == 9
    full.add("short")
    assert {puzzle.sight.walk.bin for puzzle in draw_puzzles(walks, look, full, np.random.default_rng(0))} == {
        *BINS[1:]
    }
    assert [{puzzle.sight.walk.bin for puzzle in puzzles[n : n + 3]} for n in (0, 3, 6)] == [set(BINS)] * 3
    opposite = {puzzle.noun: puzzle.opposite for puzzle in puzzles}
    assert opposite.pop("lamp") == {"sofa"} and set(opposite.values()) == {frozenset({"lamp"})}


def test_options_that_go_together_do_not_betray_the_odd_one_out() -> None:
    """Rooms of four nouns: two on the opposite side are of one room, the answer mostly of another. Balanced, the answer has
    company of its own room often enough that a guess among options without any is right little more than one time in four."""
    rng, rooms = np.random.default_rng(0), [[f"noun {number}" for number in range(f, f + 4)] for f in range(0, 24, 4)]
    room_of = {noun: number for number, room in enumerate(rooms) for noun in room}
    block = []
    for _ in range(600):
        here, there, far = ([rooms[room][n] for n in rng.permutation(4)] for room in rng.permutation(6)[:3])
        across = here[1:3] if rng.random() < 0.35 else there[:2]
        on_map = dict.fromkeys(room_of, (1.0, 1.0, 1.0, 1))
        block.append(OptionPool(here[0], tuple(across), (here[3], *there[2:], *far[:2]), on_map, 2))

    def odd_one_is_right(picks: Sequence[tuple[str, ...] | None]) -> float:
        found = []
        for pool, wrong in zip(block, picks, strict=True):
            if wrong is not None:
                options = (pool.answer, *wrong)
                rooms_of_options = [room_of[noun] for noun in options]
                alone = [noun for noun in options if rooms_of_options.count(room_of[noun]) == 1]
                found.append((pool.answer in alone) / len(alone) if alone else 0.25)
        assert len(found) > 430, "few are refused"
        return float(np.mean(found))

    assert odd_one_is_right([pool.sets(3)[int(rng.integers(len(pool.sets(3))))] for pool in block]) > 0.42
    assert odd_one_is_right(sets_of(SetBalancer(3).draw([[pool] for pool in block], rng))) < 0.36
