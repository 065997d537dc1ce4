"""KV cache: contexts that grow by appending segments, and attention of new tokens against them.

A `KVCache` owns pre-allocated storage; a `Context` is a light handle that says how much of which rows is seen. Storage is
append-only, so an older context is a snapshot that shares memory with the newer one, and reading through both is fine
(guidance reads the context before the text through it). Appending to a snapshot whose rows have grown since would overwrite
them: that is an error, and `KVCache.fork` copies the snapshot into free rows first.

Shape suffixes: A layers, R rows of storage, M slots per row, B rows of a context, L padded new tokens per row, T new tokens in
the grouped order, N / K query / key heads, H numbers per head.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ipt.model.attention import Rows, additive_mask, flash_kernel, one_mode, padded_sdpa, sight_tensors
from ipt.model.config import DecoderConfig
from ipt.model.unified import ModelOutput, UnifiedModel
from ipt.sequence.batch import PackedBatch
from ipt.sequence.spans import Ints, Mode, SpanTable
from ipt.sequence.visibility import Sight, token_sight


@dataclass(frozen=True)
class Context:
    """Of each of B rows: which row of the storage, how many slots of it are seen, the rope id of what comes next, and the stamp
    by which the cache knows whether those slots still hold what this context saw."""

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    positions: tuple[int, ...]
    stamps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Sequence[int]) -> Context:
        """The chosen rows; a row may be chosen several times for reading."""
        return Context(*(tuple(column[i] for i in which) for column in self.columns))

    def __add__(self, other: Context) -> Context:
        """The rows of both, for one batched forward pass."""
        return Context(*(mine + theirs for mine, theirs in zip(self.columns, other.columns, strict=True)))

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """The fields in their order."""
        return self.rows, self.lengths, self.positions, self.stamps

    def updated(self, which: Sequence[int], part: Context) -> Context:
        """The context with its rows ``which`` replaced by those of ``part``: where only some rows have gone on."""
        places = dict(zip(which, range(len(part)), strict=True))
        return (self + part)[[len(self) + places[i] if i in places else i for i in range(len(self))]]


class KVCache:
    """Keys (after QK-norm and RoPE) and values of ``rows`` sequences of at most ``capacity`` tokens.

    ``used``: slots in use per row. ``history``: for each row, the lengths at which contexts stand in it, with their stamps,
    shortest first.
    """

    def __init__(self, config: DecoderConfig, rows: int, capacity: int, like: Tensor) -> None:
        shape = (config.layers, rows, capacity, config.kv_heads, config.head_dim)
        self.keys_ARMKH = like.new_zeros(shape)
        self.values_ARMKH = like.new_zeros(shape)
        self.bits_RM = np.zeros((rows, capacity), dtype=np.int64)
        self.capacity = capacity
        self._stamps = itertools.count()
        self.used = [0] * rows
        self.history: list[dict[int, int]] = [{0: next(self._stamps)} for _ in range(rows)]

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for at least so many rows and tokens. Contexts stay valid: they name rows, not memory."""
        old_rows, old_capacity = self.bits_RM.shape
        rows, capacity = max(rows, old_rows), max(capacity, old_capacity)
        if (rows, capacity) == (old_rows, old_capacity):
            return
        filled = max(self.used, default=0)
        for name in ("keys_ARMKH", "values_ARMKH"):
            old = getattr(self, name)
            new = old.new_zeros((old.shape[0], rows, capacity, *old.shape[3:]))
            new[:, :old_rows, :filled] = old[:, :, :filled]
            setattr(self, name, new)
        self.bits_RM = np.pad(self.bits_RM, ((0, rows - old_rows), (0, capacity - old_capacity)))
        self.capacity = capacity
        self.used += [0] * (rows - old_rows)
        self.history += [{0: next(self._stamps)} for _ in range(rows - old_rows)]

    def empty(self, rows: Sequence[int] | None = None) -> Context:
        """A fresh context on the given rows (all by default), whose earlier content is given up."""
        chosen = tuple(range(len(self.history))) if rows is None else tuple(rows)
        for row in chosen:
            self.used[row], self.history[row] = 0, {0: next(self._stamps)}
        zeros = (0,) * len(chosen)
        return Context(chosen, zeros, zeros, tuple(self.history[row][0] for row in chosen))

    def fork(self, context: Context, rows: Sequence[int]) -> Context:
        """Copy a context into other ``rows``, given up for it, so that both can be appended to."""
        self.check(context)
        for row, source, length in zip(rows, context.rows, context.lengths, strict=True):
            for storage in (self.keys_ARMKH, self.values_ARMKH):
                storage[:, row, :length] = storage[:, source, :length]
            self.bits_RM[row, :length] = self.bits_RM[source, :length]
            self.used[row], self.history[row] = length, {length: next(self._stamps)}
        stamps = tuple(self.history[row][length] for row, length in zip(rows, context.lengths, strict=True))
        return Context(tuple(rows), context.lengths, context.positions, stamps)

    def rewind(self, context: Context) -> Context:
        """Give up what was appended to the rows of ``context`` after it, so that it can be appended to again."""
        self.check(context)
        for row, length in zip(context.rows, context.lengths, strict=True):
            self.history[row] = {mark: stamp for mark, stamp in self.history[row].items() if mark <= length}
            self.used[row] = length
        return context

    def check(self, context: Context) -> None:
        """Raise ``ValueError`` where a row no longer holds what ``context`` saw."""
        for row, length, stamp in zip(context.rows, context.lengths, context.stamps, strict=True):
            if self.history[row].get(length) != stamp:
                raise ValueError(
                    f"row {row} no longer holds this context of {length} tokens: it was rewound or emptied since"
                )

    def claim(self, context: Context, spans: SpanTable) -> Context:
        """Claim slots for sample i of ``spans`` behind row i; the context that includes them.

        Raises ``ValueError`` for a context that has been given up or overtaken, a row chosen twice, or a full row.
        """
        self.check(context)
        if len(set(context.rows)) != len(context.rows):
            raise ValueError(f"cannot append to rows {context.rows}: a row occurs twice")
        lengths = tuple(old + int(new) for old, new in zip(context.lengths, spans.sample_lengths, strict=True))
        for row, old, new in zip(context.rows, context.lengths, lengths, strict=True):
            if self.used[row] != old:
                raise ValueError(
                    f"row {row} holds {self.used[row]} tokens, this context saw {old}: fork it, or rewind the row to it"
                )
            if new > self.capacity:
                raise ValueError(f"row {row} would hold {new} tokens, its capacity is {self.capacity}")
        stamps = tuple(next(self._stamps) for _ in lengths)
        for row, new, stamp in zip(context.rows, lengths, stamps, strict=True):
            self.used[row], self.history[row][new] = new, stamp
        return Context(context.rows, lengths, tuple(int(position) for position in spans.next_positions), stamps)


