"""One process per output folder: a second one ends with a line that says who writes there, and since when.

The lock is the operating system's (``flock``, by filelock), so it ends with its process however that ends; on NFS it holds across
machines where the server has locks. Where a file system has none, a file with the holder's number takes its place (filelock's
`SoftFileLock`): that of a dead process of this machine is taken over, one of another machine has to be deleted by hand. Beside
the lock a small file names the holder. Processes that a holder forks do not hold on to it.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ipt.common.errors import UnwritableFile, UserError

#: In the environment of processes that a holder has started to write into its folder with it.
HELD = "IPT_FOLDER_HELD"
LOCK = ".lock"
#: Seconds: another process may be about to end.
PATIENCE = 0.3
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class FolderInUse(UserError):
    """Another process writes into the folder; the message says which one, and since when."""


@contextmanager
def held(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Be the only one who holds the lock ``folder/name``, and so the only one who writes into the folder, which is made if need
    be. Parts of a folder that several processes write at the same time have locks of their own names.

    Raises ``FolderInUse``, and ``UnwritableFile`` where no lock can be made.
    """
    if os.environ.get(HELD) == str(folder.resolve()):
        yield
        return
    path = folder / name
    found = path.parent.is_dir()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquired(path)
    except Timeout:
        raise FolderInUse(
            f"{folder} is being written by {holder(path)}; wait for it, or set another output_dir"
        ) from None
    except OSError as error:
        message = f"the output folder {folder} cannot be written ({error.strerror}); set another output_dir"
        raise UnwritableFile(error.errno, message) from error
    about = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.orig_argv[:1] + sys.argv)[:300],
    }
    try:
        with suppress(OSError):  # a full disk: the lock counts, not its label
            label(path).write_text(json.dumps(about) + "\n")
        yield
    finally:
        for file in (label(path), path):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        lock.release()
        if not found:
            with suppress(OSError):  # only where nothing came of it
                path.parent.rmdir()


def acquired(path: Path) -> BaseFileLock:
    """The lock ``path``, of the operating system if it has any there. Raises ``Timeout`` where another holds it."""
    lock: BaseFileLock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.05)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(path)
        lock.acquire(timeout=PATIENCE, poll_interval=0.05)
    return lock


def label(path: Path) -> Path:
    """The file that names the holder of lock ``path``."""
    return path.with_name(f"{path.name}.json")


def holder(path: Path) -> str:
    """Who holds lock ``path`` and since when, in words."""
    try:
        about = json.loads(label(path).read_bytes())
        here = about["host"] == socket.gethostname()
        if here and not psutil.pid_exists(int(about["process"])):
            return "another process"  # the label is that of an earlier one
        where = "this machine" if here else about["host"]
        return f"process {about['process']} on {where} since {about['since']} ({about['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
