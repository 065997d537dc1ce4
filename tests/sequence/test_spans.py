"""Everything derived from a SpanTable against its definition, token by token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipt.sequence.spans import Expert, Loss, Mode, Role, Span, SpanTable
from ipt.sequence.visibility import attended_pairs, dense_mask, runs, tile_pairs
from tests.sequence.strategies import span_tables


def mask_by_definition(table: SpanTable) -> np.ndarray:
    """README of the golden set, section Conventions, and blocked roles; one pair at a time."""
    mask = np.zeros((table.num_tokens, table.num_tokens), dtype=bool)
    for q, i in enumerate(table.span_of):
        for k, j in enumerate(table.span_of):
            same = i == j
            reach = k <= q or (same and table.mode[i] not in (Mode.CAUSAL, Mode.SLOTS))
            hidden = table.mode[j] == Mode.NOISED or bool(table.blocked[i] >> table.role[j] & 1)
            mask[q, k] = table.sample[i] == table.sample[j] and reach and (same or not hidden)
    return mask


@settings(max_examples=50)
@given(span_tables())
def test_dense_mask(table: SpanTable) -> None:
    expected = mask_by_definition(table)
    assert np.array_equal(dense_mask(table), expected)
    assert np.array_equal(dense_mask(table, table.order), expected[np.ix_(table.order, table.order)])
    assert expected.diagonal().all()
    assert attended_pairs(table) == expected.sum()


@given(span_tables(), st.integers(1, 20), st.booleans())
def test_tiles_count_the_pairs_of_the_dense_mask(table: SpanTable, tile: int, grouped: bool) -> None:
    mask = dense_mask(table, table.order if grouped else None)
    edges = np.arange(0, table.num_tokens, tile)
    expected = np.add.reduceat(np.add.reduceat(mask.astype(int), edges, axis=0), edges, axis=1)
    assert np.array_equal(tile_pairs(table, tile, grouped), expected)


@given(span_tables(), st.booleans())
def test_runs_are_contiguous_pieces_of_spans(table: SpanTable, grouped: bool) -> None:
    pieces = runs(table, grouped)
    span_of = table.span_of[table.order] if grouped else table.span_of
    assert np.array_equal(np.repeat(pieces.span, pieces.length), span_of)
    starts = pieces.end - pieces.length
    order = table.order if grouped else np.arange(table.num_tokens)
    expert = table.is_generation[order]
    for start, end in zip(starts, pieces.end, strict=True):
        assert len(set(expert[start:end])) == 1 or not grouped


@given(span_tables())
def test_routing(table: SpanTable) -> None:
    generation = []
    for i in range(len(table)):
        inner = table.expert[i] == Expert.GENERATION
        generation += [inner and 0 < offset < table.length[i] - 1 for offset in range(table.length[i])]
    assert np.array_equal(table.is_generation, generation)
    assert np.array_equal(table.order[: table.num_understanding], np.flatnonzero(~table.is_generation))
    assert np.array_equal(table.order[table.num_understanding :], np.flatnonzero(table.is_generation))
    assert np.array_equal(table.order[table.rank], np.arange(table.num_tokens))


@given(span_tables())
def test_positions_and_losses(table: SpanTable) -> None:
    positions, ce, weights, noised, trained = [], [], [], [], []
    slots: list[int] = []
    cosine: list[bool] = []
    for i in range(len(table)):
        start, length = len(positions), int(table.length[i])
        causal = table.mode[i] in (Mode.CAUSAL, Mode.SLOTS)
        positions += [table.position[i] + (offset if causal else 0) for offset in range(length)]
        if table.loss[i] in (Loss.CE, Loss.CE_WITH_END):
            ce += list(range(start, start + length - 1))
            weights += [(length - 1) ** -0.5 for _ in range(length - 1)]
        if table.loss[i] in (Loss.CE_WITH_END, Loss.COSINE_WITH_END, Loss.END):
            ce.append(start + length - 1)
            weights.append(1)
        if table.mode[i] == Mode.NOISED:
            noised += list(range(start + 1, start + length - 1))
            trained += [table.loss[i] == Loss.FLOW] * (length - 2)
        if table.mode[i] == Mode.SLOTS:
            slots += range(start, start + length)
            cosine += [table.loss[i] in (Loss.COSINE, Loss.COSINE_WITH_END)] * length
    assert table.position_ids.tolist() == positions
    assert table.slot_positions.tolist() == slots and table.is_cosine_trained.tolist() == cosine
    assert table.ce_positions.tolist() == ce
    assert np.allclose(table.ce_weights, weights)
    assert table.noised_positions.tolist() == noised
    assert table.is_flow_trained.tolist() == trained
    for sample in range(table.num_samples):
        spans = np.flatnonzero(table.sample == sample)
        last = Span(sample, int(table.length[spans[-1]]), Mode(table.mode[spans[-1]]), Expert.UNDERSTANDING, 0)
        assert table.next_positions[sample] == table.position[spans[-1]] + last.next_position
        assert table.sample_lengths[sample] == table.length[spans].sum()


TEXT = Span(0, 4, Mode.CAUSAL, Expert.UNDERSTANDING, 0)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([Span(0, 0, Mode.CAUSAL, Expert.UNDERSTANDING, 0)], "span 0 .* has no tokens"),
        ([TEXT, Span(0, 2, Mode.FULL, Expert.GENERATION, 4)], "span 1 .* without tokens between"),
        ([Span(0, 4, Mode.CAUSAL, Expert.GENERATION, 0)], "causal but routed to the generation"),
        ([Span(0, 4, Mode.NOISED, Expert.UNDERSTANDING, 0)], "noised but not a latent"),
        ([Span(0, 4, Mode.FULL, Expert.GENERATION, 0, loss=Loss.FLOW)], "flow loss but is not noised"),
        ([Span(0, 4, Mode.FULL, Expert.UNDERSTANDING, 0, loss=Loss.CE)], "has a text loss but is no text"),
        ([Span(0, 4, Mode.SLOTS, Expert.UNDERSTANDING, 0, loss=Loss.CE)], "has a text loss but is no text"),
        ([replace(TEXT, loss=Loss.END)], "a loss of latent slots but is none"),
        ([replace(TEXT, mode=Mode.SLOTS, loss=Loss.COSINE)], "a cosine loss but nothing of its sample before it"),
        ([Span(1, 4, Mode.CAUSAL, Expert.UNDERSTANDING, 0), TEXT], "span 1 .* earlier sample"),
    ],
)
def test_a_broken_table_names_its_span(spans: list[Span], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpanTable.from_spans(spans)


def test_an_empty_table() -> None:
    table = SpanTable.from_spans([])
    assert (table.num_tokens, table.num_samples, attended_pairs(table)) == (0, 0, 0)
    assert dense_mask(table).shape == (0, 0)


def test_a_noised_image_and_its_clean_copy_share_a_position() -> None:
    noised = Span(0, 6, Mode.NOISED, Expert.GENERATION, 7, Role.IMAGINATION)
    assert noised.next_position == 7
    assert Span(0, 6, Mode.FULL, Expert.GENERATION, 7).next_position == 8
