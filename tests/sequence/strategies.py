"""Random span tables for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from ipt.sequence.spans import Expert, Loss, Mode, Role, Span, SpanTable

KINDS = {
    "text": (Mode.CAUSAL, Expert.UNDERSTANDING, 1),
    "vit": (Mode.FULL, Expert.UNDERSTANDING, 1),
    "vae": (Mode.FULL, Expert.GENERATION, 3),
    "noised": (Mode.NOISED, Expert.GENERATION, 3),
    "slots": (Mode.SLOTS, Expert.UNDERSTANDING, 1),
}


@st.composite
def span_tables(draw: st.DrawFn, max_samples: int = 4, max_spans: int = 5, max_extra: int = 9) -> SpanTable:
    """Samples of every kind, length, role and blocking."""
    spans: list[Span] = []
    for sample in range(draw(st.integers(1, max_samples))):
        position = draw(st.integers(0, 3))
        for kind in draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=max_spans)):
            mode, expert, least = KINDS[kind]
            losses = {"text": [Loss.NONE, Loss.CE, Loss.CE_WITH_END], "noised": [Loss.NONE, Loss.FLOW]}
            first = not spans or spans[-1].sample != sample
            losses["slots"] = [Loss.NONE, Loss.END, *(() if first else (Loss.COSINE, Loss.COSINE_WITH_END))]
            span = Span(
                sample,
                least + draw(st.integers(0, max_extra)),
                mode,
                expert,
                position,
                draw(st.sampled_from(Role)),
                draw(st.frozensets(st.sampled_from(Role), max_size=2)),
                draw(st.sampled_from(losses.get(kind, [Loss.NONE]))),
            )
            spans.append(span)
            position = span.next_position
    return SpanTable.from_spans(spans)
