"""Labelled scans of real places: a coloured mesh, segments of it, and groups of segments that are things, as a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import SceneError
from datagen.backends.embedded.scene import Material, Mesh, Part, Scene, object_from_parts
from datagen.backends.habitat.categories import clean, furniture_category, is_structure
from datagen.real.recorded import RecordedBackend, named, required_fields
from ipt.common.files import read_json

SCAN = "scan"  # the one material: colours are the vertices' own, already lit


@dataclass(frozen=True, eq=False)
class Scan:
    """Vertices (v, 3) metres, z up; faces (f, 3); colours (v, 3), RGB in 0..1."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    colours: NDArray[np.float32]


def read_mesh(backend: RecordedBackend, name: str) -> Scan:
    """The mesh of a PLY file below the root; ``SceneError`` where it is cut short or has no colours."""
    import trimesh  # it takes a second

    path = backend.existing(name)
    with named(name):
        mesh: Any = trimesh.load(path, process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
        colours = (np.asarray(mesh.visual.vertex_colors)[:, :3] / 255).astype(np.float32)
        if not len(faces) or faces.max() >= len(vertices):
            raise SceneError(f"{name}: there are no triangles; the file is cut short or a point cloud")
    return Scan(vertices, faces, colours)


def read_segments(backend: RecordedBackend, name: str, count: int, what: str) -> NDArray[np.int64]:
    """The segment (count,) of each of a mesh's vertices or faces (``what``)."""
    with named(name):
        record = required_fields(read_json(backend.existing(name)), name, "segIndices")
        segment_of = np.asarray(record["segIndices"], np.int64)
        if len(segment_of) != count:
            raise SceneError(f"{name}: {len(segment_of)} segIndices, but the mesh has {count} {what}")
    return segment_of


def read_groups(
    backend: RecordedBackend, name: str, segment_of: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """`owners` of the groups in a file."""
    with named(name):
        record = required_fields(read_json(backend.existing(name)), name, "segGroups")
        return owners(record["segGroups"], segment_of, name)


def scene_of(
    scene_id: str,
    scan: Scan,
    labels: list[str],
    owner: NDArray[np.int64],
    floor_z: float,
    cut_height_m: float,
    licence: str,
) -> Scene:
    """A scan as a scene: an object per group that owns a face, in the order of ``labels``; the rest is background (-1).

    ``owner`` (f,): the place of each face's group, -1 for none. Ceilings, and what has no label and is higher than
    ``cut_height_m`` above the floor, are not seen from above.
    """
    vertices, faces = scan.vertices, scan.faces
    high = vertices[faces, 2].mean(axis=1) > floor_z + cut_height_m
    pieces = split_faces(np.where((owner < 0) & high, -2, owner))
    kept = [index for index in sorted(pieces) if index >= 0]
    parts = []
    for index, mine in sorted(pieces.items()):
        ceiling = index == -2 or (index >= 0 and clean(labels[index]).startswith("ceiling"))
        used, inverse = np.unique(faces[mine], return_inverse=True)
        flat = np.zeros((len(used), 3), np.float32)
        corners = inverse.reshape(-1, 3).astype(np.int32)
        mesh = Mesh(vertices[used], flat, flat[:, :2], corners, scan.colours[used])
        parts.append(Part(mesh, SCAN, kept.index(index) if index >= 0 else -1, "ceiling" if ceiling else None))
    objects = []
    for part in parts[len(parts) - len(kept) :]:
        label = labels[kept[part.instance]]
        category = furniture_category(label) or clean(label)
        objects.append(
            object_from_parts(part.instance, category, [part], raw_category=label, is_structure=is_structure(label))
        )
    seen = vertices[faces].reshape(-1, 3)
    low, top = (tuple(float(value) for value in edge) for edge in (seen.min(axis=0), seen.max(axis=0)))
    materials = {SCAN: Material(SCAN, emission=1.0)}
    bounds: Any = {"bounds_min": low, "bounds_max": top}
    return Scene(
        scene_id, None, tuple(parts), materials, tuple(objects), (), (), (), floor_z=floor_z, licence=licence, **bounds
    )


def owners(groups: Any, segment_of: NDArray[np.int64], where: str) -> tuple[list[str], NDArray[np.int64]]:
    """Labels of the annotated groups, and the place of each vertex's group, -1 where it has none; the smallest of several
    groups, as in the set's own tools."""
    sizes = np.bincount(segment_of, minlength=1)
    owner_of_segment = np.full(len(sizes), -1, np.int64)
    labels, members = [], []
    for place, group in enumerate(groups):
        here = f"{where}, segGroups[{place}]"
        required_fields(group, here, "label", "segments")
        if not isinstance(group["label"], str) or not group["label"].strip():
            raise SceneError(f"{here}: field 'label' must be a text, got {group['label']!r}")
        segments = np.asarray(group["segments"], np.int64)
        if segments.size and (segments.min() < 0 or segments.max() >= len(sizes) or not sizes[segments].all()):
            raise SceneError(f"{here}: field 'segments' names a segment that no face or vertex has")
        labels.append(group["label"])
        members.append(segments)
    for place in sorted(range(len(labels)), key=lambda place: -int(sizes[members[place]].sum())):
        owner_of_segment[members[place]] = place
    return labels, owner_of_segment[segment_of]


def floor_height(scan: Scan, labels: list[str], owner: NDArray[np.int64]) -> float:
    """Median height of the floor's upward triangles; the lowest point of all where no floor is labelled."""
    floor = scan.faces[np.isin(owner, [place for place, label in enumerate(labels) if clean(label) == "floor"])]
    corners = scan.vertices[floor].astype(np.float64)
    up = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
    return float(np.median(corners[up][..., 2]) if up.any() else scan.vertices[:, 2].min())


def split_faces(owner: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Face numbers by owner."""
    order = np.argsort(owner, kind="stable")
    names, starts = np.unique(owner[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
