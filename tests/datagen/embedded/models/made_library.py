"""Furniture libraries in the layout of Debian's package, made by tests: no file of the package is in this repository."""

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

CC_BY = "Creative Commons Attribution 3.0 Unported license  \xa9 Somebody"
Box = tuple[tuple[float, float, float], tuple[float, float, float]]  # low and high corner: x right, y up, z front


@dataclass
class Model:
    """A catalogue entry (size in centimetres: width, depth, height) and its boxes, in any unit, with a material each."""

    key: str
    name: str
    size: tuple[float, float, float]
    boxes: list[tuple[Box, str]]
    creator: str = "Ada Modeller"
    extra: dict[str, str] = field(default_factory=dict)


def table(key: str = "table1", name: str = "Table", width: float = 150.0) -> Model:
    """Four legs under a top, 75 cm high, 80 cm deep."""
    x, z = width / 2, 40.0
    boxes: list[tuple[Box, str]] = [(((-x, 70, -z), (x, 75, z)), "oak")]
    for left in (-x, x - 4):
        for back in (-z, z - 4):
            boxes.append((((left, 0, back), (left + 4, 70, back + 4)), "steel"))
    return Model(key, name, (width, 80, 75), boxes)


def sofa(key: str = "sofa1", width: float = 200.0) -> Model:
    """A seat with a back, which is at -z, in another unit than centimetres."""
    half = width / 200
    boxes: list[tuple[Box, str]] = [
        (((-half, 0, -0.4), (half, 0.45, 0.4)), "cloth"),
        (((-half, 0.45, -0.4), (half, 0.8, -0.2)), "cloth"),
    ]
    return Model(key, "Sofa", (width, 80, 80), boxes, creator="Sit Maker")


def obj_text(model: Model) -> str:
    """Wavefront OBJ of the boxes, faces outward, with texture coordinates."""
    lines, count = [f"mtllib {model.key}.mtl", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"], 0
    quads = ((1, 2, 6, 5), (3, 7, 8, 4), (1, 5, 7, 3), (2, 4, 8, 6), (5, 6, 8, 7), (1, 3, 4, 2))
    for (low, high), material in model.boxes:
        for number in range(8):
            bits = (number & 1, number >> 1 & 1, number >> 2 & 1)
            lines.append("v " + " ".join(str(float(high[axis] if bits[axis] else low[axis])) for axis in range(3)))
        lines.append(f"usemtl {material}")
        lines += ["f " + " ".join(f"{count + c}/{k + 1}" for k, c in enumerate(quad)) for quad in quads]
        count += 8
    return "\n".join(lines) + "\n"


def mtl_text(model: Model) -> str:
    """Colours by material; "cloth" has a picture."""
    colours = {"oak": "0.6 0.4 0.2", "steel": "0.5 0.5 0.55", "cloth": "1 1 1"}
    lines = []
    for name in dict.fromkeys(material for _, material in model.boxes):
        lines += [f"newmtl {name}", f"Kd {colours.get(name, '0.2 0.6 0.3')}", "d 1"]
        lines += ["map_Kd cloth.png"] if name == "cloth" else []
    return "\n".join(lines) + "\n"


def picture(holes: bool = False) -> bytes:
    """Red and blue stripes; with ``holes``, half of them transparent."""
    stripes = np.zeros((16, 16, 4), np.uint8)
    stripes[..., 3] = 255
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 220, 220
    if holes:
        stripes[:, ::2, 3] = 0
    stream = io.BytesIO()
    Image.fromarray(stripes if holes else stripes[..., :3]).save(stream, "PNG")
    return stream.getvalue()


def write_library(
    folder: Path, models: list[Model], name: str = "Scopia", licence: str = CC_BY, holes: bool = False
) -> Path:
    """NAME.sh3f with the models, as the package's libraries are laid out."""
    lines = ["# PluginFurnitureCatalog.properties", "", f"id=SweetHome3D#{name}Models", f"name={name} catalog"]
    lines += ["version=1.8", f"license={licence}", "provider=www.sweethome3d.com", ""]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.sh3f"
    base = name.lower()
    with zipfile.ZipFile(path, "w") as archive:
        for number, model in enumerate(models, 1):
            width, depth, height = model.size
            values = {
                "id": f"{name}#{model.key}",
                "name": model.name,
                "tags": "",
                "category": "Living room",
                "icon": f"/{base}/{model.key}.png",
                "model": f"/{base}/{model.key}/{model.key}.obj",
                "multiPartModel": "true",
                "width": width,
                "depth": depth,
                "height": height,
                "movable": "true",
                "doorOrWindow": "false",
                "creator": model.creator,
                **model.extra,
            }
            lines += [f"{key}#{number}={value}" for key, value in values.items()] + [""]
            inside = f"{base}/{model.key}"
            archive.writestr(f"{inside}/{model.key}.obj", obj_text(model))
            archive.writestr(f"{inside}/{model.key}.mtl", mtl_text(model))
            archive.writestr(f"{inside}/cloth.png", picture(holes))
            archive.writestr(f"{inside}.png", picture())
        archive.writestr("LICENSE.TXT", licence.encode("latin-1"))
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines).encode("latin-1"))
    return path
