"""Do imaginations depend on the question, or are they all alike? Similarities, collapse and retrieval, of any kind of mediator.

Raw cosines, which CapImagine (arXiv 2602.22766) reports of latents, mislead: those of natural visual tokens are 0.85 between
images. So all other figures are of vectors that are centred by the mean of their pool, and figures of the model's imaginations
stand beside those of the truths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from ipt.common.images import open_image
from ipt.common.statistics import Floats
from ipt.faithfulness.runs import Pool
from ipt.imagination.base import Mediator
from ipt.samples.sample import SampleImage

Seen = Callable[[Mediator], SampleImage | None]
SIDE = 8
MOST = 1000  # questions that are compared with each other
LEAST = 1e-12


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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


def sensitivity(pairs: Sequence[tuple[Mediator, Mediator]], kind: str, seen: Seen) -> float | None:
    """How far imaginations move when the inputs do, from two of each question: the mean distance over that between questions."""
    if len(pairs) < 2:
        return None
    rows = vectors(kind, [each for pair in pairs for each in pair], seen).reshape(2 * len(pairs), -1)
    return float(np.linalg.norm(rows[::2] - rows[1::2], axis=1).mean() / max(spread(rows[::2]), LEAST))
