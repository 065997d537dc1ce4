"""What sources of recorded pictures share: places that were photographed once, with labels, instead of a simulator to move in.

They go through the same run as simulators (units, resume, shards, yields, manifest), with procedures of their own for the tasks
that their pictures can serve; selection, options and wording are those of the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any, ClassVar, NoReturn

import numpy as np
from PIL import Image

from datagen.backends.base import (
    ALL_MODALITIES,
    Floats,
    Frame,
    FreeMap,
    Layer,
    Modality,
    Path,
    SceneBackend,
    SceneError,
    SceneInfo,
    SceneObject,
)
from ipt.common.errors import UserError
from ipt.common.images import RGB, open_image
from ipt.common.registry import unknown_name
from ipt.samples.camera import Camera
from ipt.samples.sample import SPLITS

Box = tuple[float, float, float, float]


class RecordedBackend(SceneBackend, ABC):
    """Scenes below a folder ``root`` of the user's; nothing can be walked in or, unless a subclass has a mesh, rendered."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"deterministic"})
    #: What the folder is, for the error where it is not.
    layout: ClassVar[str]
    _info: SceneInfo | None = None

    def __init__(self, root: str) -> None:
        self.root = FilePath(root)

    @abstractmethod
    def _listed(self, split: str) -> Sequence[str]:
        """Scene ids of a split that is known to exist."""

    def scenes(self, split: str) -> Sequence[str]:
        if split not in SPLITS:
            raise SceneError(unknown_name("split", split, SPLITS))
        found = self._listed(split)
        if not found:
            raise SceneError(f"{self.root} has no scenes in split '{split}'; {self.layout}")
        return found

    @property
    def info(self) -> SceneInfo:
        if self._info is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._info

    def close(self) -> None:
        self._info = None

    def existing(self, name: str) -> FilePath:
        """The path of a file below the root; ``SceneError`` where it is missing."""
        path = self.root / name
        if not path.is_file():
            raise SceneError(f"{name} is missing in {self.root}; {self.layout}")
        return path

    def picture(self, name: str) -> Image.Image:
        """A picture below the root; ``SceneError`` names one that is missing or broken, without the folder before it."""
        path = self.existing(name)
        with named(name):
            return open_image(path, name)

    def objects(self) -> tuple[SceneObject, ...]:
        self._fixed("has no objects in space")

    def sample_navigable(
        self, count: int, rng: np.random.Generator, clearance: float = 0.2, room_id: str | None = None
    ) -> Floats:
        self._fixed("cannot be walked in")

    def free_map(self, clearance: float = 0.2) -> FreeMap:
        self._fixed("cannot be walked in")

    def shortest_path(self, start: Floats, goal: Floats, clearance: float = 0.2) -> Path | None:
        self._fixed("cannot be walked in")

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        self._fixed("cannot be rendered")

    def _fixed(self, what: str) -> NoReturn:
        raise SceneError(f"backend '{self.name}' holds recorded pictures and {what}")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn what a file does wrong into a ``SceneError`` that begins with ``what``: a scene is left out, and counted, for it."""
    try:
        yield
    except SceneError:
        raise
    except UserError as error:
        raise SceneError(str(error) if what in str(error) else f"{what}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        missing = isinstance(error, KeyError)
        raise SceneError(f"{what}: {'field ' if missing else ''}{error}{' is missing' if missing else ''}") from error


def fitted(picture: Image.Image, box: Box, size: int) -> RGB:
    """The part of a picture in ``box`` (left, top, right, bottom; pixels), its longer side resampled to ``size`` pixels."""
    left, top, right, bottom = box
    scale = size / max(right - left, bottom - top)
    shape = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    return np.asarray(picture.resize(shape, Image.Resampling.LANCZOS, box=box))


def union(boxes: Sequence[Box], margin: float, width: int, height: int) -> Box:
    """The box around boxes, wider by ``margin`` of its sides, within a picture of ``width`` x ``height`` pixels."""
    low, high = np.min([box[:2] for box in boxes], axis=0), np.max([box[2:] for box in boxes], axis=0)
    pad = margin * (high - low)
    left, top = np.clip(np.floor(low - pad), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(high + pad), (left + 1, top + 1), (width, height))
    return float(left), float(top), float(right), float(bottom)


def required_fields(record: Any, where: str, *fields: str) -> Mapping[str, Any]:
    """``record`` if it is a mapping with these fields; else a ``SceneError`` that names place and field."""
    if not isinstance(record, Mapping):
        raise SceneError(f"{where}: expected an object with {', '.join(fields)}, got {str(record)[:40]!r}")
    for field in fields:
        if field not in record:
            raise SceneError(f"{where}: field '{field}' is missing")
    return record
