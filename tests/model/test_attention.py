"""Attention back-ends against softmax over the dense mask, on random span tables."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ipt.model import attention
from ipt.model.attention import FlashAttention, FlexAttention, backends, packed_attention
from ipt.sequence.spans import Expert, Mode, Role, Span, SpanTable
from ipt.sequence.visibility import dense_mask
from tests.sequence.strategies import span_tables

HEADS, KV_HEADS, SIZE = 4, 2, 16


def inputs(tokens: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(tokens, heads, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


def exact(table: SpanTable, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over the dense mask in the grouped order."""
    mask = torch.from_numpy(dense_mask(table, table.order))
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
    scores = torch.einsum("qnh,knh->nqk", q, k) / math.sqrt(SIZE)
    return torch.einsum("nqk,knh->qnh", scores.masked_fill(~mask, -math.inf).softmax(-1), v)


@settings(max_examples=40)
@given(span_tables())
def test_sdpa_equals_dense_softmax_forward_and_backward(table: SpanTable) -> None:
    ours, reference = inputs(table.num_tokens), inputs(table.num_tokens)
    out = packed_attention("sdpa", table, ours[0])(0, *ours)
    expected = exact(table, *reference)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@settings(max_examples=8)
@given(span_tables(max_samples=3, max_spans=4), st.sampled_from([None, 256]))
@torch.no_grad()
def test_flex_equals_dense_softmax(table: SpanTable, pad_to: int | None) -> None:
    q, k, v = inputs(table.num_tokens)
    out = FlexAttention(table, q, tile=16, pad_to=pad_to, compiled=False)(0, q, k, v)
    torch.testing.assert_close(out, exact(table, q, k, v), atol=2e-6, rtol=1e-5)


def pack(lengths: list[int]) -> SpanTable:
    """Samples of text, an image, its noised view, the clean one and an answer that may not see the first image."""
    spans: list[Span] = []
    for sample, length in enumerate(lengths):
        spans += [
            Span(sample, length, Mode.CAUSAL, Expert.UNDERSTANDING, 0, Role.QUESTION),
            Span(sample, length, Mode.FULL, Expert.UNDERSTANDING, length),
            Span(sample, length, Mode.NOISED, Expert.GENERATION, length + 1, Role.IMAGINATION),
            Span(sample, length, Mode.FULL, Expert.GENERATION, length + 1, Role.IMAGINATION),
            Span(sample, 9, Mode.CAUSAL, Expert.UNDERSTANDING, length + 2, Role.ANSWER, frozenset({Role.OBSERVATION})),
        ]
    return SpanTable.from_spans(spans)


@pytest.mark.long
@torch.no_grad()
def test_compiled_flex_uses_the_tiles_and_is_not_recompiled() -> None:
    """The compiled kernel skips empty tiles and does not mask full ones, so wrong tile states would show."""
    torch._dynamo.reset()
    for number, lengths in enumerate([[150, 80, 33], [300], [20] * 12]):
        table = pack(lengths)
        q, k, v = inputs(table.num_tokens, number)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            out = FlexAttention(table, q, pad_to=1280, compiled=True)(0, q, k, v)
        torch.testing.assert_close(out, exact(table, q, k, v), atol=5e-6, rtol=1e-4)


def varlen_reference(
    q: Tensor, k: Tensor, v: Tensor, edges_q: Tensor, edges_k: Tensor, longest_q: int, longest_k: int, causal: bool
) -> Tensor:
    """flash-attn's ``flash_attn_varlen_func``: attention per segment, causal masks aligned at the bottom right."""
    out = []
    assert longest_q == int(edges_q.diff().max()) and longest_k == int(edges_k.diff().max())
    for a, b, c, d in zip(edges_q[:-1], edges_q[1:], edges_k[:-1], edges_k[1:], strict=True):
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(int((d - c) - (b - a)) if causal else 10**6)
        keys, values = (x[c:d].repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        scores = torch.einsum("qnh,knh->nqk", q[a:b], keys) / math.sqrt(q.shape[2])
        out.append(torch.einsum("nqk,knh->qnh", scores.masked_fill(~mask, -math.inf).softmax(-1), values))
    return torch.cat(out)


@pytest.mark.parametrize("mode", [Mode.CAUSAL, Mode.FULL])
@torch.no_grad()
def test_flash_packs_pure_samples(mode: Mode) -> None:
    table = SpanTable.from_spans(Span(i, n, mode, Expert.UNDERSTANDING, 0) for i, n in enumerate((5, 1, 9)))
    q, k, v = inputs(table.num_tokens)
    out = FlashAttention(table, q, kernel=varlen_reference)(0, q, k, v)
    torch.testing.assert_close(out, exact(table, q, k, v), atol=2e-6, rtol=1e-5)


def test_flash_refuses_what_it_cannot_express() -> None:
    for table in (pack([8]), SpanTable.from_spans([Span(0, 4, Mode.CAUSAL, Expert.UNDERSTANDING, 0)] * 2)):
        with pytest.raises(ValueError, match="one span per sample"):
            FlashAttention(table, torch.empty(0), kernel=varlen_reference)


def test_a_back_end_that_cannot_run_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SpanTable.from_spans([Span(0, 4, Mode.CAUSAL, Expert.UNDERSTANDING, 0)])
    q, k, v = inputs(4)
    with pytest.raises(ValueError, match=r"unknown attention back-end 'fash' \(did you mean 'flash'\?\)"):
        packed_attention("fash", table, q)
    with pytest.raises(ValueError, match=r"needs flash-attn; install it .* or choose 'flex'"):
        packed_attention("flash", table, q)
    module = type(attention)("flash_attn")
    module.flash_attn_varlen_func = varlen_reference
    monkeypatch.setitem(__import__("sys").modules, "flash_attn", module)
    with pytest.raises(ValueError, match="runs on CUDA in float16 or bfloat16, not on cpu"):
        packed_attention("flash", table, q)
    with pytest.raises(ValueError, match="no backward pass on CPU; train there with 'sdpa'"):
        packed_attention("flex", table, q)(0, q, k, v)


@pytest.mark.parametrize("backend", sorted(backends))
def test_zero_tokens_keep_the_graph(backend: str) -> None:
    table = SpanTable.from_spans([])
    qkv = inputs(0)
    packed_attention(backend, table, qkv[0])(0, *qkv).sum().backward()
    assert all(x.grad is not None for x in qkv)
