"""Processes of a run: one per part, and none that outlives the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from ipt.common.locking import FolderInUse, held
from ipt.samples.store import SampleReader
from tests.datagen.conftest import generate, run_settings, shards

ROOT = Path(__file__).parents[2]
DEADLY = """
import os
from tests.deadly import Fuse
Fuse(int(os.environ["FATAL"]), group=True).lay([(os, "fsync")])
"""


def test_a_part_is_made_by_one_process_and_parts_by_several(tmp_path: Path) -> None:
    parts = [run_settings(tmp_path, num_samples=4, shard=f"{number}/2") for number in range(2)]
    with held(tmp_path, f".work/{parts[0].prefix}.lock"):
        with pytest.raises(FolderInUse, match=f"{tmp_path} is being written by process"):
            generate(parts[0])
        assert not generate(parts[1])["complete"]
    assert generate(parts[0])["complete"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".parquet", ".parquet"]


@pytest.mark.long
def test_killing_a_command_with_its_workers_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """kill -9 of command and workers, four times, at random moments of writing; what survives is finished and compared."""
    settings = ("backend=blocks", "num_samples=80", "seed=7", "image_size=64", "samples_per_shard=20", "workers=2")
    command = [sys.executable, "-m", "datagen", *settings]
    whole, broken = (f"output_dir={tmp_path / name}" for name in ("whole", "broken"))
    subprocess.run([*command, whole], check=True, capture_output=True)
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "sitecustomize.py").write_text(DEADLY)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'deadly'}:{ROOT}"}
    for fatal in np.random.default_rng(5).integers(2, 9, 4):
        killed = subprocess.run(
            [*command, broken], env={**environment, "FATAL": str(fatal)}, capture_output=True, start_new_session=True
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    subprocess.run([*command, broken], check=True, capture_output=True)
    assert shards(tmp_path / "broken") == shards(tmp_path / "whole")
    assert len(SampleReader(tmp_path / "broken")) == 80


#: A command whose units never end; its workers say their numbers.
ENDLESS = """
import os, time
from pathlib import Path
from datagen import engine


class Endless:
    engine, workers = "local", 2

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        print(os.getpid(), flush=True)
        time.sleep(600)

with engine.engine(Endless()):
    list(engine.in_order(Endless(), Path("nowhere"), range(2)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command_that_they_work_for(number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
    os.kill(process.pid, number)
    process.wait()
    left = psutil.wait_procs(workers, timeout=60)[1]
    for worker in left:
        worker.kill()
    assert not left
