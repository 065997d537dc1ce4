"""Attention back-ends against softmax over the dense mask, on random span tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import BlockMask, create_mask

from ipt.model import attention
from ipt.model.attention import (
    FlashAttention,
    FlexAttention,
    Rows,
    SdpaAttention,
    additive_mask,
    backends,
    block_mask,
    compiled_flex,
    mask_tensors,
    packed_attention,
    similar_lengths,
)
from ipt.sequence.spans import Expert, Mode, Role, Span, SpanTable
from ipt.sequence.visibility import attended_pairs, dense_mask, token_fields
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


@pytest.mark.parametrize("long", [1, 12, 512])
@settings(max_examples=20)
@given(span_tables())
def test_sdpa_equals_dense_softmax_forward_and_backward(long: int, table: SpanTable) -> None:
    """Every sample span by span, some of them, none."""
    assume(table.num_tokens)
    ours, reference = inputs(table.num_tokens), inputs(table.num_tokens)
    made = SdpaAttention(table, ours[0], long=long)
    assert len(made.samples) <= (table.sample_lengths >= long).sum() and len(made.samples) + len(made.groups)
    out = made(0, *ours)
    expected = exact(table, *reference)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


@settings(max_examples=40)
@given(span_tables())
def test_a_mask_filled_block_by_block_is_that_of_all_pairs(table: SpanTable) -> None:
    like = torch.empty(0)
    for samples in similar_lengths(table.sample_lengths, 0.0):
        rows, filled = Rows(table, samples), block_mask(table, samples, like)
        query = token_fields(table, table.order).at(rows.index_BL)
        key = query._replace(sample=np.where(rows.valid_BL, query.sample, -1))
        whole = additive_mask(mask_tensors(query, like.device), mask_tensors(key, like.device), like.dtype)
        if filled is None or whole is None:
            assert filled is whole is None
            continue
        real = torch.from_numpy(rows.valid_BL)[:, None, :, None]
        assert torch.equal(filled.masked_fill(~real, 0), whole.masked_fill(~real, 0))
        assert (filled.amax(-1) == 0).all()  # no row that sees nothing


def test_a_long_sample_has_masks_for_texts_alone_and_computes_no_pair_that_is_not_attended_to() -> None:
    table = pack([300])
    (sample,) = SdpaAttention(table, torch.empty(0)).samples
    assert [call.mask is None for call in sample.calls] == [True, True, True, False, True]
    assert [call.causal for call in sample.calls] == [True, False, False, False, False]
    text = table.length[0]
    pairs = sum((c.end - c.start) * sum(b - a for a, b in c.ranges) for c in sample.calls)
    assert pairs == attended_pairs(table) + text * (text - 1) // 2 + 9 * 8 // 2
    images = SpanTable.from_spans([Span(i, 600, Mode.FULL, Expert.UNDERSTANDING, 0) for i in range(3)])
    made = SdpaAttention(images, torch.empty(0))
    assert not made.samples and [mask for _, mask in made.groups] == [None]  # images alone share one call


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@settings(max_examples=8)
@given(span_tables(max_samples=3, max_spans=4), st.sampled_from([1, 256]))
@torch.no_grad()
def test_flex_equals_dense_softmax(table: SpanTable, multiple: int) -> None:
    q, k, v = inputs(table.num_tokens)
    out = FlexAttention(table, q, multiple, tile=16)(0, q, k, v)
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


def of_tiles(q: Tensor, k: Tensor, v: Tensor, block_mask: BlockMask, enable_gqa: bool) -> Tensor:
    """What the compiled kernel computes, with gradients: nothing of the tiles that are not listed, all of the full ones, and 0
    for rows that see nothing."""
    size = q.shape[2]

    def dense(counts: Tensor, which: Tensor) -> Tensor:
        listed = torch.arange(which.shape[-1]) < counts[0, 0, :, None]
        chosen = torch.zeros_like(which[0, 0], dtype=torch.bool).scatter(1, which[0, 0].long(), listed)
        return chosen.repeat_interleave(block_mask.BLOCK_SIZE[0], 0).repeat_interleave(block_mask.BLOCK_SIZE[1], 1)

    full = dense(block_mask.full_kv_num_blocks, block_mask.full_kv_indices)  # type: ignore[arg-type]
    ruled = dense(block_mask.kv_num_blocks, block_mask.kv_indices)
    seen = full | (ruled & create_mask(block_mask.mask_mod, 1, 1, size, size, "cpu")[0, 0])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=enable_gqa).nan_to_num(0.0)


@settings(max_examples=8)
@given(span_tables(max_samples=3, max_spans=4))
def test_padding_changes_neither_outputs_nor_gradients(table: SpanTable) -> None:
    plain, padded = inputs(table.num_tokens), inputs(table.num_tokens)
    weights = torch.randn(plain[0].shape, generator=torch.Generator().manual_seed(1))
    for qkv, multiple in ((plain, 1), (padded, 256)):
        (FlexAttention(table, qkv[0], multiple, tile=16, kernel=of_tiles)(0, *qkv) * weights).sum().backward()
    for ours, theirs in zip(padded, plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_packs_padded_to_one_length_are_compiled_for_once() -> None:
    compiled = CompileCounter()
    torch._dynamo.reset()
    kernel = compiled_flex(compiled)
    for lengths, expected in (([15, 8, 3], 1), ([30], 1), ([20] * 5, 2), ([20] * 8, 3)):
        table = pack(lengths)
        q, k, v = inputs(table.num_tokens)
        FlexAttention(table, q, 256, kernel=kernel)(0, q, k, v)
        assert compiled.frame_count == expected


@pytest.mark.long
@torch.no_grad()
def test_compiled_flex_uses_the_tiles() -> None:
    """The compiled kernel skips empty tiles and does not mask full ones, so wrong tile states would show."""
    for number, lengths in enumerate([[150, 80, 33], [300], [20] * 12]):
        table = pack(lengths)
        q, k, v = inputs(table.num_tokens, number)
        out = FlexAttention(table, q, 1280, kernel=compiled_flex())(0, q, k, v)
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


@settings(max_examples=25)
@given(span_tables())
def test_flash_equals_dense_softmax_forward_and_backward(table: SpanTable) -> None:
    assume(table.num_tokens)
    ours, reference = inputs(table.num_tokens), inputs(table.num_tokens)
    out = FlashAttention(table, ours[0], kernel=varlen_reference)(0, *ours)
    expected = exact(table, *reference)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


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
