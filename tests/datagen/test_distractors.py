"""Options must not tell the answer: each noun is right one time in four when it is an option."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from datagen.balance import Deck, ordered, quotas
from datagen.tasks.distractors import QuestionNouns, draw_distractors

NOUNS = [f"noun{number:02d}" for number in range(24)]


def biased_questions(count: int, rng: np.random.Generator) -> list[QuestionNouns]:
    """Scenes of six questions: common nouns are asked for more often, and are in view more often, as curtains are."""
    prior = 0.9 ** np.arange(len(NOUNS))
    asked: list[QuestionNouns] = []
    while len(asked) < count:
        present = [noun for noun, chance in zip(NOUNS, 0.2 + 0.5 * prior, strict=True) if rng.random() < chance]
        if not present:
            continue
        chances = dict(zip(present, rng.dirichlet(np.ones(len(present))).tolist(), strict=True))
        for _ in range(6):
            answer = str(rng.choice(present, p=list(chances.values())))
            in_view = {noun for noun in present if rng.random() < 0.5} | {answer}
            rest = [noun for noun in present if noun not in in_view]
            opposite = frozenset(rest[: int(rng.integers(3))])
            asked.append(QuestionNouns(answer, chances, frozenset(in_view), opposite, frozenset(rest)))
    return asked[:count]


def right_and_shown(asked: list[QuestionNouns], drawn: list[list[str]]) -> tuple[Counter[str], Counter[str]]:
    right = Counter(one.answer for one in asked)
    return right, right + Counter(noun for wrong in drawn for noun in wrong)


def test_a_noun_is_right_one_time_in_four() -> None:
    rng = np.random.default_rng(0)
    asked = biased_questions(6000, rng)
    right, shown = right_and_shown(asked, draw_distractors(asked, [], {}, 3, rng))
    for noun in NOUNS:
        expected = shown[noun] / 4
        assert abs(right[noun] - expected) < 4.5 * np.sqrt(shown[noun] * 3 / 16) + 2, noun


def test_uniform_distractors_would_fail_that_test() -> None:
    rng = np.random.default_rng(0)
    asked = biased_questions(6000, rng)
    drawn = [rng.choice(sorted(set(NOUNS) - one.in_view), 3, replace=False).tolist() for one in asked]
    right, shown = right_and_shown(asked, drawn)
    assert right[NOUNS[0]] > 0.35 * shown[NOUNS[0]], "the commonest answer would be recognised"


def test_one_half_says_nothing_about_the_other() -> None:
    """Draw-by-draw balancing makes a noun that was right in one half wrong in the other; that trace must be absent."""
    correlations = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        asked = biased_questions(400, rng)
        drawn = draw_distractors(asked, [], {}, 3, rng)
        rates = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            right, shown = right_and_shown(asked[half], drawn[half])
            rates.append([right[noun] / shown[noun] if shown[noun] else 0.25 for noun in NOUNS[:12]])
        correlations.append(np.corrcoef(*rates)[0, 1])
    assert abs(np.mean(correlations)) < 0.25


def test_filters_that_spare_some_nouns_are_made_up_for() -> None:
    rng = np.random.default_rng(3)
    tried = biased_questions(9000, rng)
    survival = {noun: 0.3 if number % 3 else 0.9 for number, noun in enumerate(NOUNS)}
    asked = [one for one in tried if rng.random() < survival[one.answer]]
    right, shown = right_and_shown(asked, draw_distractors(asked, [], survival, 3, rng))
    for noun in NOUNS:
        assert abs(right[noun] - shown[noun] / 4) < 4.5 * np.sqrt(shown[noun] * 3 / 16) + 2, noun


def clustered_questions(count: int, rng: np.random.Generator) -> list[QuestionNouns]:
    """Rooms of three clusters of four nouns each: what is beside the answer is in view, one other cluster is opposite."""
    clusters = [NOUNS[first : first + 4] for first in range(0, 24, 4)]
    asked = []
    for _ in range(count):
        here, across, _ = (clusters[index] for index in rng.permutation(6)[:3])
        answer = here[int(rng.integers(4))]
        rest = frozenset(NOUNS) - set(here)
        asked.append(QuestionNouns(answer, dict.fromkeys(here, 0.25), frozenset(here), frozenset(across), rest))
    return asked


def test_options_that_belong_together_do_not_betray_the_odd_one_out() -> None:
    rng = np.random.default_rng(4)
    asked = clustered_questions(4000, rng)
    cluster = {noun: number // 4 for number, noun in enumerate(NOUNS)}
    alone = []
    for one, wrong in zip(asked, draw_distractors(asked, [], {}, 3, rng), strict=True):
        groups = Counter(cluster[noun] for noun in (one.answer, *wrong))
        strangers = [noun for noun in (one.answer, *wrong) if groups[cluster[noun]] == 1]
        alone.append((one.answer in strangers) / len(strangers) if strangers else 0.25)
    assert np.mean(alone) == pytest.approx(0.25, abs=0.015), "guessing among options without a companion"


def test_distractors_are_never_in_view_never_double_and_mostly_opposite() -> None:
    rng = np.random.default_rng(1)
    asked = biased_questions(500, rng)
    drawn = draw_distractors(asked, asked, {}, 3, rng)
    assert all(len(set(wrong)) == 3 and not set(wrong) & one.in_view for one, wrong in zip(asked, drawn, strict=True))
    share = np.mean([noun in one.opposite for one, wrong in zip(asked, drawn, strict=True) for noun in wrong])
    chance = np.mean([len(one.opposite) / (len(NOUNS) - len(one.in_view)) for one in asked])
    assert share > 1.5 * chance > 0


def test_nouns_of_the_opposite_side_are_preferred() -> None:
    """All nouns alike, three of eleven others opposite: by chance they would be 27 % of the distractors."""
    names, rng = [f"noun {number}" for number in range(12)], np.random.default_rng(0)
    asked = []
    for number in range(300):
        answer = names[number % 12]
        others = [name for name in names if name != answer]
        opposite = frozenset(str(name) for name in rng.choice(others, 3, replace=False))
        chances = dict.fromkeys(names, 1 / 12)
        asked.append(QuestionNouns(answer, chances, frozenset({answer}), opposite, frozenset(names)))
    drawn = draw_distractors(asked, [], {}, 3, rng)
    share = np.mean([noun in one.opposite for one, wrong in zip(asked, drawn, strict=True) for noun in wrong])
    assert share > 1.5 * 3 / 11


def test_too_few_nouns_is_an_error_with_the_answer() -> None:
    asked = [QuestionNouns("chair", {"chair": 1.0}, frozenset({"chair", "table"}), frozenset(), frozenset({"bed"}))]
    with pytest.raises(ValueError, match="distractors for 'chair'"):
        draw_distractors(asked, [], {}, 3, np.random.default_rng(0))


def test_a_deck_deals_evenly_and_quotas_add_up() -> None:
    rng = np.random.default_rng(2)
    deck = Deck("ABCD", rng)
    counts = Counter(deck.deal() for _ in range(4 * 25 + 2))
    assert max(counts.values()) - min(counts.values()) <= 1
    shares = quotas(17, ("a", "b", "c"), rng)
    assert sum(shares.values()) == 17 and max(shares.values()) - min(shares.values()) <= 1
    assert {ordered("x", ["y", "z"], 1, rng)[1] for _ in range(9)} == {"x"}
    assert {ordered("x", ["y", "z"], 1, rng) for _ in range(60)} == {("y", "x", "z"), ("z", "x", "y")}
