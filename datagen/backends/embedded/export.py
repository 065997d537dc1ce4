"""Generated homes as files for other simulators: ``python -m datagen.backends.embedded.export homes=10 output_dir=FOLDER``.

``glb``: ``NAME.glb`` with a node per object, and beside it ``NAME.semantic.glb`` and ``NAME.semantic.txt`` in HM3D's layout,
in which every object has a colour of its own, with the scene dataset config that habitat-sim reads them by
(``backend=habitat backend.dataset=hm3d backend.data=FOLDER/glb``). ``mjcf``: ``NAME/scene.xml`` with a body per object, its
meshes and textures. Both are read back by ``backend.scene_file`` and ``backend.scene_folder``, too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import SceneError
from datagen.backends.embedded.backend import SceneIds
from datagen.backends.embedded.house import make_house
from datagen.backends.embedded.scene import Material, Mesh, Part, Scene
from ipt.common import cli
from ipt.common.files import write_bytes, write_json
from ipt.common.images import encode_image
from ipt.common.registry import unknown_name
from ipt.common.seeding import derived_seed
from ipt.samples.sample import SPLITS

FORMATS = ("glb", "mjcf")
FLOAT, UINT = 5126, 5125  # glTF component types
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
REPEAT = 10497
DATASET_CONFIG = "hm3d_annotated_basis.scene_dataset_config.json"


@dataclass(frozen=True)
class ExportConfig:
    """Write homes as GLB with semantics for habitat-sim, and as MJCF.

    homes: how many, from number first of split; formats: of glb, mjcf; output_dir: a folder per format is made in it.
    """

    homes: int = 1
    first: int = 0
    split: str = "train"
    formats: tuple[str, ...] = FORMATS
    output_dir: str = "outputs/homes"


class Buffer:
    """The binary chunk of a GLB file with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to 4; the number of their view."""
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append({**view, **({"target": target} if target else {})})
        self.data += data
        return len(self.views) - 1

    def values(self, values: NDArray[Any], kind: str, target: int) -> int:
        """Append an array, float32 or uint32; the number of its accessor."""
        whole = values.dtype.kind == "u"
        entry: dict[str, Any] = {
            "bufferView": self.view(values.astype("<u4" if whole else "<f4").tobytes(), target),
            "componentType": UINT if whole else FLOAT,
            "count": len(values),
            "type": kind,
        }
        if kind == "VEC3":
            entry |= {
                "min": values.min(axis=0).astype(float).tolist(),
                "max": values.max(axis=0).astype(float).tolist(),
            }
        self.accessors.append(entry)
        return len(self.accessors) - 1


def glb(scene: Scene, semantic: bool = False) -> bytes:
    """The scene as binary glTF 2.0, y up: one node per object, with a primitive per part. ``semantic``: vertices in the colour
    of their object instead of materials."""
    buffer, materials, meshes, nodes = Buffer(), list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    images = list[dict[str, Any]]()
    numbers: dict[tuple[str, tuple[float, float, float]], int] = {}
    for thing in scene.objects:
        primitives = []
        for part in (part for part in scene.parts if part.instance == thing.index and part.visible):
            attributes = {
                "POSITION": buffer.values(y_up(part.world_vertices()), "VEC3", ARRAY_BUFFER),
                "NORMAL": buffer.values(y_up(part.world_normals()), "VEC3", ARRAY_BUFFER),
            }
            primitive: dict[str, Any] = {"attributes": attributes}
            if semantic:
                colour = np.tile(
                    np.divide(colour_code(thing.index), 255, dtype=np.float32), (len(part.mesh.vertices), 1)
                )
                attributes["COLOR_0"] = buffer.values(colour.astype(np.float32), "VEC3", ARRAY_BUFFER)
            else:
                uv = np.column_stack([part.mesh.uv[:, 0], 1 - part.mesh.uv[:, 1]]).astype(np.float32)
                attributes["TEXCOORD_0"] = buffer.values(uv, "VEC2", ARRAY_BUFFER)
                key = (part.material, part.tint)
                if key not in numbers:
                    numbers[key] = len(materials)
                    materials.append(gltf_material(scene.materials[part.material], part.tint, buffer, images))
                primitive["material"] = numbers[key]
            faces = part.mesh.faces.astype(np.uint32).ravel()
            primitive["indices"] = buffer.values(faces, "SCALAR", ELEMENT_ARRAY_BUFFER)
            primitives.append(primitive)
        if primitives:
            nodes.append({"name": thing.id, "mesh": len(meshes)})
            meshes.append({"name": thing.id, "primitives": primitives})
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "imaginative perception tokens"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data) + -len(buffer.data) % 4}],
    }
    if materials:
        content["materials"] = materials
    if images:
        content |= {
            "images": images,
            "samplers": [{"wrapS": REPEAT, "wrapT": REPEAT}],
            "textures": [{"source": number, "sampler": 0} for number in range(len(images))],
        }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    binary = bytes(buffer.data) + bytes(-len(buffer.data) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def gltf_material(
    material: Material, tint: tuple[float, float, float], buffer: Buffer, images: list[dict[str, Any]]
) -> dict[str, Any]:
    """A rough material without metal; its picture is filed once."""
    colour = [float(base * part) for base, part in zip(material.rgb, tint, strict=True)]
    look: dict[str, Any] = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9}
    if material.texture is not None:
        known = next((number for number, image in enumerate(images) if image["name"] == material.name), None)
        if known is None:
            known = len(images)
            view = buffer.view(encode_image(material.texture, "png"))
            images.append({"name": material.name, "bufferView": view, "mimeType": "image/png"})
        look["baseColorTexture"] = {"index": known}
    made: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": look}
    if material.emission:
        made["emissiveFactor"] = [min(1.0, material.emission * value) for value in colour]
    return made


def y_up(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(x, y, z) with z up -> (x, z, -y), as glTF has it."""
    return np.column_stack([points[:, 0], points[:, 2], -points[:, 1]]).astype(np.float32)


