"""A run that hangs says where: the stacks of all threads, after minutes without a step."""

from __future__ import annotations

import faulthandler
import logging
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)


class Watchdog:
    """Writes the stacks of this process to ``path`` where `alive` is not called for ``minutes`` (0: never), and again after as
    many. It works in C, also while Python waits in a collective operation for a process that is gone. A context manager.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self._seconds = path, 60 * minutes

    def __enter__(self) -> Watchdog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("a")
        return self

    def alive(self) -> None:
        """A step was made, or a checkpoint."""
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, repeat=True, file=self._stream)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._stream.close()
        if self.path.stat().st_size:
            log.warning("the run stood still for a while; where it did is in %s", self.path)
        else:
            self.path.unlink()
