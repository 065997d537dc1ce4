"""A training step of `small` against the same step written naively, in one run: ``python -m benchmarks.training``.

Naive is a loop of our own: one mask of S x S numbers for the whole pack, every token gathered and scattered by its expert around
each operation, and logits of all trained positions at once. The published code does the latter two, but masks and attends sample
by sample; `benchmarks.reference` measures it. Both compute the same losses. Each step is measured in a process of its own, the
two kinds in turn; rates are medians per CPU-second, which other jobs disturb least.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.model import Bench, IndexRouted
from ipt.common import cli
from ipt.model.mot import Rope
from ipt.sequence.batch import NoisedImages, PackedBatch, lay_out
from ipt.sequence.segments import SpecialTokens
from ipt.sequence.visibility import dense_mask
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig

TOKENS = SpecialTokens(0, 1, 2, 3)
KINDS = ("naive", "ours")


@dataclass(frozen=True)
class BenchmarkConfig:
    """A training step of a preset against a naive one.

    preset: tiny or small; samples: imagining samples in a pack, for each pack; threads; repeats; only: ours or naive, once.
    """

    preset: str = "small"
    samples: list[int] = field(default_factory=lambda: [1, 4])
    threads: int = 2
    repeats: int = 3
    only: str = ""


class NaiveStep:
    """The losses of an `Objective`, computed the slow way with its weights."""

    def __init__(self, objective: Objective, batch: PackedBatch) -> None:
        self.model, self.config = objective.model, objective.config
        self.layers = [IndexRouted(layer, batch.spans) for layer in self.model.decoder.layers]

    def __call__(self, batch: PackedBatch, images: NoisedImages, target_FD: Tensor, counts: Sequence[float]) -> Tensor:
        model, spans = self.model, batch.spans
        allowed = torch.from_numpy(dense_mask(spans))
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
        order = torch.from_numpy(spans.order.copy())
        x = torch.cat(model.embed(batch, images)[:2])
        x = torch.zeros_like(x).index_copy(0, order, x)
        decoder = model.config.decoder
        rope = Rope.at(torch.from_numpy(spans.position_ids), decoder.head_dim, decoder.rope_theta)

        def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            repeats = q.shape[1] // k.shape[1]
            q, k, v = (t.transpose(0, 1) for t in (q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)))
            return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0].transpose(0, 1)

        for layer in self.layers:
            x = layer(x, rope, attend)
        groups = order.split([spans.num_understanding, len(order) - spans.num_understanding])
        x = torch.zeros_like(x).index_copy(0, order, model.decoder.norm(*(x[group] for group in groups)))
        logits = model.lm_head(x[torch.from_numpy(spans.ce_positions)])
        ce = F.cross_entropy(logits.float(), batch.labels_C, reduction="sum") / counts[0]
        velocities = model.latent_out(x[torch.from_numpy(spans.noised_positions)])
        trained = torch.from_numpy(spans.is_flow_trained)
        flow = (velocities - target_FD).square().mean(-1)[trained].sum() / max(counts[1], 1.0)
        return ce + flow


def pack(bench: Bench, samples: int) -> PackedBatch:
    """Imagining samples with 16 x 16 latents and patches."""
    side = min(16, bench.model.config.latents.side)
    return lay_out([bench.imagining(side, min(16, bench.model.config.vision.side))] * samples, TOKENS, bench.geometry)


@dataclass(frozen=True)
class Measured:
    """CPU-seconds of one step, its loss, and the most memory that the process ever held, in bytes."""

    seconds: float
    loss: float
    peak: int


def measure(config: BenchmarkConfig) -> Measured:
    """A step of the one size and kind that ``config`` asks for, after one with a single sample."""
    torch.set_num_threads(config.threads)
    bench, losses = Bench(config.preset), LossConfig()
    objective = Objective(bench.model, losses)
    measured = Measured(0.0, 0.0, 0)
    for samples in (1, *config.samples):
        batch = pack(bench, samples)
        counts = token_counts(batch, losses).tolist()
        images, target = noised(batch, 0, 1.0)
        naive = NaiveStep(objective, batch)
        bench.model.zero_grad()
        started = time.process_time()
        if config.only == "naive":
            loss = naive(batch, images, target, counts)
        else:
            loss = losses.total(mean_losses(objective(batch, images, target), batch, counts, losses))
        loss.backward()
        seconds = time.process_time() - started
        measured = Measured(seconds, loss.item(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return measured


def in_a_process(config: BenchmarkConfig, samples: int, kind: str) -> Measured:
    """`measure` there. Threads that wait do not spin: their CPU time would count."""
    given = [f"preset={config.preset}", f"samples=[{samples}]", f"threads={config.threads}", f"only={kind}"]
    command = [sys.executable, "-m", "benchmarks.training", *given]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Measured(**json.loads(done.stdout))


def main(config: BenchmarkConfig) -> None:
    if config.only:
        print(json.dumps(asdict(measure(config))))
        return
    print(f"{platform.machine()}, {config.threads} threads, torch {torch.__version__}, {config.preset}")
    print("\n| step | tokens | tokens per core-s | ratio | peak memory, MB | loss |\n|---|---|---|---|---|---|")
    bench = Bench(config.preset)
    for samples in config.samples:
        tokens, taken = pack(bench, samples).spans.num_tokens, {kind: [] for kind in KINDS}
        for _ in range(config.repeats):
            for kind in KINDS:
                taken[kind].append(in_a_process(config, samples, kind))
        medians = {kind: statistics.median(each.seconds for each in taken[kind]) for kind in KINDS}
        for kind, seconds in medians.items():
            peak = max(each.peak for each in taken[kind]) / 1e6
            speed, ratio, loss = tokens / seconds, medians[KINDS[0]] / seconds, taken[kind][0].loss
            print(f"| {kind} | {tokens:,} | {speed:,.0f} | {ratio:.2f} | {peak:,.0f} | {loss:.6f} |", flush=True)


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
