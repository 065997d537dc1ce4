"""Attention over a packed sequence, behind one call: a back-end turns a `SpanTable` into a function of q, k and v.

Tokens arrive in the grouped order (understanding tokens first), so that the layers around the call work on contiguous
slices; a back-end may gather rows of its own, but never changes the order it returns.

Back-ends: ``sdpa`` (reference; CPU and GPU; long samples span by span over what each sees, short ones of similar length in one
padded call with one dense mask each),
``flex`` (FlexAttention with a BlockMask made from span tiles; compiled on GPU, forward only on CPU), ``flash`` (flash-attn,
where that is installed).

Shape suffixes: T grouped tokens, N query heads, K key/value heads, H numbers per head, B rows (samples), L padded row length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.registry import Registry
from ipt.sequence.spans import SEQUENTIAL, Ints, Mode, SpanTable
from ipt.sequence.visibility import MaskFields, runs, span_fields, tile_pairs, token_fields, visible


class Attention(Protocol):
    """Attention of one forward pass: (layer, q [T, N, H], k [T, K, H], v [T, K, H]) to [T, N, H], after RoPE."""

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor: ...


#: A sample of so many tokens is attended to span by span: the pairs that nobody attends to cost more than the calls.
LONG = 512

#: Makes the attention of packs from (spans, like, multiple), see `packed_attention`.
backends: Registry[Callable[[SpanTable, Tensor, int], Attention]] = Registry("attention back-end")


def packed_attention(backend: str, spans: SpanTable, like: Tensor, multiple: int = 1) -> Attention:
    """Attention of a whole packed sequence; ``like`` gives device and compute dtype. A back-end that compiles a kernel for each
    length pads q, k and v to the next ``multiple`` of tokens, which changes no result.

    Raises ``ValueError`` for an unknown back-end, or one that cannot run here, saying what to use instead.
    """
    factory = backends[backend]
    return _nothing if spans.num_tokens == 0 else factory(spans, like, multiple)


def _nothing(layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
    """Attention of zero tokens; k and v stay in the graph, so that their projections receive (zero) gradients."""
    return q_TNH + (k_TKH.sum() + v_TKH.sum())


class Rows:
    """Samples as padded rows: ``index_BL`` into the grouped order (padding repeats the first token), ``valid_BL``, and
    ``slot_T``: where each of the rows' tokens stands in the flattened rows, listed in grouped order."""

    def __init__(self, spans: SpanTable, samples: Ints | None = None) -> None:
        sample_T = spans.sample[spans.span_of[spans.order]]
        samples = np.arange(spans.num_samples) if samples is None else samples
        lengths = spans.sample_lengths[samples]
        if (lengths == 0).any():
            raise UserError(f"sample {samples[np.argmin(lengths)]} has no tokens")
        by_sample = np.argsort(sample_T, kind="stable")
        starts = (np.cumsum(spans.sample_lengths) - spans.sample_lengths)[samples]
        place_BL = np.arange(lengths.max())[None]
        self.valid_BL = place_BL < lengths[:, None]
        self.index_BL = by_sample[starts[:, None] + np.where(self.valid_BL, place_BL, 0)]
        self.tokens = self.index_BL[self.valid_BL]
        slots = np.flatnonzero(self.valid_BL.ravel())
        self.slot_T = slots[np.argsort(self.tokens, kind="stable")]


