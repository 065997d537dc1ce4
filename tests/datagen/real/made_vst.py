"""A few rows in the layout of VST: ``python -m tests.datagen.real.made_vst FOLDER``.

Two files of `ROWS`, in row groups of three. A picture's grey level is 40 for the first and 150 for the second of a pair, but for
the row whose pictures are alike; of the first file, the ten rows at `GOOD` become samples.
"""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OPTIONS = (
    "Options:\nA. rightward, B. backward and rightward, C. left and forward, D. rightward and upward\n"
    "Answer the question using a single word or phrase."
)
WHERE = "The images are acquired from a first-person perspective. How does the camera's location change through space?"
BACK = "Relative to the second image, where was the camera when the first image was taken, by its position?"
TURNED = "Both frames are from one video. How does the orientation of the camera change?"
#: (question, options, answer, what the instruction must be or None, number of pictures, second picture's grey level)
ROWS = (
    (WHERE, OPTIONS, "C. left and forward", "move forward and to the left", 2, 150),
    (WHERE, OPTIONS, "A", "move to the right", 2, 150),
    (BACK, OPTIONS, "B. backward and rightward", "move forward and to the left", 2, 150),
    (WHERE, OPTIONS, "D. rightward and upward.", "move to the right and up", 2, 150),
    (TURNED, "", "leftward and downward", "turn to the left and tilt down", 2, 150),
    (TURNED.replace("How", "Taking the second frame as the reference, how"), "", "leftward", "turn to the right", 2, 150),
    (WHERE, "", "The camera moved forward, to the right and up", "move forward, to the right and up", 2, 150),
    ("How did the camera move from the second image to the first?", "", "forward", "move backward", 2, 150),
    (WHERE, "", "It cannot be determined", None, 2, 150),
    (WHERE, "", "around the sofa", None, 2, 150),
    (WHERE, "", "left and right", None, 2, 150),
    ("What happened between the pictures?", "", "left", None, 2, 150),
    (BACK + " Answer with respect to the first image.", "", "left", None, 2, 150),
    (TURNED, "", "forward", None, 2, 150),
    (WHERE, OPTIONS, "C. left and forward", None, 3, 150),
    (WHERE, OPTIONS, "C. left and forward", None, 2, 42),
    (WHERE, "", "rotated to the left", "turn to the left", 2, 150),
    (WHERE, OPTIONS, "(C) left and forward", "move forward and to the left", 2, 150),
)  # fmt: skip
GOOD = tuple(row for row, (_, _, _, instruction, _, _) in enumerate(ROWS) if instruction)
SIZE = (96, 72)


def picture(grey: int, number: int) -> bytes:
    """A JPEG of one grey with a stripe that tells rows apart."""
    pixels = np.full((SIZE[1], SIZE[0], 3), grey, np.uint8)
    pixels[:, 4 * number : 4 * number + 4] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a file as Python values."""
    made = []
    for number, (question, options, answer, _, count, grey) in enumerate(ROWS):
        asked = "<|image_pad|>" * count + " ".join(filter(None, (question, options)))
        pictures = [picture(40 if place == 0 else grey, number) for place in range(count)]
        made.append(
            {
                "id": f"{name}-{number}",
                "images": [{"bytes": data} for data in pictures],
                "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}],
                "type": "multi_image",
                "data_source": "",
                "meta_info": "[]",
            }
        )
    return made


def save(path: Path, found: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(found)), path, row_group_size=3)


def write(folder: Path) -> Path:
    """Two files of the same questions."""
    (folder / "mi_camera_motion").mkdir(parents=True)
    for name in ("part-0", "part-1"):
        save(folder / "mi_camera_motion" / f"{name}.parquet", rows(name))
    return folder


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
