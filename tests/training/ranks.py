"""One process of a distributed run, for tests.

The main process writes every tensor of the run, put together, its records, and with adapters the merged weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from ipt.common.settings import typed
from ipt.model.checkpoint import build_on_meta
from ipt.model.config import CodesConfig, ModelConfig
from ipt.model.parts import TuningSettings
from ipt.model.tuning import apply_tuning, initialise_adapters, merged_state
from ipt.model.unified import UnifiedModel
from ipt.samples.sample import SpatialSample
from ipt.sequence.segments import Codes, Kind, Segment, Slots
from ipt.sequence.spans import Loss, Role
from ipt.training.distributed import gather_full, start_world
from ipt.training.evaluation import Validation
from ipt.training.settings import DistributedConfig
from ipt.training.source import Material, Supervised
from ipt.training.trainer import Trainer
from tests.sequence.loading import Words, make_loader, stored
from tests.training.runs import CONFIG, TOY, state, toy_codec


@dataclass(frozen=True)
class Job:
    """``uneven``: the second pack of a step, and so the second of two processes, has no images. ``packs`` of a step, ``draws`` of
    noise. ``grown``: the samples with images have latent slots and codes. ``validated``: the average is, after every step.
    ``folder`` of the run, in which a checkpoint continues; ``output``: where the results go."""

    folder: str
    output: str
    kind: str = "single"
    steps: int = 3
    uneven: bool = False
    dtype: str = "float32"
    packs: int = 2
    draws: int = 1
    grown: bool = False
    validated: bool = False
    tuning: dict[str, Any] = field(default_factory=dict)


class TextOnly(Words):
    """The texts alone."""

    def __call__(self, sample: SpatialSample, epoch: int, row: int) -> list[Segment]:
        return super().__call__(sample, epoch, row)[-1:]


class Grown(Words):
    """Before the text two free latent slots, and four codes."""

    def __call__(self, sample: SpatialSample, epoch: int, row: int) -> list[Segment]:
        *before, text = super().__call__(sample, epoch, row)
        codes = Codes((torch.arange(4).reshape(2, 2) + row) % CODES.count)
        slots = Segment(Kind.LATENT, Slots(2), Role.IMAGINATION)
        return [*before, slots, Segment(Kind.CODES, codes, Role.IMAGINATION, Loss.CE), text]


def uneven(data: Path, job: Job, rank: int, world: int) -> Iterator[Material]:
    """This process's packs of every step: lane 0 with images, lane 1 without."""
    kinds = ((Grown if job.grown else Words)(latents=True, draws=job.draws), TextOnly())
    lanes = [make_loader(stored(data), kinds[lane], lane, 2, **LOADER) for lane in range(rank, 2, world)]
    for lane in lanes:
        lane.rows = replace(lane.rows, geometry=shape(job).geometry)
    streams = [iter(lane) for lane in lanes]
    while True:
        yield Material([next(stream) for stream in streams])


LOADER: dict[str, int] = {"packs_per_step": 2, "budget": 72, "open_packs": 1}


CODES = CodesConfig(count=5, stride=8)


def shape(job: Job) -> ModelConfig:
    return replace(TOY, phi="linear", codes=CODES) if job.grown else TOY


def fill(model: UnifiedModel) -> None:
    """The weights of every job's start."""
    model.compute_tables()
    model.initialise(torch.Generator().manual_seed(0))
    initialise_adapters(model, torch.Generator().manual_seed(0))


def main(job: Job) -> None:
    settings = DistributedConfig(job.kind, shard=1)
    world = start_world(settings)
    data = Path(job.folder) / f"data-{os.environ.get('RANK', '0')}"
    words = Words(latents=True, draws=job.draws)
    loader = make_loader(stored(data), words, world.rank, world.size, **{**LOADER, "packs_per_step": job.packs})
    model = apply_tuning(build_on_meta(shape(job)), typed(TuningSettings, job.tuning, "tuning"))
    config = replace(CONFIG, steps=job.steps, dtype=job.dtype, rounds=(2, 2) if job.grown else (0, 0))
    source = Supervised(loader, config.loss)
    trainer = Trainer(model, source, config, Path(job.folder), toy_codec().encode, world, settings, fill=fill)
    steps = uneven(data, job, world.rank, world.size) if job.uneven else trainer.steps()
    validation = Validation(next(uneven(data, job, world.rank, world.size)).packs) if job.validated else None
    records = []
    while trainer.step < config.steps:
        records.append(trainer.train_step(steps).columns())
        if validation is not None:
            validation(trainer)
    trainer._save()
    trainer.checkpoints.wait()
    tensors = gather_full(state(trainer), world)
    merged = gather_full(merged_state(model), world) if job.tuning.get("kind") == "lora" else {}
    if world.is_main:
        tensors |= {f"merged {name}": tensor for name, tensor in merged.items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, f"{job.output}.safetensors")
        Path(f"{job.output}.json").write_text(json.dumps(records))
    if world.size > 1:
        dist.destroy_process_group()
