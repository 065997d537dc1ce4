"""Parametric furniture: importing the package registers every category in :data:`FURNITURE`."""

from datagen.backends.embedded.furniture import (
    bathroom,
    bedroom,
    decor,
    electronics,
    kitchen,
    leisure,
    seating,
    storage,
    tables,
    tableware,
)
from datagen.backends.embedded.furniture.base import FURNITURE, Furniture, Surface, build

__all__ = [
    "FURNITURE",
    "Furniture",
    "Surface",
    "bathroom",
    "bedroom",
    "build",
    "decor",
    "electronics",
    "kitchen",
    "leisure",
    "seating",
    "storage",
    "tables",
    "tableware",
]
