"""Which code made something."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
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


def source_digest(*packages: str) -> str:
    """Digest of the Python files of importable ``packages``: tells apart any two states of their code, committed or not.

    Raises ``ValueError`` for a package that cannot be found.
    """
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"there is no package '{package}' to take a digest of")
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{package} {path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
