"""A packed sequence for the eye: a table of its spans, and a picture of who attends to whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ipt.sequence.batch import lay_out
from ipt.sequence.segments import Kind, Segment, Slots, TokenIds
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import Ints, Loss, SpanTable
from ipt.sequence.tokenizer import Tokenizer
from ipt.sequence.visibility import span_fields, token_fields, visible

COLOURS = {
    Kind.TEXT: "#4c78a8",
    Kind.VIT: "#54a24b",
    Kind.VAE: "#f58518",
    Kind.VAE_NOISED: "#b279a2",
    Kind.LATENT: "#e45756",
}
CELLS = 14


def describe(segments: Sequence[Segment], tokenizer: Tokenizer, geometry: Geometry) -> str:
    """One line per segment: number, role, kind, tokens, loss, rope id of its first token, which other segments it attends to,
    and its text or the size of its token grid. Dropped segments are listed last."""
    kept = [segment for segment in segments if not segment.dropped]
    table = lay_out([segments], tokenizer.special, geometry).spans
    lines = [("", "role", "kind", "tokens", "loss", "rope", "attends to", "content")]
    for number, (segment, seen) in enumerate(zip(kept, attended(table), strict=True)):
        columns = segment.role.name.lower(), segment.kind.name.lower(), str(table.length[number])
        loss = "-" if segment.loss is Loss.NONE else segment.loss.name.lower()
        lines.append(
            (str(number), *columns, loss, str(table.position[number]), seen, content(segment, tokenizer, geometry))
        )
    lines += [
        ("-", s.role.name.lower(), s.kind.name.lower(), "0", "-", "", "dropped", content(s, tokenizer, geometry))
        for s in segments
        if s.dropped
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    return "\n".join("  ".join([*map(str.ljust, line, widths), line[7]]).rstrip() for line in lines)


def content(segment: Segment, tokenizer: Tokenizer, geometry: Geometry) -> str:
    """The text of a segment, with its line breaks escaped, or the grid of an image's tokens."""
    if isinstance(segment.payload, TokenIds):
        return tokenizer.decode(segment.payload.ids.tolist()).replace("\\", "\\\\").replace("\n", "\\n")
    if isinstance(segment.payload, Slots):
        inner = segment.payload.content
        grid = f" from {content(inner, tokenizer, geometry)}" if isinstance(inner, Segment) else ""
        return f"{segment.payload.count} slots{grid}"
    rows, columns = segment.grid(geometry)
    return f"{rows} x {columns}"


def attended(table: SpanTable) -> list[str]:
    """Per span, the other spans that all of its tokens attend to: ``0-3, 5``; ``-`` for none."""
    fields = span_fields(table)
    sees = visible(fields.at((slice(None), None)), fields.at(None)) & ~np.eye(len(table), dtype=bool)
    return [ranges(np.flatnonzero(row)) for row in sees]


def ranges(numbers: Ints) -> str:
    """Increasing numbers as ranges."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "-"


def shortened(table: SpanTable, cells: int = CELLS) -> Ints:
    """Packed positions of at most ``cells`` evenly spaced tokens of each span, its two markers among them."""
    return np.concatenate(
        [
            start + np.unique(np.linspace(0, length - 1, min(cells, length)).round().astype(np.int64))
            for start, length in zip(table.start, table.length, strict=True)
        ]
    )


def draw_mask(segments: Sequence[Segment], tokenizer: Tokenizer, geometry: Geometry, path: Path) -> None:
    """Write a PNG of the attention mask: a row per query, a column per key, coloured by what the key is.

    Long spans are drawn with `CELLS` of their tokens, so that short and long ones can both be read.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    kept = [segment for segment in segments if not segment.dropped]
    table = lay_out([segments], tokenizer.special, geometry).spans
    chosen = shortened(table)
    fields, span_of = token_fields(table, chosen), table.span_of[chosen]
    kinds = list(COLOURS)
    key_kind = np.array([kinds.index(kept[span].kind) + 1 for span in span_of])
    image = np.where(visible(fields.at((slice(None), None)), fields.at(None)), key_kind, 0)
    edges = np.flatnonzero(np.diff(span_of, prepend=-1, append=-1)) - 0.5
    centres = (edges[:-1] + edges[1:]) / 2
    names = [f"{i}  {s.role.name.lower()} {s.kind.name.lower()}" for i, s in enumerate(kept)]
    figure = Figure(figsize=(10, 9), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        image, cmap=ListedColormap(["#ffffff", *COLOURS.values()]), vmin=0, vmax=len(kinds), interpolation="nearest"
    )
    for edge in edges:
        axes.axhline(edge, color="#888888", linewidth=0.6)
        axes.axvline(edge, color="#888888", linewidth=0.6)
    lengths = [f"{name}  ({length})" for name, length in zip(names, table.length, strict=True)]
    axes.set_yticks(centres, lengths, fontsize=9)
    axes.set_xticks(centres, names, fontsize=9, rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_ylabel("query (tokens of the segment)")
    axes.set_xlabel(
        f"key; {table.num_tokens} tokens, at most {CELLS} drawn per segment; white: not attended to", fontsize=9
    )
    present = [kind for kind in kinds if any(segment.kind is kind for segment in kept)]
    figure.legend(
        handles=[Patch(color=COLOURS[kind], label=kind.name.lower().replace("_", " ")) for kind in present],
        loc="outside lower center",
        ncols=len(present),
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
