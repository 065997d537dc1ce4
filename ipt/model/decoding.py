"""Decoding: one more token for each of some rows of a cache, where they stand.

Rows that are neighbours in the storage are attended to in one call, in place: nothing of the cache is copied, whichever rows go
on. With graphs all shapes are fixed, so that steps can be replayed (`ipt.model.graphs`): every row of the storage up to a power
of two takes part, rows that do not go on write into a slot that nobody sees, and what is seen is rounded up to `STEP` tokens.

Shape suffixes: A layers, B rows, R rows of storage, M slots per row, T = B tokens, D hidden size, V vocabulary, N / K query / key
heads, H numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ipt.model.attention import folded_sdpa, to_device
from ipt.model.cache import STEP, Context, KVCache
from ipt.model.graphs import Captured
from ipt.model.unified import UnifiedModel
from ipt.sequence.spans import Bools, Ints, Role


class Run(NamedTuple):
    """The tokens from ``first`` to ``last`` are of neighbouring rows of the storage, from ``row`` on; they see at most ``seen``
    slots, all of them unless ``ragged``."""

    first: int
    last: int
    row: int
    seen: int
    ragged: bool


class StepAttention:
    """Attention of one token per row; ``target_T``: its slot in the flattened storage; ``mask_B11M``: for ragged runs."""

    def __init__(self, cache: KVCache, runs: Sequence[Run], target_T: Tensor, mask_B11M: Tensor | None) -> None:
        self.cache, self.runs, self.target_T, self.mask_B11M = cache, runs, target_T, mask_B11M

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        keys, values = self.cache.keys_ARMKH[layer], self.cache.values_ARMKH[layer]
        for storage, new in ((keys, k_TKH), (values, v_TKH)):
            storage.flatten(0, 1).index_copy_(0, self.target_T, new)
        outputs = []
        for run in self.runs:
            rows, mask = slice(run.row, run.row + run.last - run.first), None
            if run.ragged and self.mask_B11M is not None:
                mask = self.mask_B11M[run.first : run.last, ..., : run.seen]
            q = q_TNH[run.first : run.last, None]
            outputs.append(folded_sdpa(q, keys[rows, : run.seen], values[rows, : run.seen], mask)[:, 0])
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class Tokens(NamedTuple):
    """What a step needs to know of its tokens [T]: id, rope id, and the row and slot that each is written to."""

    ids: Ints
    positions: Ints
    rows: Ints
    columns: Ints


class TokenSteps:
    """Appends tokens to rows of a cache. ``graphs``: steps are captured, one for each number of rows and of slots seen."""

    def __init__(self, model: UnifiedModel, cache: KVCache, graphs: bool = False) -> None:
        self.model, self.cache, self.graphs = model, cache, graphs
        self._captured: dict[tuple[int, int, int], Captured] = {}

    @torch.no_grad()
    def __call__(
        self, context: Context, ids: Sequence[int], role: Role, blocked: frozenset[Role]
    ) -> tuple[Context, Tensor, Tensor]:
        """The context with one more token per row, of a text of ``role`` that does not see what is ``blocked``; last hidden
        states [B, D] and float32 logits [B, V] there."""
        grown = self.cache.claim(context, [1] * len(context), [position + 1 for position in context.positions])
        tokens = Tokens(*map(np.array, (ids, context.positions, grown.rows, context.lengths)))
        self.cache.bits_RM[tokens.rows, tokens.columns] = 1 << role
        hidden, logits = (self._replayed if self.graphs else self._computed)(tokens, blocked)
        return grown, hidden, logits

    def _computed(self, tokens: Tokens, blocked: frozenset[Role]) -> tuple[Tensor, ...]:
        order = np.argsort(tokens.rows)
        tokens = Tokens(*(column[order] for column in tokens))
        starts = np.flatnonzero(np.diff(tokens.rows, prepend=-2) != 1)
        runs = []
        for first, last in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            own = tokens.columns[first:last]
            ragged = bool(blocked) or int(own.min()) < int(own.max())
            runs.append(Run(first, last, int(tokens.rows[first]), int(own.max()) + 1, ragged))
        hidden = self._hidden(tokens, int(tokens.columns.max()) + 1, blocked) if blocked else None
        found = self._step(runs, *self._inputs(tokens), hidden)
        if len(order) == 1 or bool((np.diff(order) == 1).all()):
            return found
        back = to_device(np.argsort(order), found[0].device)
        return tuple(each.index_select(0, back) for each in found)

    def _replayed(self, tokens: Tokens, blocked: frozenset[Role]) -> tuple[Tensor, ...]:
        used = np.array(self.cache.used)
        width = min(1 << int(tokens.rows.max()).bit_length(), len(used))
        seen = min(-(-(int(tokens.columns.max()) + 1) // STEP) * STEP, self.cache.capacity)
        every = Tokens(np.zeros(width, np.int64), np.zeros(width, np.int64), np.arange(width), used[:width])
        for column, own in zip(every, tokens, strict=True):
            column[tokens.rows] = own
        inputs = *self._inputs(every), self._hidden(every, seen, blocked)
        key = width, seen, self.cache.keys_ARMKH.data_ptr()
        if key not in self._captured:
            self._captured = {k: step for k, step in self._captured.items() if k[2] == key[2]}  # the storage has moved
            runs = [Run(0, width, 0, seen, True)]
            self._captured[key] = Captured(lambda *given: self._step(runs, *given), *inputs)
        rows = to_device(tokens.rows, self.cache.keys_ARMKH.device)
        return tuple(each.index_select(0, rows) for each in self._captured[key](*inputs))

    def _inputs(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ids, rope ids, slots in the flattened storage, and in their rows."""
        numbers = tokens.ids, tokens.positions, tokens.rows * self.cache.capacity + tokens.columns, tokens.columns
        ids, positions, target, columns = to_device(np.stack(numbers), self.cache.keys_ARMKH.device)
        return ids, positions, target, columns

    def _hidden(self, tokens: Tokens, seen: int, blocked: frozenset[Role]) -> Tensor:
        """[B, seen] what of the cache is hidden from each token by its role."""
        bits = sum(1 << role for role in blocked)
        hidden: Bools = (self.cache.bits_RM[tokens.rows, :seen] & bits) != 0
        return to_device(hidden, self.cache.keys_ARMKH.device)

    def _step(
        self,
        runs: Sequence[Run],
        ids_T: Tensor,
        positions_T: Tensor,
        target_T: Tensor,
        column_T: Tensor,
        hidden_BM: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Only tensors change from call to call."""
        model, mask = self.model, None
        if any(run.ragged for run in runs):
            slots = torch.arange(max(run.seen for run in runs), device=ids_T.device)
            unseen = slots > column_T[:, None]
            if hidden_BM is not None:
                unseen = unseen | (hidden_BM & (slots != column_T[:, None]))
            empty = self.cache.keys_ARMKH.new_zeros(unseen.shape)
            mask = empty.masked_fill(unseen, float("-inf"))[:, None, None]
        x_TD = model.embed_ids(ids_T)
        rope = model.decoder.rope(positions_T, positions_T.new_zeros((len(ids_T), 2), dtype=torch.float32))
        hidden_TD = model.decoder(x_TD, x_TD[:0], rope, StepAttention(self.cache, runs, target_T, mask))
        return hidden_TD, model.logits(hidden_TD).float()
