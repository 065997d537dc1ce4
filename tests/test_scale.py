"""The costs of scale on paper: traffic by hand, and a simulated dataset against its sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale import Measured, ScaleConfig, simulated, traffic, training

CONFIG = ScaleConfig(samples=1000, part_workers=4, start_s=2.0, worker_mtbf_hours=1e9)
EVEN = Measured((3.0,), (2,), 0.0, (0.0, 0.0))


def test_traffic_of_a_divided_and_a_repeated_model() -> None:
    """8 weights on 4 GPUs: 3/4 of 2 + 2 + 4 bytes each; with 2 repeats, 4 bytes of the own quarter to the other and back."""
    assert traffic(8, 4, 4) == (48.0, 0.0)
    assert traffic(8, 8, 4) == (48.0, 2 * 0.5 * 8 * 4 / 4)
    assert traffic(8, 16, 16) == (0.0, 8 * 8 * 15 / 16)


@pytest.mark.parametrize(("workers", "seconds"), [(1, 2 + 500 * 3), (4, 2 + 125 * 3), (8, 2 + 63 * 3)])
def test_scenes_are_shared_by_the_workers_of_each_part(workers: int, seconds: float) -> None:
    assert simulated(EVEN, workers, CONFIG) == (seconds, 0)


def test_a_part_is_no_faster_than_its_selecting_process() -> None:
    assert simulated(replace(EVEN, select_s=1.5), 8, CONFIG)[0] == 500 * 1.5


def test_who_fails_loses_a_scene_and_starts_again() -> None:
    wall, lost = simulated(EVEN, 1, replace(CONFIG, worker_mtbf_hours=30 / 3600))
    assert 20 <= lost <= 80 and 1502 + 2 * lost < wall < 1502 + (2 + 3) * lost


def test_every_assumption_of_training_counts() -> None:
    table = training(ScaleConfig())
    for change in (
        {"steps": 100}, {"pack": 65_536}, {"gpu": "A100"}, {"mfu": 0.1}, {"node_gb_s": 50.0}, {"net_gb_s": 5.0},
        {"storage_gb_s": 1.0}, {"gpu_mtbf_hours": 100.0}, {"restart_minutes": 600.0}, {"save_minutes": 10.0},
    ):  # fmt: skip
        assert training(replace(ScaleConfig(), **change)) != table, change
