"""An inference run that is killed again and again: ``python -m tests.inference.kill CHECKPOINT DATA OUTPUT KILLS``.

Every attempt is a fork of this process, which has computed nothing, and ends itself with SIGKILL between two random moments of
writing; then the tail of the predictions is cut, as a crash of the machine may do. A last attempt runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ipt.common.seeding import generator
from ipt.inference.config import InferConfig
from ipt.inference.prediction import PREDICTIONS
from ipt.inference.run import answer_dataset
from ipt.inference.settings import DrawSettings, ModeSettings

MODE = ModeSettings("imagination", draw=DrawSettings(timesteps=2))


def deadly(call: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """``call``, but the process dies instead of making it for the ``calls``-th time."""
    left = [calls]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)

    return wrapped


def attempt(config: InferConfig, calls: int) -> int:
    """The exit status of a fork that dies at the ``calls``-th write; 0 never dies."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    if calls:
        os.fsync = deadly(os.fsync, calls)
    answer_dataset(config)
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    checkpoint, data, folder = sys.argv[1:4]
    config = InferConfig(checkpoint, data, folder, MODE, batch_size=2, device="cpu")
    moments, predictions = generator(0, "kill"), Path(folder) / PREDICTIONS
    for _ in range(int(sys.argv[4])):
        status = attempt(config, int(moments.integers(1, 9)))
        assert status == signal.SIGKILL, f"an attempt was not killed but ended with {status}"
        if predictions.is_file():
            whole = predictions.read_bytes()
            predictions.write_bytes(whole[: len(whole) - int(moments.integers(0, 30))])
    assert attempt(config, 0) == 0
