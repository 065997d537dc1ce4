"""Runs side by side: one forked process each, on one thread, with a log of its own.

Forking shares what the parent has imported and read. A process that dies, for whatever reason, is one failed run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
POLL, GRACE = 0.2, 45.0


class Jobs(Generic[T]):
    """Does ``work(item)`` for every item, ``workers`` at a time; ``log(item)`` is the file for a process's output. An item
    waits until it is ``ready``; one that never will be is left out."""

    def __init__(
        self, work: Callable[[T], None], log: Callable[[T], Path], ready: Callable[[T], bool], workers: int
    ) -> None:
        self.work, self.log, self.ready, self.workers = work, log, ready, workers
        self.context = multiprocessing.get_context("fork")
        self.running: dict[int, tuple[T, BaseProcess]] = {}
        self.failed: list[T] = []
        self._stopped = False

    def run(self, items: Sequence[T], minutes: float | None, done: Callable[[T, bool], None]) -> bool:
        """Whether everything was done. Stops after ``minutes``, or at SIGTERM or SIGINT, which the processes receive, too."""
        waiting, end = list(items), None if minutes is None else time.monotonic() + 60 * minutes
        with self._signals():
            while waiting or self.running:
                if self._stopped or (end is not None and time.monotonic() > end):
                    self._stop(done)
                    return False
                while len(self.running) < self.workers and (item := next(filter(self.ready, waiting), None)):
                    waiting.remove(item)
                    self._start(item)
                if not self.running:
                    break
                self._collect(done)
                time.sleep(POLL)
        return not self.failed and not waiting

    def _start(self, item: T) -> None:
        slot = next(number for number in range(self.workers) if number not in self.running)
        process = self.context.Process(target=self._child, args=(item,))
        process.start()
        self.running[slot] = (item, process)

    def _child(self, item: T) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on, as SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        path = self.log(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout = sys.stderr = path.open("a", buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
        try:
            self.work(item)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _collect(self, done: Callable[[T, bool], None]) -> None:
        for slot, (item, process) in list(self.running.items()):
            if not process.is_alive():
                process.join()
                del self.running[slot]
                if process.exitcode:
                    self.failed.append(item)
                done(item, not process.exitcode)

    def _stop(self, done: Callable[[T, bool], None]) -> None:
        for _, process in self.running.values():
            process.terminate()
        end = time.monotonic() + GRACE
        while self.running and time.monotonic() < end:
            self._collect(done)
            time.sleep(POLL)
        for _, process in self.running.values():
            process.kill()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stopped = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
