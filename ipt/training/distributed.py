"""The processes of a run: how they find each other, who writes files, and how the model is divided among them.

``torchrun`` and ``accelerate launch`` say through environment variables which process this is. Without them there is one, for
which every function here is the identity. Gradients are summed, not averaged: losses already are shares of the global mean.

``ddp``: a whole model per process; in bfloat16 it is ``hsdp`` with groups of one, which sums gradients in float32, as
`DistributedDataParallel` does not. ``fsdp2``: every layer's weights, gradients and optimizer state divided among all processes.
``hsdp``: divided within groups of ``shard`` processes, for example those of a node, and repeated over the groups.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ipt.common.errors import UserError
from ipt.model.unified import UnifiedModel
from ipt.training.losses import Objective
from ipt.training.settings import DistributedConfig

Fill = Callable[[UnifiedModel], None]


@dataclass(frozen=True)
class World:
    """``rank`` of ``size`` processes, computing on ``device``."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this process writes what belongs to all."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Elementwise sums over all ranks, in float64: the same on each."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on each. Small picklable objects only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


def start_world(settings: DistributedConfig) -> World:
    """Join the processes that a launcher started, if any. Raises ``ValueError`` where the settings are for one process and there
    are several, or the other way round."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if (settings.kind == "single") != (size == 1):
        raise UserError(
            f"distributed={settings.kind} does not go with {size} process(es); "
            f"{'choose ddp, fsdp2 or hsdp' if size > 1 else 'set launch.gpus, or use torchrun or accelerate launch'}"
        )
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    if size == 1:
        return World(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=settings.timeout_minutes))
    return World(dist.get_rank(), dist.get_world_size(), device)


def parallelize(
    objective: Objective, settings: DistributedConfig, world: World, dtype: torch.dtype, fill: Fill | None = None
) -> nn.Module:
    """The objective as its processes compute it, in ``dtype`` where its weights are divided (float32 sums of gradients).

    ``fill`` gives weights to a model that is on the meta device. It is called once the model is divided: a process has memory
    for its own part only.
    """
    plain = settings.kind == "ddp" and dtype is torch.float32
    if settings.kind != "single" and not plain:
        _divide(objective, {"ddp": 1, "fsdp2": world.size, "hsdp": settings.shard}[settings.kind], world, dtype)
    if fill is not None:
        objective.to_empty(device=world.device)
        fill(objective.model)
    if plain:
        devices = None if world.device == "cpu" else [world.device]
        warnings.filterwarnings(
            "ignore", message="`broadcast_buffers` is deprecated"
        )  # its successor is not in torch 2.6
        return DistributedDataParallel(objective, device_ids=devices, broadcast_buffers=False)
    return objective


def _divide(objective: Objective, shard: int, world: World, dtype: torch.dtype) -> None:
    """Among every ``shard`` processes."""
    device = world.device.partition(":")[0]
    if shard == world.size:
        mesh = init_device_mesh(device, (shard,), mesh_dim_names=("shard",))
    else:
        mesh = init_device_mesh(device, (world.size // shard, shard), mesh_dim_names=("replicate", "shard"))
    # inputs keep their dtypes: positions, times and targets are float32 on purpose, and the model casts the rest
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    model = objective.model
    for layer in (*model.decoder.layers, *model.vision.layers):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)


@contextmanager
def accumulating(module: nn.Module, last: bool) -> Iterator[None]:
    """One of several backward passes of a step. Replicas sum their gradients in the last one; divided gradients are summed in
    each within a group that divides a model, since no process could hold them whole, and over the groups in the last."""
    if isinstance(module, FSDPModule):
        module.set_requires_all_reduce(last)
    with nullcontext() if last or not isinstance(module, DistributedDataParallel) else module.no_sync():
        yield


@contextmanager
def root_gathered(module: nn.Module) -> Iterator[None]:
    """What lies outside of the layers whole on each rank while the block runs: for forward passes of parts of the model, which do
    not begin at ``module``. Layers gather their own weights. All ranks run the same passes."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


@contextmanager
def root_released(module: nn.Module) -> Iterator[None]:
    """Within `root_gathered`, everything divided again while the block runs: for a change of the weights, and other passes."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.reshard()
    try:
        yield
    finally:
        module.unshard()


def divide_again(module: nn.Module) -> None:
    """Give back what a pass without a backward one has left whole: the next pass would compute with it, whatever the weights
    are then."""
    if isinstance(module, FSDPModule):
        module.reshard()


def is_sharded(module: nn.Module) -> bool:
    """Whether no process can compute with the module alone."""
    return isinstance(module, FSDPModule)


@torch.no_grad()
def gather_full(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Divided tensors put together on the main process's CPU, one at a time; empty on the others. All ranks call this."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world.is_main:
            gathered[name] = full.detach().cpu()
    return gathered
