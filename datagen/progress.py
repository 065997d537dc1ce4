"""Progress: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from datagen.yields import Yields

LOG_SECONDS = 15.0


class Progress:
    """Shows samples found, samples per second, scenes and the filter that rejects most."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self._total, self._found = total, 0
        self._started = self._logged = time.monotonic()
        self._quiet = quiet
        self._bar: RichProgress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            self._task = self._bar.add_task("samples", total=total, note="")
            self._bar.start()

    def update(self, found: int, scenes: int, yields: Yields) -> None:
        """``found`` new samples after ``scenes`` scenes in all."""
        self._found += found
        now = time.monotonic()
        rate = self._found / max(now - self._started, 1e-9)
        note = f"{rate:.2f}/s, {self._found / scenes:.2f} per scene, {yields.worst()}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._found, note=note)
        elif not self._quiet and (now - self._logged > LOG_SECONDS or self._found >= self._total):
            self._logged = now
            print(f"{self._found}/{self._total} samples, {scenes} scenes, {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
