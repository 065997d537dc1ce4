"""Several processes on this machine for one command: composed once, the resolved settings handed to each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

from ipt.common.files import read_json, write_json
from ipt.common.hydra_command import stop
from ipt.training.config import LaunchSettings, TrainConfig, as_values, train_config

LAUNCHED = "launched.json"


def is_launched() -> bool:
    """Whether torchrun, accelerate or `launch` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(config: TrainConfig) -> float | None:
    """Run ``config`` on ``launch.gpus`` processes and wait for them. Signals are handed on, so that they save the run.

    Raises ``RuntimeError`` where they fail; their own message is above.
    """
    path = Path(config.output_dir) / LAUNCHED
    write_json(path, as_values(replace(config, launch=LaunchSettings())))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(config.launch.gpus)]
    process = subprocess.Popen([sys.executable, *launcher, "-m", "ipt.training.launch", str(path)])

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise RuntimeError(f"the {config.launch.gpus} processes of the run failed (exit code {code}); see above")
    return None


if __name__ == "__main__":
    from ipt.training.build import run

    try:
        run(train_config(read_json(Path(sys.argv[1]))))
    except (ValueError, OSError, FloatingPointError) as error:
        stop(str(error))
