"""How habitat-sim ends its own process: after these, nothing in Python runs any more."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def segfault() -> NoReturn:
    _end(signal.SIGSEGV)


def abort(message: str) -> NoReturn:
    _say(message)
    _end(signal.SIGABRT)


def leave(*messages: str) -> NoReturn:
    for message in messages:
        _say(message)
    os._exit(1)


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _end(number: signal.Signals) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(1)
