"""What habitat-sim needs of a machine, for ``python -m datagen.backends.doctor``."""

from __future__ import annotations

from pathlib import Path

from datagen.backends.base import BackendUnavailable, SceneError, SimulatorDied
from datagen.backends.diagnosis import Finding
from datagen.backends.habitat.backend import HabitatConfig
from datagen.backends.habitat.install import INSTALL
from datagen.backends.habitat.process import WorkerProcess
from datagen.backends.habitat.scenes import LAYOUTS, find_scenes


def diagnose(config: HabitatConfig) -> list[Finding]:
    """Whether habitat-sim starts in its environment, and whether there are scenes for it."""
    return [_simulator(config), _scenes(config)]


def _simulator(config: HabitatConfig) -> Finding:
    name = f"habitat-sim (python: {config.python})"
    try:
        worker = WorkerProcess(config.python, config.start_timeout_s)
    except (BackendUnavailable, SimulatorDied) as error:
        return Finding(name, False, str(error).splitlines()[0], f"{INSTALL}; then habitat_python=.../bin/python")
    worker.stop()
    hello = worker.hello
    return Finding(name, True, f"{hello['habitat_sim']}, Python {hello['python']}, numpy {hello['numpy']}")


def _scenes(config: HabitatConfig) -> Finding:
    layout = LAYOUTS[config.dataset]
    try:
        found = find_scenes(Path(config.data), layout)
    except SceneError as error:
        return Finding(f"scenes ({config.dataset})", False, str(error), layout.download)
    return Finding(f"scenes ({config.dataset})", True, f"{len(found)} in {config.data}")
