"""What packs of rollouts carry besides their sequence: what was chosen there, how likely that was, and what came of it.

Shape suffixes: C trained text positions, E scored tokens of options, Q questions (one per imagination), A options, F noised
latent tokens, J noised images, D numbers per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound="Replay")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """``old`` and ``start``: what the weights that made the rollout, and those that the run started from, make of the choices
    (`ipt.training.policy.observed`), where they are asked."""

    old: Tensor | None = None
    start: Tensor | None = None

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        """The same with its tensors on ``device``."""
        held = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in held.items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @classmethod
    def joined(cls: type[T], parts: Sequence[T]) -> T:
        """Those of sequences that stand one after the other, at least one."""
        raise NotImplementedError

    @classmethod
    def nothing(cls: type[T], width: int) -> T:
        """No choices; ``width``: numbers per latent token."""
        raise NotImplementedError


def _empty(*shape: int) -> Tensor:
    return torch.empty(0, *shape)


def _together(parts: Sequence[Any], name: str) -> Tensor:
    return torch.cat([getattr(part, name) for part in parts])


@dataclass(frozen=True, kw_only=True)
class Closed(Replay):
    """Questions whose options are all weighed. Token ``tokens_E`` after the trained text position ``positions_E`` is part of the
    option ``options_E`` of question ``questions_E``. ``rewards_QA`` of the options, of which some may not exist (``exists_QA``);
    ``told_QA``: their log-probabilities in the rollout. ``places_Q``: a text position of each question."""

    positions_E: Tensor
    tokens_E: Tensor
    questions_E: Tensor
    options_E: Tensor
    rewards_QA: Tensor
    exists_QA: Tensor
    told_QA: Tensor
    places_Q: Tensor
    length: int

    @classmethod
    def joined(cls, parts: Sequence[Closed]) -> Closed:
        """``length`` is the number of trained text positions of each part."""
        width = max(part.exists_QA.shape[1] for part in parts)
        before = before_questions = 0
        shifted = []
        for part in parts:
            pad = (0, width - part.exists_QA.shape[1])
            shifted.append(
                replace(
                    part,
                    positions_E=part.positions_E + before,
                    questions_E=part.questions_E + before_questions,
                    places_Q=part.places_Q + before,
                    rewards_QA=torch.nn.functional.pad(part.rewards_QA, pad),
                    exists_QA=torch.nn.functional.pad(part.exists_QA, pad),
                    told_QA=torch.nn.functional.pad(part.told_QA, pad),
                )
            )
            before, before_questions = before + part.length, before_questions + len(part.places_Q)
        names = [entry.name for entry in fields(cls) if isinstance(getattr(shifted[0], entry.name), Tensor)]
        tensors: dict[str, Any] = {name: _together(shifted, name) for name in names}
        return cls(**tensors, length=before)

    @classmethod
    def nothing(cls, width: int) -> Closed:
        numbers = dict.fromkeys(("positions_E", "tokens_E", "questions_E", "options_E", "places_Q"), _empty().long())
        table = _empty(1)
        return cls(**numbers, rewards_QA=table, exists_QA=table.bool(), told_QA=table, length=0)


@dataclass(frozen=True, kw_only=True)
class Sampled(Replay):
    """Texts that were sampled at ``temperature``. Of each trained text position: whether its token was sampled, the
    ``advantages_C`` of its text, what it counts (``weights_C``), and its log-probability in the rollout (``told_C``).
    ``count``: what the losses are divided by, summed over the step."""

    is_sampled_C: Tensor
    advantages_C: Tensor
    weights_C: Tensor
    told_C: Tensor
    count: float
    temperature: float

    @classmethod
    def joined(cls, parts: Sequence[Sampled]) -> Sampled:
        names = ("is_sampled_C", "advantages_C", "weights_C", "told_C")
        tensors: dict[str, Any] = {name: _together(parts, name) for name in names}
        return cls(**tensors, count=sum(part.count for part in parts), temperature=parts[0].temperature)

    @classmethod
    def nothing(cls, width: int) -> Sampled:
        numbers = dict.fromkeys(("advantages_C", "weights_C", "told_C"), _empty())
        return cls(is_sampled_C=_empty().bool(), **numbers, count=0.0, temperature=1.0)


@dataclass(frozen=True, kw_only=True)
class Drawn(Replay):
    """Steps of drawings that were drawn by chance: from ``states_FD`` at ``times_J`` to ``next_FD`` at ``next_times_J``, with
    ``noise_J`` as eta and ``caps_J`` in the place of time 1 (`ipt.flow.stochastic`). Of each step the ``advantages_J`` of its
    picture and its log-probability in the rollout (``told_J``). ``images_F``: the step that a token belongs to."""

    states_FD: Tensor
    next_FD: Tensor
    times_J: Tensor
    next_times_J: Tensor
    caps_J: Tensor
    noise_J: Tensor
    advantages_J: Tensor
    told_J: Tensor
    images_F: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        before, shifted = 0, []
        for part in parts:
            shifted.append(replace(part, images_F=part.images_F + before))
            before += len(part.times_J)
        names = [entry.name for entry in fields(cls) if isinstance(getattr(shifted[0], entry.name), Tensor)]
        tensors: dict[str, Any] = {name: _together(shifted, name) for name in names}
        return cls(**tensors)

    @classmethod
    def nothing(cls, width: int) -> Drawn:
        names = ("times_J", "next_times_J", "caps_J", "noise_J", "advantages_J", "told_J")
        states = {"states_FD": _empty(width), "next_FD": _empty(width)}
        return cls(**states, **dict.fromkeys(names, _empty()), images_F=_empty().long())
