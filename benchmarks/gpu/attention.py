"""Attention of one layer over a whole pack: time, memory and correctness of the back-ends, forward and backward."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from benchmarks.gpu.measure import Results, peak_bytes, seconds_of, synchronise
from benchmarks.gpu.packs import TINY, Maker, Sizes
from ipt.model.attention import Attention, FlexAttention, SdpaAttention, additive_mask, mask_tensors, padded_sdpa
from ipt.sequence.spans import Expert, Mode, Span, SpanTable
from ipt.sequence.visibility import attended_pairs, token_fields, visible

Heads = tuple[int, int, int]
Factory = Callable[[SpanTable, Tensor], Attention]
#: Options of the FlexAttention kernel that may beat its defaults on Hopper, forward or backward.
OPTIONS: dict[str, dict[str, Any]] = {
    "flex, prescaled": {"PRESCALE_QK": True},
    "flex, TMA": {"fwd_USE_TMA": True},
    "flex, backward with 4 warps": {"bwd_num_warps": 4, "bwd_num_stages": 2},
    "flex, forward 128 x 128": {"fwd_BLOCK_M": 128, "fwd_BLOCK_N": 128, "fwd_num_warps": 8, "fwd_num_stages": 2},
}


class PlainSdpa(SdpaAttention):
    """PyTorch's call with grouped heads and a mask, as it is, on the kernel that PyTorch or the caller chooses."""

    def __init__(self, spans: SpanTable, like: Tensor, kernel: SDPBackend | None = None) -> None:
        super().__init__(spans, like, long=spans.num_tokens + 1)
        self.kernel = kernel

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        outputs = []
        with nullcontext() if self.kernel is None else sdpa_kernel(self.kernel):
            for index, mask in self.groups:
                q, k, v = (x[index].transpose(1, 2) for x in (q_TNH, k_TKH, v_TKH))
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
                outputs.append(out.transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs)[self.slot_T]


class DenseSdpa:
    """One mask of S x S for the whole pack."""

    def __init__(self, spans: SpanTable, like: Tensor) -> None:
        fields = mask_tensors(token_fields(spans, spans.order), like.device).at(None)
        self.mask = additive_mask(fields, fields, like.dtype)

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        return padded_sdpa(q_TNH[None], k_TKH[None], v_TKH[None], self.mask)[0]


def any_length(spans: SpanTable, like: Tensor) -> FlexAttention:
    """The flex back-end with a kernel compiled for packs of any length."""
    return FlexAttention(spans, like, kernel=_dynamic_flex())


@functools.cache
def _dynamic_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True)


def with_options(options: dict[str, Any], spans: SpanTable, like: Tensor) -> FlexAttention:
    """The flex back-end with options of its kernel."""
    attention = FlexAttention(spans, like)
    attention.kernel = functools.partial(attention.kernel, kernel_options=options)
    return attention


def variants(cuda: bool) -> dict[str, Factory]:
    """By name; the first one is what training on a GPU should use."""
    ours = {"sdpa": SdpaAttention, "sdpa, one dense mask": DenseSdpa}
    if not cuda:
        return ours
    cudnn = functools.partial(PlainSdpa, kernel=SDPBackend.CUDNN_ATTENTION)
    return {
        "flex": FlexAttention,
        "flex, any length": any_length,
        **ours,
        "sdpa, cuDNN": cudnn,
        "sdpa, grouped heads with a mask": PlainSdpa,
    }


