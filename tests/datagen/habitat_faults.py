"""Stands in for Python in the worker's environment and goes wrong on purpose: ``habitat_faults.py FAULT MARK WORKER``.

A fault strikes as long as there is no file MARK; one that strikes once makes it. A silent worker stays silent until its client
hangs up, so that whoever waits for an answer never has one.
"""

import os
import signal
import struct
import sys
import time
from pathlib import Path


def main(fault: str, mark: str, script: str) -> None:
    sys.path.insert(0, os.path.dirname(script))
    import worker
    from protocol import MAGIC

    def die(*_: object) -> None:
        if "once" in fault:
            Path(mark).touch()
        print("Segmentation of everything", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL if fault.startswith("killed") else signal.SIGSEGV)

    def send_raw(data: bytes) -> None:
        os.write(3, data)

    client = 100  # where neither the worker nor a fault closes it
    os.dup2(0, client)

    def keep_silent() -> None:
        while os.read(client, 1 << 16):
            pass
        os._exit(0)

    if Path(mark).exists():
        fault = "none"
    if fault == "crash at start":
        die()
    elif fault == "exit at start":
        print("ImportError: libEGL.so.1", file=sys.stderr)
        sys.exit(3)
    elif fault == "silence at start":
        keep_silent()
    elif fault == "slow start":
        time.sleep(1.0)
    elif fault == "noisy start":
        os.write(1, b"activating the environment\nIPT and IPTX are no magic\n")
    elif fault == "endless noise at start":
        while True:
            os.write(1, b"y\n" * 1000)
    elif fault == "other version":
        worker.VERSION = 99
    elif fault == "old simulator":
        worker.NEEDED = (*worker.NEEDED, "a_method_of_tomorrow")
    elif fault in ("crash while rendering", "crash once while rendering", "killed while rendering"):
        worker.Worker.render = die
    elif fault == "silence while rendering":
        worker.Worker.render = lambda *_: keep_silent()
    elif fault in ("garbage", "huge header", "huge array", "closed output", "logs to standard output"):
        os.dup2(1, 3)  # main() keeps its own copy of standard output; this is another
        answer = {
            "garbage": b"this is no message at all",
            "huge header": MAGIC + struct.pack(">I", 1 << 31),
            "huge array": message(MAGIC, b'{"arrays": [["depth", "float32", [100000, 100000]]]}'),
        }
        if fault == "closed output":
            worker.Worker.render = lambda *_: (os.closerange(3, 64), keep_silent())
        elif fault == "logs to standard output":
            honest = worker.Worker.render
            worker.Worker.render = lambda *args: (os.write(1, b"[Metadata] a C++ log line\n"), honest(*args))[1]
        else:
            worker.Worker.render = lambda *_: (send_raw(answer[fault]), keep_silent())
    worker.main()


def message(magic: bytes, text: bytes) -> bytes:
    return magic + struct.pack(">I", len(text)) + text


if __name__ == "__main__":
    main(*sys.argv[1:])
