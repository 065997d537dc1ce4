"""The optimizer's numbers, the learning rate over a run, and the moving average."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ipt.training.optim import Ema, clip_gradients, learning_rate, make_optimizer, set_learning_rate
from ipt.training.settings import EmaConfig, OptimConfig


def test_the_rate_warms_up_and_stays_or_falls_to_its_minimum() -> None:
    constant = OptimConfig(lr=1e-3, warmup_steps=4)
    assert [learning_rate(constant, step, 8) for step in range(8)] == [2.5e-4, 5e-4, 7.5e-4] + [1e-3] * 5
    cosine = OptimConfig(lr=1e-3, min_lr=1e-5, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(cosine, step, 105) for step in range(3, 105)]
    assert rates[0] == rates[1] == 1e-3 and rates[-1] == pytest.approx(1e-5)
    assert all(first >= second for first, second in itertools.pairwise(rates))
    assert rates[51] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-6)


def test_from_zero_the_rates_are_those_of_the_schedules_that_the_release_uses() -> None:
    """transformers' ``get_constant_schedule_with_warmup`` and ``get_cosine_with_min_lr_schedule_with_warmup``, of 4 in 20
    steps."""
    published = OptimConfig(lr=1e-5, warmup_steps=4, from_zero=True)
    assert [learning_rate(published, step, 20) for step in range(20)] == [1e-5 * min(step / 4, 1) for step in range(20)]
    cosine = replace(published, schedule="cosine", min_lr=1e-7)
    for step in range(4, 20):
        falling = 0.5 * (1 + math.cos(math.pi * (step - 4) / (20 - 4)))
        assert learning_rate(cosine, step, 20) == pytest.approx(1e-5 * (falling * (1 - 0.01) + 0.01), rel=1e-12)


def test_an_update_is_that_of_adamw_written_out() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    config = OptimConfig(lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer([weight], config)
    set_learning_rate(optimizer, 0.2)
    expected, mean, square = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for update in (1, 2):
        weight.grad = torch.tensor([0.3, -4.0]) * update
        mean, square = 0.9 * mean + 0.1 * weight.grad, 0.95 * square + 0.05 * weight.grad**2
        scaled = (mean / (1 - 0.9**update)) / ((square / (1 - 0.95**update)).sqrt() + config.eps)
        expected = expected - 0.2 * 0.5 * expected - 0.2 * scaled
        optimizer.step()
        torch.testing.assert_close(weight.detach(), expected)


def test_frozen_parameters_take_no_memory_and_all_frozen_is_an_error() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    optimizer = make_optimizer(layer.parameters(), OptimConfig())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    assert list(optimizer.state) == [layer.weight]
    with pytest.raises(ValueError, match="freezes all"):
        make_optimizer([layer.bias], OptimConfig())


def test_clipping_reports_the_norm_and_scales_to_the_limit() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.full((2,), 3.0)
    assert float(clip_gradients(parameters, 1.5)) == pytest.approx(6.0)
    assert math.sqrt(sum(float(p.grad.square().sum()) for p in parameters)) == pytest.approx(1.5, rel=1e-4)
    parameters[0].grad[0] = torch.nan
    assert not torch.isfinite(clip_gradients(parameters, 1.0))


@pytest.mark.parametrize("wrong", [{"schedule": "linear"}, {"lr": 0.0}, {"min_lr": 1.0}, {"beta1": 1.0}, {"clip": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimConfig(**wrong)  # type: ignore[arg-type]


def test_the_average_follows_its_formula_and_forgets_the_start_early() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    frozen = nn.Parameter(torch.tensor([1.0]), requires_grad=False)
    ema = Ema([("weight", weight), ("frozen", frozen)], EmaConfig(decay=0.9))
    plain = Ema([("weight", weight)], EmaConfig(decay=0.9, warmup=False))
    expected = 1.0
    for update, value in enumerate((3.0, 5.0, 9.0), start=1):
        with torch.no_grad():
            weight.fill_(value)
        ema.update()
        plain.update()
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    assert list(ema.values) == ["weight"]
    assert float(ema.values["weight"]) == pytest.approx(expected)
    assert float(plain.values["weight"]) == pytest.approx(1 * 0.9**3 + 3 * 0.081 + 5 * 0.09 + 9 * 0.1)
    assert float(ema.values["weight"]) > float(plain.values["weight"])


def test_the_average_stands_in_for_the_weights_and_steps_back_even_after_an_error() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([("weight", weight)], EmaConfig(decay=0.5, warmup=False))
    with torch.no_grad():
        weight.fill_(2.0)
    ema.update()
    with pytest.raises(RuntimeError, match="stop"), ema.swapped_in():
        assert float(weight) == 1.5
        raise RuntimeError("stop")
    assert float(weight) == 2.0
