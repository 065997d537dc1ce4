"""KV cache: contexts that grow by appending segments, and attention of new tokens against them.

A `KVCache` owns the storage, which grows as needed; a `Context` is a light handle that says how much of which rows is seen.
Storage is append-only, so an older context is a snapshot that shares memory with the newer one, and reading through both is
fine (guidance reads the context before the text through it). A row is in use as long as a context holds its `RowLease`.
Appending goes in place where a context is the only one to go on from where it stands, and to a copy of its row where the row
has grown since, or stands there twice.

Shape suffixes: A layers, R rows of storage, M slots per row, B rows of a context, L padded new tokens per row, T new tokens in
the grouped order, N / K query / key heads, H numbers per head.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ipt.model.attention import (
    Rows,
    SpanCall,
    additive_mask,
    flash_kernel,
    mask_tensors,
    one_mode,
    padded_sdpa,
    to_device,
)
from ipt.model.config import DecoderConfig
from ipt.model.unified import ModelOutput, UnifiedModel
from ipt.sequence.batch import PackedBatch
from ipt.sequence.spans import SEQUENTIAL, Ints, Mode, SpanTable
from ipt.sequence.visibility import MaskFields, token_fields

#: The storage grows by so many tokens per row, and by half of what there is.
STEP = 128
#: Rows of which one gets so many new tokens are attended to one by one and span by span; shorter ones in one call, padded.
LONG = 128


class RowLease:
    """A row of the storage in use, for as long as this object lives."""

    __slots__ = ("_free", "row")

    def __init__(self, row: int, free: list[int]) -> None:
        self.row, self._free = row, free

    def __del__(self) -> None:
        heapq.heappush(self._free, self.row)


@dataclass(frozen=True)
class Context:
    """Of each of B rows: the lease of its row of the storage, how many slots of that are seen, the rope id of what comes next."""

    leases: tuple[RowLease, ...]
    lengths: tuple[int, ...]
    positions: tuple[int, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(lease.row for lease in self.leases)

    def __len__(self) -> int:
        return len(self.leases)

    def __getitem__(self, which: Sequence[int]) -> Context:
        """The chosen rows; a row may be chosen several times."""
        return Context(
            tuple(self.leases[i] for i in which),
            tuple(self.lengths[i] for i in which),
            tuple(self.positions[i] for i in which),
        )

    def __add__(self, other: Context) -> Context:
        """The rows of both, for one batched forward pass."""
        return Context(self.leases + other.leases, self.lengths + other.lengths, self.positions + other.positions)

    def updated(self, which: Sequence[int], part: Context) -> Context:
        """The context with its rows ``which`` replaced by those of ``part``: where only some rows have gone on."""
        places = dict(zip(which, range(len(part)), strict=True))
        return (self + part)[[len(self) + places[i] if i in places else i for i in range(len(self))]]


class KVCache:
    """Keys (after QK-norm and RoPE) and values of sequences of tokens. ``used``: slots in use per row."""

    def __init__(self, config: DecoderConfig, like: Tensor) -> None:
        shape = (config.layers, 0, 0, config.kv_heads, config.head_dim)
        self.keys_ARMKH = like.new_zeros(shape)
        self.values_ARMKH = like.new_zeros(shape)
        self.bits_RM = np.zeros((0, 0), dtype=np.int64)
        self.used: list[int] = []
        self._free: list[int] = []

    @property
    def capacity(self) -> int:
        """Slots per row."""
        return self.bits_RM.shape[1]

    def empty(self, count: int) -> Context:
        """``count`` empty rows."""
        if (missing := count - len(self._free)) > 0:
            old = len(self.used)
            self._grow(old + missing, self.capacity)
            for row in range(old, old + missing):
                heapq.heappush(self._free, row)
        leases = tuple(RowLease(heapq.heappop(self._free), self._free) for _ in range(count))
        for lease in leases:
            self.used[lease.row] = 0
        return Context(leases, (0,) * count, (0,) * count)

    def _grow(self, rows: int, capacity: int) -> None:
        """Contexts stay valid: they name rows, not memory."""
        (old_rows, old_capacity), filled = self.bits_RM.shape, max(self.used, default=0)
        for name in ("keys_ARMKH", "values_ARMKH"):
            old = getattr(self, name)
            new = old.new_zeros((old.shape[0], rows, capacity, *old.shape[3:]))
            new[:, :old_rows, :filled] = old[:, :, :filled]
            setattr(self, name, new)
        self.bits_RM = np.pad(self.bits_RM, ((0, rows - old_rows), (0, capacity - old_capacity)))
        self.used += [0] * (rows - old_rows)

    def claim(self, context: Context, new: Sequence[int], positions: Sequence[int]) -> Context:
        """Claim ``new[i]`` slots behind row i; the context that includes them, with the rope ids ``positions`` next. Every row
        keeps a free slot, which rows that do not go on write into (`ipt.model.decoding`)."""
        lengths = tuple(old + int(more) for old, more in zip(context.lengths, new, strict=True))
        if (longest := max(lengths, default=0)) >= self.capacity:
            self._grow(len(self.used), max(longest + STEP, self.capacity * 3 // 2))
        leases = self._writable(context)
        for lease, length in zip(leases, lengths, strict=True):
            self.used[lease.row] = length
        return Context(leases, lengths, tuple(int(position) for position in positions))

    def _writable(self, context: Context) -> tuple[RowLease, ...]:
        """Rows with the same content that end where the context does, each once."""
        rows, leases = context.rows, list(context.leases)
        first = {row: i for i, row in reversed(list(enumerate(rows)))}
        copied = [i for i, row in enumerate(rows) if first[row] != i or self.used[row] != context.lengths[i]]
        for i, lease in zip(copied, self.empty(len(copied)).leases, strict=True):
            for storage in (self.keys_ARMKH, self.values_ARMKH):
                storage[:, lease.row, : context.lengths[i]] = storage[:, rows[i], : context.lengths[i]]
            self.bits_RM[lease.row, : context.lengths[i]] = self.bits_RM[rows[i], : context.lengths[i]]
            leases[i] = lease
        return tuple(leases)


class CachedAttention:
    """Attention of new tokens to a context and to each other, with the rule of `ipt.sequence.visibility`.

    ``append=True`` writes the new keys and values behind the context (``.context`` includes them); ``append=False`` leaves the
    cache as it is (options that are read), and then rows may repeat and be snapshots. ``kernel``: flash-attn's, where the
    back-end is ``flash``.

    Long new rows (`LONG`) that are appended are attended to span by span, with no mask but that of a text, since nothing in a
    cache is hidden but by roles.
    """

    def __init__(
        self,
        cache: KVCache,
        context: Context,
        spans: SpanTable,
        like: Tensor,
        append: bool,
        kernel: Callable[..., Tensor] | None = None,
    ) -> None:
        if spans.num_samples != len(context):
            raise ValueError(f"{spans.num_samples} samples cannot extend a context of {len(context)} rows")
        if append and (spans.mode == Mode.NOISED).any():
            raise ValueError("noised images are not cached; use append=False")
        self.cache, self.append, self.kernel = cache, append, kernel
        device, new, lengths = like.device, spans.sample_lengths, np.array(context.lengths)
        self.context = cache.claim(context, new.tolist(), spans.next_positions.tolist()) if append else context
        self.by_row = append and kernel is None and bool((new >= LONG).any()) and _sees_all_before(spans)
        rows, fields = Rows(spans), token_fields(spans, spans.order)
        storage_row = np.array(self.context.rows)
        contiguous = bool((np.diff(storage_row) == 1).all())
        self.rows = (
            slice(storage_row[0], storage_row[-1] + 1) if contiguous else torch.from_numpy(storage_row).to(device)
        )
        if append:
            self.seen = int((lengths + new).max())
            column_T = (lengths - (np.cumsum(new) - new))[fields.sample] + spans.order
            cache.bits_RM[storage_row[fields.sample], column_T] = fields.bits
            self.target_T = torch.from_numpy(storage_row[fields.sample] * cache.capacity + column_T).to(device)
        else:
            self.seen = int(lengths.max())
            column_T = self.seen + rows.slot_T % rows.index_BL.shape[1]  # where `_with_new` puts them
        if self.by_row:
            self._lay_out(spans, like)
            return
        self.index_BL, self.slot_T = (torch.from_numpy(x).to(device) for x in (rows.index_BL, rows.slot_T))
        key = _key_fields(cache.bits_RM[storage_row, : self.seen], lengths, fields, column_T)
        if kernel is None:
            query, key = (mask_tensors(x, device) for x in (fields.at(rows.index_BL), key))
            self.mask = additive_mask(query, key, like.dtype)
        else:
            self.causal = one_mode(spans) is Mode.CAUSAL
            self.token_S = torch.from_numpy(rows.tokens).to(device)
            self.rank_T = torch.argsort(self.token_S)
            self.is_key_BM = torch.from_numpy(key.sample >= 0).to(device)
            counts = (new, lengths + new)
            self.edges = [torch.from_numpy(np.append(0, np.cumsum(n)).astype(np.int32)).to(device) for n in counts]
            self.longest = [int(n.max()) for n in counts]

    def _lay_out(self, spans: SpanTable, like: Tensor) -> None:
        """The calls of each row."""
        self.packed_S, self.order_T = (to_device(index, like.device) for index in (spans.rank, spans.order))
        ends, lengths = np.cumsum(spans.sample_lengths), self.context.lengths
        self.new = [(int(end - n), int(end)) for n, end in zip(spans.sample_lengths, ends, strict=True)]
        self.calls: list[list[SpanCall]] = [[] for _ in range(len(ends))]
        for sample, start, length, mode in zip(spans.sample, spans.start, spans.length, spans.mode, strict=True):
            begin, end = self.new[sample]
            first = int(start) - begin
            ranges = ((0, lengths[sample] - (end - begin) + first + int(length)),)
            self.calls[sample].append(SpanCall.of(first, first + int(length), ranges, mode in SEQUENTIAL, like))

    def _row_by_row(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        q_SNH, k_SKH, v_SKH = (x.index_select(0, self.packed_S) for x in (q_TNH, k_TKH, v_TKH))
        outputs = []
        stored = self.cache.keys_ARMKH[layer], self.cache.values_ARMKH[layer]
        for calls, row, seen, (start, end) in zip(
            self.calls, self.context.rows, self.context.lengths, self.new, strict=True
        ):
            for storage, fresh in zip(stored, (k_SKH, v_SKH), strict=True):
                storage[row, seen - (end - start) : seen] = fresh[start:end]
            outputs += [call(q_SNH[start:end], stored[0][row], stored[1][row]) for call in calls]
        return torch.cat(outputs).index_select(0, self.order_T)

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        if self.by_row:
            return self._row_by_row(layer, q_TNH, k_TKH, v_TKH)
        k_BMKH = self._with_new(self.cache.keys_ARMKH[layer], k_TKH)
        v_BMKH = self._with_new(self.cache.values_ARMKH[layer], v_TKH)
        if self.kernel is None:
            return padded_sdpa(q_TNH[self.index_BL], k_BMKH, v_BMKH, self.mask).flatten(0, 1)[self.slot_T]
        q, k, v = q_TNH[self.token_S], k_BMKH[self.is_key_BM], v_BMKH[self.is_key_BM]
        return self.kernel(q, k, v, *self.edges, *self.longest, causal=self.causal)[self.rank_T]

    def _with_new(self, storage_RMKH: Tensor, new_TKH: Tensor) -> Tensor:
        """[B, M, K, H] keys or values of the context and the new tokens."""
        if self.append:
            storage_RMKH.flatten(0, 1)[self.target_T] = new_TKH
            return storage_RMKH[self.rows, : self.seen]
        return torch.cat([storage_RMKH[self.rows, : self.seen], new_TKH[self.index_BL]], dim=1)


def _sees_all_before(spans: SpanTable) -> bool:
    """Whether every new span sees everything that stands before it in its row: nothing is blocked, and what hides is last."""
    last = np.append(np.diff(spans.sample) > 0, True)
    return not spans.blocked.any() and bool(((spans.mode != Mode.NOISED) | last).all())


def _key_fields(bits_BM: Ints, lengths_B: Ints, fields_T: MaskFields, column_T: Ints) -> MaskFields:
    """`MaskFields` [B, M] of the keys: slots of the context, then the new tokens in their columns; sample -1 for none."""
    width = max(bits_BM.shape[1], int(column_T.max()) + 1)
    index = np.full((len(lengths_B), width), -1)
    sample, span, bits = index.copy(), index.copy(), np.zeros_like(index)
    bits[:, : bits_BM.shape[1]] = bits_BM
    cached = np.arange(width) < lengths_B[:, None]
    sample[cached] = np.nonzero(cached)[0]
    at = fields_T.sample, column_T
    sample[at], index[at], span[at], bits[at] = fields_T.sample, fields_T.index, fields_T.span, fields_T.bits
    return MaskFields(sample, index, span, span, bits, bits)


@torch.no_grad()
def extend(
    model: UnifiedModel, batch: PackedBatch, cache: KVCache, context: Context, append: bool = True, logits: bool = True
) -> tuple[ModelOutput, Context]:
    """Run sample i of ``batch`` after row i of ``context``: prefill of segments, decoding steps and image steps alike.

    The samples must be laid out at ``context.positions``. Returns the output and the context including them (the same context
    if not ``append``).
    """
    like = cache.keys_ARMKH
    kernel = flash_kernel(like) if model.attention == "flash" else None
    attention = CachedAttention(cache, context, batch.spans, like, append, kernel)
    return model(batch, attention=attention, logits=logits), attention.context
