"""Waiting for an event, however long a busy machine takes for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")
#: Seconds after which a test says that something hangs. No test that passes waits for so long, or measures what it waited.
HANGS = 900.0


def until(happened: Callable[[], T], what: str) -> T:
    """The first true value of ``happened()``. Raises ``TimeoutError`` that says ``what`` did not happen."""
    limit = time.monotonic() + HANGS
    while not (value := happened()):
        if time.monotonic() > limit:
            raise TimeoutError(f"{what} did not happen in {HANGS:g} s")
        time.sleep(0.01)
    return value


def ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or dead and only waits for its parent to notice. Another one with its number is not it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
