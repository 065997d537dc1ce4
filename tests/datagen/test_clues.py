"""Guesses from geometry alone: a planted one is found, a fair set passes, and the bar has the margin that it states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datagen.audit.baselines import BASELINES, evaluate
from datagen.audit.clues import clues_of, ranked
from datagen.audit.items import Item, to_item
from ipt.common.seeding import generator
from ipt.common.statistics import Estimate
from tests.datagen.test_audit import path_tracing
from tests.synthetic import make_sample

BY_NAME = {baseline.name: baseline for baseline in BASELINES}


def sample(task: str, choices: tuple[str, ...], **facts: Any) -> Any:
    return make_sample(task=task, choices=choices, answer="A", facts=facts)


def test_a_path_has_the_ranks_of_its_options_on_the_map() -> None:
    on_map = {
        "lamp": [1.0, 0.5, 0.2, 2],
        "sofa": [2.0, 0.1, 2.0, 1],
        "box": [3.0, 0.4, 0.2, 1],
        "rug": [0.1, 0.1, 9.0, 1],
    }
    found = clues_of(sample("pt", ("a lamp", "a sofa", "some box"), on_map=on_map))
    assert found == {
        "nearest_to_m1": ("0", "1", "2"),
        "nearest_to_path": ("2", "0", "1"),
        "largest": ("0 to 1", "2", "0 to 1"),
        "most_frequent": ("2", "0 to 1", "0 to 1"),
    }
    assert clues_of(sample("pt", ("a lamp", "a piano"), on_map=on_map)) == {}, "the map does not show it"
    assert ranked([5, 5, 5]) == ("0 to 2",) * 3


def test_perspectives_have_what_was_before_the_move() -> None:
    closer = sample("pet", ("Closer", "Further"), kind="distance", distance_before_m=2.7)
    assert clues_of(closer) == {"distance_before": ("5 Closer", "5 Further")}
    side = sample("pet", ("Left", "Right"), kind="from_right")
    assert clues_of(side) == {"side_before": ("from_right Left", "from_right Right")}


def test_counts_have_the_largest_single_frame() -> None:
    frames = [["a"], ["a", "b"], [], ["c"]]
    found = clues_of(sample("mvc", ("1", "2", "3", "4"), instances_per_frame=frames))
    assert found == {"largest_single_frame": ("-1", "+0", "+1", "+2")}
    assert clues_of(sample("mvc", ("1", "two"), instances_per_frame=frames)) == {}


def test_the_samples_clues_reach_the_audit() -> None:
    made = make_sample(task="mvc", facts={"instances_per_frame": [["a"]]})
    assert to_item(made).clues == clues_of(made) != {}


def ranks(item: Item, rng: np.random.Generator, leak: float) -> Item:
    order = rng.permutation(len(item.choices))
    if rng.random() < leak:
        order[[item.answer, int(np.argmin(order))]] = order[[int(np.argmin(order)), item.answer]]
    return replace(item, clues={"nearest_to_m1": tuple(map(str, order))})


@pytest.mark.parametrize(("leak", "holds"), [(0.0, True), (0.5, False)])
def test_a_nearest_option_that_is_right_too_often_fails_its_bar(leak: float, holds: bool) -> None:
    rng = generator(0, "plant")
    items = [ranks(item, rng, leak) for item in path_tracing(0, 600)]
    found = evaluate(BY_NAME["nearest_to_m1"], items, {})
    assert BY_NAME["nearest_to_m1"].holds(found) is holds
    if leak:
        assert found.value == pytest.approx(0.375, abs=0.06), "it knows the nearest and nothing else"


@pytest.mark.parametrize(
    ("value", "low", "holds"), [(0.029, 0.01, True), (0.031, 0.01, False), (0.05, -0.01, True), (-0.05, -0.09, True)]
)
def test_geometry_may_beat_chance_by_its_margin_and_by_chance(value: float, low: float, holds: bool) -> None:
    assert BY_NAME["largest"].holds(Estimate(value, low, value + 0.02, 100, 20)) is holds
    assert BY_NAME["option_priors"].holds(Estimate(value, low, value + 0.02, 100, 20)) is (low <= 0 <= value + 0.02)
