"""Blind baselines: how often a small model answers without what it should need.

One model family serves all: logistic regression over (question, option) pairs, the highest-scoring option is the answer.
Baselines differ in the features they may see; each knows everything the cheaper ones know. Whole scenes are held out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression

from datagen.audit.folds import number_ranks, validations
from datagen.audit.items import Item
from ipt.common.seeding import generator
from ipt.common.statistics import Estimate, clustered_mean

COMPONENTS = 24
GEOMETRY_MARGIN = (
    0.03  # by which a guess from geometry may beat chance (ours): less than what a model's own interval tells
)
REGULARISATION = 0.1
HASHED_FEATURES = 2**18
ARTICLES = frozenset({"a", "an", "the"})
WORD = re.compile(r"[a-z0-9]+")

Tokens = dict[str, float]
Projections = dict[str, list[NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a baseline may see. ``features`` are those of one option of a question, given the item that lends its pictures
    (the question's own, or another's where they are shuffled). ``bar``: its interval has to include chance, or, with a
    ``margin``, it may not beat chance by more unless the interval includes chance. ``clue``: what questions must have to
    count here. ``why``: what a larger margin is owed to."""

    name: str
    shows: str
    features: Callable[[Item, int, Item, Projections], Tokens]
    bar: bool = False
    shuffled: bool = False
    margin: float | None = None
    clue: str = ""
    why: str = ""

    def holds(self, excess: Estimate) -> bool:
        """Whether an accuracy minus chance keeps the bar."""
        return excess.includes(0) if self.margin is None else excess.value <= self.margin or excess.low <= 0


def option_features(item: Item, option: int, *_: object) -> Tokens:
    """The options alone: text, letter, length, rank among numbers, and every other option it stands against.

    Not the question type: PET's sub-categories are named after their answers.
    """
    text, count = item.choices[option], len(item.choices)
    names = [f"option {text}", f"letter {option} of {count}"]
    names += [f"{text} against {other}" for other in item.choices if other != text]
    names.append(f"length rank {sorted(map(len, item.choices)).index(len(text))}")
    ranks = number_ranks(item.choices)
    if ranks:
        names.append(f"rank {ranks[option]} of {count}")
    return dict.fromkeys(names, 1.0)


def text_features(name: str, text: str, item: Item, option: int) -> Tokens:
    """Each word of a text crossed with the option, how often the text names the option, and whether it does so last."""
    words = WORD.findall(text.lower())
    tokens = {f"{name} {word} option {item.choices[option]}": 1.0 for word in words}
    joined = f" {' '.join(words)} "
    named = [
        f" {' '.join(word for word in WORD.findall(choice.lower()) if word not in ARTICLES)} "
        for choice in item.choices
    ]
    last = max(joined.rfind(noun) for noun in named)
    tokens[f"{name} names option {min(joined.count(named[option]), 3)} times"] = 1.0
    if last >= 0 and joined.rfind(named[option]) == last:
        tokens[f"{name} names option last"] = 1.0
    return tokens


def question_features(item: Item, option: int, *_: object) -> Tokens:
    return {**option_features(item, option), **text_features("question", item.question, item, option)}


def view_features(item: Item, option: int, lender: Item, projections: Projections) -> Tokens:
    """The question and principal components of the lender's input pictures crossed with the option."""
    tokens = question_features(item, option)
    for number, view in enumerate(projections[lender.id][:-1]):
        tokens |= picture_features(f"view {number}", view, item, option)
    return tokens


def single_view_features(item: Item, option: int, lender: Item, projections: Projections) -> Tokens:
    return {
        **question_features(item, option),
        **picture_features("view 0", projections[lender.id][0], item, option),
    }


def imagination_features(item: Item, option: int, lender: Item, projections: Projections) -> Tokens:
    return {
        **question_features(item, option),
        **picture_features("imagination", projections[lender.id][-1], item, option),
    }


def picture_features(name: str, components: NDArray[np.float64], item: Item, option: int) -> Tokens:
    return {f"{name} {number} option {item.choices[option]}": float(value) for number, value in enumerate(components)}


def caption_features(item: Item, option: int, *_: object) -> Tokens:
    return {**option_features(item, option), **text_features("caption", item.caption, item, option)}


def rationale_features(item: Item, option: int, *_: object) -> Tokens:
    return {**option_features(item, option), **text_features("rationale", item.rationale, item, option)}


