"""The losses of rollouts: gradients against hand-computed ones, clips, prices of leaving the start, and the closed form against
samples."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from ipt.reinforcement.advantages import EPSILON, advantages, share, shuffled
from ipt.sequence.replay import Sampled
from ipt.training.policy import TABLES, held_back, surrogate
from tests.inference import toy
from tests.reinforcement import toys

#: Two texts of one question over a vocabulary of two tokens: their tokens and what they are worth.
TEXTS, REWARDS, LONGEST = ([0, 1, 1], [1]), (1.0, 0.0), 5


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("scale", ["none", "group"])
def test_the_gradient_is_the_hand_computed_one_on_two_tokens(loss: str, scale: str) -> None:
    theta = torch.tensor([0.3, -0.4], requires_grad=True)
    gained = advantages(np.array([REWARDS]), scale)[0]
    shares = [share(loss, len(text), LONGEST) for text in TEXTS]
    tokens = torch.tensor([token for text in TEXTS for token in text])
    of = [number for number, text in enumerate(TEXTS) for _ in text]
    replay = Sampled(
        is_sampled_C=torch.ones(4, dtype=torch.bool),
        advantages_C=torch.tensor([gained[number] for number in of], dtype=torch.float32),
        weights_C=torch.tensor([shares[number].weight for number in of]),
        told_C=torch.zeros(4),
        count=sum(each.divisor for each in shares),
        temperature=1.0,
    )
    batch, term = cast(Any, SimpleNamespace(replay=replay)), TABLES[Sampled]["policy"]
    seen = torch.log_softmax(theta, 0)[tokens]
    assert term.count is not None
    values = term.values(cast(Any, SimpleNamespace(clip=(0.2, 0.2))), cast(Any, None), batch, seen)
    ((values * replay.weights_C).sum() / term.count(batch)).backward()
    by_hand = np.zeros(2)
    probability = np.exp([0.3, -0.4]) / np.exp([0.3, -0.4]).sum()
    best, worst = (0.5, -0.5) if scale == "none" else (0.5 / (0.5**0.5 + EPSILON), -0.5 / (0.5**0.5 + EPSILON))
    per_token = {"grpo": (1 / 3 / 2, 1 / 2), "dr_grpo": (1 / 5 / 2, 1 / 5 / 2), "dapo": (1 / 4, 1 / 4)}[loss]
    for text, gain, weight in zip(TEXTS, (best, worst), per_token, strict=True):
        for token in text:
            by_hand -= weight * gain * (np.eye(2)[token] - probability)
    assert theta.grad is not None
    np.testing.assert_allclose(theta.grad.numpy(), by_hand, atol=1e-6)


def test_a_ratio_counts_as_far_as_the_clip_and_no_further() -> None:
    old = torch.zeros(4)
    now = torch.tensor([1.15, 1.5, 0.85, 0.5]).log().requires_grad_()
    gains = torch.tensor([1.0, 1.0, -1.0, -1.0])
    values = surrogate(now, old, gains, (0.2, 0.3))
    torch.testing.assert_close(values.detach(), torch.tensor([-1.15, -1.3, 0.85, 0.8]))
    values.sum().backward()
    assert now.grad is not None
    assert (now.grad != 0).tolist() == [True, False, True, False]
    assert held_back(now, old, gains, (0.2, 0.3)).tolist() == [0, 1, 0, 1]
    assert held_back(now, None, gains, (0.2, 0.3)).tolist() == [0, 0, 0, 0]
    wrong_way = surrogate(torch.tensor([0.5]).log(), torch.zeros(1), torch.ones(1), (0.2, 0.2))
    assert float(wrong_way) == pytest.approx(-0.5), "what got worse is not held"


@pytest.mark.parametrize("stage, column", [("closed", "kl"), ("sampled", "kl"), ("drawn", "velocity")])
def test_leaving_the_start_costs_nothing_at_the_start_and_something_elsewhere(stage: str, column: str) -> None:
    player = toys.player(stage)
    (pack,) = toys.packed(player, toys.played(player, toys.asked(0, 5)))
    assert pack.replay is not None
    assert float(toys.losses(pack)[column].detach().abs().max()) == 0
    from ipt.training.losses import Objective, noised
    from ipt.training.settings import LossConfig

    seen = Objective(toy.model(), LossConfig())(pack, *noised(pack, 0, 1.0), choices=True)["choices"].detach()
    moved = seen + torch.linspace(0, 0.5, seen.numel()).reshape(seen.shape)
    moved = torch.log_softmax(moved, -1) if stage == "closed" else moved
    found = toys.losses(replace(pack, replay=replace(pack.replay, start=moved)))[column].detach()
    if stage == "drawn":
        by_hand = (seen - moved).square().mean(-1)
        assert float(found.mean()) == pytest.approx(float(by_hand.mean()), rel=1e-5)
    elif stage == "closed":
        torch.testing.assert_close(found, (seen.exp() * (seen - moved)).sum(-1))
    else:
        torch.testing.assert_close(found, (moved - seen).exp() - (moved - seen) - 1)


def test_the_closed_form_is_the_mean_of_samples_within_its_error() -> None:
    """Of questions that the model does not know: the expected reward of the options, and of sampled texts that name one."""
    given, questions = {"mode": "label_only", "rewards": {"correct": 1.0}}, toys.asked(11, 12, 13, 14)
    checkpoint = toy.checkpoint("label_only")
    exact = toys.played(toys.player("closed", checkpoint, **given, imaginations=1), questions)
    many = {**given, "closed": False, "imaginations": 1, "answers": 200, "text": {"temperature": 1.0, "max_tokens": 12}}
    texts = toys.played(toys.player("sampled", checkpoint, **many), questions)
    for number, line in enumerate(exact.lines):
        own = [each for each in texts.lines[number * 200 : (number + 1) * 200] if each["answer"] is not None]
        right = np.array([each["rewards"]["correct"] for each in own])
        expected = float(np.dot(line["probabilities"], line["rewards"]))
        error = max((expected * (1 - expected) / len(right)) ** 0.5, 1 / len(right))
        assert len(own) > 150 and abs(float(right.mean()) - expected) < 4 * error
    assert exact.numbers["reward"] == pytest.approx(
        [float(np.dot(line["probabilities"], line["rewards"])) for line in exact.lines]
    )


def test_the_gradient_of_the_closed_form_is_that_of_the_expected_reward() -> None:
    """A step against it raises the probability of the right option, to first order by the gradient's own square."""
    player = toys.player("closed", toy.checkpoint("label_only"), mode="label_only", rewards={"correct": 1.0})
    (pack,) = toys.packed(player, toys.played(player, toys.asked(11, 12)))
    head = toy.model().lm_head.weight
    kept = head.clone()
    try:
        head.requires_grad_(True)
        before = toys.losses(pack)["choice"].mean()
        before.backward()
        assert head.grad is not None
        step = 1e-3
        gradient = head.grad.clone()
        with torch.no_grad():
            head.sub_(step * gradient)
            after = toys.losses(pack)["choice"].mean()
        assert float(before - after) == pytest.approx(step * float(gradient.square().sum()), rel=0.1)
    finally:
        head.requires_grad_(False)
        head.grad = None
        head.copy_(kept)


def test_advantages_are_within_a_question() -> None:
    rewards = np.array([[1.0, 0.0, 0.5], [7.0, 7.0, 7.0]])
    plain, scaled = advantages(rewards, "none"), advantages(rewards, "group")
    np.testing.assert_allclose(plain, [[0.5, -0.5, 0.0], [0, 0, 0]])
    np.testing.assert_allclose(scaled[0], plain[0] / (0.5 + EPSILON))
    assert not scaled[1].any() and np.isfinite(advantages(np.ones((1, 1)), "group")).all()


def test_shuffled_rewards_are_the_same_numbers_and_none_stays() -> None:
    rewards = np.arange(6.0)
    found = [shuffled(rewards, seed, "q") for seed in range(20)]
    assert all(sorted(each) == sorted(rewards) and (each != rewards).all() for each in found)
    assert len({tuple(each) for each in found}) > 5
