"""The device that a command computes on, checked before it begins."""

from __future__ import annotations

import torch

from ipt.common.errors import UserError


def chosen_device(name: str) -> str:
    """``name``, or for ``auto`` a GPU where there is one. ``UserError`` for one that this machine does not have."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name} is no device; choose auto, cpu or cuda") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise UserError(f"device={name}: torch {torch.__version__} finds no CUDA device here; choose auto or cpu")
        if device.index is not None and device.index >= count:
            raise UserError(f"device={name}: there are {count} CUDA devices, numbered from 0")
    return name
