"""Processes that die between two events: what a power cut leaves behind, at moments that no machine's speed moves."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

Place = tuple[Any, str]


class Fuse:
    """Counts calls of chosen functions, and ends the process instead of making the ``fatal``-th one (0: never).

    ``group``: with all processes of its group. Each process counts for itself.
    """

    def __init__(self, fatal: int = 0, group: bool = False) -> None:
        self.fatal, self.group, self.count = fatal, group, 0

    def lay(self, places: Iterable[Place], put: Callable[[Any, str, Any], None] = setattr) -> None:
        """Count the calls of the functions that lie at (owner, name); ``put`` puts something in their place."""
        for owner, name in places:
            put(owner, name, self._before(getattr(owner, name)))

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.fatal:
                os.kill(0 if self.group else os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counted


def forked(work: Callable[[], object], writes: int = 0) -> int:
    """The exit status of a fork that does ``work`` and is killed at the ``writes``-th file it writes; 0: it never is."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        Fuse(writes).lay([(os, "fsync")])
        work()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
