"""One scene, one unit of work: its verified candidates in two files, written atomically, the smaller one last.

A unit is a pure function of the run's settings and its number. ``NNN.bin`` holds the encoded pictures end to end,
``NNN.json`` everything else; the presence of the second means that the unit is complete. Workers share nothing but the
folder, so any of them may die at any time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

from datagen.backends.base import SceneBackend, SceneError, SimulatorDied
from datagen.backends.registry import BACKENDS
from datagen.config import RunConfig
from datagen.tasks import TASKS
from datagen.tasks.base import Candidate, SceneView, SpatialTask
from datagen.yields import LOADS, OUTCOME, Yields
from ipt.common.errors import UserError
from ipt.common.files import read_json, write_bytes, write_json
from ipt.common.seeding import derived_seed, generator
from ipt.samples.camera import Camera
from ipt.samples.sample import SampleImage

logger = logging.getLogger(__name__)

#: How often a unit is begun anew when the simulator dies under it; after that its scene counts as turned away.
ATTEMPTS = 3
MAX_MESSAGE = 200  # characters of an error that are kept


@dataclass(frozen=True, slots=True)
class UnitRef:
    """Where a unit lives."""

    folder: Path
    number: int

    @property
    def header(self) -> Path:
        return self.folder / f"{self.number:07d}.json"

    @property
    def pictures(self) -> Path:
        return self.folder / f"{self.number:07d}.bin"


def scene_of(config: RunConfig, scenes: Sequence[str], number: int) -> tuple[str, int]:
    """Scene of a part's unit and how often the list of scenes has been gone through before it.

    The seed chooses where in the split's list a run begins; parts take turns.
    """
    part, parts = config.part
    start = derived_seed(config.seed, "first scene", config.split) % len(scenes)
    turn, place = divmod(number * parts + part, len(scenes))
    return scenes[(start + place) % len(scenes)], turn


_OPEN: dict[str, SceneBackend] = {}
_UNITS_MADE = count(1)  # by this process


def open_backend(config: RunConfig) -> SceneBackend:
    """The backend of this process: simulators are slow to start, and hold one scene at a time."""
    key = f"{config.backend} {config.backend_config!r}"
    if key not in _OPEN:
        close_backends()
        _OPEN[key] = BACKENDS[config.backend].make(config.backend_config)
    return _OPEN[key]


def task_of(config: RunConfig) -> SpatialTask:
    """The procedure of this run: the backend's own where it has recorded pictures, else that of all simulators."""
    entry = BACKENDS[config.backend]
    if not entry.tasks:
        return TASKS[config.task.name](config.task)
    if config.task.name not in entry.tasks:
        raise UserError(
            f"backend '{config.backend}' holds recorded pictures and makes task={'|'.join(entry.tasks)}, "
            f"not task={config.task.name}"
        )
    task: SpatialTask = getattr(import_module(entry.module), entry.tasks[config.task.name])(config.task)
    return task


def close_backends() -> None:
    """Release the simulators of this process."""
    while _OPEN:
        _OPEN.popitem()[1].close()


def run_unit(config: RunConfig, folder: Path, number: int) -> int:
    """Make a unit unless it is there already; returns its number.

    BLAS gets one thread: its products are small here, and its idle threads would spin on the cores of other workers. After
    ``config.recycle`` units the simulator of the process is closed: drivers and simulators leak.
    """
    unit = UnitRef(folder, number)
    if not unit.header.is_file():
        with blas().limit(limits=1, user_api="blas"):
            make_unit(config, unit)
        if next(_UNITS_MADE) % config.recycle == 0:
            close_backends()
    return number


def restore_pictures(config: RunConfig, unit: UnitRef, header: Mapping[str, Any]) -> None:
    """Make the pictures of a complete unit again where they were deleted; its header comes out as it was."""
    if header["picture_bytes"] and not unit.pictures.is_file():
        with blas().limit(limits=1, user_api="blas"):
            make_unit(config, unit)


@cache
def blas() -> ThreadpoolController:
    """What sets the threads of the BLAS libraries of this process; finding them takes a millisecond."""
    return ThreadpoolController()


def make_unit(config: RunConfig, unit: UnitRef) -> None:
    """Work on the unit's scene and write its files."""
    started = time.process_time()
    backend = open_backend(config)
    scene_id, turn = scene_of(config, backend.scenes(config.split), unit.number)
    task = task_of(config)
    licence, credits, deaths = "", list[str](), 0
    yields, candidates = Yields(), list[Candidate]()
    while deaths < ATTEMPTS:
        yields, candidates = Yields(), []
        try:
            info = backend.load(scene_id)
            licence, credits = info.source_licence, list(info.credits)
            view = SceneView(backend, info, config.image_size, config.task)
            candidates = task.propose(view, generator(config.seed, config.task.name, scene_id, turn), yields)
            yields.check(OUTCOME, bool(candidates))
            yields.check(LOADS, True)
            break
        except SceneError as error:
            yields.check(LOADS, False)
            yields.note(str(error)[:MAX_MESSAGE])
            break
        except SimulatorDied as error:
            deaths += 1
            logger.warning("scene %s, attempt %d of %d: %s", scene_id, deaths, ATTEMPTS, error)
            if deaths == ATTEMPTS:
                yields.note(f"scene {scene_id}: {str(error).splitlines()[0]}"[:MAX_MESSAGE])
    yields.count("scene.simulator_survives", min(deaths + 1, ATTEMPTS), deaths)
    header = {
        "scene_id": scene_id,
        "turn": turn,
        "backend_version": backend.version,
        "licence": licence,
        "credits": credits,
        "yields": yields.to_json(),
        "errors": yields.errors,
        "cpu_s": round(time.process_time() - started, 4),
    }
    write_unit(unit, candidates, header)


def write_unit(unit: UnitRef, candidates: Sequence[Candidate], header: Mapping[str, Any]) -> None:
    """Write the pictures, then the header that refers to them by offset."""
    blob = bytearray()
    starts: dict[int, int] = {}  # candidates may share pictures

    def stored(image: SampleImage) -> dict[str, Any]:
        start = starts.setdefault(id(image.data), len(blob))
        if start == len(blob):
            blob.extend(image.data)
        camera = None if image.camera is None else image.camera.to_json()
        return {"role": image.role, "camera": camera, "start": start, "bytes": len(image.data)}

    records = [
        {
            "key": candidate.key,
            "facts": dict(candidate.facts),
            "images": [stored(image) for image in candidate.images],
            "imagination": stored(candidate.imagination),
            "counterfactuals": [stored(image) for image in candidate.counterfactuals],
        }
        for candidate in candidates
    ]
    if records:
        write_bytes(unit.pictures, bytes(blob))
    write_json(unit.header, {**header, "candidates": records, "picture_bytes": len(blob)}, indent=None)


def read_unit(unit: UnitRef) -> dict[str, Any]:
    """The header of a complete unit."""
    header: dict[str, Any] = read_json(unit.header)
    return header


def read_candidate(unit: UnitRef, record: Mapping[str, Any]) -> Candidate:
    """A candidate with its pictures."""
    data = memoryview(unit.pictures.read_bytes())

    def loaded(entry: Mapping[str, Any]) -> SampleImage:
        camera = None if entry["camera"] is None else Camera.from_json(entry["camera"])
        return SampleImage(bytes(data[entry["start"] : entry["start"] + entry["bytes"]]), entry["role"], camera)

    return Candidate(
        record["key"],
        record["facts"],
        tuple(loaded(entry) for entry in record["images"]),
        loaded(record["imagination"]),
        tuple(loaded(entry) for entry in record["counterfactuals"]),
    )
