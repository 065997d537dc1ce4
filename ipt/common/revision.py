"""Which code made something."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_revision() -> str:
    """Version of the installed package, or the commit of the checkout (``-dirty`` with local changes)."""
    folder = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        try:
            return version("imaginative-perception-tokens")
        except PackageNotFoundError:
            return ""
