"""DeepSpeed's ZeRO-3 through accelerate: what the loop sees as its module, its weights and its optimizer.

DeepSpeed flattens every parameter, gives each process a run of its numbers, and gathers the whole of it for the module that is
about to compute. The float32 numbers of a process, its gradients and its moments appear here as one-dimensional ``DTensor``, so
that clipping, averages and checkpoints treat them like the weights that FSDP2 divides; any number of processes may continue.

Every process builds the whole model before it is divided, and the export gathers tensor by tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from ipt.training.losses import Objective, TokenLosses
from ipt.training.optim import make_optimizer, optimizer_tensors
from ipt.training.settings import OptimConfig


def engine_settings(dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's own configuration. Gradients are clipped by the loop and summed in float32, the optimizer is the loop's, and no
    parameter stays gathered between passes, since averages and checkpoints are written into the divided ones."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "steps_per_print": 2**31,
        "bf16": {"enabled": dtype is torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }


class Zero3(nn.Module):
    """An objective whose weights are divided among all processes, its trained ``weights`` and their ``optimizer``."""

    def __init__(self, objective: Objective, optim: OptimConfig, dtype: torch.dtype) -> None:
        super().__init__()
        from accelerate import Accelerator
        from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

        # DeepSpeed calls collectives by the names that torch 2.13 is giving up, and would be warned in every step
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed.c10d_logger")
        accelerator = Accelerator(
            mixed_precision="bf16" if dtype is torch.bfloat16 else "no",
            deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=engine_settings(dtype)),
            # without a backend accelerate takes processes on CPUs for single ones
            kwargs_handlers=[InitProcessGroupKwargs(backend=dist.get_backend())],
        )
        self.engine, _ = accelerator.prepare(objective, make_optimizer(objective.parameters(), optim))
        self.weights = ZeroWeights(objective.model, self.engine)
        self.optimizer = ZeroOptimizer(self.engine, self.weights)

    def forward(self, *inputs: Any) -> TokenLosses:
        losses: TokenLosses = self.engine(*inputs)
        return losses

    def accumulate(self, last: bool) -> None:
        """Whether the next backward pass is the last one of its step."""
        self.engine.set_gradient_accumulation_boundary(last)


class ZeroWeights:
    """The trained weights by name, as `precision.Weights` has them. Iterating gives them together with their gradients."""

    def __init__(self, model: nn.Module, engine: Any) -> None:
        from deepspeed.utils import safe_get_local_fp32_param

        self._engine = engine
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._mesh = init_device_mesh(engine.device.type, (dist.get_world_size(),))
        self._numbers = {name: safe_get_local_fp32_param(p) for name, p in self.parameters.items()}
        self.named = {
            name: nn.Parameter(flat(self._numbers[name], p, self._mesh)) for name, p in self.parameters.items()
        }

    def __iter__(self) -> Iterator[nn.Parameter]:
        from deepspeed.utils import safe_get_local_grad

        for name, parameter in self.parameters.items():
            weight = self.named[name]
            weight.grad = flat(safe_get_local_grad(parameter), parameter, self._mesh)
            yield weight

    @torch.no_grad()
    def publish(self) -> None:
        """Give the model the weights as they are now; after every change of them."""
        self._engine.optimizer.empty_partition_cache()  # a parameter that is still gathered would keep its old numbers
        for name, parameter in self.parameters.items():
            parameter.ds_tensor.copy_(self._numbers[name])  # type: ignore[attr-defined]


class ZeroOptimizer:
    """AdamW over the flat weights of a process, with its ``state`` by `ZeroWeights.named`."""

    def __init__(self, engine: Any, weights: ZeroWeights) -> None:
        from deepspeed.utils import safe_get_local_optimizer_state

        self._engine, stage3 = engine, engine.optimizer
        flats = stage3.fp32_partitioned_groups_flat
        made = optimizer_tensors(stage3.optimizer, {str(number): tensor for number, tensor in enumerate(flats)})
        self.state: dict[nn.Parameter, Mapping[str, Tensor]] = {}
        for name, parameter in weights.parameters.items():
            group = stage3.grad_position[stage3.get_param_id(parameter)][0]
            moments = {
                key: flat(safe_get_local_optimizer_state(parameter, key), parameter, weights._mesh)
                for key in ("exp_avg", "exp_avg_sq")
            }
            self.state[weights.named[name]] = {"step": made[str(group)]["step"], **moments}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self._engine.optimizer.param_groups
        return groups

    def step(self) -> None:
        self._engine.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._engine.optimizer.zero_grad(set_to_none)
        for weight in self.state:
            weight.grad = None


def flat(own: Tensor, parameter: nn.Parameter, mesh: DeviceMesh) -> DTensor:
    """The flattened ``parameter``, or what belongs to it, of which this process has the numbers ``own``. DeepSpeed gives all
    processes equally many, the last ones beyond the end."""
    count: int = parameter.ds_numel  # type: ignore[attr-defined]
    valid = min(max(count - dist.get_rank() * own.numel(), 0), own.numel())
    return DTensor.from_local(own[:valid], mesh, [Shard(0)], run_check=False, shape=torch.Size([count]), stride=(1,))


def is_zero3(tensor: Tensor) -> bool:
    """Whether DeepSpeed has divided a parameter."""
    return hasattr(tensor, "ds_id")


def undivided(parameter: Tensor) -> Tensor:
    """A copy of the whole of a parameter that DeepSpeed has divided. All ranks call this."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()
