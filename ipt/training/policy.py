"""The losses of rollouts, by what their packs carry (`ipt.sequence.replay`).

    Closed    choice    minus the expected reward: sum over options of  pi(option) * reward, exact and without sampling
              kl        to the start, exact over the options
    Sampled   policy    GRPO's clipped ratio times advantage, of every sampled token
              kl        to the start, by the estimator exp(d) - d - 1 with d = log pi_start - log pi
    Drawn     picture   Flow-GRPO's clipped ratio times advantage, of every step that was left to chance
              velocity  mean squared difference to the velocities of the start

``clipped`` (the share where the clip holds the ratio) and ``mismatch`` (how far the ratio to the rollout's own probabilities
is from 1: rounding, before the first update) are measured beside them and count nothing. Ratios are to the weights of the
rollout, as they compute the same pack, where several updates are made from it; else they are 1 and only their gradient counts.

Shape suffixes: C trained text positions, E scored tokens of options, Q questions, A options, F noised latent tokens, J noised
images, D numbers per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ipt.flow.stochastic import log_probability, stochastic_step
from ipt.model.unified import ModelOutput
from ipt.sequence.batch import PackedBatch
from ipt.sequence.replay import Closed, Drawn, Replay, Sampled
from ipt.sequence.spans import Ints
from ipt.training.settings import LossConfig
from ipt.training.terms import Floats, LossTerm

if TYPE_CHECKING:
    from ipt.training.losses import Objective

#: Ratios beyond its exponential say no more; sums with them stay finite.
LARGEST = 20.0


def observed(objective: Objective, output: ModelOutput, batch: PackedBatch) -> Tensor:
    """What the weights make of the choices of a pack: log-probabilities of options [Q, A], or of the tokens at the trained text
    positions [C], or velocities [F, D]. All parameters take part, also those that have no rows here."""
    replay = batch.replay
    if isinstance(replay, Drawn):
        unused = objective.cross_entropy(output.ce_hidden_CD[:0], batch.labels_C[:0]).sum()
        return output.velocities_FD + unused
    unused = output.velocities_FD.sum()
    if isinstance(replay, Sampled):
        words = objective.model.config.decoder.vocab  # codes are no words
        return unused - objective.cross_entropy(output.ce_hidden_CD, batch.labels_C, replay.temperature, words)
    assert isinstance(replay, Closed)
    told_E = -objective.cross_entropy(output.ce_hidden_CD[replay.positions_E], replay.tokens_E)
    width = replay.exists_QA.shape[1]
    flat = told_E.new_zeros(replay.exists_QA.numel())
    scores_QA = flat.index_add(0, replay.questions_E * width + replay.options_E, told_E).unflatten(0, (-1, width))
    lowest = torch.finfo(scores_QA.dtype).min
    return torch.log_softmax(scores_QA.masked_fill(~replay.exists_QA, lowest), dim=-1) + unused


def step_chances(velocities_FD: Tensor, replay: Drawn) -> Tensor:
    """[J] the log-probability of each step under these velocities."""
    of = replay.images_F
    t, after, cap, noise = (
        each[of][:, None] for each in (replay.times_J, replay.next_times_J, replay.caps_J, replay.noise_J)
    )
    mean_FD, deviation_F1 = stochastic_step(replay.states_FD, velocities_FD, t, after, cap, noise)
    return _by_image(log_probability(replay.next_FD, mean_FD, deviation_F1).mean(-1), replay)


def _by_image(values_F: Tensor, replay: Drawn) -> Tensor:
    """[J] means over the tokens of each image."""
    zeros = values_F.new_zeros(len(replay.times_J))
    counts = zeros.index_add(0, replay.images_F, torch.ones_like(values_F))
    return zeros.index_add(0, replay.images_F, values_F) / counts.clamp(min=1)


def ratio_of(now: Tensor, before: Tensor) -> Tensor:
    """The ratio of two probabilities, from their logarithms."""
    return (now - before).clamp(-LARGEST, LARGEST).exp()


def surrogate(now: Tensor, old: Tensor | None, advantages: Tensor, clip: tuple[float, float]) -> Tensor:
    """Minus the smaller one of ratio times advantage and clipped ratio times advantage. ``old``: log-probabilities under the
    weights of the rollout, those of now where there are none. ``clip``: how far below and above 1 a ratio counts."""
    ratio = ratio_of(now, now.detach() if old is None else old)
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip[0], 1 + clip[1]) * advantages)


def held_back(now: Tensor, old: Tensor | None, advantages: Tensor, clip: tuple[float, float]) -> Tensor:
    """1 where the clip takes the gradient away, else 0."""
    if old is None:
        return torch.zeros_like(now)
    ratio = ratio_of(now.detach(), old)
    return (((ratio < 1 - clip[0]) & (advantages < 0)) | ((ratio > 1 + clip[1]) & (advantages > 0))).float()


def mismatch(now: Tensor, told: Tensor) -> Tensor:
    """How far the ratio to the rollout's own probabilities is from 1."""
    return (ratio_of(now.detach(), told) - 1).abs()


