"""A device that this machine does not have is named before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from ipt.common.errors import UserError
from ipt.model.devices import chosen_device, use_threads


def test_devices_that_are_there_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto") == "cpu" and chosen_device("cpu") == "cpu"
    with pytest.raises(UserError, match=r"device=cuda: torch .* finds no CUDA device here; choose auto or cpu"):
        chosen_device("cuda")
    with pytest.raises(UserError, match="device=gpu is no device"):
        chosen_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen_device("auto") == "cuda" and chosen_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        chosen_device("cuda:2")


@pytest.mark.parametrize(
    ("parameters", "device", "threads", "variable", "expected", "said"),
    [
        (1_200_000, "cpu", None, None, 1, "note: 1 thread instead of 3, for 1.2 million parameters; OMP_NUM_THREADS=3"),
        (1_200_000, "cpu", None, "3", 3, ""),
        (1_200_000, "cpu", 2, None, 2, "note: 2 threads instead of 3, as set"),
        (1_200_000, "cpu", 3, None, 3, ""),
        (1_200_000, "cuda", None, None, 3, ""),
        (100_000_000, "cpu", None, None, 3, ""),
        (100_000_000, "cpu", 1, "3", 1, "note: 1 thread instead of 3, as set"),
    ],
)
def test_small_models_use_one_thread_unless_told(
    parameters: int,
    device: str,
    threads: int | None,
    variable: str | None,
    expected: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    used = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    use_threads(parameters, device, threads)
    assert used[-1] == expected and capsys.readouterr().err.startswith(said)
    assert bool(said) == (expected != 3)
