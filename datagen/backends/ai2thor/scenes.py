"""Which scenes AI2-THOR offers and how they are split: iTHOR, RoboTHOR and ProcTHOR houses.

* iTHOR: 120 rooms, 30 per kind; of each kind 20 train, 5 validate and 5 test (IPT paper, section 2.1).
* RoboTHOR: apartments with five furnishings of each wall layout; a layout belongs to one split.
* ProcTHOR: houses from a local file, or from the package ``prior``; split by house.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import BackendUnavailable, Room, SceneError
from datagen.backends.space import in_polygon
from ipt.common.registry import unknown_name
from ipt.common.seeding import derived_seed
from ipt.samples.sample import SPLITS

SOURCES = ("ithor", "robothor", "procthor")
ITHOR_KINDS = {0: "kitchen", 2: "living room", 3: "bedroom", 4: "bathroom"}
ITHOR = {f"FloorPlan{100 * hundred + n}": kind for hundred, kind in ITHOR_KINDS.items() for n in range(1, 31)}
ITHOR_NUMBERS = {"train": range(1, 21), "val": range(21, 26), "test": range(26, 31)}
ROBOTHOR_LAYOUTS = {
    "train": [f"Train{number}" for number in range(1, 11)],
    "val": ["Train11", "Train12"],
    "test": ["Val1", "Val2", "Val3"],  # RoboTHOR's own test apartments are not public
}
ROBOTHOR_FURNISHINGS = range(1, 6)
PRIOR = "prior:"
LICENCE = "AI2-THOR assets (Apache-2.0), Allen Institute for AI"


@dataclass(frozen=True, slots=True)
class ThorScene:
    """What the player is asked to load: a scene name, or a ProcTHOR house; and what its rooms are."""

    scene_id: str
    payload: str | dict[str, Any]
    kind: str = "room"

    @property
    def agent(self) -> dict[str, Any]:
        """Where a house puts the agent (arguments of ``TeleportFull``): a player leaves it outside. {} for named scenes."""
        return {} if isinstance(self.payload, str) else self.payload["metadata"]["agent"]

    def rooms(self, outline: NDArray[np.float64]) -> tuple[Room, ...]:
        """The rooms of the house, or one room with the given outline (n, 2) in metres."""
        if isinstance(self.payload, str):
            return (Room("room-0", self.kind, outline),)
        return tuple(
            Room(str(room["id"]), words(room["roomType"]), outline_of(room["floorPolygon"]))
            for room in self.payload["rooms"]
        )


class SceneLibrary:
    """Scene ids of the chosen ``sources`` and what they stand for.

    ``houses`` names ProcTHOR houses: a JSON or JSONL file (also .gz), a folder with train/val/test.jsonl(.gz) as ProcTHOR
    is published, or "prior:procthor-10k". A single file without splits is divided 18:1:1, by house. Only the splits of
    ``procthor_splits`` have houses.
    """

    def __init__(self, sources: Sequence[str], houses: str | None, procthor_splits: Sequence[str] = SPLITS) -> None:
        for source in sources:
            if source not in SOURCES:
                raise SceneError(unknown_name("AI2-THOR source", source, SOURCES))
        if "procthor" in sources and not houses:
            raise SceneError(
                "source 'procthor' needs houses: set backend.houses to a JSON or JSONL(.gz) file of ProcTHOR houses, to the "
                "folder that holds train/val/test.jsonl.gz, or to prior:procthor-10k (pip install prior)"
            )
        for split in procthor_splits:
            if split not in SPLITS:
                raise SceneError(unknown_name("split", split, SPLITS))
        self._sources, self._houses, self._procthor_splits = tuple(sources), houses, tuple(procthor_splits)

    def scenes(self, split: str) -> list[str]:
        """Scene ids of a split, in a fixed order."""
        if split not in SPLITS:
            raise SceneError(unknown_name("split", split, SPLITS))
        ids: list[str] = []
        if "ithor" in self._sources:
            ids += [f"FloorPlan{100 * hundred + number}" for hundred in ITHOR_KINDS for number in ITHOR_NUMBERS[split]]
        if "robothor" in self._sources:
            ids += [f"FloorPlan_{layout}_{n}" for layout in ROBOTHOR_LAYOUTS[split] for n in ROBOTHOR_FURNISHINGS]
        if "procthor" in self._sources and split in self._procthor_splits:
            ids += [f"procthor-{split}-{index}" for index in self._procthor.numbers(split)]
        return ids

    def scene(self, scene_id: str) -> ThorScene:
        """The scene behind an id; ``SceneError`` says what ids look like."""
        if scene_id in ITHOR:
            return ThorScene(scene_id, scene_id, ITHOR[scene_id])
        if re.fullmatch(r"FloorPlan_(Train([1-9]|1[0-2])|Val[1-3])_[1-5]", scene_id):
            return ThorScene(scene_id, scene_id, "apartment")
        if (match := re.fullmatch(r"procthor-(\w+)-(\d+)", scene_id)) and self._houses:
            return ThorScene(scene_id, self._procthor.house(match[1], int(match[2])))
        raise SceneError(
            f"unknown AI2-THOR scene '{scene_id}'; valid: FloorPlan1..30, 201..230, 301..330, 401..430 (iTHOR), "
            "FloorPlan_Train1_1..Train12_5 and Val1_1..Val3_5 (RoboTHOR), procthor-<split>-<number> (with houses=...)"
        )

    @cached_property
    def _procthor(self) -> Houses:
        assert self._houses is not None, "checked in the constructor"
        return Houses(self._houses)


class Houses:
    """ProcTHOR houses, kept compressed in memory: 10,000 of them take about 60 MB."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._prior: Any = load_prior(source.removeprefix(PRIOR)) if source.startswith(PRIOR) else None
        self._kept: dict[str, list[bytes]] = {}

    def numbers(self, split: str) -> list[int]:
        """Numbers of the houses of a split within their file."""
        if self._prior is not None:
            return list(range(len(self._prior[split])))
        path = Path(self._source)
        count = len(self._read(self._file(split)))
        return list(range(count)) if path.is_dir() else [n for n in range(count) if split_of_house(n) == split]

    def house(self, split: str, number: int) -> dict[str, Any]:
        """A house as ``CreateHouse`` takes it; ``SceneError`` names file and line of a broken one."""
        if number not in self.numbers(split):
            raise SceneError(f"{self._source} has no house {number} in split '{split}'")
        if self._prior is not None:
            return checked(self._prior[split][number], f"{self._source}, house {number}")
        file = self._file(split)
        try:
            house = json.loads(zlib.decompress(self._read(file)[number]))
        except json.JSONDecodeError as error:
            raise SceneError(f"{file}, house {number}: not valid JSON ({error})") from error
        return checked(house, f"{file}, house {number}")

    def _file(self, split: str) -> Path:
        path = Path(self._source)
        if path.is_file():
            return path
        for suffix in (".jsonl.gz", ".jsonl", ".json.gz", ".json"):
            if (path / f"{split}{suffix}").is_file():
                return path / f"{split}{suffix}"
        raise SceneError(f"no ProcTHOR houses at {path}: expected a file, or a folder with {split}.jsonl.gz")

    def _read(self, file: Path) -> list[bytes]:
        if str(file) not in self._kept:
            data = file.read_bytes()
            if file.suffix == ".gz":
                data = gzip.decompress(data)
            name = file.name.removesuffix(".gz")
            try:
                lines = [json.dumps(house).encode() for house in json.loads(data)] if name.endswith(".json") else []
            except json.JSONDecodeError as error:
                raise SceneError(f"{file}: not valid JSON ({error}); one house per line is a .jsonl file") from error
            self._kept[str(file)] = [zlib.compress(line) for line in lines or data.splitlines() if line.strip()]
        return self._kept[str(file)]


