"""Path, timestep law, sampler and guidance as equivalences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ipt.flow.guidance import Guidance
from ipt.flow.path import (
    Forecast,
    euler,
    interpolate,
    schedule,
    shift_timesteps,
    sigmoid_normal_timesteps,
    velocity_target,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_velocity_is_the_derivative_of_the_path(t: float, s: float) -> None:
    x0, noise = normal(5, 3), normal(5, 3, seed=1)
    start, end = (interpolate(x0, noise, torch.full((5,), time)) for time in (t, s))
    torch.testing.assert_close(end - start, (s - t) * velocity_target(x0, noise), atol=1e-5, rtol=1e-5)


def test_the_path_is_computed_in_float32() -> None:
    x0, noise = normal(4, 3).bfloat16(), normal(4, 3, seed=1).bfloat16()
    x_t = interpolate(x0, noise, torch.full((4,), 0.3))
    assert x_t.dtype == torch.float32 and torch.equal(
        x_t, interpolate(x0.float(), noise.float(), torch.full((4,), 0.3))
    )


@given(st.integers(2, 60), st.floats(0.2, 10))
def test_a_schedule_falls_from_noise_to_data(points: int, shift: float) -> None:
    times = schedule(points, shift)
    assert len(times) == points and times[0] == pytest.approx(1) and times[-1] == 0 and (times.diff() < 0).all()


@given(st.integers(2, 30), st.floats(0.2, 10))
def test_the_true_velocity_leads_from_noise_to_data_in_any_number_of_steps(points: int, shift: float) -> None:
    x0, noise = normal(2, 6), normal(2, 6, seed=1)
    seen = []
    drawn = euler(
        lambda x, t: velocity_target(x0, noise), noise, schedule(points, shift), lambda step, v, x: seen.append(step)
    )
    torch.testing.assert_close(drawn, x0, atol=1e-5, rtol=1e-5)
    assert seen == list(range(points - 1))


@pytest.mark.parametrize(("skip", "asked"), [(0, 12), (1, 7), (2, 5), (20, 2)])
def test_skipped_steps_follow_the_line_through_the_last_two_velocities(skip: int, asked: int) -> None:
    """Which is exact where the velocity is linear in time."""
    level, slope, noise, calls = normal(2, 6), normal(2, 6, seed=1), normal(2, 6, seed=2), []

    def velocity(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return level + slope * t

    drawn = euler(Forecast(velocity, skip), noise, schedule(13))
    torch.testing.assert_close(drawn, euler(lambda x, t: level + slope * t, noise, schedule(13)), atol=1e-5, rtol=1e-5)
    assert len(calls) == asked and calls[:2] == schedule(13)[:2].tolist()


def test_velocities_of_different_phases_are_not_mixed() -> None:
    calls: list[float] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return torch.full_like(x, 1.0 if t > 0.5 else -1.0)

    times = torch.linspace(1, 0, 11)
    drawn = euler(Forecast(velocity, 8, lambda t: t > 0.5), torch.zeros(1), times)
    assert drawn.item() == pytest.approx(0.1 * (5 - 5), abs=1e-6)
    assert calls == pytest.approx([1.0, 0.9, 0.5, 0.4], abs=1e-6)


def test_training_times_follow_their_law() -> None:
    """Without shift the median is 1/2 and logit(t) is standard normal; a shift moves them as `shift_timesteps` does."""
    times, shifted = (sigmoid_normal_timesteps(20_000, shift, torch.Generator().manual_seed(0)) for shift in (1.0, 3.0))
    logits = torch.logit(times.double())
    assert abs(logits.mean()) < 0.02 and abs(logits.std() - 1) < 0.02
    assert torch.equal(shifted, shift_timesteps(times, 3.0)) and shifted.median() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel"])
def test_scales_of_one_change_nothing(renorm: str) -> None:
    v, u, i = (normal(2, 4, 6, seed=seed) for seed in range(3))
    torch.testing.assert_close(Guidance(1.0, 1.0, renorm=renorm).combine(v, u, i), v)


@pytest.mark.parametrize("renorm", ["global", "channel"])
def test_a_renormalised_velocity_is_never_longer(renorm: str) -> None:
    v, u, i = (normal(3, 4, 6, seed=seed) for seed in range(3))
    dims = (-2, -1) if renorm == "global" else (-1,)
    guided = Guidance(5.0, 2.0, renorm=renorm).combine(v, u, i)
    norm = torch.linalg.vector_norm
    assert (norm(guided, dim=dims) <= norm(v, dim=dims) * (1 + 1e-5)).all()
    free = Guidance(5.0, 2.0, renorm=renorm, renorm_min=1.0).combine(v, u, i)
    assert (norm(free, dim=dims) > norm(v, dim=dims)).any()


def test_global_renorm_does_not_mix_the_images_of_a_batch() -> None:
    v, u, i = (normal(3, 4, 6, seed=seed) for seed in range(3))
    guidance = Guidance(4.0, 1.5)
    alone = torch.cat([guidance.combine(v[[row]], u[[row]], i[[row]]) for row in range(3)])
    torch.testing.assert_close(guidance.combine(v, u, i), alone)


def test_the_interval_is_open_at_its_start() -> None:
    guidance = Guidance(start=0.4, end=0.9)
    assert [guidance.active(t) for t in (0.4, 0.41, 0.9, 0.91)] == [False, True, True, False]
    assert not Guidance(1.0, 1.0).active(0.5)


def test_wrong_settings_say_what_would_be_right() -> None:
    with pytest.raises(ValueError, match="unknown renorm 'local'; valid: global, channel, text_channel"):
        Guidance(renorm="local")
    with pytest.raises(ValueError, match=r"image_scale 2\.0 has no effect while text_scale is 1\.0"):
        Guidance(1.0, 2.0)
    with pytest.raises(ValueError, match="needs the velocity of the context without images"):
        Guidance(2.0, 2.0).combine(normal(1, 2, 3), normal(1, 2, 3), None)
    with pytest.raises(ValueError, match="at least 2 timesteps"):
        schedule(1)
    with pytest.raises(ValueError, match="shift must be positive, got 0"):
        schedule(5, 0.0)
