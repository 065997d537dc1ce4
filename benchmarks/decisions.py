"""What `benchmarks.model` measures: both sides of each decision, and random packs for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.attention import FlexAttention, mask_tensors
from ipt.model.cache import Context, KVCache, extend
from ipt.model.checkpoint import from_scratch
from ipt.model.config import ModelConfig, presets
from ipt.model.mot import ExpertBlock, MoTLayer, Rope
from ipt.model.sampling import LatentVelocity, sample_latents
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import lay_out, single_tokens
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss, Role, SpanTable
from ipt.sequence.visibility import MaskFields, dense_mask, token_fields, visible

TOKENS = SpecialTokens(0, 1, 2, 3)


def cpu_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median CPU time over ``repeats``, after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def show(what: str, *rows: tuple[str, float]) -> None:
    """One markdown table; ratios to the first row."""
    print(f"\n{what}\n| | CPU-ms | ratio |\n|---|---|---|")
    for name, value in rows:
        print(f"| {name} | {1000 * value:.1f} | {value / rows[0][1]:.1f} |", flush=True)


class Bench:
    """A preset with random weights, and random segments for it."""

    def __init__(self, preset: str | ModelConfig) -> None:
        self.generator = torch.Generator().manual_seed(0)
        config = presets[preset] if isinstance(preset, str) else preset
        self.model: UnifiedModel = from_scratch(config, self.generator)
        self.geometry = self.model.config.geometry

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def text(self, count: int) -> Segment:
        return Segment(Kind.TEXT, TokenIds(torch.randint(4, 1000, (count,), generator=self.generator)), loss=Loss.CE)

    def vit(self, side: int) -> Segment:
        return Segment(Kind.VIT, Pixels(self.random(3, side * self.geometry.vit_patch, side * self.geometry.vit_patch)))

    def latent(self, side: int, kind: Kind = Kind.VAE) -> Segment:
        size, loss = side * self.geometry.latent_patch, Loss.FLOW if kind is Kind.VAE_NOISED else Loss.NONE
        return Segment(kind, Latents(self.random(self.geometry.latent_channels, size, size)), loss=loss)

    def imagining(self, side: int, vit: int) -> list[Segment]:
        """Observation, question, thought, imagined image with its copies, answer."""
        imagined = [self.latent(side, Kind.VAE_NOISED), self.latent(side), self.vit(vit)]
        return [self.latent(side), self.vit(vit), self.text(40), self.text(10), *imagined, self.text(8)]

    def spans(self, samples: list[list[Segment]]) -> SpanTable:
        return lay_out(samples, TOKENS, self.geometry).spans

    def prefill(self, cache: KVCache, context: Context, rows: list[list[Segment]]) -> Context:
        batch = lay_out(rows, TOKENS, self.geometry, context.positions)
        return extend(self.model, batch, cache, context, logits=False)[1]


def tiles(tokens: int) -> None:
    """A pack at BAGEL's sizes: imagining samples with 32 x 32 latents and 18 x 18 patches, filled up with text."""
    bench, like = Bench("small"), torch.empty(0)
    samples = [bench.imagining(32, 18)] * (tokens // 3794)
    missing = tokens - bench.spans(samples).num_tokens
    samples.append([bench.text(missing - 2)])
    spans = bench.spans(samples)
    columns = [getattr(spans, name) for name in SpanTable.__dataclass_fields__]
    fields = mask_tensors(token_fields(spans, spans.order), like.device)
    padding = -len(fields.index) % 128
    fields = MaskFields(*(F.pad(column, (0, padding)) for column in fields))

    def by_evaluation() -> object:
        def rule(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            allowed: Tensor = visible(fields.at(q), fields.at(k))
            return allowed

        return create_block_mask(rule, None, None, len(fields.index), len(fields.index), device="cpu")

    show(
        f"mask of {spans.num_tokens:,} tokens, {len(spans)} spans, from the span table",
        ("BlockMask from span tiles", cpu_seconds(lambda: FlexAttention(SpanTable(*columns), like), 5)),
        ("dense boolean mask", cpu_seconds(lambda: dense_mask(spans, spans.order), 1)),
        ("create_block_mask", cpu_seconds(by_evaluation, 1)),
    )


class IndexRouted(nn.Module):
    """A layer as the reference routes it: packed order, and a gather and a scatter by index around every operation."""

    def __init__(self, layer: MoTLayer, spans: SpanTable) -> None:
        super().__init__()
        self.layer = layer
        groups = (spans.order[: spans.num_understanding], spans.order[spans.num_understanding :])
        self.groups = [torch.from_numpy(index.copy()) for index in groups]

    def by_expert(self, run: Callable[..., Tensor], width: tuple[int, ...], *inputs: Tensor) -> Tensor:
        out = inputs[0].new_zeros(len(inputs[0]), *width)
        for expert, index in zip((self.layer.understanding, self.layer.generation), self.groups, strict=True):
            out[index] = run(expert, *(x[index] for x in inputs))
        return out

    def forward(self, x_SD: Tensor, rope: Rope, attention: Any) -> Tensor:
        size, hidden = self.layer.understanding.head_dim, x_SD.shape[1:]

        def project(name: str, y: Tensor) -> Tensor:
            heads = getattr(self.layer.understanding, name).out_features // size
            return self.by_expert(lambda e, rows: getattr(e, name)(rows).unflatten(-1, (heads, size)), (heads, size), y)

        def norm(name: str, y: Tensor) -> Tensor:
            def run(expert: ExpertBlock, rows: Tensor) -> Tensor:
                normed: Tensor = getattr(expert, name)(rows)
                return normed

            return self.by_expert(run, y.shape[1:], y)

        y = norm("input_layernorm", x_SD)
        q, k, v = (project(name, y) for name in ("q_proj", "k_proj", "v_proj"))
        q, k = rope.rotate(norm("q_norm", q)), rope.rotate(norm("k_norm", k))
        attended = attention(self.layer.index, q, k, v).flatten(1)
        x = x_SD + self.by_expert(lambda e, rows: e.o_proj(rows), hidden, attended)
        y = norm("post_attention_layernorm", x)
        return x + self.by_expert(lambda e, rows: e.mlp(rows), hidden, y)


def routing(preset: str, side: int, count: int) -> None:
    """One layer, forward and backward, without the attention itself, which is the same for both."""
    bench = Bench(preset)
    spans = bench.spans([bench.imagining(side, 4)] * count)
    decoder, layer = bench.model.config.decoder, bench.model.decoder.layers[0]
    routed = IndexRouted(layer, spans)
    x = bench.random(spans.num_tokens, decoder.hidden).requires_grad_(True)
    cuts = [spans.num_understanding, spans.num_tokens - spans.num_understanding]
    parts = [part.clone().requires_grad_(True) for part in x.detach()[torch.from_numpy(spans.order)].split(cuts)]
    grouped_rope, rope = (
        Rope.at(torch.from_numpy(ids), decoder.head_dim, decoder.rope_theta)
        for ids in (spans.position_ids[spans.order], spans.position_ids)
    )

    def attention(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q + (k.mean() + v.mean())

    show(
        f"one layer of {preset}, {spans.num_tokens:,} tokens, forward and backward, attention left out",
        ("slices", cpu_seconds(lambda: torch.cat(layer(*parts, grouped_rope, attention)).sum().backward(), 9)),
        ("index per expert", cpu_seconds(lambda: routed(x, rope, attention).sum().backward(), 9)),
    )


@torch.no_grad()
def guidance(preset: str, side: int, rows: int, steps: int) -> None:
    bench = Bench(preset)
    model, grid = bench.model, (side, side)
    cache = KVCache(model.config.decoder, torch.empty(0))
    texts = [[bench.text(40)] for _ in range(rows)]
    images = bench.prefill(cache, cache.empty(rows), [[bench.vit(4)] for _ in range(rows)])
    full = bench.prefill(cache, images, texts)
    without_images = bench.prefill(cache, cache.empty(rows), texts)
    noise, rule = bench.random(rows, side * side, bench.geometry.latent_size), Guidance(4.0, 2.0, start=0.0)
    times = schedule(steps + 1)

    def separately() -> None:
        branches = (full, images, without_images)
        fields = [LatentVelocity(model, cache, context, grid, TOKENS, Role.IMAGINATION) for context in branches]
        x = noise
        for t, following in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            x = x - rule.combine(*(field(x, t) for field in fields)) * (t - following)

    together = partial(sample_latents, model, cache, full, noise, grid, times, TOKENS, rule, images, without_images)
    show(
        f"{preset}: {rows} image(s) of {side} x {side} tokens, {steps} guided steps, 3 branches",
        ("one forward", cpu_seconds(together, 5)),
        ("three forwards", cpu_seconds(separately, 5)),
    )


@torch.no_grad()
def decoding(preset: str, rows: int, new: int) -> None:
    bench = Bench(preset)
    prompt = [[bench.vit(8), bench.text(100)] for _ in range(rows)]
    ids = torch.randint(4, 1000, (rows, new), generator=bench.generator)

    def with_cache() -> None:
        cache = KVCache(bench.model.config.decoder, torch.empty(0))
        context = bench.prefill(cache, cache.empty(rows), prompt)
        for step in range(new):
            batch = single_tokens(ids[:, step], context.positions, bench.geometry)
            _, context = extend(bench.model, batch, cache, context)

    def without_cache() -> None:
        for step in range(new):
            texts = [Segment(Kind.TEXT, TokenIds(row[:step]), loss=Loss.CE) for row in ids]
            bench.model(lay_out([[*p, t] for p, t in zip(prompt, texts, strict=True)], TOKENS, bench.geometry))

    show(
        f"{preset}: {new} tokens for {rows} row(s) after a prompt of 168",
        ("KV cache", cpu_seconds(with_cache, 3)),
        ("whole sequence for every token", cpu_seconds(without_cache, 1)),
    )
