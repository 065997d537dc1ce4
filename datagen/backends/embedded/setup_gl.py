"""``python -m datagen.backends.embedded.setup_gl``: make sure that scenes can be drawn on this machine.

Where no OpenGL works, libosmesa6 is installed with apt if this user may; otherwise the ray caster is announced together
with the command that gets the faster renderer. Never fails: both renderers draw the same scenes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from datagen.backends.embedded.gl import INSTRUCTION, NO_PLATFORM, PROBED, prepare_gl, probe
from ipt.common import cli

PACKAGE = "libosmesa6"


def install_osmesa() -> bool:
    """Install Mesa's software renderer with apt; False where that is not possible."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE]
    if subprocess.run(install, env=environment, capture_output=True).returncode == 0:
        return True
    updated = subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True).returncode == 0
    return updated and subprocess.run(install, env=environment, capture_output=True).returncode == 0


@dataclass(frozen=True)
class SetupConfig:
    """Make sure that scenes can be drawn on this machine: where no OpenGL works, libosmesa6 is installed with apt if possible."""


def main(config: SetupConfig) -> None:
    """Say how scenes will be drawn, after an installation where one is needed and possible."""
    platform = prepare_gl()
    if platform is None and install_osmesa():
        probe.cache_clear()
        os.environ[PROBED] = probe() or NO_PLATFORM
        platform = prepare_gl()
    if platform is None:
        print(f"Scenes will be drawn by the ray caster. For the faster renderer: {INSTRUCTION}")
    else:
        print(f"Scenes will be drawn by MuJoCo through {platform}.")


if __name__ == "__main__":
    cli.run(SetupConfig, main)
