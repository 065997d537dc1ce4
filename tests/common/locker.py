"""A process that holds a folder's lock until its input ends: ``python -m tests.common.locker FOLDER [fork]``.

With ``fork`` it first starts a child that outlives it, as a worker may.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from ipt.common.locking import held

if __name__ == "__main__":
    with held(Path(sys.argv[1])):
        if sys.argv[2:] and not os.fork():
            signal.alarm(60)
            time.sleep(60)
            os._exit(0)
        print("held", flush=True)
        sys.stdin.read()
