"""Several processes on this machine for one command: composed once, the resolved settings handed to accelerate's launcher.

A signal is handed to the launcher, which asks the processes to save and end and waits for them as long as a large model takes
(a torch that does not know ``TORCH_ELASTIC_SHUTDOWN_TIMEOUT`` waits thirty seconds; then the last checkpoint counts).
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import psutil

from ipt.common import cli
from ipt.common.errors import UnwritableFile
from ipt.common.files import read_json, write_json
from ipt.common.locking import HELD, held
from ipt.training.config import LaunchSettings, TrainConfig, as_values, train_config
from ipt.training.records import METRICS, check_length, last_record, outcome
from ipt.training.stopping import signals_handled

LAUNCHED = "launched.json"
#: Seconds that torch's launcher waits, after a signal, for processes that save.
PATIENCE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1800"}


def is_launched() -> bool:
    """Whether torchrun, accelerate or `launch` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(config: TrainConfig) -> float | None:
    """Run ``config`` on ``launch.gpus`` processes and wait for them. Returns the `outcome`, or None where a signal stopped
    the run.

    Raises ``RuntimeError`` where they fail; their own message is above.
    """
    folder = Path(config.output_dir)
    with held(folder):
        check_length(folder, config.trainer.steps)
        return _launch(config, folder)


def _launch(config: TrainConfig, folder: Path) -> float | None:
    path = folder / LAUNCHED
    try:
        write_json(path, as_values(replace(config, launch=LaunchSettings())))
    except OSError as error:
        raise UnwritableFile(
            f"the output folder {folder} cannot be written ({error}); set another output_dir"
        ) from error
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, frame: FrameType | None) -> None:
        if process is not None:
            process.terminate()

    try:
        with signals_handled(hand_on) as received:
            # a session of its own: Ctrl+C reaches this process alone, which asks the others to stop
            started = [*command(config.launch.gpus), f"settings={path}"]
            environment = {**PATIENCE, **os.environ, HELD: str(folder.resolve())}
            process = subprocess.Popen(started, start_new_session=True, env=environment)
            if received:
                process.terminate()
            code = process.wait()
    finally:
        if process is not None and process.poll() is None:
            end(process.pid)
    if code and not received:
        raise RuntimeError(f"the {config.launch.gpus} processes of the run failed (exit code {code}); see above")
    record = last_record(folder / METRICS)
    ended = record is not None and record["step"] + 1 == config.trainer.steps
    return outcome(folder, config.checkpoints.best) if ended else None


def command(processes: int) -> list[str]:
    """The command line of accelerate's launcher; on a machine without GPUs the processes share its cores."""
    settings: dict[str, object] = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,
        "num_cpu_threads_per_process": 1,
    }
    settings |= {"mixed_precision": "no", "dynamo_backend": "no"}  # both are ours
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *flags]
    return [*launcher, "--module", "ipt.training.launch"]


def end(pid: int) -> None:
    """Kill a process with its children."""
    parent = psutil.Process(pid)
    for process in (*parent.children(recursive=True), parent):
        process.kill()


@dataclass(frozen=True)
class Launched:
    """One of the processes of a run, which `train.py launch.gpus=N` starts.

    settings: the run's own, resolved, in a JSON file.
    """

    settings: str


def take_part(launched: Launched) -> None:
    """Train in this process, together with the others."""
    from ipt.training.build import run  # torch takes seconds to import

    run(train_config(read_json(Path(launched.settings))))


if __name__ == "__main__":
    cli.run(Launched, take_part)
