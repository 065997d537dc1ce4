"""AdamW with the paper's values, the learning rate as a function of the step, and gradient clipping.

On CUDA one fused kernel updates all weights. Sharded ones are updated tensor by tensor, like those on CPU: ``foreach`` and
``fused`` AdamW keep a growing cache for every sharded parameter (pytorch #188174, #178276).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ipt.common.errors import UserError
from ipt.training.settings import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of update number ``step`` (from 0) of ``steps``; the last warm-up update already has the full rate."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(steps - 1 - config.warmup_steps, 1)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; frozen parameters take no memory here. ``ValueError`` where nothing is trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise UserError("no parameter is trained: the tuning freezes all of the model")
    return torch.optim.AdamW(
        trained,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        foreach=False,
        fused=_whole(trained),
    )


def _whole(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether none is divided: then one call updates all, where many small ones would cost more than the arithmetic."""
    return not any(isinstance(parameter, DTensor) for parameter in parameters)


def set_learning_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients down to a norm of ``largest`` together; returns the norm before, a scalar that may be non-finite
    (the gradients then are useless, too)."""
    trained = list(parameters)
    norm = nn.utils.clip_grad_norm_(trained, largest, foreach=_whole(trained) and trained[0].is_cuda)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def optimizer_tensors(optimizer: torch.optim.AdamW, named: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """AdamW's own state by parameter name, created where no update has been made yet: to be saved, or to be read into."""
    fused = optimizer.param_groups[0]["fused"]
    for parameter in named.values():
        if not optimizer.state[parameter]:
            zeros = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            # the fused kernel counts its steps where the weights are
            step = torch.zeros((), device=parameter.device if fused else "cpu")
            optimizer.state[parameter] |= {"step": step, **zeros}
    return {name: dict(optimizer.state[parameter]) for name, parameter in named.items()}
