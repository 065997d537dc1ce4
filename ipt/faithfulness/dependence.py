"""Do imaginations depend on the question, or are they all alike? Similarities, collapse and retrieval, of any kind of mediator.

Raw cosines, which CapImagine (arXiv 2602.22766) reports of latents, mislead: those of natural visual tokens are 0.85 between
images. So all other figures are of vectors that are centred by the mean of their pool, and figures of the model's imaginations
stand beside those of the truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from ipt.common.images import open_image
from ipt.common.statistics import Estimate, Floats
from ipt.evaluation.quality.pictures import resized
from ipt.faithfulness.effects import Bootstrap
from ipt.faithfulness.pool import Pool
from ipt.faithfulness.runs import PAIRS
from ipt.imagination.base import Mediator
from ipt.samples.sample import SampleImage, SpatialSample

Seen = Callable[[Mediator], SampleImage | None]
SIDE = 8
MOST = 1000  # questions that are compared with each other
LEAST = 1e-12
NOTICEABLE = 16  # of 255, as in datagen: what an eye tells apart


@dataclass(frozen=True)
class Dependence:
    """Of ``count`` questions. ``cosine``: mean between imaginations of different questions, of each latent slot (of other kinds a
    single one), ``true_cosine``: of their truths; ``within``: between slots of one question. ``similarity``: mean centred cosine
    between imaginations of different questions, ``true_similarity`` between their truths. ``rank``: effective rank of the pool,
    the exponential of the entropy of its spectrum (Roy and Vetterli 2007), beside that of the truths. ``retrieval``: share of
    imaginations whose own truth is the most similar one of all, by chance 1 / count. ``unspecific``: share that another
    question's imagination resembles more than the own truth does (arXiv 2605.18445). ``diversity``: mean distance between
    imaginations over that between truths: 1 is right, 0 collapse; ``seed_diversity``: between imaginations of one question over
    the former. ``identical``: pairs of questions with equal ones."""

    count: int
    cosine: tuple[float, ...]
    true_cosine: tuple[float, ...]
    within: float | None
    similarity: float
    true_similarity: float
    rank: float
    true_rank: float
    retrieval: float
    unspecific: float
    diversity: float
    seed_diversity: float | None
    identical: int


def vectors(kind: str, mediators: Sequence[Mediator], seen: Seen) -> Floats:
    """(n, k, d) what stands for mediators in comparisons: k latents (zeros where another one has more), a small picture as it is
    ``seen``, or words by frequency."""
    if kind == "text":
        try:
            weighted = TfidfVectorizer(token_pattern=r"[\w.+-]+").fit_transform([each.text for each in mediators])
        except ValueError:  # no words at all
            return np.zeros((len(mediators), 1, 1))
        return np.asarray(weighted.todense(), dtype=np.float64)[:, None]
    if kind == "latent":
        slots = [each.numbers for each in mediators if each.numbers is not None]
        longest = max(map(len, slots))
        return np.array([np.pad(each.astype(np.float64), ((0, longest - len(each)), (0, 0))) for each in slots])
    pictures = [image for each in mediators if (image := seen(each)) is not None]
    small = [open_image(each.data).resize((SIDE, SIDE), Image.Resampling.BOX) for each in pictures]
    return np.array([np.asarray(each, dtype=np.float64).ravel() / 255 for each in small])[:, None]


def dependence(pool: Pool, kind: str) -> tuple[Dependence | None, dict[str, float]]:
    """The figures of the first imaginations of all questions, and by question how different its imaginations are."""
    names = [name for name in pool.about if pool.made(name, 0) is not None][:MOST]
    if len(names) < 3:
        return None, {}
    made = [pool.made(name, seed) for seed in range(len(pool.runs)) for name in names]
    missing = [each is None for each in made]
    first = next(each for each in made if each is not None)
    shown = [*(each or first for each in made), *(pool.true(name) for name in names)]
    found = vectors(kind, shown, pool.subject.picture)
    blocks = found.reshape(len(pool.runs) + 1, len(names), *found.shape[1:])
    seeds, true = blocks[:-1], blocks[-1]
    between = spread(seeds[0].reshape(len(names), -1))
    by_question = {}
    if len(seeds) > 1 and not any(missing):
        pairs = [(a, b) for a in range(len(seeds)) for b in range(a)]
        distances = np.mean([np.linalg.norm(seeds[a] - seeds[b], axis=(1, 2)) for a, b in pairs], axis=0)
        by_question = dict(zip(names, distances.tolist(), strict=True))
    return measured(
        seeds[0], true, np.mean(list(by_question.values())) / max(between, LEAST) if by_question else None
    ), by_question


def measured(own_nkd: Floats, true_nkd: Floats, seed_diversity: float | None) -> Dependence:
    """The figures of vectors (n, k, d) and their truths."""
    own, true = (each.reshape(len(each), -1) for each in (own_nkd, true_nkd))
    mine, theirs = centred(own), centred(true)
    crossed, inner = mine @ theirs.T, mine @ mine.T
    count = len(own)
    np.fill_diagonal(inner, -np.inf)
    return Dependence(
        count=count,
        cosine=alike(own_nkd.swapaxes(0, 1)),
        true_cosine=alike(true_nkd.swapaxes(0, 1)),
        within=float(np.mean(alike(own_nkd))) if own_nkd.shape[1] > 1 else None,
        similarity=float(inner[np.isfinite(inner)].mean()),
        true_similarity=float((theirs @ theirs.T)[~np.eye(count, dtype=bool)].mean()),
        rank=effective_rank(own),
        true_rank=effective_rank(true),
        retrieval=float((crossed.argmax(1) == np.arange(count)).mean()),
        unspecific=float((inner.max(1) > np.diag(crossed)).mean()),
        diversity=spread(own) / max(spread(true), LEAST),
        seed_diversity=None if seed_diversity is None else float(seed_diversity),
        identical=count - len({row.tobytes() for row in own}),
    )


def alike(groups_gnd: Floats) -> tuple[float, ...]:
    """The mean cosine between two different rows of each group."""
    units = groups_gnd / np.maximum(np.linalg.norm(groups_gnd, axis=-1, keepdims=True), LEAST)
    pairs = units.shape[1] * (units.shape[1] - 1)
    return tuple((((units.sum(1) ** 2).sum(-1) - (units**2).sum((1, 2))) / pairs).tolist())


def centred(rows: Floats) -> Floats:
    """Rows of norm 1 about the mean of all."""
    moved = rows - rows.mean(0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), LEAST)


def effective_rank(rows: Floats) -> float:
    """exp of the entropy of the eigenvalues of the covariance, as shares of their sum; 1 for rows that are all equal."""
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    if values.sum() < LEAST:
        return 1.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(np.maximum(shares, LEAST))).sum()))


def spread(rows: Floats) -> float:
    """Mean distance between two rows, from all pairs."""
    squares = (rows**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0))
    return float(distances.sum() / max(1, len(rows) * (len(rows) - 1)))


@dataclass(frozen=True)
class Pairs:
    """What the model imagines from inputs that differ in one fact: without what is asked about (``remove``), and without
    something else (``other``). By these: ``moves``, how far the imagination moves over the distance between questions;
    ``inside``, how much more it changes (a pixel's colour, on average) where the truth does than elsewhere; ``answers``, the
    share that changes. ``selectivity``: the move for what is asked about over that for something else."""

    moves: Mapping[str, Estimate]
    inside: Mapping[str, Estimate]
    answers: Mapping[str, Estimate]
    selectivity: Estimate | None


def minimal_pairs(pool: Pool, kind: str, found: Mapping[str, Pool], replicates: int) -> Pairs | None:
    """``found``: the pool of each pair (`ipt.faithfulness.runs.PAIRS`); None where there is none."""

    def draws(names: Iterable[str]) -> Bootstrap:
        return Bootstrap([pool.about[name].scene or name for name in names], replicates, pool.seed)

    moved, inside, answers = dict[str, Estimate](), dict[str, Estimate](), dict[str, Estimate]()
    distances: dict[str, dict[str, float]] = {}
    for role, other in found.items():
        tried = ((name, pool.made(name, 0), other.made(name, 0)) for name in other.about)
        both = {name: (before, after) for name, before, after in tried if before is not None and after is not None}
        if len(both) < 2:
            continue
        far, scale = moves([*both.values()], kind, pool.subject.picture)
        distances[role] = dict(zip(both, far.tolist(), strict=True))
        moved[role] = draws(both).estimate(far / scale)
        turned = [float(pool.about[name].answer != other.about[name].answer) for name in both]
        answers[role] = draws(both).estimate(np.array(turned))
        samples = {name: pool.data[pool.rows[name]] for name in both if kind != "latent"}
        tones = {name: changes(each, role, *map(pool.subject.picture, both[name])) for name, each in samples.items()}
        known = {name: each for name, each in tones.items() if each is not None}
        ratio = draws(known).ratio(*np.array([*known.values()]).T) if known else None
        inside.update({} if ratio is None else {role: ratio})
    common = sorted(set.intersection(*map(set, distances.values()))) if len(distances) == len(PAIRS) else []
    pair = [np.array([distances[role][name] for name in common]) for role in PAIRS if common]
    return Pairs(moved, inside, answers, draws(common).ratio(*pair) if pair else None) if moved else None


def changes(
    sample: SpatialSample, role: str, before: SampleImage | None, after: SampleImage | None
) -> tuple[float, float] | None:
    """How much the imagination's colours change on average (0 to 255) where the truth changes by more than ``NOTICEABLE``, and
    elsewhere; None where the data has no other truth, or it changes nowhere or everywhere."""
    unseen = next((image for image in sample.counterfactuals if image.role == role), None)
    if unseen is None or before is None or after is None:
        return None
    shown = [image.pixels().astype(np.float64) for image in (before, after)]
    size = shown[0].shape[1], shown[0].shape[0]
    true = [resized(image.pixels(), size).astype(np.float64) for image in (sample.imagination, unseen)]
    mask, moved = np.abs(true[0] - true[1]).max(2) > NOTICEABLE, np.abs(shown[0] - shown[1]).mean(2)
    return (float(moved[mask].mean()), float(moved[~mask].mean())) if 0 < mask.mean() < 1 else None


def sensitivity(pairs: Sequence[tuple[Mediator, Mediator]], kind: str, seen: Seen) -> float | None:
    """How far imaginations move when the inputs do, from two of each question: the mean distance over that between questions."""
    if len(pairs) < 2:
        return None
    far, scale = moves(pairs, kind, seen)
    return float(far.mean() / scale)


def moves(pairs: Sequence[tuple[Mediator, Mediator]], kind: str, seen: Seen) -> tuple[Floats, float]:
    """(n,) the distances of the two of each question, and the mean one between the first ones of questions."""
    rows = vectors(kind, [each for pair in pairs for each in pair], seen).reshape(2 * len(pairs), -1)
    return np.linalg.norm(rows[::2] - rows[1::2], axis=1), max(spread(rows[::2]), LEAST)
