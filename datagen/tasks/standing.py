"""What stands around a place of a scene's floor: where there are several of a thing, counting has something to ask about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.backends.space import in_polygon
from datagen.tasks.base import SceneView

NEAR_M = 3.5  # of a place: what stands there may well be seen from it


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """The things of a scene that can be counted: ``places`` (n, 2) on the floor, metres; ``nouns`` (n,), a number for each noun;
    ``rooms`` (n,), the ids of their rooms."""

    scene: SceneView
    places: NDArray[np.float64]
    nouns: NDArray[np.intp]
    rooms: NDArray[np.object_]

    @classmethod
    def of(cls, scene: SceneView, nouns: Mapping[str, frozenset[int]]) -> Standing:
        """``nouns``: the indices of the objects of each."""
        pairs = [(number, index) for number, members in enumerate(nouns.values()) for index in sorted(members)]
        objects = [scene.objects[index] for _, index in pairs]
        return cls(
            scene,
            np.array([item.centre[:2] for item in objects]).reshape(-1, 2),
            np.array([number for number, _ in pairs], dtype=np.intp),
            np.array([item.room_id for item in objects], dtype=object),
        )

    def around(self, place: NDArray[np.float64], several: int) -> int:
        """How many things stand within ``NEAR_M`` of ``place`` (2,), in its room where the scene has rooms, of nouns of which
        at least ``several`` do."""
        near = np.linalg.norm(self.places - place, axis=1) < NEAR_M
        room = next((room.id for room in self.scene.info.rooms if in_polygon(place, room.polygon)), None)
        if room is not None:
            near &= self.rooms == room
        counts = np.bincount(self.nouns[near])
        return int(counts[counts >= several].sum())
