"""The worker process seen from our side: started, asked, watched, and its death explained."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from datagen.backends.base import BackendUnavailable, SceneError, SimulatorDied
from datagen.backends.habitat.install import CHECK, INSTRUCTION
from datagen.backends.habitat.protocol import MAGIC, VERSION, Arrays, Header, ProtocolError, encode, receive

WORKER = Path(__file__).with_name("worker.py")
#: Last words should be errors, not what OpenGL found on this machine.
QUIET = {"MAGNUM_LOG": "quiet", "HABITAT_SIM_LOG": "error"}
PIPE_BYTES = 1 << 20
GRACE_S = 2.0  # for a worker that has closed its end to leave, and for its last words to arrive
MAX_NOISE = 1 << 16  # what a start script may print before the first message
#: The same for what no scene can be drawn with: the run ends at once.
HOPELESS: tuple[tuple[str, str], ...] = (
    (
        r"unable to find CUDA device (\d+)",
        "there is no CUDA device {0}; set backend.gpu (-1 picks the software renderer)",
    ),
    (r"Unable to create windowless context", "no OpenGL context; install libegl1 and libgl1, or set backend.gpu=-1"),
)
#: What habitat-sim prints before it ends its process, and what to do about it. Source: the recorded fixtures.
DEATHS: tuple[tuple[str, str], ...] = (
    (r"resolution height and width", "an image size is not positive"),
    (r"RenderTarget\.cpp", "the image is larger than the renderer can draw; lower the resolution"),
    (r"near or far plane is illegal", "the near plane must be positive and nearer than the far plane"),
    (r"orthoScale must be greater", "the orthographic scale must be positive"),
    (r"uuid cannot be an empty", "a sensor has no name"),
    (r"not a valid index for this island", "the navmesh has no island of that index"),
    (r"[Oo]ut of memory|bad_alloc", "memory ran out; use fewer worker processes or a smaller resolution"),
)
SIGNALS = {
    "SIGSEGV": "habitat-sim crashed; without a message this is mostly a navmesh query on a scene that has no navmesh",
    "SIGKILL": "something killed it, mostly the system because memory ran out; use fewer worker processes",
}


class WorkerProcess:
    """A running worker. Every failure but a refused request ends the process and raises ``SimulatorDied``."""

    def __init__(self, python: str, start_timeout: float) -> None:
        command = [*shlex.split(python), str(WORKER)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**QUIET, **os.environ},
            )
        except OSError as error:
            raise BackendUnavailable(f"cannot run '{python}' ({error.strerror}).\n{INSTRUCTION}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)
        with contextlib.suppress(AttributeError, OSError):  # Linux, within the system's limit: fewer, larger reads
            fcntl.fcntl(self._replies, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._log: deque[str] = deque(maxlen=60)
        self._reader = threading.Thread(target=self._collect_log, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        self._doing = "starting"
        self._deadline = time.monotonic() + start_timeout
        self._noise = b""
        self.hello = self._greet(python)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, op: str, timeout: float, what: str, **fields: Any) -> tuple[Header, Arrays]:
        """Send a request and return the reply. ``what`` names the work in errors ("rendering scene X").

        Raises ``SceneError`` if habitat-sim refuses, ``SimulatorDied`` if the process ends, hangs for ``timeout``
        seconds or sends what is not a message.
        """
        self._doing, self._deadline = what, time.monotonic() + timeout
        for piece in encode({"op": op, **fields}, {}):
            self._write(piece)
        header, arrays = self._receive()
        if "error" in header:
            raise SceneError(f"habitat-sim refused while {what}: {refusal(header['error'])}")
        return header, arrays

    def stop(self) -> None:
        """Hang up and wait; a worker that does not leave by itself is killed."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(GRACE_S)

    def _greet(self, python: str) -> Header:
        hello, _ = self._receive(first=True)
        if "error" in hello:
            self.stop()
            raise BackendUnavailable(
                f"'{python}' runs, but cannot import habitat_sim ({hello['error']['message']}).\n{INSTRUCTION}"
            )
        if hello.get("protocol") != VERSION:
            self.stop()
            raise BackendUnavailable(
                f"the worker speaks protocol {hello.get('protocol')}, this program {VERSION}: "
                f"two installations are mixed; check backend.python={python}"
            )
        if hello.get("missing"):
            self.stop()
            raise BackendUnavailable(
                f"habitat-sim of '{python}' (it calls itself {hello.get('habitat_sim')}) lacks what is needed of Simulator: "
                f"{', '.join(hello['missing'])}.\n{INSTRUCTION}"
            )
        return hello

    def _receive(self, first: bool = False) -> tuple[Header, Arrays]:
        try:
            if first:
                self._skip_noise()
            return receive(self._read_exactly)
        except ProtocolError as error:
            raise self._died(f"it sent what is not a message ({error})") from None

    def _skip_noise(self) -> None:
        """Programs that start Python (conda, shells) may print; messages begin at the first magic bytes."""
        seen = bytearray()
        while not seen.endswith(MAGIC):
            if len(seen) > MAX_NOISE:
                raise ProtocolError(f"no message in the first {MAX_NOISE} bytes, which begin {bytes(seen[:60])!r}")
            seen += self._read_exactly(1)
        self._noise = MAGIC

    def _read_exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        kept = self._noise[:count]
        self._noise = self._noise[count:]
        data[: len(kept)] = kept
        view = memoryview(data)[len(kept) :]
        while view:
            self._wait(self._replies, writing=False)
            received = os.readv(self._replies, [view])
            if not received:
                raise self._died()
            view = view[received:]
        return data

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            self._wait(self._requests, writing=True)
            try:
                view = view[os.write(self._requests, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._died() from None

    def _wait(self, descriptor: int, writing: bool) -> None:
        """Until the pipe is ready; a dead worker closes its end, so that this returns at once."""
        left = self._deadline - time.monotonic()
        ready = select.select([] if writing else [descriptor], [descriptor] if writing else [], [], max(left, 0))
        if not (ready[0] or ready[1]):
            raise self._died("it did not answer in time (raise backend.timeout_s if this machine is slow)")

    def _died(self, reason: str = "") -> SimulatorDied | BackendUnavailable:
        """Kill what is left of the process and explain; ``BackendUnavailable`` where no other scene would fare better."""
        if not reason:
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                reason = "it closed its output"
        self._process.kill()
        self._process.wait()
        self._reader.join(GRACE_S)
        log = list(self._log)
        if hopeless := explained(log, HOPELESS):
            return BackendUnavailable(f"habitat-sim cannot draw here: {hopeless}\n{CHECK}")
        return SimulatorDied(
            f"habitat-sim died while {self._doing}: {reason or explain_death(self._process.returncode, log)}"
            + ("\n  its last words:\n    " + "\n    ".join(log[-8:]) if log else "")
        )

    def _collect_log(self, stream: Any) -> None:
        for line in stream:
            self._log.append(line.decode(errors="replace").rstrip()[:500])


def explain_death(returncode: int, log: list[str]) -> str:
    """Why the process ended, from its last lines and its exit status."""
    if reason := explained(log, (*HOPELESS, *DEATHS)):
        return reason
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return SIGNALS.get(name, f"it was ended by {name}")
    return f"it ended with exit code {returncode}"


def explained(log: list[str], causes: tuple[tuple[str, str], ...]) -> str:
    """The advice of the first cause whose pattern the log holds, empty where there is none."""
    for pattern, advice in causes:
        for line in reversed(log):
            if match := re.search(pattern, line):
                return advice.format(*match.groups())
    return ""


def refusal(error: dict[str, str]) -> str:
    """An exception of habitat-sim in one line, with advice where the cause is known."""
    message = error["message"].splitlines()[0] if error["message"] else ""
    if "No Stage Attributes exists" in message:
        return "there is no such scene; check backend.data and the scene lists"
    if "Error loading general mesh data" in message:
        return f"{message}; the file is damaged or an unfinished download"
    return f"{error['type']}: {message}"
