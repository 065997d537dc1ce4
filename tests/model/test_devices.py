"""A device that this machine does not have is named before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from ipt.common.errors import UserError
from ipt.model.devices import chosen_device


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
