"""Embedded scenes in the layout of ScanNet++: ``python -m tests.datagen.real.made_scannetpp FOLDER``.

Mesh, annotation, poses and pictures are those of block rooms. Pictures are 120 x 90 pixels with a principal point off their
middle; every third is taken with the phone on its side.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import trimesh

from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.conftest import COUNTING

SIZE, PADDING = (120, 90), (8, 8)
SHIFT = (6, 2)  # of the picture's left top corner in the padded one
OPEN_CV = np.diag([1.0, -1.0, -1.0, 1.0])
SPLITS = {"nvs_sem_train": 11, "nvs_sem_val": 2}


def embedded() -> EmbeddedBackend:
    return EmbeddedBackend(EmbeddedConfig(preset="blocks", blocks=COUNTING, renderer="ray"))


def write_scan(folder: Path, backend: EmbeddedBackend) -> None:
    """The mesh with a segment per two vertices' owner, and a group per object that has a surface."""
    scene = backend.scene
    parts = [part for part in scene.parts if part.visible]
    starts = np.cumsum([0] + [len(part.mesh.vertices) for part in parts])
    faces = np.concatenate([part.mesh.faces + start for part, start in zip(parts, starts[:-1], strict=True)])
    paint = [np.multiply(scene.materials[part.material].rgb, part.tint) for part in parts]
    colours = np.repeat(np.rint(np.array(paint) * 255).astype(np.uint8), np.diff(starts), axis=0)
    vertices = np.concatenate([part.world_vertices() for part in parts])
    folder.mkdir(parents=True)
    trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False).export(folder / "mesh_aligned_0.05.ply")
    owner = np.repeat([part.instance for part in parts], np.diff(starts))
    text = json.dumps({"sceneId": scene.scene_id, "segIndices": list(range(len(vertices)))})
    (folder / "segments.json").write_text(text)
    groups = [
        {"id": thing.index, "objectId": thing.index + 1, "label": thing.category, "segments": mine.tolist()}
        for thing in scene.objects
        if (mine := np.flatnonzero(owner == thing.index)).size
    ]
    (folder / "segments_anno.json").write_text(json.dumps({"sceneId": scene.scene_id, "segGroups": groups}))


def write_pictures(folder: Path, backend: EmbeddedBackend, count: int) -> None:
    """Pictures from eye height all around the room, and their poses."""
    (folder / "rgb").mkdir(parents=True)
    rng, poses = generator(1, backend.scene.scene_id), {}
    for number, (x, y, z) in enumerate(backend.sample_navigable(count, rng, 0.3)):
        roll = math.pi / 2 if number % 3 == 2 else float(rng.uniform(-0.05, 0.05))
        centre = math.atan2(-y, -x)
        pose = CameraPose((x, y, z + 1.5), centre + float(rng.uniform(-0.9, 0.9)), -0.35, roll)
        width, height = (side + pad for side, pad in zip(SIZE, PADDING, strict=True))
        camera = Camera(pose, width, height, 70)
        (left, top), pixels = SHIFT, backend.render([camera], ("rgb",))[0].rgb
        picture = pixels[top : top + SIZE[1], left : left + SIZE[0]]
        name, focal = f"frame_{number * 10:06d}", 1 / camera.metres_per_pixel
        (folder / "rgb" / f"{name}.jpg").write_bytes(encode_image(picture, "jpeg", quality=98))
        poses[name] = {
            "timestamp": float(number),
            "pose": (np.eye(4) + 50).tolist(),  # of the phone's own frame: not to be used
            "aligned_pose": (pose.camera_to_world @ OPEN_CV).tolist(),
            "intrinsic": [[focal, 0, width / 2 - left], [0, focal, height / 2 - top], [0, 0, 1]],
        }
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(poses))


def write(folder: Path, pictures: int = 14) -> Path:
    """Scenes of both published splits."""
    (folder / "splits").mkdir(parents=True)
    with embedded() as backend:
        for split, count in SPLITS.items():
            names = backend.scenes("train" if "train" in split else "test")[:count]
            (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
            for name in names:
                backend.load(name)
                write_scan(folder / "data" / name / "scans", backend)
                write_pictures(folder / "data" / name / "iphone", backend, pictures)
    return folder


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
