"""A supervised AI2-THOR player: the real client of ai2thor 5.0, with waits that end when the player does.

The client waits for its timeout (100 s) on a player that has died, and for ever on one that never opens its pipes. Here
every wait is cut into ticks; at each one the process is looked at and a deadline kept. What goes wrong is told apart:
``SimulatorDied`` (crash, silence, broken protocol: worth a retry with a new player), ``SceneError`` (the player refuses,
and says why) and ``BackendUnavailable`` (this machine or this build will never do).
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any

from ai2thor.controller import Controller
from ai2thor.fifo_server import FifoServer
from ai2thor.platform import STR_PLATFORM_MAP
from ai2thor.wsgi_server import WsgiServer

from datagen.backends.ai2thor.setup import explain_start
from datagen.backends.base import BackendUnavailable, SceneError, SimulatorDied

TICK_S = 0.1
GRACE_S = 2.0
MAX_MESSAGE_BYTES = 1 << 29
READ_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # Linux; elsewhere the call fails
UNKNOWN_TO_BUILD = ("InvalidAction", "MissingArguments", "AmbiguousAction", "InvalidArgument")


class Watch:
    """Ends a wait for a player: when its process is gone, or has said nothing for ``timeout`` seconds."""

    def __init__(self, process: Any, timeout: float) -> None:
        self._process, self._timeout = process, timeout
        self._end = time.monotonic() + timeout

    def check(self) -> None:
        """``SimulatorDied`` if there is nothing left to wait for."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            raise SimulatorDied(f"the player process ended with code {code}")
        if time.monotonic() > self._end:
            raise SimulatorDied(f"the player was silent for {self._timeout:g} s")

    def closed(self) -> None:
        """The player has closed its end: say why, once the process had time to end."""
        if self._process is not None:
            with suppress(Exception):
                self._process.wait(GRACE_S)
        self.check()
        raise SimulatorDied("the player closed its pipe but its process lives on")


class WatchedPipes(FifoServer):  # type: ignore[misc]
    """The client's pipe server; opening, reading and writing all keep watch."""

    server_pipe: Any
    client_pipe: Any

    def _recv_message(self, timeout: float | None) -> Any:
        if self.server_pipe is None:
            # Opened without blocking: the client's own open() waits for ever if the player never comes.
            descriptor = os.open(self.server_pipe_path, os.O_RDONLY | os.O_NONBLOCK)
            with suppress(OSError):  # fewer, larger reads where the system allows it
                fcntl.fcntl(descriptor, F_SETPIPE_SZ, READ_BYTES)
            self.server_pipe = os.fdopen(descriptor, "rb", buffering=0)
        return super()._recv_message(timeout)

    def _read_with_timeout(self, server_pipe: Any, message_size: int, timeout: float | None) -> bytes:
        if message_size > MAX_MESSAGE_BYTES:
            raise SimulatorDied(f"the player announced a message of {message_size:,} bytes: not AI2-THOR's protocol")
        watch = Watch(self.unity_proc, timeout or self.timeout)
        message = bytearray()
        while len(message) < message_size:
            if select.select([server_pipe], [], [], TICK_S)[0]:
                part = os.read(server_pipe.fileno(), min(READ_BYTES, message_size - len(message)))
                message += part
                if not part:
                    watch.closed()
            else:
                watch.check()
        return bytes(message)

    def _send_message(self, message_type: Any, body: bytes) -> None:
        watch = Watch(self.unity_proc, self.timeout)
        while self.client_pipe is None:
            try:
                descriptor = os.open(self.client_pipe_path, os.O_WRONLY | os.O_NONBLOCK)
                self.client_pipe = os.fdopen(descriptor, "wb", buffering=0)
            except OSError:  # ENXIO: the player does not read yet
                watch.check()
                time.sleep(TICK_S)
        self._last_action_message = body
        rest = memoryview(self._create_header(message_type, body) + body + self.eom_header)
        while rest:
            if select.select([], [self.client_pipe], [], TICK_S)[1]:
                try:
                    rest = rest[os.write(self.client_pipe.fileno(), rest) :]
                except BrokenPipeError:
                    watch.closed()
            else:
                watch.check()