class CachedAttention:
    """Attention of new tokens to a context and to each other, with the rule of `ipt.sequence.visibility`.

    ``append=True`` writes the new keys and values behind the context (``.context`` includes them); ``append=False`` leaves the
    cache as it is (the steps of image sampling), and then rows may repeat and be snapshots. ``kernel``: flash-attn's, where the
    back-end is ``flash``.
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
        cache.check(context)
        self.context = cache.claim(context, spans) if append else context
        rows, sight = Rows(spans), token_sight(spans, spans.order)
        self.index_BL, self.slot_T = (torch.from_numpy(x).to(device) for x in (rows.index_BL, rows.slot_T))
        storage_row = np.array(context.rows)
        contiguous = bool((np.diff(storage_row) == 1).all())
        self.rows = (
            slice(context.rows[0], context.rows[-1] + 1) if contiguous else torch.from_numpy(storage_row).to(device)
        )
        if append:
            self.seen = int((lengths + new).max())
            column_T = (lengths - (np.cumsum(new) - new))[sight.sample] + spans.order
            cache.bits_RM[storage_row[sight.sample], column_T] = sight.bits
            self.target_T = torch.from_numpy(storage_row[sight.sample] * cache.capacity + column_T).to(device)
        else:
            self.seen = int(lengths.max())
            column_T = self.seen + rows.slot_T % rows.index_BL.shape[1]  # where `_with_new` puts them
        key = _key_sight(cache.bits_RM[storage_row, : self.seen], lengths, sight, column_T)
        if kernel is None:
            query, key = (sight_tensors(x, device) for x in (sight.at(rows.index_BL), key))
            self.mask = additive_mask(query, key, like.dtype)
        else:
            self.causal = one_mode(spans) is Mode.CAUSAL
            self.token_S = torch.from_numpy(rows.tokens).to(device)
            self.rank_T = torch.argsort(self.token_S)
            self.is_key_BM = torch.from_numpy(key.sample >= 0).to(device)
            counts = (new, lengths + new)
            self.edges = [torch.from_numpy(np.append(0, np.cumsum(n)).astype(np.int32)).to(device) for n in counts]
            self.longest = [int(n.max()) for n in counts]

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
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


def _key_sight(bits_BM: Ints, lengths_B: Ints, sight_T: Sight, column_T: Ints) -> Sight:
    """`Sight` [B, M] of the keys: slots of the context, then the new tokens in their columns; sample -1 where there is none."""
    width = max(bits_BM.shape[1], int(column_T.max()) + 1)
    index = np.full((len(lengths_B), width), -1)
    sample, span, bits = index.copy(), index.copy(), np.zeros_like(index)
    bits[:, : bits_BM.shape[1]] = bits_BM
    cached = np.arange(width) < lengths_B[:, None]
    sample[cached] = np.nonzero(cached)[0]
    at = sight_T.sample, column_T
    sample[at], index[at], span[at], bits[at] = sight_T.sample, sight_T.index, sight_T.span, sight_T.bits
    return Sight(sample, index, span, span, bits, bits)


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
