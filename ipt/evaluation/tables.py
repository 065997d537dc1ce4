"""Figures as text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of equally many cells in columns: the first ``left`` ones flush left, the others right. Empty columns are left out."""
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    columns = []
    for number, column in enumerate(kept):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if number < left else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def span(interval: tuple[float, float] | None, signed: bool = False) -> str:
    """An interval of fractions as percentages; a dash where there is none."""
    if interval is None:
        return "-"
    low, high = (f"{100 * bound:{'+' if signed else ''}.1f}" for bound in interval)
    return f"[{low}, {high}]"