class WatchedHttp(WsgiServer):  # type: ignore[misc]
    """The client's HTTP server; a request that it cannot understand is an error at once instead of a silence."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.failure: Exception | None = None
        self._ended = False
        self.app.register_error_handler(Exception, self._keep_failure)

    def _keep_failure(self, error: Exception) -> tuple[str, int]:
        self.failure = error
        return str(error), 500

    def receive(self, timeout: float | None = None) -> Any:
        watch = Watch(self.unity_proc, timeout or self.timeout)
        event = None
        while event is None:
            with suppress(Empty):
                event = self.request_queue.get(timeout=TICK_S)
            if self.failure is not None:
                raise self.failure
            if event is None:
                watch.check()
        return event

    def stop(self) -> None:
        if self.unity_proc is not None and self.unity_proc.poll() is None:
            self.unity_proc.kill()
        if not self._ended:
            self._ended = True
            with suppress(Exception):
                super().stop()
            # shutdown() waits for a request in progress, and that may never end
            threading.Thread(target=self.wsgi_server.shutdown, daemon=True).start()


class WatchedController(Controller):  # type: ignore[misc]
    """The client's controller on the servers above."""

    server: Any

    def _build_server(self, host: str, port: int, width: int, height: int) -> None:
        common = {"width": width, "height": height, "timeout": self.server_timeout, "depth_format": self.depth_format}
        if self.server is None and self.server_class is WsgiServer:
            self.server = WatchedHttp(host=host, port=port, **common)
        elif self.server is None:
            self.server = WatchedPipes(**common)

    def abandon(self) -> None:
        """End the player and its server, whatever state they are in."""
        server = getattr(self, "server", None)
        process = getattr(server, "unity_proc", None)
        if process is not None:
            process.kill()
            process.wait()
        if server is not None:
            with suppress(Exception):
                server.stop()
            with suppress(Exception):
                self._build.unlock()


class Player:
    """One running player. After ``SimulatorDied`` it is stopped and of no further use."""

    def __init__(self, arguments: dict[str, Any], server: str) -> None:
        """Start a player and load ``arguments["scene"]``; ``server`` is "fifo" or "wsgi"."""
        if "platform" in arguments:  # by its class: with a name the client's own error message fails
            arguments = {**arguments, "platform": STR_PLATFORM_MAP[arguments["platform"]]}
        # In two steps: if the second fails, what it has started is known and ended.
        self._controller: Any = WatchedController.__new__(WatchedController)
        with self._watching("starting"):
            try:
                self._controller.__init__(  # type: ignore[misc]
                    server_class=WsgiServer if server == "wsgi" else FifoServer, **arguments
                )
            except Exception as error:
                launched = getattr(getattr(self._controller, "server", None), "unity_proc", None) is not None
                if not launched and (instruction := explain_start(error)):
                    raise BackendUnavailable(instruction) from error
                raise

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures in pixels."""
        return self._controller.width, self._controller.height

    def reset(self, scene: str | dict[str, Any]) -> None:
        """Load a scene by name, or a ProcTHOR house."""
        with self._watching(f"loading {scene if isinstance(scene, str) else 'a house'}"):
            self._controller.reset(scene)

    def act(self, action: str, **arguments: Any) -> Any:
        """Do an action and return the client's event; ``SceneError`` with the player's words if it refuses."""
        with self._watching(action):
            event = self._controller.step(action=action, **arguments)
        if action == "ChangeResolution":
            self._controller.width, self._controller.height = arguments["x"], arguments["y"]
        if not event.metadata["lastActionSuccess"]:
            raise SceneError(f"AI2-THOR refused {action}: {event.metadata['errorMessage']}")
        return event

    def stop(self) -> None:
        """End the player."""
        if self._controller is not None:
            self._controller.abandon()
            self._controller = None

    @contextmanager
    def _watching(self, doing: str) -> Iterator[None]:
        """Turn every failure of the block into one of the three errors of this module."""
        try:
            yield
        except BackendUnavailable:
            self.stop()
            raise
        except Exception as error:
            metadata = getattr(getattr(self._controller, "last_event", None), "metadata", {})
            refusal = metadata.get("errorMessage") if not metadata.get("lastActionSuccess", True) else None
            if refusal and refusal in str(error):
                if metadata.get("errorCode") in UNKNOWN_TO_BUILD:
                    raise BackendUnavailable(
                        f"this AI2-THOR build does not know {doing} as ai2thor 5.0 sends it ({refusal}); use the build that "
                        "belongs to the package (no commit_id, no local_executable) or one made from the same release"
                    ) from error
                raise SceneError(f"AI2-THOR refused {doing}: {refusal}") from error
            if isinstance(error, ValueError) and "not contained in build" in str(error):
                raise SceneError(f"{doing}: the scene is not part of this AI2-THOR build") from error
            log = log_tail(self._controller)
            self.stop()
            raise SimulatorDied(f"AI2-THOR died while {doing}: {root_cause(error)}{log}") from error


def root_cause(error: BaseException) -> str:
    """The first ``SimulatorDied`` behind an error of the client, or else its first cause."""
    while not isinstance(error, SimulatorDied) and (behind := error.__cause__ or error.__context__) is not None:
        error = behind
    return str(error) if isinstance(error, SimulatorDied) else f"its message is not understood ({error!r})"


def log_tail(controller: Any, lines: int = 5) -> str:
    """The last lines of the player's log, where there is one."""
    if controller is None:
        return ""
    path = Path(controller.log_dir) / "unity.log"
    with suppress(OSError):
        tail = path.read_text(errors="replace").splitlines()[-lines:]
        return f"; {path} ends: " + " | ".join(tail) if tail else ""
    return ""