def clue_features(clue: str) -> Callable[..., Tokens]:
    """One clue of geometry, nothing else of the question."""
    return lambda item, option, *_: {f"{clue} {item.clues[clue][option]}": 1.0}


def geometric(clue: str, shows: str, margin: float = GEOMETRY_MARGIN, why: str = "") -> Baseline:
    return Baseline(clue, shows, clue_features(clue), bar=True, margin=margin, clue=clue, why=why)


BASELINES = (
    Baseline("option_priors", "the options", option_features, bar=True),
    Baseline("question_only", "question and options", question_features, bar=True),
    Baseline("images_shuffled", "question, options, another scene's pictures", view_features, bar=True, shuffled=True),
    Baseline("single_view", "question, options, first input picture", single_view_features),
    Baseline("all_views", "question, options, all input pictures", view_features),
    Baseline("imagination_view", "question, options, the true imagination", imagination_features),
    Baseline("caption_leak", "options and the caption's words", caption_features),
    Baseline("rationale_leak", "options and the rationale's words", rationale_features),
    geometric("nearest_to_m1", "who of the options is nearest to M1 on the map"),
    geometric("nearest_to_path", "who of the options is nearest to the path on the map"),
    geometric("largest", "who of the options is largest on the map"),
    geometric("most_frequent", "who of the options is there most often on the map"),
    geometric("side_before", "the object's side before the move"),
    geometric("distance_before", "the object's distance before the move"),
    geometric(
        "largest_single_frame",
        "the largest number that one frame shows",
        0.45,
        "a count is never less than one frame shows, and seldom much more; task.match_frames=true for none of it",
    ),
)


def project(items: Sequence[Item]) -> Projections:
    """Whitened principal components of each input picture and, last, of the imagination, by item id.

    Fitted on all pictures of the set: no answer enters.
    """
    stacked = np.stack([picture.features for item in items for picture in (*item.views, item.imagination)])
    components = min(COMPONENTS, *stacked.shape)
    projected = PCA(components, whiten=True, svd_solver="full").fit_transform(stacked.astype(np.float64))
    rows = iter(projected)
    return {item.id: [next(rows) for _ in range(len(item.views) + 1)] for item in items}


def evaluate(baseline: Baseline, items: Sequence[Item], projections: Projections, seed: int = 0) -> Estimate:
    """Accuracy minus chance of models fitted on other scenes (`validations`), with a 95% interval over scenes.

    The mean over answered questions of (correct - 1 / number of choices). ``ValueError`` with fewer scenes than folds.
    """
    rng = generator(seed, "audit", baseline.name)
    hasher = FeatureHasher(HASHED_FEATURES)
    excess: dict[int, float] = {}
    for fitted, held_out in validations(items, generator(seed, "audit", "folds")):
        features = hasher.transform(pair_features(baseline, items, fitted, fitted, projections))
        targets = [option == items[row].answer for row in fitted for option in range(len(items[row].choices))]
        model = LogisticRegression(C=REGULARISATION, solver="liblinear", random_state=0).fit(features, targets)
        lenders = borrow(items, held_out, rng) if baseline.shuffled else held_out
        pairs = hasher.transform(pair_features(baseline, items, held_out, lenders, projections))
        scores = iter(model.decision_function(pairs))
        for row in held_out:
            own = np.array([next(scores) for _ in items[row].choices])
            own += 1e-9 * rng.random(len(own))  # ties are guesses, not the first letter
            excess[row] = float(np.argmax(own) == items[row].answer) - items[row].chance
    return clustered_mean(np.array([*excess.values()]), [items[row].scene for row in excess])


def pair_features(
    baseline: Baseline,
    items: Sequence[Item],
    rows: Sequence[int],
    lenders: Sequence[int],
    projections: Projections,
) -> list[Tokens]:
    return [
        baseline.features(items[row], option, items[lender], projections)
        for row, lender in zip(rows, lenders, strict=True)
        for option in range(len(items[row].choices))
    ]


def borrow(items: Sequence[Item], rows: Sequence[int], rng: np.random.Generator) -> list[int]:
    """For each row a random one of another scene with equally many pictures; itself where 64 draws find none."""
    lenders = []
    for row in rows:
        own = (items[row].scene, len(items[row].views))
        draws = (int(other) for other in rng.choice(rows, 64))
        strangers = (other for other in draws if items[other].scene != own[0] and len(items[other].views) == own[1])
        lenders.append(next(strangers, row))
    return lenders
