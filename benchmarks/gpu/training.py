"""Training steps of the real `Trainer` on one device: BAGEL's geometry with as many layers as fit, all 28 with adapters, divided
weights (FSDP2, one process), and the small model.

MFU = 3 x forward FLOPs of `ipt.model.flops` / (seconds x 989 TFLOP/s, the dense bfloat16 peak of H200); recomputation does not
count. Where the base is frozen its weights have no gradients, which leaves 2 x forward: that is what is counted there.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.gpu.measure import Results, seconds_of
from benchmarks.gpu.packs import Maker, Sizes
from ipt.common.seeding import derived_seed
from ipt.model.checkpoint import from_scratch
from ipt.model.config import ModelConfig
from ipt.model.flops import PEAK_TFLOPS, forward_flops, step_flops
from ipt.model.mot import ExpertBlock, Rope
from ipt.model.parts import TuningSettings
from ipt.model.tuning import apply_tuning, initialise_adapters
from ipt.sequence.batch import PackedBatch
from ipt.training.distributed import World
from ipt.training.settings import DistributedConfig, EmaConfig, OptimConfig, TrainerConfig
from ipt.training.source import Material
from ipt.training.trainer import Trainer


@dataclass(frozen=True)
class Case:
    """One training to be timed. ``layers``: of the decoder, 0 for all of the preset. ``packs``: also time steps of so many packs,
    from which the costs per pack and per step follow."""

    name: str
    layers: int = 0
    attention: str = "flex"
    tuning: str = "full"
    dtype: str = "bfloat16"
    recompute: bool = True
    distributed: str = "single"
    average: bool = False
    packs: int = 2
    steps: int = 3


def shape_of(sizes: Sizes, layers: int) -> ModelConfig:
    """The preset with fewer decoder layers."""
    shape = sizes.shape
    return replace(shape, decoder=replace(shape.decoder, layers=layers or shape.decoder.layers))


def make_trainer(case: Case, shape: ModelConfig, device: str, folder: Path) -> Trainer:
    """A trainer without data of its own."""
    generator = torch.Generator(device).manual_seed(derived_seed(0, "weights"))
    model = from_scratch(shape, generator, case.attention, device)
    apply_tuning(model, TuningSettings(case.tuning))
    initialise_adapters(model, generator)
    config = TrainerConfig(
        steps=10**6,
        dtype=case.dtype,
        checkpoint_activations=case.recompute,
        optim=OptimConfig(lr=1e-6, warmup_steps=0),
        ema=EmaConfig() if case.average else None,
    )
    world, distributed = World(device=device), DistributedConfig(case.distributed)
    unread: Any = SimpleNamespace(compares=False, whole=True, factors=config.loss.weights)
    return Trainer(model, unread, config, folder, world=world, distributed=distributed)


def train(results: Results, sizes: Sizes, case: Case) -> list[float]:
    """Time one case; the losses of its steps."""
    with results.attempt(case.name), tempfile.TemporaryDirectory() as folder:
        return _train(results, sizes, case, Path(folder))
    return []


def _train(results: Results, sizes: Sizes, case: Case, folder: Path) -> list[float]:
    device, shape = results.device, shape_of(sizes, case.layers)
    batch, losses = Maker(sizes).pack(), list[float]()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(case, shape, device, folder)

    def step(packs: int = 1) -> None:
        losses.append(trainer.train_step(iter([Material([batch] * packs)])).loss)

    first = seconds_of(step, device, repeats=1, warm_up=0)
    seconds = seconds_of(step, device, case.steps, warm_up=1)
    more = seconds_of(lambda: step(case.packs), device, repeats=2, warm_up=0) if case.packs > 1 else None
    memory = 0 if device == "cpu" else torch.cuda.max_memory_allocated()
    results.add(
        case.name,
        layers=shape.decoder.layers,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        trained=sum(p.numel() for p in trainer.weights),
        tokens=batch.spans.num_tokens,
        first_step_s=first,
        peak_gb=memory / 1e9,
        losses=losses[:5],
        **speed(case, shape, batch, seconds, more),
    )
    return losses


def speed(case: Case, shape: ModelConfig, batch: PackedBatch, seconds: float, more: float | None) -> dict[str, Any]:
    """Rates of a step of one pack, and of one of eight (BAGEL's), from the costs per pack and per step."""
    tokens, peak = batch.spans.num_tokens, PEAK_TFLOPS["H200"] * 1e12
    necessary, bagel = step_flops(shape, [batch])
    forward = forward_flops(shape, batch.spans, batch.patch_grids)
    if case.tuning == "lora":
        necessary = 2 * forward.forward
    elif case.tuning == "generation_expert":
        necessary = 2 * forward.forward + forward.generation + forward.latents
    found = {
        "step_s": seconds,
        "tokens_per_s": tokens / seconds,
        "necessary_tflop": necessary / 1e12,
        "mfu": necessary / seconds / peak,
        "mfu_bagel": bagel / seconds / peak,
    }
    if more is None:
        return found
    pack = (more - seconds) / (case.packs - 1)
    eight = seconds + 7 * pack
    return found | {
        "per_pack_s": pack,
        "per_step_s": seconds - pack,
        "tokens_per_s_8_packs": 8 * tokens / eight,
        "mfu_8_packs": 8 * necessary / eight / peak,
    }


def cases(sizes: Sizes, cuda: bool) -> list[Case]:
    """Full training with as many layers as fit, then all layers with most of the model frozen."""
    if not cuda:
        return [Case("2 layers, sdpa", 2, "sdpa"), Case("lora, all layers, sdpa", 0, "sdpa", "lora", packs=1)]
    return [
        Case("4 layers, flex", 4),
        Case("4 layers, sdpa", 4, "sdpa"),
        Case("8 layers, flex", 8),
        Case("lora, all layers, flex", 0, tuning="lora", packs=1, steps=2),
        Case("4 layers, flex, nothing recomputed", 4, recompute=False),
        Case("8 layers, sdpa", 8, "sdpa"),
        Case("12 layers, flex", 12),
        Case("lora, all layers, sdpa", 0, "sdpa", "lora", packs=1, steps=2),
        Case("generation expert, all layers, flex", 0, tuning="generation_expert", packs=1, steps=2),
    ]


def run(results: Results, sizes: Sizes) -> None:
    """The section on BAGEL's geometry."""
    for case in cases(sizes, results.device != "cpu"):
        train(results, sizes, case)


def compiled(results: Results, sizes: Sizes) -> None:
    """What compiling the norms, rotations and gates around the matrix products would gain."""
    if results.device == "cpu":
        return
    for owner, name in ((ExpertBlock, "project"), (ExpertBlock, "finish"), (Rope, "rotate")):
        setattr(owner, name, torch.compile(getattr(owner, name), dynamic=True))
    train(results, sizes, Case("4 layers, flex, compiled blocks", 4))
    train(results, sizes, Case("8 layers, flex, compiled blocks", 8))


def small(results: Results, sizes: Sizes) -> None:
    """The small model, with an average of its weights as its runs have."""
    cuda = results.device != "cpu"
    for attention, dtype in itertools.product(("flex", "sdpa") if cuda else ("sdpa",), ("bfloat16", "float32")):
        case = Case(f"{attention}, {dtype}", 0, attention, "full", dtype, recompute=False, average=True, steps=5)
        train(results, sizes, case)


@contextmanager
def alone(device: str) -> Iterator[None]:
    """A process group of one, without sockets of its own."""
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    store = dist.HashStore()
    dist.init_process_group("gloo" if device == "cpu" else "nccl", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sharded(results: Results, sizes: Sizes) -> None:
    """FSDP2 in one process against no wrapper: the same losses, memory and speed."""
    attention = "sdpa" if results.device == "cpu" else "flex"
    with results.attempt("process group"), alone(results.device):
        plain, divided = (
            train(results, sizes, Case(f"2 layers, {attention}, {kind}", 2, attention, distributed=kind, packs=1))
            for kind in ("single", "fsdp2")
        )
        differences = [abs(a - b) / abs(b) for a, b in zip(divided, plain, strict=True)]
        results.add("fsdp2 against single", steps=len(differences), largest_relative_difference=max(differences))
