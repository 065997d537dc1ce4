"""What a noun counts on each backend: its own categories, whole, and nothing that may be taken for it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen.backends.ai2thor.objects import noun_of
from datagen.backends.base import SceneObject
from datagen.backends.embedded.blocks import COLOURS as BLOCK_COLOURS
from datagen.backends.embedded.furniture import FURNITURE
from datagen.backends.habitat.categories import FURNITURE as SCANNED
from datagen.backends.registry import BACKENDS
from datagen.tasks.counting_questions import MultiviewCountingSelector
from datagen.tasks.multiview_counting import countable
from datagen.tasks.places import candidate_key, place_of, scene_of
from datagen.tasks.vocabulary import COLOURS, VOCABULARIES, looks_like, vocabulary_of

#: Object types of AI2-THOR 5.0 that a vocabulary may name (ai2thor.allenai.org, "Object Types").
THOR_TYPES = re.findall(
    r"\w+",
    """AluminumFoil ArmChair BathtubBasin Blinds Bowl Box Bread Cabinet Chair Cloth CoffeeMachine CoffeeTable
    CounterTop Cup Curtains Desk DeskLamp Desktop DiningTable Drawer Dresser FloorLamp Footstool Fridge GarbageBag GarbageCan
    Kettle Laptop LaundryHamper Microwave Mug Ottoman Painting Pan Poster Pot RoomDecor Shelf ShelvingUnit ShowerCurtain
    ShowerDoor ShowerGlass ShowerHead SideTable SinkBasin Sofa Stool Television Toaster ToiletPaper TVStand""",
)
CATEGORIES = {"embedded": set(FURNITURE), "ai2thor": {noun_of(kind) for kind in THOR_TYPES}, "habitat": set(SCANNED)}


def scene(*categories: str) -> Any:
    """Objects of these categories, all of which may be asked about."""
    corner = (0.0, 0.0, 0.0)
    objects = tuple(SceneObject(f"o{i}", i, name, name, name, corner, corner) for i, name in enumerate(categories))
    return SimpleNamespace(objects=objects, candidates=frozenset(range(len(objects))))


@pytest.mark.parametrize("backend", [name for name, entry in BACKENDS.items() if not entry.tasks])
def test_a_vocabulary_speaks_of_its_backends_categories(backend: str) -> None:
    vocabulary, known = VOCABULARIES[backend], CATEGORIES[backend]
    assert {member for members in vocabulary.groups.values() for member in members} <= known
    assert vocabulary.uncountable <= known
    asked = known | set(vocabulary.groups)
    assert {one for noun, alike in vocabulary.lookalikes.items() for one in (noun, *alike)} <= asked
    for noun, members in vocabulary.groups.items():
        assert noun not in known or noun in members, f"'{noun}' is a category of its own and would be left out"
        assert not set(members) & set(vocabulary.lookalikes.get(noun, ())), "a member is no lookalike"


def test_on_habitat_a_table_is_every_table_and_a_lamp_every_lamp() -> None:
    view = scene("table", "coffee table", "table", "lamp", "floor lamp", "book", "chair")
    nouns = countable(view, VOCABULARIES["habitat"], True)
    assert nouns["table"] == {0, 1, 2} and nouns["lamp"] == {3, 4} and nouns["seat"] == nouns["chair"] == {6}
    assert "book" not in nouns
    alone = countable(view, VOCABULARIES["habitat"], False)
    assert alone["table"] == {0, 2} and alone["coffee table"] == {1} and "seat" not in alone


def test_on_embedded_homes_kinds_join_categories() -> None:
    nouns = countable(scene("table lamp", "floor lamp", "books", "desk"), VOCABULARIES["embedded"], True)
    assert nouns == {"desk": {3}, "floor lamp": {1}, "lamp": {0, 1}, "table": {3}, "table lamp": {0}}


@pytest.mark.parametrize(
    ("category", "noun", "alike"),
    [
        ("bar stool", "stool", True),
        ("dining table", "table", True),
        ("monitor", "television", True),
        ("stool", "bar stool", True),
        ("coffee table", "side table", True),
        ("fruit bowl", "bowl", True),
        ("bathroom sink", "sink", True),
        ("chest of drawers", "toy chest", True),
        ("chest of drawers", "kitchen drawers", False),
        ("toadstool", "stool", False),
        ("table lamp", "table", False),
        ("red cube", "blue cube", False),
        ("red cube", "cube", True),
        ("red cube", "red cube", True),
    ],
)
def test_what_may_be_taken_for_what(category: str, noun: str, alike: bool) -> None:
    assert looks_like(category, noun, VOCABULARIES["embedded"]) is alike


def test_the_colours_that_tell_things_apart_are_those_of_block_rooms() -> None:
    assert set(BLOCK_COLOURS) == COLOURS


def test_a_backend_without_a_vocabulary_has_an_empty_one() -> None:
    assert not vocabulary_of("nobody's").groups and not vocabulary_of("nobody's").lookalikes


@pytest.mark.parametrize("scene_id", ["home-train-7", "00-turnpike-house", "hm3d-turn2-x"])
def test_ids_of_hyphenated_nouns_and_scenes_can_be_taken_apart(scene_id: str) -> None:
    for turn in ("", "-turn3"):
        name = f"mvc-habitat-{scene_id}{turn}-{candidate_key('02', 'l-shaped sofa')}"
        assert place_of(name) == f"mvc-habitat-{scene_id}{turn}-02"
        assert scene_of(name) == f"mvc-habitat-{scene_id}"


def test_a_home_is_asked_about_a_noun_with_a_hyphen_once() -> None:
    selector = MultiviewCountingSelector(50, 1.0, np.random.default_rng(0))
    asked = []
    for number in range(200):
        facts = {
            "category": "l-shaped sofa", "members": ["l-shaped sofa"], "count": 1 + number % 4, "movement": "rotation",
            "instances_per_frame": [["a"]], "also_on_map": {}, "layout": [],
        }  # fmt: skip
        name = f"mvc-habitat-house-{number // 5}-{candidate_key(f'{number % 5:02d}', 'l-shaped sofa')}"
        asked += [scene_of(question.candidate_id) for question in selector.offer(name, facts)]
    assert len(asked) > 5 and len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("noun", "kinds", "words"),
    [
        ("chair", None, "chairs"),
        ("seat", ["chair", "sofa"], "seats (chairs, sofas)"),
        ("table", ["table", "desk", "bookshelf"], "tables (desks, bookshelves and others)"),
    ],
)
def test_a_question_about_a_kind_names_what_belongs_to_it(noun: str, kinds: list[str] | None, words: str) -> None:
    selector = MultiviewCountingSelector(1, 1.0, np.random.default_rng(0))
    found = []
    for count in (1, 2, 3, 4):
        facts = {
            "category": noun, "members": ["x"], "count": count, "movement": "rotation", "instances_per_frame": [["a"]],
            "also_on_map": {}, "layout": [], **({"kinds": kinds} if kinds else {}),
        }  # fmt: skip
        found += selector.offer(f"mvc-b-s{count}-00-x", facts)
    (question,) = found
    assert f" {words} " in f" {question.question.replace('?', ' ').replace('.', ' ')} "


def test_a_scan_with_the_words_of_habitats_annotators_is_counted_with_their_vocabulary() -> None:
    assert vocabulary_of("scannetpp") == VOCABULARIES["habitat"] == vocabulary_of("matterport3d")
    assert vocabulary_of("messytable") != VOCABULARIES["habitat"]
