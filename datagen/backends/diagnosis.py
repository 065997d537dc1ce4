"""What a backend finds out about this machine: shown by ``python -m datagen.backends.doctor``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: a package, a driver, a dataset or a rendered frame.

    ``detail`` says what was found; ``fix`` is the exact command (or setting) that gets it where ``ok`` is false, else "".
    """

    component: str
    ok: bool
    detail: str
    fix: str = ""