def colour_code(index: int) -> tuple[int, int, int]:
    """A colour (0..255) for each object, none of them black and no two alike."""
    code = ((index + 1) * 2654435761) % 0xFFFFFF + 1  # Knuth's multiplier: odd, so that none occurs twice
    return code >> 16, code >> 8 & 255, code & 255


def semantic_text(scene: Scene) -> str:
    """HM3D's annotation of a scene: number, colour, category and region of each object."""
    rooms = {room.id: number for number, room in enumerate(scene.rooms)}
    lines = ["HM3D Semantic Annotations"]
    for thing in scene.objects:
        red, green, blue = colour_code(thing.index)
        region = rooms.get(thing.room_id or "", 0)
        lines.append(f'{thing.index + 1},{red:02X}{green:02X}{blue:02X},"{thing.category}",{region}')
    return "\n".join(lines) + "\n"


def write_glb(scene: Scene, folder: Path) -> None:
    """A scene in HM3D's layout, with the dataset config that habitat-sim reads it by."""
    home = folder / scene.scene_id
    write_bytes(home / f"{scene.scene_id}.glb", glb(scene))
    write_bytes(home / f"{scene.scene_id}.semantic.glb", glb(scene, semantic=True))
    write_bytes(home / f"{scene.scene_id}.semantic.txt", semantic_text(scene).encode())
    upright = {"up": [0.0, 1.0, 0.0], "front": [0.0, 0.0, -1.0]}
    attributes = {**upright, "semantic_up": upright["up"], "semantic_front": upright["front"]}
    descriptor = {
        "semantic_descriptor_filename": "%%CONFIG_NAME_AS_ASSET_FILENAME%%.semantic.txt",
        "semantic_asset": "%%CONFIG_NAME_AS_ASSET_FILENAME%%.semantic.glb",
        "has_semantic_textures": False,
    }
    stages = {"default_attributes": {**attributes, **descriptor}, "paths": {".glb": ["*/*.glb"]}}
    write_json(folder / DATASET_CONFIG, {"stages": stages})


