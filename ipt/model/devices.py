"""What a command computes on: its device, checked before it begins, and the threads of a CPU."""

from __future__ import annotations

import os
import sys

import torch

from ipt.common.errors import UserError

#: Parameters of a model up to which one thread is faster: its products are over before other threads have begun, and these spin
#: while they wait for each other. On a busy machine of two cores the preset tiny trained 3,500 tokens/s with one, 85 with two.
ONE_THREAD = 20_000_000


def use_threads(parameters: int, device: str, threads: int | None = None) -> None:
    """Compute with ``threads``, where that is None with one for a small model on a CPU, unless OMP_NUM_THREADS says otherwise.
    Says what it has chosen."""
    small = parameters <= ONE_THREAD and torch.device(device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ
    chosen = 1 if threads is None and small else threads
    if chosen is not None and chosen != (before := torch.get_num_threads()):
        torch.set_num_threads(chosen)
        why = (
            "as set"
            if threads
            else f"for {parameters / 1e6:.1f} million parameters; OMP_NUM_THREADS={before} for as many"
        )
        print(f"note: {chosen} thread{'s' * (chosen > 1)} instead of {before}, {why}", file=sys.stderr)


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