def checked(house: Any, where: str) -> dict[str, Any]:
    """``house`` if it has what is needed of a ProcTHOR house."""
    try:
        whole = isinstance(house["rooms"], list) and "position" in house["metadata"]["agent"]
    except (TypeError, KeyError):
        whole = False
    if not whole:
        raise SceneError(f"{where}: not a ProcTHOR house (an object with 'rooms' and 'metadata.agent')")
    return dict(house)


def split_of_house(number: int) -> str:
    """The split of a house in a file that has none: 18 of 20 train, one validates, one tests."""
    return {0: "test", 1: "val"}.get(derived_seed(0, "procthor split", number) % 20, "train")


def load_prior(name: str) -> Any:
    """A dataset of the package ``prior``: a mapping from split to houses."""
    try:
        import prior
    except ImportError:
        raise BackendUnavailable(
            f"houses={PRIOR}{name} needs the package prior: pip install prior (it uses git and git-lfs)"
        ) from None
    return prior.load_dataset(name)


def outline_of(polygon: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """A ProcTHOR floor polygon as (n, 2) in our frame, counter-clockwise."""
    points = np.array([[corner["x"], corner["z"]] for corner in polygon], dtype=np.float64)
    x, y = points.T
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    return points if area > 0 else points[::-1].copy()


def room_at(point: NDArray[np.float64], rooms: Sequence[Room]) -> str | None:
    """Id of the room whose outline holds the floor point (2,), or None."""
    return next((room.id for room in rooms if in_polygon(point, room.polygon)), None)


def words(camel: str) -> str:
    """``LivingRoom`` -> "living room"."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", camel)).lower() or camel
