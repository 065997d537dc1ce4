"""Weights that may be divided among processes: which part of a tensor this one holds, and writing into it.

FSDP2 makes a ``DTensor`` of every parameter. It is told by its methods here, since ``torch.distributed.tensor`` takes a second to
import, which inference would pay, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

Part = tuple[slice, ...]


def is_divided(tensor: Tensor) -> bool:
    return hasattr(tensor, "to_local")


def own_part(tensor: Tensor) -> Part:
    """Where the numbers that this process holds lie in the whole tensor."""
    if not is_divided(tensor):
        return tuple(slice(0, size) for size in tensor.shape)
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
    return tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))


def own_numbers(tensor: Tensor) -> Tensor:
    """The numbers that this process holds, to be written to without recording gradients."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def fill_normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Normal numbers around 0, the same however the tensor is divided: each process draws all of them and keeps its own."""
    if not is_divided(tensor):
        tensor.normal_(0, deviation, generator=generator)
        return
    whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).normal_(
        0, deviation, generator=generator
    )
    own_numbers(tensor).copy_(whole[own_part(tensor)])
