"""One training step of ours and the naive one, for `benchmarks.training`."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.decisions import TOKENS, Bench, IndexRouted
from benchmarks.training import BenchmarkConfig, Measured
from ipt.sequence.batch import NoisedImages, PackedBatch, lay_out
from ipt.sequence.visibility import dense_mask
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig


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
        rope = model.decoder.rope(torch.from_numpy(spans.position_ids), torch.from_numpy(batch.cells))

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
