"""The small base that ships with the package (``ipt/base``), by its name; without torch, as settings are checked first."""

from __future__ import annotations

from pathlib import Path

NAME = "base"
FOLDER = Path(__file__).parents[1] / "base"


def model_path(name: str | Path) -> Path:
    """The folder that a setting names: ``base`` is the one that ships (write ``./base`` for a folder of that name), anything
    else a path."""
    return FOLDER if str(name) == NAME else Path(name)
