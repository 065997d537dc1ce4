"""A folder of scene files (MJCF houses, GLB rooms, homes that were exported) as scenes with splits.

A scene is a file ``NAME.glb``, or a file ``NAME.xml`` that holds an MJCF model, or ``scene.xml`` in a folder NAME; its id is
NAME, or the path to it where names repeat. What lies below a folder ``train``, ``val`` or ``test`` belongs to that split; the
others are dealt by the hash of their id, 80, 10 and 10 %.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from datagen.backends.base import SceneError
from datagen.backends.splits import SHARES, fraction
from ipt.samples.sample import SPLITS

MODEL = re.compile(rb"<mujoco[\s>]")
HEAD = 4096  # bytes of an XML file in which its root element begins


def find_scenes(folder: Path) -> dict[str, Path]:
    """Scene files below ``folder`` by id, sorted; a ``SceneError`` where there is none."""
    if not folder.is_dir():
        raise SceneError(f"scene_folder {folder}: no such folder")
    paths = [path for path in sorted(folder.rglob("*")) if is_scene(path)]
    if not paths:
        raise SceneError(f"scene_folder {folder}: holds no .glb file and no .xml file with a <mujoco> model")
    names = {
        path: path.parent.name if path.name == "scene.xml" and path.parent != folder else path.stem for path in paths
    }
    several = Counter(names.values())
    return {
        name if several[name] == 1 else path.relative_to(folder).with_suffix("").as_posix().replace("/", "."): path
        for path, name in names.items()
    }


def is_scene(path: Path) -> bool:
    """Whether a file is a scene: MJCF files that only others include have another root, annotations are no scenes."""
    if path.suffix.lower() == ".glb":
        return not path.name.endswith(".semantic.glb")
    if path.suffix.lower() not in (".xml", ".mjcf") or not path.is_file():
        return False
    with path.open("rb") as file:
        return MODEL.search(file.read(HEAD)) is not None


def split_scenes(scenes: dict[str, Path], folder: Path, split: str) -> list[str]:
    """Ids of a split."""
    low, high = SHARES[split]
    chosen = []
    for name, path in scenes.items():
        own = next((part for part in path.relative_to(folder).parts[:-1] if part in SPLITS), None)
        if own == split or (own is None and low <= fraction(name) < high):
            chosen.append(name)
    if not chosen:
        raise SceneError(
            f"scene_folder {folder}: none of its {len(scenes)} scenes belongs to split {split}; put some into a folder {split}"
        )
    return chosen
