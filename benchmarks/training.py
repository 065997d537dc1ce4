"""A training step of `small` against the same step written naively, in one run: ``python -m benchmarks.training``.

Naive is what the published code does on its dense path: a mask of S x S numbers, every token gathered and scattered by its
expert around each operation, and logits of all trained positions at once. Both compute the same losses. Each is measured in a
process of its own; rates are per CPU-second, which other jobs disturb least.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.model import Bench, IndexRouted
from ipt.common import cli
from ipt.model.mot import Rope
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.segments import SpecialTokens
from ipt.sequence.visibility import dense_mask
from ipt.training.losses import LossConfig, Objective, TokenCounts, noised, weighted_loss

TOKENS = SpecialTokens(0, 1, 2, 3)


@dataclass(frozen=True)
class BenchmarkConfig:
    """A training step of a preset against a naive one.

    preset: tiny or small; samples: imagining samples in the pack; threads; repeats; only: ours or naive, for its memory.
    """

    preset: str = "small"
    samples: int = 4
    threads: int = 2
    repeats: int = 3
    only: str = ""


class NaiveStep:
    """The losses of an `Objective`, computed the slow way with its weights."""

    def __init__(self, objective: Objective, batch: PackedBatch) -> None:
        self.model, self.config = objective.model, objective.config
        self.layers = [IndexRouted(layer, batch.spans) for layer in self.model.decoder.layers]

    def __call__(self, batch: PackedBatch, target_FD: Tensor, counts: TokenCounts) -> Tensor:
        model, spans = self.model, batch.spans
        allowed = torch.from_numpy(dense_mask(spans))
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
        order = torch.from_numpy(spans.order.copy())
        x = torch.cat(model.embed(batch))
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
        ce = F.cross_entropy(logits.float(), batch.labels_C, reduction="sum") / counts.ce
        velocities = model.latent_out(x[torch.from_numpy(spans.noised_positions)])
        trained = torch.from_numpy(spans.is_flow_trained)
        flow = (velocities - target_FD).square().mean(-1)[trained].sum() / max(counts.flow, 1.0)
        return ce + flow


def pack(bench: Bench, samples: int) -> PackedBatch:
    """Imagining samples with 16 x 16 latents and patches."""
    side = min(16, bench.model.config.latents.side)
    return lay_out([bench.imagining(side, min(16, bench.model.config.vision.side))] * samples, TOKENS, bench.geometry)


def measure(config: BenchmarkConfig, kind: str) -> tuple[float, float, int]:
    """(CPU-seconds per step, loss, peak bytes) of ``ours`` or ``naive``."""
    torch.set_num_threads(config.threads)
    bench, losses = Bench(config.preset), LossConfig()
    objective = Objective(bench.model, losses)
    plain = pack(bench, config.samples)
    counts = TokenCounts.of(plain, losses)
    batch, target = noised(plain, 0, 1.0)

    def ours() -> Tensor:
        ce, flow = weighted_loss(objective(batch, target), batch, counts, losses)
        return ce + flow

    step = ours if kind == "ours" else partial(NaiveStep(objective, batch), batch, target, counts)
    times, loss = [], torch.zeros(())
    for _ in range(config.repeats + 1):
        bench.model.zero_grad()
        started = time.process_time()
        loss = step()
        loss.backward()
        times.append(time.process_time() - started)
    return (
        sorted(times[1:])[config.repeats // 2],
        loss.item(),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def main(config: BenchmarkConfig) -> None:
    if config.only:
        seconds, loss, peak = measure(config, config.only)
        print(seconds, loss, peak)
        return
    tokens = pack(Bench(config.preset), config.samples).spans.num_tokens
    print(
        f"{platform.machine()}, {config.threads} threads, torch {torch.__version__}, {config.preset}, {tokens:,} tokens"
    )
    print("\n| step | tokens per core-s | ratio | peak memory, MB | loss |\n|---|---|---|---|---|")
    base = None
    for kind in ("naive", "ours"):
        given = [f"{name}={getattr(config, name)}" for name in ("preset", "samples", "threads", "repeats")]
        command = [sys.executable, "-m", "benchmarks.training", f"only={kind}", *given]
        seconds, loss, peak = map(
            float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        )
        base = base or seconds
        print(
            f"| {kind} | {tokens / seconds:,.0f} | {base / seconds:.2f} | {peak / 1e6:,.0f} | {loss:.6f} |", flush=True
        )


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