Of = Callable[["Objective", Any, Tensor], Tensor]


def _term(
    rows: Callable[[PackedBatch], Ints],
    values: Of,
    weights: Callable[[Any], Tensor] | None = None,
    count: Callable[[Any], float] | None = None,
) -> LossTerm:
    """A term from functions of the replay: ``values(objective, replay, what was observed)``; ``weights`` (default: 1 each)."""

    def weigh(batch: PackedBatch, _: LossConfig) -> Floats:
        if weights is None:
            return np.ones(len(rows(batch)), dtype=np.float32)
        return weights(batch.replay).float().cpu().numpy()

    def valued(objective: Objective, _: ModelOutput, batch: PackedBatch, seen: Tensor) -> Tensor:
        return values(objective, batch.replay, seen)

    return LossTerm(rows, weigh, valued, None if count is None else lambda batch: count(batch.replay))


def _questions(batch: PackedBatch) -> Ints:
    assert isinstance(batch.replay, Closed)
    return batch.spans.ce_positions[batch.replay.places_Q.cpu().numpy()]


def _texts(batch: PackedBatch) -> Ints:
    return batch.spans.ce_positions


def _steps(batch: PackedBatch) -> Ints:
    """The first token of each noised image."""
    spans = batch.spans
    assert isinstance(batch.replay, Drawn)
    owners = batch.replay.images_F.cpu().numpy()
    return spans.noised_positions[np.flatnonzero(np.diff(owners, prepend=-1))]


def _expected(_: Objective, replay: Closed, seen_QA: Tensor) -> Tensor:
    return -(seen_QA.exp() * replay.rewards_QA).sum(-1)


def _options_kl(_: Objective, replay: Closed, seen_QA: Tensor) -> Tensor:
    start_QA = seen_QA.detach() if replay.start is None else replay.start
    apart_QA = torch.where(replay.exists_QA, seen_QA - start_QA, 0.0)
    return (seen_QA.exp() * apart_QA).sum(-1)


def _options_mismatch(_: Objective, replay: Closed, seen_QA: Tensor) -> Tensor:
    return torch.where(replay.exists_QA, mismatch(seen_QA, replay.told_QA), 0.0).amax(-1)


def _text_kl(_: Objective, replay: Sampled, seen_C: Tensor) -> Tensor:
    start_C = seen_C.detach() if replay.start is None else replay.start
    apart_C = (start_C - seen_C).clamp(-LARGEST, LARGEST)
    return apart_C.exp() - apart_C - 1


def _velocity(_: Objective, replay: Drawn, seen_FD: Tensor) -> Tensor:
    start_FD = seen_FD.detach() if replay.start is None else replay.start
    return _by_image((seen_FD - start_FD).square().mean(-1), replay)


def _old(replay: Drawn) -> Tensor | None:
    return None if replay.old is None else step_chances(replay.old, replay)


TABLES: Mapping[type[Replay], Mapping[str, LossTerm]] = {
    Closed: {
        "choice": _term(_questions, _expected),
        "kl": _term(_questions, _options_kl),
        "mismatch": _term(_questions, _options_mismatch),
    },
    Sampled: {
        "policy": _term(
            _texts,
            lambda objective, replay, seen: surrogate(seen, replay.old, replay.advantages_C, objective.clip),
            lambda replay: replay.weights_C,
            lambda replay: replay.count,
        ),
        "kl": _term(_texts, _text_kl, lambda replay: replay.weights_C, lambda replay: replay.count),
        "clipped": _term(
            _texts,
            lambda objective, replay, seen: held_back(seen, replay.old, replay.advantages_C, objective.clip),
            lambda replay: replay.is_sampled_C,
        ),
        "mismatch": _term(
            _texts, lambda _, replay, seen: mismatch(seen, replay.told_C), lambda replay: replay.is_sampled_C
        ),
    },
    Drawn: {
        "picture": _term(
            _steps,
            lambda objective, replay, seen: surrogate(
                step_chances(seen, replay), _old(replay), replay.advantages_J, objective.clip
            ),
        ),
        "velocity": _term(_steps, _velocity),
        "clipped": _term(
            _steps,
            lambda objective, replay, seen: held_back(
                step_chances(seen, replay), _old(replay), replay.advantages_J, objective.clip
            ),
        ),
        "mismatch": _term(_steps, lambda _, replay, seen: mismatch(step_chances(seen, replay), replay.told_J)),
    },
}
