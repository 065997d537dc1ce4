"""Two processes and one output folder: the second says who is there; what a dead one leaves is taken over."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from ipt.common import locking
from ipt.common.errors import UnwritableFile
from ipt.common.locking import HELD, FolderInUse, held

ROOT = Path(__file__).parents[2]


@contextmanager
def another(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``folder``."""
    command = [sys.executable, "-m", "tests.common.locker", str(folder), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_second_process_says_who_writes_and_since_when(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with another(folder) as process:
        with pytest.raises(FolderInUse) as refused, held(folder):
            pass
        expected = rf"{folder} is being written by process {process.pid} on this machine since \d{{4}}-\d\d-\d\d \d\d:"
        assert re.match(expected, str(refused.value)) and "locker" in str(refused.value)
        assert "\n" not in str(refused.value)
        with held(tmp_path / "elsewhere"):
            pass
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    with held(folder):
        assert sorted(path.name for path in folder.iterdir()) == [".lock", ".lock.json"]
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "whose child lives on"])
def test_what_a_killed_process_held_is_free(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with another(tmp_path, *arguments) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".lock").exists() and (tmp_path / ".lock.json").exists()
        with held(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_without_locks_of_the_system_a_file_stands_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS without a lock server. A living holder keeps others out, a dead one of this machine does not."""

    def refuses(*arguments: object, **settings: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuses)
    with held(tmp_path), pytest.raises(FolderInUse, match="is being written by process"), held(tmp_path):
        pass
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / ".lock").write_text(f"{dead.stdout.strip()}\n{socket.gethostname()}\n")
    monkeypatch.setattr(locking, "PATIENCE", 10.0)  # filelock looks twice before it breaks a lock
    with held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_those_whom_the_holder_has_started_write_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(tmp_path):
        monkeypatch.setenv(HELD, str(tmp_path.resolve()))
        with held(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()


def test_other_labels_and_parts(tmp_path: Path) -> None:
    with held(tmp_path, ".work/a.lock"), held(tmp_path, ".work/b.lock"), pytest.raises(FolderInUse) as refused:
        about = json.loads((tmp_path / ".work/a.lock.json").read_text())
        (tmp_path / ".work/a.lock.json").write_text(json.dumps(about | {"host": "node7", "process": 12}))
        with held(tmp_path, ".work/a.lock"):
            pass
    assert f"{tmp_path} is being written by process 12 on node7 since" in str(refused.value)
    assert not (tmp_path / ".work").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UnwritableFile, match=r"the output folder .*file/out cannot be written"),
        held(tmp_path / "file/out"),
    ):
        pass
