"""The look of plots on pages."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, ACCENT, SOFT, BAD = "#1c2430", "#2457a6", "#9fb3cf", "#b3261e"


def axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one plot, in inches."""
    figure = Figure(figsize=(width, height))
    drawn = figure.subplots()
    drawn.spines[["top", "right"]].set_visible(False)
    drawn.tick_params(labelsize=8, colors=INK)
    return figure, drawn


def plain(label: str) -> str:
    """A label that matplotlib draws literally: no mathematics between dollar signs, no line breaks, not too long."""
    short = " ".join(label.split())
    return (short if len(short) <= 72 else f"{short[:69]}...").replace("$", r"\$")
