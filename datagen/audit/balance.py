"""Counts: letters, answers and facts, options that give themselves away, scenes and pictures that occur twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.audit.items import Item, Picture
from ipt.common.statistics import wilson_interval

MAX_FACT_VALUES = 80
NEAR_DUPLICATE_BITS = 3
NULL_DRAWS = 400
BLOCK = 4096


def letter_shares(items: Sequence[Item]) -> dict[str, Any]:
    """Share of each answer letter among questions with equally many choices, and the largest distance from uniform.

    ``deviation`` is in points (hundredths) and is the largest over the numbers of choices.
    """
    groups: dict[int, Counter[str]] = defaultdict(Counter)
    for item in items:
        groups[len(item.choices)]["ABCDEFGHIJKLMNOPQRSTUVWXYZ"[item.answer]] += 1
    shares = {
        choices: {letter: count[letter] / count.total() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:choices]}
        for choices, count in sorted(groups.items())
    }
    deviation = max(abs(share - 1 / choices) for choices, row in shares.items() for share in row.values())
    return {"shares": {str(choices): row for choices, row in shares.items()}, "deviation": 100 * deviation}


def fact_counts(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    """How often each value of each scalar fact occurs, the question type and the answer text among them.

    Facts that take more than ``MAX_FACT_VALUES`` values (identifiers, coordinates) have no balance to speak of.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        own = {"question_type": item.question_type, "answer_text": item.choices[item.answer]}
        for name, value in {**item.facts, **own}.items():
            counts[name][str(value)] += 1
    return {name: dict(count.most_common()) for name, count in counts.items() if len(count) <= MAX_FACT_VALUES}


def option_priors(items: Sequence[Item]) -> list[dict[str, Any]]:
    """P(correct | option appears) for every option text, with what guessing would give and a 95% Wilson interval."""
    appears, correct = Counter[str](), Counter[str]()
    expected: dict[str, float] = defaultdict(float)
    for item in items:
        appears.update(item.choices)
        correct[item.choices[item.answer]] += 1
        for choice in item.choices:
            expected[choice] += item.chance
    rows = []
    for option, count in appears.most_common():
        low, high = wilson_interval(correct[option], count)
        rate, chance = correct[option] / count, expected[option] / count
        rows.append({"option": option, "appears": count, "rate": rate, "chance": chance, "low": low, "high": high})
    return rows


def elimination(items: Sequence[Item], rng: np.random.Generator) -> dict[str, Any]:
    """How well one guesses after striking out every option that is never correct anywhere in the set.

    Rare options are never correct by chance alone, so the rate is compared with its distribution over answers drawn
    uniformly among each question's options: ``null_high`` is its 97.5% quantile, the bar.
    """
    numbers: dict[str, int] = {}
    width = max(len(item.choices) for item in items)
    options = np.full((len(items), width), -1)
    for row, item in enumerate(items):
        options[row, : len(item.choices)] = [numbers.setdefault(choice, len(numbers)) for choice in item.choices]
    present = options >= 0
    counts = present.sum(axis=1)

    def guess(answers: NDArray[np.intp]) -> tuple[float, float]:
        ever = np.zeros(len(numbers), dtype=bool)
        ever[options[np.arange(len(items)), answers]] = True
        remaining = (ever[options] & present).sum(axis=1)
        return float((1 / remaining).mean()), float((remaining < counts).mean())

    rate, eliminable = guess(np.array([item.answer for item in items]))
    draws = [guess(rng.integers(0, counts))[0] for _ in range(NULL_DRAWS)]
    seen = {item.choices[item.answer] for item in items}
    return {
        "guess_rate": rate,
        "chance": float((1 / counts).mean()),
        "null_mean": float(np.mean(draws)),
        "null_high": float(np.quantile(draws, 0.975)),
        "questions_with_eliminable_option": eliminable,
        "never_correct": sorted(set(numbers) - seen),
    }


def scenes_in_two_splits(items: Sequence[Item]) -> dict[str, list[str]]:
    """Scenes that occur in more than one split, with those splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for item in items:
        splits[item.scene].add(item.split)
    return {scene: sorted(found) for scene, found in sorted(splits.items()) if len(found) > 1}


def near_duplicates(items: Sequence[Item]) -> dict[str, Any]:
    """Pairs of pictures of different scenes whose perceptual hashes differ in at most 3 of 64 bits.

    Equal pictures within a scene are no news: question variants share them. Quadratic, in blocks of matrix products.
    """
    pictures: list[tuple[Item, Picture]] = []
    known: set[tuple[str, str]] = set()
    for item in items:
        for picture in (*item.views, item.imagination):
            if (item.scene, picture.sha256) not in known:
                known.add((item.scene, picture.sha256))
                pictures.append((item, picture))
    hashes = np.array([picture.perceptual_hash for _, picture in pictures], dtype=">u8")
    signs = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
    scenes = np.unique([item.scene for item, _ in pictures], return_inverse=True)[1]
    pairs = []
    for start in range(0, len(pictures), BLOCK):
        for other in range(start, len(pictures), BLOCK):
            close = signs[start : start + BLOCK] @ signs[other : other + BLOCK].T >= 64 - 2 * NEAR_DUPLICATE_BITS
            close &= scenes[start : start + BLOCK, None] != scenes[None, other : other + BLOCK]
            rows, columns = np.nonzero(np.triu(close) if start == other else close)
            pairs += [(start + int(row), other + int(column)) for row, column in zip(rows, columns, strict=True)]
    examples = [[f"{item.id} ({picture.role})" for item, picture in (pictures[a], pictures[b])] for a, b in pairs[:20]]
    crossing = sum(pictures[a][0].split != pictures[b][0].split for a, b in pairs)
    return {"pictures": len(pictures), "pairs": len(pairs), "pairs_across_splits": crossing, "examples": examples}
