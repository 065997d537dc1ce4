"""A run that is killed again and again: ``python -m tests.datagen.kill OUTPUT KILLS``.

Every attempt is a fork of this process, which has opened no simulator, and ends itself with SIGKILL between two random
moments of writing. A run that comes to its end before it is killed is followed by another one. The last is finished.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

from datagen.run import generate
from ipt.common.seeding import generator
from tests.datagen.conftest import run_settings
from tests.deadly import forked


def work(folder: Path) -> None:
    config = run_settings(folder)
    generate(config, quiet=True)


if __name__ == "__main__":
    output, kills, runs, moments = Path(sys.argv[1]), 0, 0, generator(0, "kill")
    while kills < int(sys.argv[2]):
        status = forked(partial(work, output / str(runs)), int(moments.integers(1, 9)))
        assert status in (0, -signal.SIGKILL), f"an attempt was not killed but ended with {status}"
        kills, runs = (kills, runs + 1) if status == 0 else (kills + 1, runs)
    assert forked(partial(work, output / str(runs))) == 0
