"""Steps that are left to chance: distributed as the deterministic ones, and as likely as they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ipt.flow.path import euler, schedule
from ipt.flow.stochastic import log_probability, stochastic_step
from ipt.reinforcement.walk import Walk, first_step

MEAN, DEVIATION, PICTURES, NUMBERS = 0.3, 0.5, 40, 500


def velocity(x: Tensor, t: float) -> Tensor:
    """The exact one from noise to normal numbers of this mean and deviation."""
    variance = (1 - t) ** 2 * DEVIATION**2 + t**2
    return (x - (1 - t) * MEAN) * (t - (1 - t) * DEVIATION**2) / variance - MEAN


def drawn(window: int, first: int) -> Tensor:
    noise = torch.randn(PICTURES, 1, NUMBERS, generator=torch.Generator().manual_seed(0))
    times = schedule(51, 1.0)
    walk = Walk(times, 0.7, window, [first] * PICTURES, 0, [(str(i),) for i in range(PICTURES)])
    return euler(velocity, noise, times, advance=walk if window else None)


@pytest.mark.parametrize("window, first", [(50, 0), (3, 0), (3, 20)], ids=["all steps", "at the start", "within"])
def test_the_marginals_are_those_of_the_deterministic_drawing(window: int, first: int) -> None:
    plain, found = drawn(0, 0), drawn(window, first)
    assert float(plain.std()) == pytest.approx(DEVIATION, rel=0.05)
    assert float(found.std()) == pytest.approx(DEVIATION, rel=0.05)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float((found - plain).abs().mean()) > 0.05, "and yet other pictures"


def test_outside_of_its_window_a_walk_takes_the_steps_of_euler() -> None:
    noise, times = torch.randn(2, 4, 3), schedule(9, 2.0)
    unmoved = euler(velocity, noise, times)
    assert torch.equal(
        euler(velocity, noise, times, advance=Walk(times, 0.7, 2, [99, 99], 0, [("a",), ("b",)])), unmoved
    )
    walk = Walk(times, 0.7, 2, [99, 3], 0, [("a",), ("b",)])
    found = euler(velocity, noise, times, advance=walk)
    assert torch.equal(found[0], unmoved[0]) and not torch.equal(found[1], unmoved[1])
    assert [step.number for step in walk.walked_B[1]] == [3, 4] and not walk.walked_B[0]
    assert torch.equal(walk.walked_B[1][0].next_LD, walk.walked_B[1][1].state_LD)


def test_the_log_probability_is_that_of_a_normal_distribution_but_for_a_constant() -> None:
    x, v, noise = torch.randn(3, 4), torch.randn(3, 4), torch.tensor(0.9)
    t, after, cap = torch.tensor(0.8), torch.tensor(0.7), torch.tensor(0.95)
    mean, deviation = stochastic_step(x, v, t, after, cap, noise)
    assert float(deviation) == pytest.approx(0.9 * (0.8 / 0.2) ** 0.5 * 0.1**0.5, rel=1e-5)
    one, two = mean + 0.1, mean - 0.3
    normal = torch.distributions.Normal(mean, deviation)
    ours = log_probability(one, mean, deviation) - log_probability(two, mean, deviation)
    torch.testing.assert_close(ours, normal.log_prob(one) - normal.log_prob(two))
    capped = stochastic_step(x, v, torch.tensor(1.0), torch.tensor(0.95), cap, noise)[1]
    assert float(capped) == pytest.approx(0.9 * (1 / 0.05) ** 0.5 * 0.05**0.5, rel=1e-4)


def test_windows_lie_between_their_shares_and_differ_by_name() -> None:
    begins = [first_step(24, 2, 0.25, 0.75, 0, "q", number) for number in range(200)]
    assert min(begins) == 6 and max(begins) == 16
    assert first_step(24, 2, 0.25, 0.75, 0, "q", 3) == begins[3] and len({*begins[:20]}) > 3
    assert first_step(4, 9, 0.0, 0.5, 0, "q") == 0, "a window longer than the drawing begins with it"
