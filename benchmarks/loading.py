"""Host memory that a process needs to load a checkpoint in BAGEL's layout: ``python -m benchmarks.loading`` (Linux, CPU).

For one process, for replicas (a whole model in each) and for divided weights: the highest resident memory of a process while it
loads, less what it had before. On a GPU the weights themselves lie elsewhere, and what is left is a sixteenth of a file at most.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ipt.common import cli
from ipt.model.config import DecoderConfig, ModelConfig, presets
from ipt.training.config import ModelSettings, TrainConfig
from ipt.training.settings import DistributedConfig, LossConfig

if TYPE_CHECKING:
    import torch

    from ipt.training.distributed import World


@dataclass(frozen=True)
class LoadingConfig:
    """The loading of a random checkpoint of about 400 MB in bfloat16, into float32 weights.

    layers: of the decoder; ways: kind:processes.
    """

    layers: int = 6
    ways: tuple[str, ...] = ("single:1", "ddp:2", "fsdp2:2", "fsdp2:4")


def shape(layers: int) -> ModelConfig:
    """Layers of 30 million weights in the frame of `tiny`."""
    decoder = DecoderConfig(hidden=1024, intermediate=4096, layers=layers, heads=8, kv_heads=2, vocab=8192)
    return replace(presets["tiny"], decoder=decoder)


def stored(model: ModelConfig, folder: Path) -> Path:
    """A checkpoint of random numbers."""
    from ipt.model.checkpoint import build_on_meta, materialise, save_pretrained  # torch takes seconds to import

    made = materialise(build_on_meta(model).bfloat16(), "cpu")
    for parameter in made.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    save_pretrained(made, folder, layout="bagel")
    return folder


def resident(field: str = "VmHWM") -> int:
    """Bytes of resident memory that this process has had at most, or has now (``VmRSS``)."""
    return int(re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def load(folder: Path, world: World, settings: DistributedConfig) -> torch.nn.Module:
    """A model as a training run starts from it."""
    import torch

    from ipt.model.checkpoint import StoredModel
    from ipt.training.build import make_model, start_weights
    from ipt.training.distributed import parallelize
    from ipt.training.losses import Objective

    config = TrainConfig(model=ModelSettings(init=str(folder)))
    fill = functools.partial(start_weights, config, world.device)
    objective = Objective(make_model(config, StoredModel.in_folder(folder).config), LossConfig())
    return parallelize(objective, settings, world, torch.float32, fill)


def measure(rank: int, size: int, port: int, kind: str, small: Path, large: Path, output: Path) -> None:
    """One process; the first load is that of a small model, so that what torch needs once does not count."""
    import torch

    from ipt.training.distributed import start_world

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    settings = DistributedConfig(kind)
    world = start_world(settings)
    load(small, world, settings)
    before = resident()
    model = load(large, world, settings)
    peaks = world.gather(resident() - before)
    assert next(model.parameters()).dtype == torch.float32
    if world.is_main:
        output.write_text(str(max(peaks)))


def main(config: LoadingConfig) -> None:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        small, large = (stored(shape(layers), Path(folder) / str(layers)) for layers in (1, config.layers))
        size = sum(path.stat().st_size for path in large.glob("*.safetensors"))
        print(f"checkpoint of {size / 1e6:,.0f} MB in bfloat16, torch {torch.__version__}, CPU\n")
        print("| distributed | processes | weights of a process, MB | memory to load, MB |\n|---|---|---|---|")
        for way in config.ways:
            kind, _, count = way.partition(":")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            output = Path(folder) / way
            torch.multiprocessing.spawn(measure, (int(count), port, kind, small, large, output), nprocs=int(count))
            own = 2 * size / (int(count) if kind == "fsdp2" else 1)
            print(f"| {kind} | {count} | {own / 1e6:,.0f} | {int(output.read_text()) / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    cli.run(LoadingConfig, main)
