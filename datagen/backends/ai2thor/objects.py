"""From AI2-THOR's metadata to scene objects: boxes, normalised nouns and instance colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.ai2thor.frames import box_of_corners, colour_key, from_thor
from datagen.backends.ai2thor.scenes import room_at, words
from datagen.backends.base import Room, SceneObject

#: AI2-THOR types whose own words are not what one would say; all others are split at their capitals.
NOUNS = {
    "ArmChair": "armchair",
    "BasketBall": "basketball",
    "CellPhone": "phone",
    "CounterTop": "counter",
    "Desktop": "desktop computer",
    "DishSponge": "sponge",
    "Doorframe": "door",
    "Doorway": "door",
    "GarbageBag": "trash bag",
    "GarbageCan": "trash bin",
    "HousePlant": "potted plant",
    "NightStand": "nightstand",
    "RoomDecor": "decoration",
    "SoapBar": "bar of soap",
    "TableTopDecor": "decoration",
}
STRUCTURE = frozenset({"Ceiling", "Door", "Doorframe", "Doorway", "Floor", "Room", "Undefined", "Wall", "Window"})

#: What drawn surfaces without an object in the metadata are called, by a word in their name; the last one takes the rest.
REMAINDERS = {"floor": "floor", "ceiling": "ceiling", "wall": "wall", "": "structure"}


def noun_of(object_type: str) -> str:
    """``SideTable`` -> "side table", with the exceptions of :data:`NOUNS`."""
    return NOUNS.get(object_type) or words(object_type)


class Inventory:
    """The objects of a scene and the colour that each has in instance images.

    AI2-THOR draws more than it lists: walls and ceilings, say, may have a colour but no metadata. Such surfaces become
    one object per kind (:data:`REMAINDERS`), as large as the scene.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        colours: Sequence[Mapping[str, Any]],
        bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
        rooms: Sequence[Room],
    ) -> None:
        listed = {record["objectId"]: record for record in records}
        objects = [make_object(index, record, rooms) for index, record in enumerate(listed.values())]
        index_of = {item.id: item.index for item in objects}
        known = set(index_of) | {item.raw_category for item in objects}  # a class has a colour too, in class images
        others = [entry for entry in colours if entry["name"] not in known]
        kinds = {entry["name"]: remainder_of(entry["name"]) for entry in others}
        for kind in REMAINDERS.values():
            if kind in kinds.values() or kind == "structure":
                index_of[kind] = len(objects)
                objects.append(remainder(len(objects), kind, bounds))
        self.objects = tuple(objects)
        self._rest = index_of["structure"]
        # Listed objects come last: where a class and an object share a colour, the object has it.
        pairs = [(entry, index_of[kinds[entry["name"]]]) for entry in others]
        pairs += [(entry, index_of[entry["name"]]) for entry in colours if entry["name"] in index_of]
        table = {colour_key(entry["color"]): index for entry, index in pairs} or {0: self._rest}
        self._keys = np.array(sorted(table), dtype=np.uint32)
        self._indices = np.array([table[key] for key in sorted(table)], dtype=np.int32)

    def instances(self, pixels: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Object index of every pixel of an instance image (h, w) of RGBA integers; unknown colours are "structure"."""
        keys = (pixels & 0xFFFFFF).ravel()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))  # of runs of one colour
        runs = keys[starts]
        slots = np.minimum(np.searchsorted(self._keys, runs), len(self._keys) - 1)
        indices = np.where(self._keys[slots] == runs, self._indices[slots], self._rest).astype(np.int32)
        return np.repeat(indices, np.diff(starts, append=len(keys))).reshape(pixels.shape)


def make_object(index: int, record: Mapping[str, Any], rooms: Sequence[Room]) -> SceneObject:
    """The scene object of a metadata record; one without a box becomes the point it stands at."""
    box = record.get("axisAlignedBoundingBox") or {"center": record["position"], "size": {"x": 0, "y": 0, "z": 0}}
    centre, half = from_thor(box["center"]), from_thor(box["size"]) / 2
    oriented = (record.get("objectOrientedBoundingBox") or {}).get("cornerPoints")
    kind = record["objectType"]
    return SceneObject(
        id=record["objectId"],
        index=index,
        category=noun_of(kind),
        raw_category=kind,
        name=noun_of(kind),
        aabb_min=triple(centre - half),
        aabb_max=triple(centre + half),
        obb=box_of_corners(oriented) if oriented else None,
        room_id=room_at(centre[:2], rooms),
        is_structure=kind in STRUCTURE,
        movable=bool(record.get("pickupable") or record.get("moveable")),
    )


def remainder(index: int, kind: str, bounds: tuple[NDArray[np.float64], NDArray[np.float64]]) -> SceneObject:
    """All drawn surfaces of a kind that the metadata does not list."""
    return SceneObject(
        id=f"unlisted {kind}",
        index=index,
        category=kind,
        raw_category=kind,
        name=kind,
        aabb_min=triple(bounds[0]),
        aabb_max=triple(bounds[1]),
        is_structure=True,
        movable=False,
    )


def remainder_of(name: str) -> str:
    """Which of :data:`REMAINDERS` a surface with this name belongs to."""
    return next(kind for word, kind in REMAINDERS.items() if word in name.lower())


def triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    """An array (3,) as plain floats."""
    return (float(point[0]), float(point[1]), float(point[2]))
