"""What a question's geometry says of an option without the imagination: where it stands on the map, where the object was before.

A clue is one word for each option; the baselines of the audit learn from other scenes which words go with right options, so
that "the nearest is right" and "the nearest is never right" are found alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datagen.language import spelled, without_article
from ipt.samples.sample import SpatialSample

Facts = Mapping[str, Any]
DISTANCE_STEP_M = 0.5
#: The places of a noun's measures in the facts, see `datagen.tasks.paths.OnMap`.
ON_MAP = {"nearest_to_m1": 0, "nearest_to_path": 1, "largest": 2, "most_frequent": 3}


def clues_of(sample: SpatialSample) -> dict[str, tuple[str, ...]]:
    """The clues of a sample, each with a word for each of its choices; none where it lacks the facts for them."""
    find = CLUES.get(sample.task)
    return find(sample.facts, sample.choices) if find else {}


def path_clues(facts: Facts, choices: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The rank of each option by distance from M1 and from the path, by size and by number on the map."""
    nouns = [without_article(choice) for choice in choices]
    on_map = {spelled(noun): measures for noun, measures in facts.get("on_map", {}).items()}
    if not set(nouns) <= set(on_map):
        return {}
    return {name: ranked([on_map[noun][place] for noun in nouns]) for name, place in ON_MAP.items()}


def perspective_clues(facts: Facts, choices: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Where the object was before the move: its side, or its distance in steps of half a metre, beside each option."""
    if facts.get("kind") == "distance":
        before = int(facts["distance_before_m"] / DISTANCE_STEP_M)
        return {"distance_before": tuple(f"{before} {choice}" for choice in choices)}
    if str(facts.get("kind")).startswith("from_"):
        return {"side_before": tuple(f"{facts['kind']} {choice}" for choice in choices)}
    return {}


def counting_clues(facts: Facts, choices: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """How much more each option is than the largest number that one frame shows."""
    frames = facts.get("instances_per_frame")
    if frames is None or not all(choice.isdigit() for choice in choices):
        return {}
    largest = max(map(len, frames), default=0)
    return {"largest_single_frame": tuple(f"{max(int(choice) - largest, -1):+d}" for choice in choices)}


def ranked(values: Sequence[float]) -> tuple[str, ...]:
    """The rank of each value from the smallest, ``2`` or, where others are equal, ``2 to 3``."""
    found = []
    for value in values:
        below, equal = sum(other < value for other in values), sum(other == value for other in values)
        found.append(str(below) if equal == 1 else f"{below} to {below + equal - 1}")
    return tuple(found)


CLUES: Mapping[str, Callable[[Facts, Sequence[str]], dict[str, tuple[str, ...]]]] = {
    "pt": path_clues,
    "pet": perspective_clues,
    "mvc": counting_clues,
}
