"""Embedded scenes in the layout of Matterport3D: ``python -m tests.datagen.real.made_matterport3d FOLDER``.

A house is two block rooms on top of each other, `STOREY_M` apart; the lower one's objects come first.
"""

import json
import sys
from pathlib import Path

import numpy as np
import trimesh

from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.splits import fraction

STOREY_M = 3.4
#: Names that hashing puts into the split train.
HOUSES = ("house0", "house1", "house3")


def embedded() -> EmbeddedBackend:
    return EmbeddedBackend(EmbeddedConfig(preset="blocks", renderer="ray"))


def scene_name(backend: EmbeddedBackend, house: int, level: int) -> str:
    """The embedded scene that a level shows."""
    return str(backend.scenes("train")[2 * house + level])


def write_house(folder: Path, name: str, number: int, backend: EmbeddedBackend) -> None:
    """The four files of a house; a segment per part, a group per object."""
    pieces, segments, groups, levels = [], [], [], []
    for level in range(2):
        backend.load(scene_name(backend, number, level))
        scene = backend.scene
        up = np.array([0, 0, STOREY_M * level])
        low, high = np.array(scene.bounds_min) + up, np.array(scene.bounds_max) + up
        levels.append((low, high))
        members: dict[int, list[int]] = {}
        for part in (part for part in scene.parts if part.visible):
            vertices = part.world_vertices() + up
            paint = np.rint(255 * np.multiply(scene.materials[part.material].rgb, part.tint)).astype(np.uint8)
            colours = np.tile(paint, (len(vertices), 1))
            pieces.append(trimesh.Trimesh(vertices, part.mesh.faces, vertex_colors=colours, process=False))
            members.setdefault(part.instance, []).append(len(pieces) - 1)
            segments += [len(pieces) - 1] * len(part.mesh.faces)
        groups += [
            {"id": len(groups), "objectId": thing.index, "label": thing.name, "segments": members[thing.index]}
            for thing in scene.objects
            if thing.index in members
        ]
    folder.mkdir(parents=True)
    trimesh.util.concatenate(pieces).export(folder / f"{name}.ply")
    (folder / f"{name}.fsegs.json").write_text(json.dumps({"segIndices": segments}))
    (folder / f"{name}.semseg.json").write_text(json.dumps({"segGroups": groups}))
    (folder / f"{name}.house").write_text(house_text(name, levels))


def house_text(name: str, levels: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Levels, a bedroom on the first and a kitchen on the second, and their outlines."""
    lines = ["ASCII 1.1", f"H {name} - 0 0 8 2 0 0 0 2 0 2  0 0 0 0 0  0 0 0 9 9 9  0 0 0 0 0"]

    def numbers(*arrays: np.ndarray) -> str:
        return "  ".join(" ".join(f"{value:.4f}" for value in array) for array in arrays)

    for level, (low, high) in enumerate(levels):
        lines.append(f"L {level} 1 -  {numbers((low + high) / 2, low, high)}  0 0 0 0 0")
    for level, (low, high) in enumerate(levels):
        lines.append(f"R {level} {level} 0 0 {'bk'[level]}  {numbers((low + high) / 2, low, high)}  2.5 0 0 0 0")
    for level in range(len(levels)):
        lines.append(f"S {level} {level} 0 -  0 0 0  0 0 1  0 0 0 0 0 0  0 0 0 0 0")
    for level, (low, high) in enumerate(levels):
        for place, (x, y) in enumerate(((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))):
            lines.append(f"V {4 * level + place} {level} -  {x:.4f} {y:.4f} {low[2]:.4f}  0 0 1  0 0 0")
    return "".join(f"{line}\n" for line in lines)


def write(folder: Path) -> Path:
    with embedded() as backend:
        for number, name in enumerate(HOUSES):
            write_house(folder / name / "house_segmentations", name, number, backend)
    return folder


if __name__ == "__main__":
    print({name: round(fraction(name), 2) for name in HOUSES}, write(Path(sys.argv[1])))