def to_device(values: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """``values`` as a tensor, without waiting for the device's work so far (memory that is not pinned is staged at once)."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def mask_tensors(fields: MaskFields, device: torch.device) -> MaskFields:
    """The same `MaskFields` as tensors."""
    return MaskFields(*(to_device(np.ascontiguousarray(column), device) for column in fields))


def additive_mask(query: MaskFields, key: MaskFields, dtype: torch.dtype) -> Tensor | None:
    """[B, 1, Q, K] 0 where [B, Q] sees [B, K] and -inf elsewhere, or ``None`` where everything is seen."""
    seen = visible(query.at((slice(None), slice(None), None)), key.at((slice(None), None)))[:, None]
    if bool(seen.all()):
        return None
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))


def block_mask(spans: SpanTable, samples: Ints, like: Tensor) -> Tensor | None:
    """`additive_mask` [B, 1, L, L] of whole samples as `Rows` lays them out, filled block by block: two spans see each other
    everywhere or nowhere, but for a text that sees itself. Padding sees the first token."""
    pieces, fields = runs(spans, grouped=True), span_fields(spans)
    longest, sample_R = int(spans.sample_lengths[samples].max()), spans.sample[pieces.span]
    if seen_whole(spans, samples):
        return None
    mask = np.full((len(samples), 1, longest, longest), -np.inf, dtype=np.float32)
    for row, sample in enumerate(samples):
        mine = np.flatnonzero(sample_R == sample)
        span_R, ends = pieces.span[mine], np.cumsum(pieces.length[mine])
        sees_RR = visible(fields.at(span_R[:, None]), fields.at(span_R))
        starts = ends - pieces.length[mine]
        for piece, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            for first, last in joined(starts[sees_RR[piece]], ends[sees_RR[piece]]):
                mask[row, 0, start:end, first:last] = 0
            if spans.mode[span_R[piece]] in SEQUENTIAL:
                mask[row, 0, start:end, start:end] = np.triu(np.full((end - start, end - start), -np.inf), 1)
        mask[row, 0, int(ends[-1]) :, 0] = 0
    return to_device(mask, like.device).to(like.dtype)


def seen_whole(spans: SpanTable, samples: Ints) -> bool:
    """Whether the samples are single images of one length: then there is nothing to mask."""
    own = np.isin(spans.sample, samples)
    one_each = int(own.sum()) == len(samples) and len(set(spans.sample_lengths[samples].tolist())) == 1
    return one_each and not np.isin(spans.mode[own], SEQUENTIAL).any()


def joined(starts: Ints, ends: Ints) -> list[tuple[int, int]]:
    """Ranges in order, those that touch made one."""
    opens = np.flatnonzero(np.append(True, starts[1:] != ends[:-1]))  # there is one at least: a span sees itself
    closes = np.append(opens[1:], len(ends)) - 1
    return list(zip(starts[opens].tolist(), ends[closes].tolist(), strict=True))


def _causal(queries: int, keys: int, like: Tensor) -> Tensor:
    """[queries, keys] additive mask of a text whose last token is the last key."""
    empty = torch.full((queries, keys), float("-inf"), dtype=like.dtype, device=like.device)
    return empty.triu_(keys - queries + 1)


def padded_sdpa(q_BLNH: Tensor, k_BLKH: Tensor, v_BLKH: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
    """Scaled dot-product attention with grouped heads, [B, L, N, H].

    On CUDA with a mask, key and value heads are repeated: PyTorch's memory-efficient kernel takes no grouped heads, flash no
    mask, and what would be left holds the scores of all pairs.
    """
    group = q_BLNH.shape[2] // k_BLKH.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q_BLNH, k_BLKH, v_BLKH))
    if group > 1 and mask is not None and q.is_cuda:
        k, v = (x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2) for x in (k, v))
        group = 1
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=group > 1)
    return out.transpose(1, 2)


def folded_sdpa(q_BLNH: Tensor, k_BMKH: Tensor, v_BMKH: Tensor, mask_B11M: Tensor | None = None) -> Tensor:
    """[B, L, N, H]: attention of queries that all see the same keys, the heads of a group taken as further queries of one head,
    so that no key is repeated or read twice."""
    kv_heads, queries = k_BMKH.shape[2], q_BLNH.shape[1]
    q = q_BLNH.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    out = F.scaled_dot_product_attention(q, k_BMKH.transpose(1, 2), v_BMKH.transpose(1, 2), attn_mask=mask_B11M)
    return out.unflatten(2, (-1, queries)).permute(0, 3, 1, 2, 4).flatten(2, 3)


@dataclass(frozen=True)
class SpanCall:
    """Attention of one span: its queries from ``start`` to ``end``, the ``ranges`` of keys that it sees, itself last.
    ``mask``: of a text that sees more than itself; one that does not is ``causal``."""

    start: int
    end: int
    ranges: tuple[tuple[int, int], ...]
    mask: Tensor | None = None
    causal: bool = False

    @classmethod
    def of(cls, start: int, end: int, ranges: Sequence[tuple[int, int]], text: bool, like: Tensor) -> SpanCall:
        queries, keys = end - start, sum(last - first for first, last in ranges)
        if not text or queries == 1:
            return cls(start, end, tuple(ranges))
        if queries == keys:
            return cls(start, end, tuple(ranges), None, True)
        return cls(start, end, tuple(ranges), _causal(queries, keys, like))

    def __call__(self, q_LNH: Tensor, k_MKH: Tensor, v_MKH: Tensor) -> Tensor:
        """[end - start, N, H]."""
        k, v = (_pieces(x, self.ranges)[None] for x in (k_MKH, v_MKH))
        return padded_sdpa(q_LNH[None, self.start : self.end], k, v, self.mask, self.causal)[0]


def _pieces(x_MKH: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    found = [x_MKH[first:last] for first, last in ranges]
    return found[0] if len(found) == 1 else torch.cat(found)


class SampleBySpan:
    """Attention of one sample, span by span: no pair is computed that is not attended to. ``tokens``: its places in the grouped
    order, one span after the other, noised images last, so that what a span sees is mostly one piece."""

    def __init__(self, spans: SpanTable, sample: int, like: Tensor) -> None:
        members = np.flatnonzero(spans.sample == sample)
        noised = spans.mode[members] == Mode.NOISED
        chosen = np.concatenate([members[~noised], members[noised]])
        self.tokens = np.concatenate(
            [spans.rank[s : s + n] for s, n in zip(spans.start[chosen], spans.length[chosen], strict=True)]
        )
        self.index = to_device(self.tokens, like.device)
        fields, ends = span_fields(spans).at(chosen), np.cumsum(spans.length[chosen])
        sees, starts = visible(fields.at((slice(None), None)), fields.at(None)), ends - spans.length[chosen]
        self.calls = [
            SpanCall.of(int(starts[i]), int(ends[i]), joined(starts[sees[i]], ends[sees[i]]), mode in SEQUENTIAL, like)
            for i, mode in enumerate(spans.mode[chosen])
        ]

    def __call__(self, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        q, k, v = (x.index_select(0, self.index) for x in (q_TNH, k_TKH, v_TKH))
        return torch.cat([call(q, k, v) for call in self.calls])


def similar_lengths(lengths: Ints, slack: float = 0.75) -> list[Ints]:
    """Split the samples that have tokens into groups whose shortest member has at least ``slack`` of the longest: few
    calls, little padding."""
    groups: list[list[int]] = []
    longest = 0
    for sample in np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)].tolist():
        if not groups or lengths[sample] < slack * longest:
            groups.append([])
            longest = lengths[sample]
        groups[-1].append(sample)
    return [np.sort(np.array(group)) for group in groups]


@backends.register("sdpa")
class SdpaAttention:
    """PyTorch's scaled dot-product attention: samples of at least ``long`` tokens span by span, shorter ones in padded rows
    with one dense mask each. Takes packs of any length as they are."""

    def __init__(self, spans: SpanTable, like: Tensor, multiple: int = 1, long: int = LONG) -> None:
        self.groups: list[tuple[Tensor, Tensor | None]] = []
        self.samples: list[SampleBySpan] = []
        tokens = []
        for samples in similar_lengths(spans.sample_lengths):
            if spans.sample_lengths[samples].max() >= long and not seen_whole(spans, samples):
                self.samples += [SampleBySpan(spans, int(sample), like) for sample in samples]
                continue
            rows = Rows(spans, samples)
            self.groups.append((to_device(rows.index_BL, like.device), block_mask(spans, samples, like)))
            tokens.append(np.where(rows.valid_BL, rows.index_BL, -1).ravel())
        flat = np.concatenate([*tokens, *(each.tokens for each in self.samples)])
        slots = np.flatnonzero(flat >= 0)
        self.slot_T = to_device(slots[np.argsort(flat[slots])], like.device)
        self.in_place = len(tokens) == 1 and not self.samples and np.array_equal(flat, np.arange(len(flat)))

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        if self.in_place:
            shape = self.groups[0][0].shape
            q, k, v = (x.reshape(*shape, *x.shape[1:]) for x in (q_TNH, k_TKH, v_TKH))
            return padded_sdpa(q, k, v, self.groups[0][1]).flatten(0, 1)
        outputs = []
        for index, mask in self.groups:
            q, k, v = (_gathered(x, index) for x in (q_TNH, k_TKH, v_TKH))
            outputs.append(padded_sdpa(q, k, v, mask).flatten(0, 1))
        outputs += [sample(q_TNH, k_TKH, v_TKH) for sample in self.samples]
        return torch.cat(outputs)[self.slot_T]


def _gathered(x_TNH: Tensor, index_BL: Tensor) -> Tensor:
    """``x_TNH[index_BL]``, whose backward pass on CUDA would add the rows of repeated tokens one after the other."""
    return x_TNH.index_select(0, index_BL.flatten()).unflatten(0, index_BL.shape)


@functools.cache
def compiled_flex(backend: Any = "inductor") -> Callable[..., Any]:
    """FlexAttention's kernel, compiled for every length by itself."""
    from torch.nn.attention.flex_attention import flex_attention

    # beyond its limit of variants (dtypes, head sizes, lengths, gradients or none) the compiler gives up in silence, and what
    # runs then holds the scores of all pairs; so there is room for all, and an error rather than that
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    # left to itself the compiler answers the second length with a kernel for any, which takes 1.6 times as long
    return torch.compile(flex_attention, fullgraph=True, dynamic=False, backend=backend)


@backends.register("flex")
class FlexAttention:
    """FlexAttention on the tiles of the span table, in the grouped order.

    ``multiple``: q, k and v are padded to the next multiple of it, and of ``tile``, so that packs of similar lengths share a
    kernel. Padding lies in tiles that are skipped, or is masked; it attends to nothing that is returned. ``tile``: tokens per
    tile side. ``kernel``: PyTorch's, compiled on GPU only.
    """

    def __init__(
        self,
        spans: SpanTable,
        like: Tensor,
        multiple: int = 1,
        tile: int = 128,
        kernel: Callable[..., Any] | None = None,
    ) -> None:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        tiles = math.ceil(math.ceil(spans.num_tokens / multiple) * multiple / tile)
        self.padding = tiles * tile - spans.num_tokens
        self.kernel = kernel or (compiled_flex() if like.is_cuda else flex_attention)
        self.forward_only = self.kernel is flex_attention
        pairs = np.zeros((tiles, tiles), dtype=np.int64)
        counted = tile_pairs(spans, tile)
        pairs[: len(counted), : len(counted)] = counted
        full = pairs == tile * tile
        # half the bytes for the tiles in which the kernel has to evaluate the rule; padding belongs to sample -1
        fields = MaskFields(
            *(c if c.dtype == np.bool_ else c.astype(np.int32) for c in token_fields(spans, spans.order))
        )
        padded = MaskFields(*(np.pad(column, (0, self.padding)) for column in fields))
        padded.sample[spans.num_tokens :] = -1
        sample, index, span, open_, blocked, bits = mask_tensors(padded, like.device)

        def mask_mod(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            query = MaskFields(sample[q], index[q], span[q], open_[q], blocked[q], bits[q])
            key = MaskFields(sample[k], index[k], span[k], open_[k], blocked[k], bits[k])
            allowed: Tensor = visible(query, key)
            return allowed

        self.block_mask = BlockMask.from_kv_blocks(
            *_tile_lists((pairs > 0) & ~full, like.device),
            *_tile_lists(full, like.device),
            BLOCK_SIZE=tile,
            mask_mod=mask_mod,
            seq_lengths=(tiles * tile, tiles * tile),
        )

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        if self.forward_only and torch.is_grad_enabled() and q_TNH.requires_grad:
            raise UserError("the attention back-end 'flex' has no backward pass on CPU; train there with 'sdpa'")
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, self.padding)).transpose(0, 1)[None] for x in (q_TNH, k_TKH, v_TKH))
        grouped = q.shape[1] != k.shape[1]
        out = self.kernel(q, k, v, block_mask=self.block_mask, enable_gqa=grouped)
        return out[0].transpose(0, 1)[: len(q_TNH)]