def inputs(tokens: int, heads: Heads, device: str, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """q, k and v [T, heads, size] with gradients."""
    generator = torch.Generator(device).manual_seed(seed)
    shapes = [(tokens, count, heads[2]) for count in (heads[0], heads[1], heads[1])]
    drawn = [torch.randn(shape, generator=generator, device=device) for shape in shapes]
    return [x.to(dtype).requires_grad_(True) for x in drawn]


def reference(spans: SpanTable, qkv: list[Tensor], rows: Tensor) -> Tensor:
    """Softmax over the rule, in float64, of the chosen query rows (in the grouped order)."""
    q, k, v = (x.double() for x in qkv)
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    fields, chosen = token_fields(spans, spans.order), rows.cpu().numpy()
    seen = torch.from_numpy(visible(fields.at((chosen, None)), fields.at(None))).to(q.device)
    scores = torch.einsum("qnh,knh->nqk", q[rows], k) / math.sqrt(q.shape[2])
    return torch.einsum("nqk,knh->qnh", scores.masked_fill(~seen, -math.inf).softmax(-1), v)


def errors(attention: Attention, spans: SpanTable, qkv: list[Tensor], count: int) -> dict[str, float]:
    """|ours - exact| / |exact| of ``count`` rows of the output, and of the gradients of a random sum over them."""
    generator = torch.Generator(qkv[0].device).manual_seed(1)
    rows = torch.randperm(spans.num_tokens, generator=generator, device=qkv[0].device)[:count]
    exact = [x.detach().double().requires_grad_(True) for x in qkv]
    outputs = attention(0, *qkv)[rows], reference(spans, exact, rows)
    weights = torch.randn(outputs[1].shape, generator=generator, device=rows.device, dtype=torch.float64)
    ours = torch.autograd.grad((outputs[0].double() * weights).sum(), qkv)
    theirs = torch.autograd.grad((outputs[1] * weights).sum(), exact)
    pairs = zip(("out", "dq", "dk", "dv"), (outputs[0], *ours), (outputs[1], *theirs), strict=True)
    return {name: ((a.double() - b).norm() / b.norm()).item() for name, a, b in pairs}


def measured(make: Callable[[], Attention], spans: SpanTable, qkv: list[Tensor], device: str) -> dict[str, Any]:
    """Milliseconds and bytes of one layer, and arithmetic per second by the formula of `ipt.model.flops`."""
    attention = make()
    pairs = 4 * qkv[0].shape[1] * qkv[0].shape[2] * attended_pairs(spans)

    def forward() -> Tensor:
        with torch.no_grad():
            return attention(0, *qkv)

    def both() -> None:
        torch.autograd.grad(attention(0, *qkv), qkv, upstream)

    synchronise(device)
    started = time.perf_counter()
    upstream = torch.randn_like(forward())
    both()
    synchronise(device)
    first = time.perf_counter() - started
    once, twice = seconds_of(forward, device), seconds_of(both, device)
    memory = {"forward": peak_bytes(forward, device), "both": peak_bytes(both, device)}
    return {
        "first_call_s": first,
        "build_ms": 1e3 * seconds_of(make, device, repeats=3, warm_up=1),
        "forward_ms": 1e3 * once,
        "both_ms": 1e3 * twice,
        "forward_tflops": pairs / once / 1e12,
        "both_tflops": 3 * pairs / twice / 1e12,
        "peak_mb": {name: bytes_ / 1e6 for name, bytes_ in memory.items()},
    }


def run(results: Results, sizes: Sizes) -> None:
    """The whole section."""
    device, heads, cuda = results.device, heads_of(sizes), results.device != "cpu"
    dtype = torch.bfloat16 if cuda else torch.float32
    small, spans = Maker(TINY).pack().spans, Maker(sizes).pack().spans
    share = attended_pairs(spans) / spans.num_tokens**2
    results.add("pack", tokens=spans.num_tokens, spans=len(spans), samples=spans.num_samples, attended_share=share)
    for name, factory in variants(cuda).items():
        with results.attempt(f"{name}, {small.num_tokens} tokens"):
            qkv = inputs(small.num_tokens, heads, device, dtype)
            found = errors(factory(small, qkv[0]), small, qkv, small.num_tokens)
            results.add(f"{name}, {small.num_tokens} tokens", error=found)
        with results.attempt(name):
            compare(results, name, factory, spans, inputs(spans.num_tokens, heads, device, dtype))
    if cuda:
        vision(results, sizes)
        lengths(results, sizes, heads)


def options(results: Results, sizes: Sizes) -> None:
    """FlexAttention with other options of its kernels; on CUDA only."""
    if results.device == "cpu":
        return
    heads, spans = heads_of(sizes), Maker(sizes).pack().spans
    for name, chosen in OPTIONS.items():
        with results.attempt(name):
            qkv = inputs(spans.num_tokens, heads, results.device, torch.bfloat16)
            compare(results, name, functools.partial(with_options, chosen), spans, qkv)


def compare(results: Results, name: str, factory: Factory, spans: SpanTable, qkv: list[Tensor], **known: Any) -> None:
    """Speed and errors of one back-end, compiled for just these sizes."""
    torch._dynamo.reset()
    values = measured(functools.partial(factory, spans, qkv[0]), spans, qkv, results.device)
    results.add(name, **known, **values, error=errors(factory(spans, qkv[0]), spans, qkv, 128))


def heads_of(sizes: Sizes) -> Heads:
    decoder = sizes.shape.decoder
    return decoder.heads, decoder.kv_heads, decoder.head_dim


def vision(results: Results, sizes: Sizes) -> None:
    """The vision tower's attention over the images of a pack: full inside each image, no mask where all have one size."""
    tower, images = sizes.shape.vision, [sizes.vit**2] * 8
    heads = tower.heads, tower.heads, tower.hidden // tower.heads
    for shape, counts in (("one size", images), ("two sizes", [*images[:5], *(n * 3 // 4 for n in images[5:])])):
        spans = SpanTable.from_spans(Span(i, n, Mode.FULL, Expert.UNDERSTANDING, 0) for i, n in enumerate(counts))
        for name, factory in (("flex", FlexAttention), ("sdpa", SdpaAttention)):
            with results.attempt(f"vision, {shape}, {name}"):
                qkv = inputs(spans.num_tokens, heads, results.device, torch.bfloat16)
                compare(results, f"vision, {shape}, {name}", factory, spans, qkv, tokens=spans.num_tokens)


def lengths(results: Results, sizes: Sizes, heads: Heads) -> None:
    """The first call of flex on packs of different lengths: what compiling again costs, if it does."""
    with results.attempt("flex, lengths"):
        torch._dynamo.reset()
        taken = []
        for tokens in (sizes.tokens, sizes.tokens - 700, sizes.tokens - 2900, sizes.tokens // 2, sizes.tokens - 5000):
            spans = Maker(sizes).pack(tokens).spans
            qkv = inputs(tokens, heads, results.device, torch.bfloat16)
            started = time.perf_counter()
            attention = FlexAttention(spans, qkv[0])
            attention(0, *qkv).sum().backward()
            synchronise(results.device)
            taken.append([tokens, time.perf_counter() - started])
        results.add("flex, lengths", tokens_and_seconds=taken)
