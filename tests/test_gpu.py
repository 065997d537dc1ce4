"""On a CUDA device everything computes what it computes on the CPU: ``pytest -m gpu``; skipped where there is none."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.attention import FlexAttention, packed_attention
from ipt.model.cache import Context, KVCache, extend
from ipt.model.config import presets
from ipt.model.decoding import TokenSteps
from ipt.model.sampling import sample_latents
from ipt.model.unified import UnifiedModel
from ipt.samples.store import seal, write_shards
from ipt.sequence.batch import lay_out
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role, SpanTable
from ipt.training.distributed import World
from ipt.training.settings import CheckpointConfig, DistributedConfig, EmaConfig, OptimConfig, TrainerConfig
from ipt.training.source import Supervised
from ipt.training.trainer import Trainer
from tests.model.test_attention import exact, inputs, pack
from tests.model.toy import CONFIG, TOKENS, Maker, random_model
from tests.sequence.loading import SAMPLES, Words, make_loader, stored
from tests.training.runs import assert_same_state, toy_codec

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CUDA = "cuda:0"
TABLES = [pack([150, 80, 33]), pack([300]), pack([20] * 12)]


def attend(backend: str, table: SpanTable, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Output and gradients of q, k and v, for a random weighing of the output; ``exact`` in float64 on the CPU."""
    leaves = [x.detach().to(device, dtype).requires_grad_(True) for x in inputs(table.num_tokens)]
    out = exact(table, *leaves) if backend == "exact" else packed_attention(backend, table, leaves[0])(0, *leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize("backend", ["flex", "sdpa"])
def test_attention_equals_dense_softmax_forward_and_backward(
    backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Packs of several lengths, so that the compiled kernel meets shapes that it was not compiled for."""
    for table in TABLES:
        found = attend(backend, table, dtype, CUDA)
        for name, ours, theirs in zip("oqkv", found, attend("exact", table, torch.float64, "cpu"), strict=True):
            error = (ours.cpu().double() - theirs).norm() / theirs.norm()
            assert error < tolerance, f"{name}: relative error {error:.1e}"


def test_packs_padded_to_one_length_share_a_kernel() -> None:
    torch._dynamo.reset()
    for number, table in enumerate(TABLES):
        leaves = [x.detach().to(CUDA).requires_grad_(True) for x in inputs(table.num_tokens)]
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            FlexAttention(table, leaves[0], multiple=1280)(0, *leaves).sum().backward()


def trainer(
    folder: Path, device: str, attention: str = "sdpa", kind: str = "single", dtype: str = "float32"
) -> Trainer:
    model = UnifiedModel(presets["tiny"], attention)
    model.initialise(torch.Generator().manual_seed(0))
    config = TrainerConfig(
        steps=6,
        dtype=dtype,
        optim=OptimConfig(lr=1e-3, warmup_steps=2),
        ema=EmaConfig(0.9),
        checkpoints=CheckpointConfig(every=2),
    )
    codec = toy_codec().to(device)
    loader = make_loader(stored(folder / "data"), Words(latents=True), packs_per_step=2)
    world, distributed = World(device=device), DistributedConfig(kind)
    return Trainer(model.to(device), Supervised(loader, config.loss), config, folder, codec.encode, world, distributed)


def losses(trainer: Trainer, steps: int = 3) -> list[tuple[float, float]]:
    packs = trainer.steps()
    records = [trainer.train_step(packs) for _ in range(steps)]
    return [(record.loss, record.gradient_norm) for record in records]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    return losses(trainer(tmp_path_factory.mktemp("cpu"), "cpu"))


@contextmanager
def process_group() -> Iterator[None]:
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "attention, kind, dtype, tolerance",
    [
        ("sdpa", "single", "float32", 1e-4),
        ("flex", "single", "float32", 1e-4),
        ("flex", "single", "bfloat16", 5e-2),
        ("sdpa", "fsdp2", "float32", 1e-4),
        ("flex", "fsdp2", "bfloat16", 5e-2),
    ],
)
def test_training_on_cuda_equals_training_on_cpu(
    attention: str, kind: str, dtype: str, tolerance: float, on_cpu: list[tuple[float, float]], tmp_path: Path
) -> None:
    if kind == "fsdp2":
        with process_group():
            found = losses(trainer(tmp_path, CUDA, attention, kind, dtype))
    else:
        found = losses(trainer(tmp_path, CUDA, attention, kind, dtype))
    for step, (ours, theirs) in enumerate(zip(found, on_cpu, strict=True)):
        assert ours == pytest.approx(theirs, rel=tolerance), step


def test_a_checkpoint_continues_on_cuda(tmp_path: Path) -> None:
    first = trainer(tmp_path, CUDA)
    losses(first, 2)
    first._save()
    second = trainer(tmp_path, CUDA)
    assert second.step == 2
    assert_same_state(first, second)
    assert losses(second, 1) == [tuple(map(pytest.approx, values)) for values in losses(first, 1)]


@torch.no_grad()
def answer(device: str, graphs: bool = False) -> tuple[Tensor, Tensor]:
    """Logits of a text that is decoded token by token in ragged rows, and an image drawn with guidance."""
    model, make = random_model().requires_grad_(False).eval().to(device), Maker(3)
    cache = KVCache(CONFIG.decoder, torch.empty(0, device=device))

    def prefill(context: Context, rows: list[list[Segment]]) -> Context:
        batch = lay_out(rows, TOKENS, CONFIG.geometry, context.positions).to(device)
        return extend(model, batch, cache, context)[1]

    images = [[make.vit(), make.vae(1, 2)], [make.vit(1, 1), make.vae(2, 2)]]
    texts = [[make.text(4)], [make.text(7)]]
    without_text = prefill(cache.empty(2), images)
    full, without_images = prefill(without_text, texts), prefill(cache.empty(2), texts)
    guidance, noise = Guidance(3.0, 2.0, start=0.5), make.random(2, 6, 12).to(device)
    branches = guidance, without_text, without_images
    latents = sample_latents(model, cache, full, noise, (2, 3), schedule(5), TOKENS, *branches, graphs=graphs)
    logits, context, steps = [], full, TokenSteps(model, cache, graphs)
    for step in range(4):
        context, _, found = steps(context, [step, 2 * step], Role.ANSWER, frozenset())
        logits.append(found)
    return torch.stack(logits).cpu(), latents.cpu()


@pytest.mark.parametrize("graphs", [False, True])
def test_answering_on_cuda_equals_answering_on_cpu(graphs: bool) -> None:
    """Computed, and by graphs of kernels that are replayed."""
    for ours, theirs in zip(answer(CUDA, graphs), answer("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_the_command_line_trains_on_cuda(tmp_path: Path) -> None:
    """With pictures that the codec encodes on the device, flex, bfloat16, validation, and the exported weights."""
    write_shards(tmp_path / "data", "train", SAMPLES[:20])
    seal(tmp_path / "data", {})
    changes = {
        "task": "mvc",
        "imagination": "mixed",
        "data.train": tmp_path / "data",
        "data.validation": tmp_path / "data",
        "data.validation_packs": 1,
        "output_dir": tmp_path / "run",
        "model.attention": "flex",
        "trainer.dtype": "bfloat16",
        "trainer.steps": 3,
        "checkpoints.every": 2,
        "optim.warmup_steps": 1,
    }
    arguments = itertools.starmap("{}={}".format, changes.items())
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [False] * 3
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
