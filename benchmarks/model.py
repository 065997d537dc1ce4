"""Design decisions of the model, each as the ratio of two things measured in one run (CPU, one thread).

    python -m benchmarks.model
    python -m benchmarks.model only=tiles tokens=24576

``tiles``: BlockMask from span tiles against the dense mask and against `create_block_mask`. ``routing``: expert slices against
an index per expert around every operation. ``guidance``: three branches in one forward against three forwards. ``decoding``:
KV cache against running the whole sequence for every token.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from ipt.flow.guidance import Guidance
from ipt.flow.schedule import schedule
from ipt.model.attention import FlexAttention, sight_tensors
from ipt.model.cache import Context, KVCache, extend
from ipt.model.checkpoint import from_scratch
from ipt.model.config import presets
from ipt.model.latents import add_noise
from ipt.model.mot import ExpertBlock, MoTLayer, rope_angles, rotate
from ipt.model.sampling import LatentVelocity, sample_latents
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch, lay_out, single_tokens
from ipt.sequence.segments import Kind, Segment, SpecialTokens
from ipt.sequence.spans import Loss, Role, SpanTable
from ipt.sequence.visibility import Sight, dense_mask, token_sight, visible

TOKENS = SpecialTokens(0, 1, 2, 3)


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median over ``repeats``, after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(what: str, *rows: tuple[str, float]) -> None:
    """One markdown table; ratios to the first row."""
    print(f"\n| {what} | ms | ratio |\n|---|---|---|")
    for name, value in rows:
        print(f"| {name} | {1000 * value:.1f} | {value / rows[0][1]:.1f} |")


class Maker:
    """Random segments for a model."""

    def __init__(self, model: UnifiedModel) -> None:
        self.geometry = model.config.geometry
        self.generator = torch.Generator().manual_seed(0)

    def text(self, count: int, trained: bool = False) -> Segment:
        ids = torch.randint(4, 1000, (count,), generator=self.generator)
        return Segment(Kind.TEXT, ids, loss=Loss.CE if trained else Loss.NONE)

    def vit(self, side: int) -> Segment:
        size = side * self.geometry.vit_patch
        return Segment(Kind.VIT, torch.randn(3, size, size, generator=self.generator))

    def latent(self, side: int, noised: bool = False) -> Segment:
        size = side * self.geometry.latent_patch
        payload = torch.randn(self.geometry.latent_channels, size, size, generator=self.generator)
        return Segment(Kind.VAE_NOISED if noised else Kind.VAE, payload, loss=Loss.FLOW if noised else Loss.NONE)

    def imagining(self, side: int, vit: int) -> list[Segment]:
        """Observation, question, thought, imagined image with its copies, answer."""
        seen = [self.latent(side), self.vit(vit)]
        imagined = [self.latent(side, noised=True), self.latent(side), self.vit(vit)]
        return [*seen, self.text(40), self.text(10, trained=True), *imagined, self.text(8, trained=True)]

    def batch(self, samples: list[list[Segment]]) -> PackedBatch:
        batch = lay_out(samples, TOKENS, self.geometry)
        noise = torch.randn(int(batch.spans.is_noised.sum()), self.geometry.latent_size, generator=self.generator)
        return add_noise(batch, torch.rand(len(batch.spans.noised_images), generator=self.generator), noise)[0]


def pack_spans(tokens: int) -> SpanTable:
    """A pack at BAGEL's sizes: imagining samples with 32 x 32 latents until ``tokens`` are reached."""
    model = from_scratch(presets["small"], torch.Generator().manual_seed(0))
    sample = Maker(model).imagining(side=32, vit=18)
    length = lay_out([sample], TOKENS, model.config.geometry).spans.num_tokens
    return lay_out([sample] * max(tokens // length, 1), TOKENS, model.config.geometry).spans


def tiles(tokens: int = 24576) -> None:
    spans, like = pack_spans(tokens), torch.empty(0)
    padded = -(-spans.num_tokens // 128) * 128

    def from_tiles() -> object:
        table = SpanTable(*(getattr(spans, name) for name in SpanTable.__dataclass_fields__))
        return FlexAttention(table, like, compiled=False).block_mask

    sight = sight_tensors(token_sight(spans, spans.order), like.device)
    sight = Sight(*(F.pad(column, (0, padded - spans.num_tokens)) for column in sight))

    def by_evaluation() -> object:
        def rule(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            allowed: Tensor = visible(sight.at(q), sight.at(k))
            return allowed

        return create_block_mask(rule, None, None, padded, padded, device="cpu")

    show(
        f"mask of {spans.num_tokens:,} tokens, {len(spans)} spans",
        ("BlockMask from span tiles", seconds(from_tiles, 5)),
        ("dense boolean mask", seconds(lambda: dense_mask(spans, spans.order), 1)),
        ("create_block_mask", seconds(by_evaluation, 1)),
    )


class IndexRouted(nn.Module):
    """A layer as the reference routes it: the sequence stays in packed order, every operation gathers and scatters by index."""

    def __init__(self, layer: MoTLayer, spans: SpanTable) -> None:
        super().__init__()
        self.layer = layer
        indices = (spans.order[: spans.num_understanding], spans.order[spans.num_understanding :])
        self.indices = [torch.from_numpy(index.copy()) for index in indices]

    def by_expert(self, run: Callable[..., Tensor], out: Tensor, *inputs: Tensor) -> Tensor:
        experts = (self.layer.understanding, self.layer.generation)
        for expert, index in zip(experts, self.indices, strict=True):
            out = out.index_put((index,), run(expert, *(x[index] for x in inputs)))
        return out

    def forward(self, x_SD: Tensor, rope: Any, attention: Any) -> Tensor:
        d = self.layer.understanding
        heads, kv_heads = d.q_proj.out_features // d.head_dim, d.k_proj.out_features // d.head_dim

        def head(name: str, count: int, y: Tensor) -> Tensor:
            def run(expert: ExpertBlock, rows: Tensor) -> Tensor:
                return getattr(expert, name)(rows).unflatten(-1, (count, -1))

            return self.by_expert(run, y.new_zeros(len(y), count, d.head_dim), y)

        y = self.by_expert(lambda e, rows: e.input_layernorm(rows), torch.zeros_like(x_SD), x_SD)
        q, k, v = head("q_proj", heads, y), head("k_proj", kv_heads, y), head("v_proj", kv_heads, y)
        q = self.by_expert(lambda e, rows: e.q_norm(rows), torch.zeros_like(q), q)
        k = self.by_expert(lambda e, rows: e.k_norm(rows), torch.zeros_like(k), k)
        attended = attention(self.layer.index, rotate(q, rope), rotate(k, rope), v).flatten(1)
        x = x_SD + self.by_expert(lambda e, rows: e.o_proj(rows), torch.zeros_like(x_SD), attended)
        y = self.by_expert(lambda e, rows: e.post_attention_layernorm(rows), torch.zeros_like(x), x)
        return x + self.by_expert(lambda e, rows: e.mlp(rows), torch.zeros_like(x), y)


def routing() -> None:
    """One layer, forward and backward, without the attention itself, which is the same for both."""
    for name, count in (("tiny", 32), ("small", 2)):
        model = from_scratch(presets[name], torch.Generator().manual_seed(0))
        make = Maker(model)
        spans = make.batch([make.imagining(4 if name == "tiny" else 16, 4)] * count).spans
        layer, decoder = model.decoder.layers[0], model.config.decoder
        x = torch.randn(spans.num_tokens, decoder.hidden, generator=make.generator)
        routed = IndexRouted(layer, spans)
        grouped = x[torch.from_numpy(spans.order)]
        parts = grouped.split([spans.num_understanding, len(x) - spans.num_understanding])
        ropes = [
            rope_angles(torch.from_numpy(ids), decoder.head_dim, decoder.rope_theta)
            for ids in (spans.position_ids[spans.order], spans.position_ids)
        ]

        def attention(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return q + (k.mean() + v.mean())

        def step(run: Callable[[], Tensor]) -> None:
            run().sum().backward()

        for part in (x, *parts):
            part.requires_grad_(True)
        grouped_in = [part.detach().requires_grad_(True) for part in parts]
        a = seconds(lambda: step(lambda: torch.cat(layer(*grouped_in, ropes[0], attention))), 7)
        b = seconds(lambda: step(lambda: routed(x.detach().requires_grad_(True), ropes[1], attention)), 7)
        what = f"one layer of {name}, {spans.num_tokens:,} tokens, forward and backward, without attention"
        show(what, ("slices", a), ("index per expert", b))


def cached(model: UnifiedModel, rows: list[list[Segment]], capacity: int) -> tuple[KVCache, Context]:
    cache = KVCache(model.config.decoder, 3 * len(rows), capacity, torch.empty(0))
    batch = lay_out(rows, TOKENS, model.config.geometry)
    return cache, extend(model, batch, cache, cache.empty(range(len(rows))))[1]


@torch.no_grad()
def guidance() -> None:
    for name, side, rows in (("tiny", 4, 1), ("tiny", 4, 8), ("small", 16, 1)):
        model = from_scratch(presets[name], torch.Generator().manual_seed(0))
        make = Maker(model)
        cache, before = cached(model, [[make.vit(4)] for _ in range(rows)], 256)
        text = lay_out([[make.text(40)]] * rows, TOKENS, model.config.geometry, before.positions)
        context = extend(model, text, cache, before)[1]
        texts = cache.empty(range(rows, 2 * rows))
        texts = extend(model, lay_out([[make.text(40)]] * rows, TOKENS, model.config.geometry), cache, texts)[1]
        noise = torch.randn(rows, side * side, model.config.geometry.latent_size, generator=make.generator)
        times, rule = schedule(9), Guidance(4.0, 2.0, start=0.0)

        def together() -> None:
            sample_latents(model, cache, context, noise, (side, side), times, TOKENS, rule, before, texts)

        def separately() -> None:
            x = noise
            fields = [
                LatentVelocity(model, cache, c, (side, side), TOKENS, Role.IMAGINATION)
                for c in (context, before, texts)
            ]
            for t, following in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
                x = x - rule.combine(*(field(x, t) for field in fields)) * (t - following)

        what = f"{name}: {rows} image(s) of {side} x {side} tokens, 8 guided steps, 3 branches"
        show(what, ("one forward", seconds(together, 5)), ("three forwards", seconds(separately, 5)))


@torch.no_grad()
def decoding(new: int = 64) -> None:
    for name, rows in (("tiny", 1), ("tiny", 8), ("small", 1)):
        model = from_scratch(presets[name], torch.Generator().manual_seed(0))
        make = Maker(model)
        prompt = [[make.vit(8), make.text(100)] for _ in range(rows)]
        ids = torch.randint(4, 1000, (rows, new), generator=make.generator)

        def with_cache() -> None:
            cache, context = cached(model, prompt, 512)
            for step in range(new):
                batch = single_tokens(ids[:, step], context.positions, model.config.geometry)
                _, context = extend(model, batch, cache, context)

        def without_cache() -> None:
            for step in range(new):
                texts = [Segment(Kind.TEXT, row[:step], loss=Loss.CE) for row in ids]
                samples = [[*row, text] for row, text in zip(prompt, texts, strict=True)]
                model(lay_out(samples, TOKENS, model.config.geometry))

        what = f"{name}: {new} tokens after a prompt of {66 + 102}, {rows} row(s)"
        show(what, ("KV cache", seconds(with_cache, 3)), ("whole sequence each time", seconds(without_cache, 1)))


BENCHMARKS = {"tiles": tiles, "routing": routing, "guidance": guidance, "decoding": decoding}


def main(only: str = "", **options: int) -> None:
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}"
    )
    for name, run in BENCHMARKS.items():
        if only in ("", name):
            run(**options)


if __name__ == "__main__":
    main(**OmegaConf.to_container(OmegaConf.from_cli(sys.argv[1:])))
