"""Which of a library's models stands in for a piece of ours: by weight, where one fits what is asked for."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datagen.backends.embedded.furniture.base import Furniture
from datagen.backends.embedded.models.catalogue import Catalogue, Entry, fitting, read_catalogue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shop:
    """Models of ``catalogue`` with at most ``most_faces`` triangles, each chosen with probability ``weight`` over ours."""

    catalogue: Catalogue
    weight: float
    most_faces: int

    def draw(self, category: str, rng: np.random.Generator, options: Mapping[str, object]) -> Furniture | None:
        """A model for ``category`` that suits the builder's ``options``; None where ours is to be built."""
        found = fitting(self.catalogue.entries.get(category, ()), options)
        if not found or rng.random() >= self.weight:
            return None
        pieces = (loaded(found[int(place)], self.most_faces) for place in rng.permutation(len(found)))
        return next((piece for piece in pieces if piece is not None), None)


@functools.cache
def loaded(entry: Entry, most_faces: int) -> Furniture | None:
    """The piece, read once per process; None, with a line in the log, where it cannot be used."""
    from datagen.backends.embedded.models.pieces import UnfitModel, load_piece  # trimesh takes a second to import

    try:
        return load_piece(entry, most_faces)
    except UnfitModel as reason:
        logger.debug("%s of %s is left out: %s", entry.key, entry.library, reason)
        return None


@functools.cache
def open_shop(root: str | None, weight: float, most_faces: int) -> Shop:
    """The shop of the libraries in ``root`` (or of the installed package), read once per process."""
    return Shop(read_catalogue(root), weight, most_faces)
