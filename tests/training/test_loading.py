"""The weights that a run starts from: the same numbers however many processes divide them, and none reads another's."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipt.common.seeding import derived_seed
from ipt.model import checkpoint
from ipt.model.checkpoint import from_pretrained, from_scratch, read_config, save_pretrained
from ipt.model.config import DecoderConfig
from ipt.model.parts import TuningSettings
from ipt.model.tuning import apply_tuning, initialise_adapters
from ipt.model.unified import UnifiedModel
from ipt.model.weights import read_tensors
from ipt.training.build import make_model, start_weights
from ipt.training.config import ModelSettings, TrainConfig
from ipt.training.distributed import gather_full, is_sharded, parallelize, start_world
from ipt.training.losses import Objective
from ipt.training.settings import DistributedConfig, LossConfig
from tests.model.toy import CONFIG
from tests.training.processes import together

#: Three processes: a head's norm of 4 numbers leaves the third one with none.
SHAPE = replace(CONFIG, decoder=DecoderConfig(hidden=16, intermediate=24, layers=2, heads=4, kv_heads=2, vocab=64))
PROCESSES = 3
TUNINGS = {
    "full": TuningSettings(),
    "lora": TuningSettings("lora"),
    "generation_expert": TuningSettings("generation_expert"),
}
CASES = [*TUNINGS, "scratch"]


def settings(folder: Path, case: str) -> TrainConfig:
    init = None if case == "scratch" else str(folder)
    return TrainConfig(model=ModelSettings(init=init), tuning=TUNINGS.get(case, TuningSettings()))


def tensors(model: UnifiedModel) -> dict[str, Tensor]:
    return model.state_dict() | dict(model.named_buffers())


def load(folder: Path) -> None:
    """One of the processes: every case loaded, put together again by the first, with the bytes that each has read."""
    world, read = start_world(DistributedConfig("fsdp2")), dict.fromkeys(CASES, 0)
    for case in CASES:

        def counted(*arguments: Any, case: str = case) -> Iterator[tuple[str, Tensor]]:
            for name, tensor in read_tensors(*arguments):
                read[case] += 0 if "pos_embed" in name else tensor.nbytes
                yield name, tensor

        checkpoint.read_tensors = counted
        config = settings(folder, case)
        objective = Objective(make_model(config, SHAPE), LossConfig())
        assert all(tensor.is_meta for tensor in tensors(objective.model).values())
        fill = functools.partial(start_weights, config, "cpu")
        assert is_sharded(parallelize(objective, DistributedConfig("fsdp2"), world, torch.float32, fill))
        found = gather_full(tensors(objective.model), world)
        if world.is_main:
            save_file(found, folder / f"{case}.found")
    (folder / f"read-{world.rank}.json").write_text(json.dumps(read))
    dist.destroy_process_group()


def ordinary(folder: Path, case: str) -> UnifiedModel:
    """The model of ``case`` in one process, without the training code."""

    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(0, name))

    if case == "scratch":
        return from_scratch(SHAPE, generator("weights"))
    model = from_pretrained(folder, dtype=torch.float32)
    if case == "lora":
        initialise_adapters(apply_tuning(model, TUNINGS[case]), generator("adapters"))
    return model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as BAGEL's is, in two shards, loaded by three processes."""
    folder = tmp_path_factory.mktemp("bagel")
    model = from_scratch(SHAPE, torch.Generator().manual_seed(5)).bfloat16()
    save_pretrained(model, folder, layout="bagel", shard_bytes=30_000)
    assert len(list(folder.glob("*.safetensors"))) > 1 and read_config(folder)[1] == "bagel"
    together(PROCESSES, load, folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_divided_weights_start_as_whole_ones(case: str, loaded: Path) -> None:
    found, expected = load_file(loaded / f"{case}.found"), tensors(ordinary(loaded, case))
    assert found.keys() == expected.keys() and {tensor.dtype for tensor in found.values()} == {torch.float32}
    different = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    assert not different, f"{len(different)} of {len(expected)} tensors differ: {different[:4]}"
    assert (case == "lora") == any(".lora_" in name for name in found)


@pytest.mark.parametrize("case", TUNINGS)
def test_a_process_reads_its_own_part_of_the_checkpoint(case: str, loaded: Path) -> None:
    read = [json.loads((loaded / f"read-{rank}.json").read_text())[case] for rank in range(PROCESSES)]
    size = sum(tensor.nbytes for tensor in from_pretrained(loaded).state_dict().values())
    assert sum(read) == size and max(read) < 0.4 * size
