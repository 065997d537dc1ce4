"""What an update is: float32 weights under a model that may compute in bfloat16, AdamW with the paper's values, the learning
rate as a function of the step, gradient clipping, and the moving average.

The optimizer sees float32 master weights. The model computes with bfloat16 copies, and each of their gradients is added to a
float32 gradient as soon as it is complete, so that sums over packs lose nothing. No autocast: inputs that need float32 (RoPE,
timesteps, losses) are float32 by construction.

At 0.9999 the average needs ten thousand steps to forget the weights it started from, and short runs would be judged by weights
that they never trained. Its decay therefore grows with the updates made.

On CUDA one fused kernel updates all weights. Sharded ones are updated tensor by tensor, like those on CPU: ``foreach`` and
``fused`` AdamW keep a growing cache for every sharded parameter (pytorch #188174, #178276).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ipt.common.errors import UserError
from ipt.training.settings import EmaConfig, OptimConfig

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
    def sync_to_model(self) -> None:
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


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of update number ``step`` (from 0) of ``steps``; the last warm-up update already has the full rate, unless the
    first has none (``from_zero``, as in transformers' ``get_constant_schedule_with_warmup``)."""
    late = int(config.from_zero)
    if step < config.warmup_steps:
        return config.lr * (step + 1 - late) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(steps - 1 + late - config.warmup_steps, 1)
    return config.lowest + (config.lr - config.lowest) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


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
        fused=_undivided(trained),
    )


def _undivided(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether none is divided: then one call updates all, where many small ones would cost more than the arithmetic."""
    return not any(isinstance(parameter, DTensor) for parameter in parameters)


def set_learning_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients down to a norm of ``largest`` together; returns the norm before, a scalar that may be non-finite
    (the gradients then are useless, too)."""
    trained = list(parameters)
    norm = nn.utils.clip_grad_norm_(trained, largest, foreach=_undivided(trained) and trained[0].is_cuda)
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


class Kept:
    """Values of those of ``parameters`` that are trained, float32, sharded as they are: at first as they stand now."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        self._parameters = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        self.values = {name: p.detach().float().clone() for name, p in self._parameters.items()}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The trained weights have these values for as long as the block runs (`Weights.sync_to_model` hands them on)."""
        kept: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._parameters.items()}
        try:
            self._write(self.values)
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])


class Ema(Kept):
    """The average of those of ``parameters`` that are trained."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], config: EmaConfig) -> None:
        super().__init__(parameters)
        self.config, self.updates = config, 0

    def decay(self, update: int) -> float:
        """The decay of update number ``update``, from 1."""
        return min(self.config.decay, (1 + update) / (10 + update)) if self.config.warmup else self.config.decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights: ``a <- d a + (1 - d) p``."""
        self.updates += 1
        share = 1 - self.decay(self.updates)
        for name, average in self.values.items():
            average.lerp_(self._parameters[name].detach().float(), share)