def _tile_lists(selected: np.ndarray[Any, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """BlockMask's form of a [T, T] choice of tiles: how many per query tile, and which, the chosen ones first."""
    counts = to_device(selected.sum(1).astype(np.int32), device)
    which = to_device(np.argsort(~selected, axis=1, kind="stable").astype(np.int32), device)
    return counts[None, None], which[None, None]


def flash_kernel(like: Tensor) -> Callable[..., Tensor]:
    """``flash_attn_varlen_func``, imported only here. Raises ``ValueError`` where it cannot run."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise UserError(
            "the attention back-end 'flash' needs flash-attn; install it (pip install flash-attn --no-build-isolation) "
            "or choose 'flex' for training on GPU, 'sdpa' elsewhere"
        ) from error
    if not like.is_cuda or like.dtype not in (torch.float16, torch.bfloat16):
        raise UserError(
            f"the attention back-end 'flash' runs on CUDA in float16 or bfloat16, not on {like.device} in {like.dtype}; "
            "choose 'sdpa'"
        )
    kernel: Callable[..., Tensor] = flash_attn_varlen_func
    return kernel


def one_mode(spans: SpanTable) -> Mode:
    """CAUSAL or FULL, where every sample is one span of that kind: the masks that flash-attn can express.

    Raises ``ValueError`` otherwise, or where roles are blocked; a noised image alone in its sample counts as full.
    """
    causal = spans.is_sequential
    if len(spans) != spans.num_samples or (causal.any() and not causal.all()) or spans.blocked.any():
        raise UserError(
            "the attention back-end 'flash' handles one span per sample, all causal or all images, nothing blocked; choose "
            "'flex' or 'sdpa' for packed mixed sequences"
        )
    return Mode.CAUSAL if causal.any() else Mode.FULL


@backends.register("flash")
class FlashAttention:
    """flash-attn: every span is a segment whose keys are those of the spans that it sees, in order, and its own at the end, where
    the kernel aligns causal masks. One call for causal spans, one for images; keys are gathered once per span that sees them.
    Takes packs of any length as they are."""

    def __init__(
        self, spans: SpanTable, like: Tensor, multiple: int = 1, kernel: Callable[..., Tensor] | None = None
    ) -> None:
        self.kernel = flash_kernel(like) if kernel is None else kernel
        fields = span_fields(spans)
        sees_PP = visible(fields.at((slice(None), None)), fields.at(None))
        place_S = np.argsort(spans.order)
        tokens = [place_S[start : start + length] for start, length in zip(spans.start, spans.length, strict=True)]
        self.calls, asked = [], []
        for causal in (True, False):
            chosen = np.flatnonzero((spans.is_sequential == causal) & (spans.length > 0))
            if len(chosen):
                queries = [tokens[span] for span in chosen]
                keys = [np.concatenate([tokens[seen] for seen in np.flatnonzero(sees_PP[span])]) for span in chosen]
                self.calls.append((causal, _segments(queries, like.device), _segments(keys, like.device)))
                asked += queries
        self.rank_T = to_device(np.argsort(np.concatenate(asked)), like.device)

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        outputs = []
        for causal, (queries, edges_q, longest_q), (keys, edges_k, longest_k) in self.calls:
            q, k, v = q_TNH.index_select(0, queries), k_TKH.index_select(0, keys), v_TKH.index_select(0, keys)
            outputs.append(self.kernel(q, k, v, edges_q, edges_k, longest_q, longest_k, causal=causal))
        return torch.cat(outputs).index_select(0, self.rank_T)


def _segments(tokens: list[Ints], device: torch.device) -> tuple[Tensor, Tensor, int]:
    """Tokens of segments one after the other, where each begins and ends, and the length of the longest."""
    lengths = np.array([len(segment) for segment in tokens])
    edges = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return to_device(np.concatenate(tokens), device), to_device(edges, device), int(lengths.max())