def write_mjcf(scene: Scene, folder: Path) -> None:
    """``folder/NAME/scene.xml`` with its meshes and textures: a body per object, nothing of which moves or collides."""
    home = folder / scene.scene_id
    root = ElementTree.Element("mujoco", model=scene.scene_id)
    ElementTree.SubElement(root, "compiler", angle="radian", meshdir=".", texturedir=".")
    assets, world = ElementTree.SubElement(root, "asset"), ElementTree.SubElement(root, "worldbody")
    meshes: dict[int, str] = {}
    names = {name: f"material{number}" for number, name in enumerate(sorted({part.material for part in scene.parts}))}
    for name, short in names.items():
        material = scene.materials[name]
        look = {
            "name": short,
            "rgba": "1 1 1 1",
            "emission": f"{material.emission:g}",
            "specular": f"{material.specular:g}",
        }
        if material.texture is not None:
            write_bytes(home / f"{short}.png", encode_image(material.texture, "png"))
            ElementTree.SubElement(assets, "texture", name=short, type="2d", file=f"{short}.png")
            look["texture"] = short
        ElementTree.SubElement(assets, "material", look)
    for thing in scene.objects:
        body = ElementTree.SubElement(world, "body", name=thing.id)
        for part in (part for part in scene.parts if part.instance == thing.index and part.visible):
            if id(part.mesh) not in meshes:
                meshes[id(part.mesh)] = short = f"mesh{len(meshes)}"
                write_bytes(home / f"{short}.obj", wavefront(part.mesh).encode())
                ElementTree.SubElement(assets, "mesh", name=short, file=f"{short}.obj", inertia="shell")
            ElementTree.SubElement(body, "geom", geom_attributes(part, meshes[id(part.mesh)], names, scene))
    ElementTree.indent(root)
    write_bytes(home / "scene.xml", ElementTree.tostring(root))


def geom_attributes(part: Part, mesh: str, names: dict[str, str], scene: Scene) -> dict[str, str]:
    """A part as a geom that is seen and touches nothing."""
    colour = np.multiply(scene.materials[part.material].rgb, part.tint)
    return {
        "type": "mesh",
        "mesh": mesh,
        "material": names[part.material],
        "rgba": " ".join(f"{value:.5g}" for value in (*colour, 1.0)),
        "pos": " ".join(f"{value:.6g}" for value in part.position),
        "euler": f"0 0 {part.yaw:.8g}",
        "contype": "0",
        "conaffinity": "0",
    }


def wavefront(mesh: Mesh) -> str:
    """A mesh as OBJ text."""
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in mesh.uv]
    lines += [f"vn {x:.5g} {y:.5g} {z:.5g}" for x, y, z in mesh.normals]
    lines += ["f " + " ".join(f"{corner}/{corner}/{corner}" for corner in face) for face in (mesh.faces + 1).tolist()]
    return "\n".join(lines) + "\n"


def export(config: ExportConfig) -> list[str]:
    """Write the homes; their names."""
    if config.split not in SPLITS:
        raise SceneError(unknown_name("split", config.split, SPLITS))
    for name in config.formats:
        if name not in FORMATS:
            raise SceneError(unknown_name("format", name, FORMATS))
    if config.homes < 1 or config.first < 0:
        raise SceneError(f"homes must be at least 1 and first at least 0, got {config.homes} and {config.first}")
    ids: Sequence[str] = SceneIds("home", config.split)[config.first : config.first + config.homes]
    writers = {"glb": write_glb, "mjcf": write_mjcf}
    for number, scene_id in enumerate(ids, config.first):
        scene = make_house(scene_id, derived_seed(number, "scene", "home", config.split))
        for name in config.formats:
            writers[name](scene, Path(config.output_dir) / name)
    return list(ids)


def main(config: ExportConfig) -> None:
    """Export and say where."""
    ids = export(config)
    print(f"{len(ids)} homes ({ids[0]} to {ids[-1]}) as {', '.join(config.formats)} below {config.output_dir}")


if __name__ == "__main__":
    cli.run(ExportConfig, main)
