"""Training in bfloat16 with float32 weights: what is computed with, and what is trained.

The optimizer sees float32 master weights. The model computes with bfloat16 copies, and each of their gradients is added to a
float32 gradient as soon as it is complete, so that sums over packs lose nothing. No autocast: inputs that need float32 (RoPE,
timesteps, losses) are float32 by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

COMPUTE = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Weights:
    """The trained weights of ``model`` under its names, float32. ``compute``: the dtype of the model's own parameters, which
    with float32 are the trained weights themselves.

    Frozen parameters get the compute dtype, too, and have no second copy.
    """

    def __init__(self, model: nn.Module, compute: torch.dtype = torch.float32) -> None:
        self._copies: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.named: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            master = parameter
            if compute is not torch.float32 and parameter.requires_grad:
                master = nn.Parameter(parameter.detach().float().clone())
                self._copies.append((parameter, master))
            parameter.data = parameter.data.to(compute)
            if parameter.requires_grad:
                self.named[name] = master
        for copy, master in self._copies:
            copy.register_post_accumulate_grad_hook(_adding_to(master))

    def __iter__(self) -> Iterator[nn.Parameter]:
        return iter(self.named.values())

    @torch.no_grad()
    def publish(self) -> None:
        """Give the model the weights as they are now; after every change of them."""
        for copy, master in self._copies:
            copy.copy_(master)


def _adding_to(master: nn.Parameter) -> Callable[[torch.Tensor], None]:
    def add(copy: torch.Tensor) -> None:
        assert copy.grad is not None
        gradient = copy.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        copy.grad = None

    return add
