"""Which token may attend to which: one rule, evaluated per token pair, per span pair or per tile.

Query q attends to key k iff both are in one sample, and k is not later than q or both are in the same non-causal span, and
k's span does not hide from q's span (noised images hide from every other span; a span may block whole roles). Nothing is
hidden inside a span, so every token sees itself and no softmax row is empty.

Tile states follow from span pairs: with W [T, P] the tokens that tile t has in span p, the allowed pairs of all tiles are
``W V W'`` (V the span visibility) plus the triangles of the causal spans. No token pair is evaluated: 24,576 tokens take
milliseconds (docs/benchmarks.md).

Shape suffixes: P spans, R runs (pieces of spans that are contiguous in the chosen order), T tiles, Q / K queries / keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ipt.sequence.spans import Bools, Ints, Mode, SpanTable

NOISED_BIT = 1 << 15


class MaskFields(NamedTuple):
    """What the rule needs to know of queries or keys; arrays of one shape, numpy or torch.

    ``index``: packed position; ``open``: attends to all of its span; ``blocked`` / ``bits``: what a query must not see and
    what a key is, as bit masks over roles and `NOISED_BIT`. Keys outside the sequence (a KV cache) have index and span -1.
    """

    sample: Any
    index: Any
    span: Any
    open: Any
    blocked: Any
    bits: Any

    def at(self, item: Any) -> MaskFields:
        """The same fields, indexed."""
        return MaskFields(*(column[item] for column in self))


def visible(query: MaskFields, key: MaskFields) -> Any:
    """The rule, elementwise (broadcasting): may ``query`` attend to ``key``?"""
    same_span = query.span == key.span
    in_reach = (key.index <= query.index) | (same_span & query.open)
    return (query.sample == key.sample) & in_reach & (same_span | ((query.blocked & key.bits) == 0))


def span_fields(table: SpanTable) -> MaskFields:
    """`MaskFields` of the P spans; a span stands where its first token does."""
    noised = np.where(table.mode == Mode.NOISED, NOISED_BIT, 0)
    return MaskFields(
        sample=table.sample,
        index=table.start,
        span=np.arange(len(table)),
        open=~table.is_sequential,
        blocked=table.blocked | NOISED_BIT,
        bits=(1 << table.role) | noised,
    )


def token_fields(table: SpanTable, order: Ints | None = None) -> MaskFields:
    """`MaskFields` of the S tokens, in packed order or in ``order`` (packed positions)."""
    order = np.arange(table.num_tokens) if order is None else order
    spans = span_fields(table).at(table.span_of[order])
    return MaskFields(spans.sample, order, spans.span, spans.open, spans.blocked, spans.bits)


def dense_mask(table: SpanTable, order: Ints | None = None) -> Bools:
    """[S, S] row = query, column = key, in packed order or in ``order``. Quadratic: for tests and short sequences."""
    fields = token_fields(table, order)
    mask: Bools = visible(fields.at((slice(None), None)), fields.at(None))
    return mask


@dataclass(frozen=True)
class Runs:
    """Pieces of spans that are contiguous in an order of the tokens: columns [R]."""

    span: Ints
    length: Ints

    @property
    def end(self) -> Ints:
        return np.cumsum(self.length)


def runs(table: SpanTable, grouped: bool) -> Runs:
    """The spans themselves, or, for the grouped order, the parts of them that each expert holds."""
    if not grouped:
        return Runs(np.arange(len(table)), table.length)
    span_of, generation = table.span_of[table.order], np.sort(table.is_generation)
    fresh = np.flatnonzero(np.diff(span_of, prepend=-1) | np.diff(generation, prepend=False))
    return Runs(span_of[fresh], np.diff(fresh, append=table.num_tokens))


def tile_pairs(table: SpanTable, tile: int, grouped: bool = True) -> NDArray[np.int64]:
    """[T, T] the number of allowed (query, key) pairs in each tile of ``tile`` x ``tile`` tokens; exact.

    A tile is empty at 0 and full at ``tile`` squared; an incomplete last tile is never full.
    """
    pieces = runs(table, grouped)
    edges = np.arange(0, table.num_tokens, tile)[:, None]
    overlap_TR = np.clip(np.minimum(edges + tile, pieces.end) - np.maximum(edges, pieces.end - pieces.length), 0, None)
    overlap_TR = overlap_TR.astype(np.float64)
    fields = span_fields(table)
    causal_P = ~fields.open
    sees_PP = visible(fields.at((slice(None), None)), fields.at(None))
    sees_PP[causal_P, causal_P] = False
    sees_RR = sees_PP[pieces.span[:, None], pieces.span[None]]
    pairs_TT = overlap_TR @ sees_RR.astype(np.float64) @ overlap_TR.T
    causal_TR = overlap_TR[:, causal_P[pieces.span]]
    pairs_TT += np.tril(causal_TR @ causal_TR.T, -1)
    pairs_TT += np.diag((causal_TR * (causal_TR + 1) / 2).sum(1))
    return pairs_TT.astype(np.int64)


def attended_pairs(table: SpanTable) -> int:
    """The number of allowed (query, key) pairs of the whole sequence, for FLOP counts."""
    return int(tile_pairs(table, max(table.num_tokens, 1), grouped=False).sum())
