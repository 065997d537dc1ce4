"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)

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


class Meter:
    """Counted work that reports itself: ``what`` is done ``total`` times, ``done`` of them before this process."""

    def __init__(self, what: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self._what, self._total, self._quiet = what, total, quiet
        self._logged = -LOG_SECONDS
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            note = TextColumn("{task.fields[note]}")
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), note)
            self._bar = Progress(TextColumn(what), *columns)
            self._task = self._bar.add_task(what, total=total, completed=done, note="")
            self._bar.start()

    def update(self, done: int, note: str) -> None:
        """``done`` of the total are finished; ``note`` says how it goes."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif not self._quiet and (now - self._logged > LOG_SECONDS or done >= self._total):
            self._logged = now
            print(f"{self._what} {done}/{self._total}: {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
