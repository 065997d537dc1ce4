"""Scenes depend on their id alone, not on Python's salted order of sets: a second process makes the same ones."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import hashlib
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
digest = hashlib.sha256()
for preset, indices in (("home", (0, 1, 3)), ("blocks", (5,))):
    backend = EmbeddedBackend(EmbeddedConfig(preset=preset, renderer="ray"))
    for index in indices:
        backend.load(f"{preset}-train-{index}")
        for part in backend.scene.parts:
            digest.update(part.world_vertices().tobytes())
print(digest.hexdigest())
"""


def test_scenes_do_not_depend_on_the_hash_seed() -> None:
    root = Path(__file__).parents[3]
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "6")
    }
    assert len(digests) == 1
