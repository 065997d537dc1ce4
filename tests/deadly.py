"""Forks that die while they write: what a power cut leaves behind, without the time that a fresh Python takes to start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def forked(work: Callable[[], object], writes: int = 0) -> int:
    """The exit status of a fork that does ``work`` and is killed at the ``writes``-th file it writes; 0: it never is."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if writes:
        os.fsync = deadly(os.fsync, writes)
    work()
    os._exit(0)


def deadly(call: Callable[[int], None], calls: int) -> Callable[[int], None]:
    """``call``, but the process dies instead of making it for the ``calls``-th time."""
    left = [calls]

    def wrapped(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        call(descriptor)

    return wrapped
