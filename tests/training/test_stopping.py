"""Signals: told to the run from the first moment on, and given back."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipt.training import launch, stopping
from ipt.training.config import TrainConfig
from ipt.training.stopping import SIGNALS, signals_handled, stop_requested

WAITS = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals_ask_to_stop_and_are_given_back(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda received, frame: heard.append(received))
    try:
        with stop_requested() as stopping_:
            assert not stopping_.is_set()
            os.kill(os.getpid(), number)
            assert stopping_.is_set() and not heard
        assert heard == [number] * (number == signal.SIGUSR2)  # submitit's, which queues the job again
        os.kill(os.getpid(), number)
        assert heard[-1] == number
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("echo", [math.inf, -1.0])
def test_a_second_interrupt_ends_at_once_unless_it_is_an_echo(echo: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ECHO_SECONDS", echo)
    with signals_handled(lambda number, frame: None) as received:
        os.kill(os.getpid(), signal.SIGINT)
        if echo > 0:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT] * (2 if echo > 0 else 1)


@pytest.mark.parametrize("moment", ["before the launcher", "before its workers"])
def test_a_signal_while_a_launcher_starts_ends_it(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if moment == "before the launcher":
            os.kill(os.getpid(), signal.SIGTERM)
        begun.append(Popen(WAITS, **options))
        if moment == "before its workers":
            os.kill(os.getpid(), signal.SIGTERM)
        return begun[0]

    Popen = subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", start)
    assert launch.launch(TrainConfig(output_dir=str(tmp_path))) is None
    assert begun[0].returncode == -signal.SIGTERM
