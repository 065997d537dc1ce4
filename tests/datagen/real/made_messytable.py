"""A few tables in the layout of MessyTable: ``python -m tests.datagen.real.made_messytable FOLDER``.

Eight side cameras stand in a ring around camera 1, which looks straight down. Table K of a split holds K % 4 + 1 forks (subclass
99), K % 4 + 1 black mugs (108), one lemon (65) and one pack (31): counts by hand are those. Fork I is seen by side cameras I + 2
and I + 3 (in a ring) and from above; the others by all cameras.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.images import encode_image

FORK, MUG, LEMON, PACK = 99, 108, 65, 31
WIDTH, HEIGHT = 192, 108
TABLES = {"train": 12, "val": 2, "test": 4}


def extrinsics(camera: int) -> list[float]:
    """Position and rotation about x, y, z (radians): camera 1 looks down, the others down and inwards, 45 degrees apart."""
    if camera == 1:
        return [0.0, 0.0, 2.0, math.pi, 0.0, 0.0]
    turn = (camera - 2) * math.pi / 4
    return [math.cos(turn), math.sin(turn), 1.0, math.pi * 0.75, 0.0, turn]


def box(place: int) -> list[int]:
    """The box of the thing at a place of a 6 x 3 grid over the middle of a picture."""
    row, column = divmod(place, 6)
    return [40 + 20 * column, 30 + 20 * row, 50 + 20 * column, 40 + 20 * row]


def table(number: int) -> dict[str, Any]:
    """One scene's labels; instance ids hold across cameras."""
    count = number % 4 + 1
    things = [FORK] * count + [MUG] * count + [LEMON, PACK]
    cameras = {}
    for camera in range(1, 10):
        instances = {}
        for place, subclass in enumerate(things):
            hidden = subclass == FORK and camera not in (1, place % 8 + 2, (place + 1) % 8 + 2)
            if not hidden:
                instances[str(place + 1)] = {"subcls": subclass, "cls": 1, "pos": box(place)}
        cameras[str(camera)] = {"extrinsics": extrinsics(camera), "instances": instances}
    return {"cameras": cameras}


def write(folder: Path) -> Path:
    """Images and labels of all splits; camera C's pictures have background shade 20 C."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for split, count in TABLES.items():
        scenes = {f"20190921-{split}{number:03d}-01": table(number) for number in range(count)}
        intrinsics = {str(camera): [100.0, 0, WIDTH / 2, 0, 100.0, HEIGHT / 2, 0, 0, 1] for camera in range(1, 10)}
        text = json.dumps({"intrinsics": intrinsics, "scenes": scenes})
        (folder / "labels" / f"{split}.json").write_text(text)
        for scene_id, record in scenes.items():
            for camera, view in record["cameras"].items():
                pixels = np.full((HEIGHT, WIDTH, 3), 20 * int(camera), np.uint8)
                for thing in view["instances"].values():
                    left, top, right, bottom = thing["pos"]
                    pixels[top:bottom, left:right] = (thing["subcls"], 40, 200)
                (folder / "images" / f"{scene_id}-0{camera}.jpg").write_bytes(encode_image(pixels, "jpeg"))
    return folder


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
