"""Headless Chromium, driven over its debugging pipe: pages are opened, and expressions evaluated in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Messages are JSON that ends with a null byte, on two pipes."""

    def __init__(self, sending: int, receiving: int) -> None:
        self._sending, self._receiving, self._number, self._rest = sending, receiving, 0, b""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session: str | None = attached["sessionId"]
        self.call("Page.enable", {}, self._session)

    def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Call a method and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._sending, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        return self._wait(lambda told: told.get("id") == self._number).get("result", {})

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self._rest:
                part = os.read(self._receiving, 1 << 16)
                assert part, "the browser has ended"
                self._rest += part
            told, _, self._rest = self._rest.partition(b"\0")
            message: dict[str, Any] = json.loads(told)
            if wanted(message):
                return message

    def open(self, address: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.call("Page.navigate", {"url": address}, self._session)
        self._wait(lambda told: told.get("method") == "Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", asked, self._session)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended afterwards."""
    assert CHROMIUM is not None
    to_read, sending = os.pipe()
    receiving, to_write = os.pipe()

    def numbered() -> None:
        """The browser reads from file 3 and writes to file 4."""
        kept = os.dup(to_read), os.dup(to_write)
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    program = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(program, preexec_fn=numbered, close_fds=False, stderr=subprocess.DEVNULL)
    try:
        yield Browser(sending, receiving)
    finally:
        process.kill()
        process.wait()
        for file in (to_read, sending, receiving, to_write):
            os.close(file)
