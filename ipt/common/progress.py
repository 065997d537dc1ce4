"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track

T = TypeVar("T")
LOG_SECONDS = 15.0


def tracked(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The same items, their number shown on stderr as they are taken; ``what`` says what is being done to them."""
    if sys.stderr.isatty():
        yield from track(items, what, total, transient=True)
        return
    logged = started = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - logged > LOG_SECONDS:
            logged = now
            print(f"{what}: {done}/{total}, {done / max(now - started, 1e-9):.2f}/s", file=sys.stderr, flush=True)
        yield item
    print(f"{what}: {total}/{total} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
