"""Shared by the habitat tests: where the recordings lie, how to start the worker on the stand-in, how to read a frame."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from datagen.backends.habitat.backend import HabitatBackend, HabitatConfig
from ipt.samples.camera import Camera, CameraPose
from tests.waiting import HANGS

ROOT = Path(__file__).parents[2]
STANDINS = ROOT / "tests" / "standins"
GOLDEN = ROOT / "tests" / "golden_habitat"
FRAMES = json.loads((GOLDEN / "frames" / "index.json").read_text())
#: The real worker, but "import habitat_sim" finds the stand-in.
PYTHON = f"env PYTHONPATH={STANDINS}:{ROOT} OMP_NUM_THREADS=1 {sys.executable}"

if str(STANDINS) not in sys.path:
    sys.path.append(str(STANDINS))


def golden_backend(**changes: object) -> HabitatBackend:
    """A backend on the golden room through the real worker and pipe."""
    patient = dict.fromkeys(("timeout_s", "start_timeout_s", "load_timeout_s"), HANGS)
    fields = {"python": PYTHON, "dataset": "files", "data": str(GOLDEN / "scene"), "gpu": -1, "up": "z", **patient}
    return HabitatBackend(HabitatConfig(**{**fields, **changes}))


def homes_backend(folder: Path, names: tuple[str, ...], **changes: object) -> HabitatBackend:
    """A backend on embedded homes, which the stand-in draws for files that are named after them."""
    for name in names:
        (folder / f"{name}.glb").write_bytes(b"glTF")
    # The words of the embedded simulator need no whitelist: everything but structure may be asked about.
    return golden_backend(**{"data": str(folder), "whitelist": False, **changes})


def recorded(frame: dict, kind: str) -> np.ndarray:
    """A recorded image: "color" (h, w, 4), "depth" or "semantic" (h, w)."""
    path = GOLDEN / "frames" / f"{frame['name']}.{kind}"
    return np.array(Image.open(f"{path}.png")) if kind == "color" else np.load(f"{path}.npy")


def our_camera(frame: dict) -> Camera:
    """A recorded camera in our terms, worked out from its ``camera_to_world`` and nothing of the adapter."""
    matrix = np.array(frame["camera_to_world"])
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    axes, (x, y, z) = turn @ matrix[:3, :3], turn @ matrix[:3, 3]
    right, up, back = axes.T
    yaw = float(np.arctan2(-back[1], -back[0])) if abs(back[2]) < 0.999999 else float(np.arctan2(right[0], -right[1]))
    pitch = float(np.arctan2(-back[2], np.hypot(back[0], back[1])))
    level_right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    roll = float(np.arctan2(-(up @ level_right), right @ level_right))
    height, width = frame["resolution_hw"]
    pose = CameraPose((float(x), float(y), float(z)), yaw, pitch, roll)
    if frame["subtype"] == "ORTHOGRAPHIC":
        span = height / width / frame["ortho_scale"]
        return Camera(pose, width, height, ortho_height_m=span, near=frame["near"], far=frame["far"])
    fov = 2 * np.degrees(np.arctan(np.tan(np.radians(frame["hfov_deg"]) / 2) * height / width))
    return Camera(pose, width, height, float(fov), near=frame["near"], far=frame["far"])
