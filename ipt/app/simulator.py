"""The other side of the wall: ``python -m datagen.stage`` in a process of its own, asked through its pipes.

Nothing of ``ipt`` imports a simulator, and a graphics context belongs to one thread, which the callbacks of a page do not have.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.samples.sample import SpatialSample

#: The folder in which ``datagen`` lies beside ``ipt``, in a checkout and where both are installed.
HOME = Path(__file__).resolve().parents[2]
Place = tuple[float, float]


@dataclass(frozen=True)
class Scenario:
    """What came of a click: ``sample`` asks for the unseen picture and holds it, each of ``questions`` asks something about the
    same pictures. ``marked``: what was clicked in, with its marks; ``views`` and ``truth``, to look at."""

    sample: SpatialSample
    questions: tuple[SpatialSample, ...]
    marked: bytes
    views: tuple[bytes, ...]
    truth: bytes


class Simulator:
    """Scenes made with ``settings``, those of ``python -m datagen.stage``. The process starts when first asked, and again if it
    died. Threads may share it: one request at a time."""

    def __init__(self, settings: Sequence[str]) -> None:
        self._settings, self._lock = tuple(settings), threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def look(self, scene: int) -> tuple[bytes, bytes]:
        """The first-person picture and the map of a scene."""
        reply = self._ask(do="look", scene=scene)
        return picture(reply["view"]), picture(reply["map"])

    def step(self, scene: int, at: Place, turn: str) -> Scenario:
        """Perspective Taking from a click on the floor. ``UserError`` says why one cannot stand there."""
        return scenario(self._ask(do="step", scene=scene, at=at, turn=turn))

    def walk(self, scene: int, clicks: Sequence[Place], side: str, asked: bool) -> Scenario:
        """Path Tracing from clicks on the map."""
        return scenario(self._ask(do="walk", scene=scene, clicks=list(clicks), side=side, asked=asked))

    def around(self, scene: int, clicks: Sequence[Place], asked: bool) -> Scenario:
        """Multiview Counting from clicks on the map."""
        return scenario(self._ask(do="around", scene=scene, clicks=list(clicks), asked=asked))

    def mark(self, data: bytes, at: Place) -> bytes:
        """Any picture with the red X at a click, as if on the floor before a camera of eye height that looks down a little."""
        return picture(self._ask(do="mark", picture=base64.b64encode(data).decode(), at=at)["marked"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.stdin.close()
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                self._process = None

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it died; the reply, which is none, says so
                print(json.dumps(request), file=process.stdin, flush=True)
            reply = self._reply(process)
        if "error" in reply:
            raise UserError(str(reply["error"]))
        return reply

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "datagen.stage", *self._settings]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
            self._process = subprocess.Popen(command, cwd=HOME, **pipes)
            self._reply(self._process)
        return self._process

    def _reply(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            self._process = None
            raise UserError("the simulator ended; the terminal says why, and trying again starts another one")
        reply: dict[str, Any] = json.loads(line)
        return reply


def scenario(reply: dict[str, Any]) -> Scenario:
    """A reply as what came of a click."""
    sample = SpatialSample.from_json(reply["sample"])
    return Scenario(
        sample,
        tuple(
            replace(sample, question=asked["question"], question_type=asked["question_type"]).with_choices(
                asked["choices"], asked["answer_text"]
            )
            for asked in reply["questions"]
        ),
        picture(reply["marked"]),
        tuple(map(picture, reply["views"])),
        picture(reply["truth"]),
    )


def picture(text: str) -> bytes:
    """A picture of a reply."""
    return base64.b64decode(text, validate=True)
