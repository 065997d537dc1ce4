"""From rewards to advantages, and what each sampled token counts: GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783) and DAPO
(2503.14476), by the names that trl gives their losses.

Shape suffixes: Q questions, G choices of a question.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ipt.common.seeding import Name, generator

#: Keeps advantages finite where all choices of a question are worth the same.
EPSILON = 1e-4
Floats = NDArray[np.float64]


def advantages(rewards_QG: Floats, scale: str) -> Floats:
    """[Q, G] how much better each choice is than the mean of its question; ``scale="group"`` divides by the deviation within the
    question."""
    centred: Floats = rewards_QG - rewards_QG.mean(1, keepdims=True)
    if scale == "none" or rewards_QG.shape[1] < 2:
        return centred
    scaled: Floats = centred / (rewards_QG.std(1, ddof=1, keepdims=True) + EPSILON)
    return scaled


def shuffled(rewards: Floats, seed: int, *names: Name) -> Floats:
    """Rewards [G] in another order, in which none stays where it was, if there are two: a control that keeps all but which choice
    they are for."""
    order = generator(seed, *names, "shuffled").permutation(len(rewards))
    moved = np.empty_like(rewards)
    moved[order] = rewards[np.roll(order, 1)]
    return moved


class Share(NamedTuple):
    """What a text of so many sampled tokens counts in the loss: each token ``weight``, of a sum that is divided by the sum of
    ``divisor`` over all texts of the step."""

    weight: float
    divisor: float


def share(loss: str, tokens: int, longest: int) -> Share:
    """``grpo``: the mean over texts of their tokens' means; ``dapo``: the mean over all tokens; ``dr_grpo``: the sum over tokens,
    divided by the texts and by ``longest``, the tokens that each may have."""
    return {
        "grpo": Share(1 / max(tokens, 1), 1.0),
        "dapo": Share(1.0, float(tokens)),
        "dr_grpo": Share(1 / longest, 1.0),
    }[loss]
