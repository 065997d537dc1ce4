"""Signals that ask a run to save and end (SIGTERM, SIGINT from Ctrl+C, SIGUSR2, with which Slurm announces a time limit), and a
watch over one that stands still."""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
#: Launchers send Ctrl+C on to processes that the terminal has sent it to already; later than this it is meant as a second one.
ECHO_SECONDS = 3.0


@contextmanager
def signals_handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[list[int]]:
    """Call ``handle`` for each signal that arrives while the block runs, and yield their list.

    A second Ctrl+C interrupts at once. SIGUSR2 is given afterwards to whoever handled it before: submitit queues the job again.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    first = 0.0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if signal.SIGINT in received and number == signal.SIGINT and time.monotonic() - first > ECHO_SECONDS:
            raise KeyboardInterrupt
        if number == signal.SIGINT and signal.SIGINT not in received:
            first = time.monotonic()
        received.append(number)
        handle(number, frame)

    before = {number: signal.signal(number, receive) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGUSR2 in received and callable(before[signal.SIGUSR2]):
        signal.raise_signal(signal.SIGUSR2)


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that these signals set while the block runs."""
    event = threading.Event()
    with signals_handled(lambda number, frame: event.set()):
        yield event


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
