"""A model becomes a piece: in our frame and size, with its colours, the boxes that it fills and the top that carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.embedded.furniture.base import Furniture
from datagen.backends.embedded.meshes import box
from datagen.backends.embedded.models.catalogue import read_catalogue
from datagen.backends.embedded.models.pieces import UnfitModel, both_sided, load_piece
from tests.datagen.embedded.models.made_library import Model, sofa, table, write_library


def piece(folder: Path, model: Model, category: str, **options) -> Furniture:
    write_library(folder, [model], **{key: value for key, value in options.items() if key == "holes"})
    (entry,) = read_catalogue(str(folder)).entries[category]
    return load_piece(entry, **{key: value for key, value in options.items() if key != "holes"})


def vertices(found: Furniture) -> np.ndarray:
    return np.concatenate([mesh.vertices for mesh, _ in found.pieces])


def test_size_and_stand_are_exact_and_the_back_is_behind(tmp_path: Path) -> None:
    found = piece(tmp_path, sofa(), "sofa")
    points = vertices(found)
    assert np.allclose(points.min(axis=0), (-0.4, -1.0, 0.0), atol=1e-5), "depth, width, height"
    assert np.allclose(points.max(axis=0), (0.4, 1.0, 0.8), atol=1e-5)
    assert np.allclose(found.size, (0.8, 2.0, 0.8), atol=1e-5)
    assert points[points[:, 2] > 0.5][:, 0].max() < -0.15, "what is high, the backrest, is at x < 0"
    assert found.credit.startswith("Sofa by Sit Maker (CC BY 3.0)")


def test_the_catalogues_rotation_is_applied(tmp_path: Path) -> None:
    """The same sofa lying on its back in the file, with the rotation that puts it up."""
    upright = sofa()
    lying = [(((a[0], -b[2], a[1]), (b[0], -a[2], b[1])), material) for (a, b), material in upright.boxes]
    turned = replace(upright, boxes=lying, extra={"modelRotation": "1 0 0 0 0 1 0 -1 0"})
    straight, put_up = piece(tmp_path / "a", upright, "sofa"), piece(tmp_path / "b", turned, "sofa")
    assert np.allclose(np.sort(vertices(straight), axis=0), np.sort(vertices(put_up), axis=0), atol=1e-5)


def test_a_table_is_a_top_on_legs_and_carries(tmp_path: Path) -> None:
    found = piece(tmp_path, table(), "dining table")
    under = found.solids[(found.solids[:, 0, 2] > 0.5)]
    area = np.prod(under[:, 1, :2] - under[:, 0, :2], axis=1).sum()
    assert area > 0.6 * 0.8 * 1.5, "most of the floor below the top is free"
    (surface,) = found.surfaces
    x0, y0, x1, y1 = surface.rectangle
    assert surface.height == pytest.approx(0.75, abs=1e-4) and surface.use == "top"
    assert x1 - x0 > 0.7 and y1 - y0 > 1.38 and x0 > -0.4 and y1 < 0.75
    assert piece(tmp_path / "s", sofa(), "sofa").surfaces == (), "nothing is set on sofas"


def test_materials_come_with_their_colour_or_picture(tmp_path: Path) -> None:
    dining = piece(tmp_path / "t", table(), "dining table")
    colours = {material.name.split("/")[-1]: material.rgb for material in dining.materials}
    assert np.allclose(colours["oak"], (0.6, 0.4, 0.2), atol=0.005)
    (cloth,) = piece(tmp_path / "s", sofa(), "sofa").materials
    assert cloth.texture.shape == (16, 16, 3) and set(cloth.texture[0, 0]) != {255}
    assert {look.finish for _, look in dining.pieces} == {material.name for material in dining.materials}


def test_normals_look_to_the_side_that_a_triangle_is_seen_from(tmp_path: Path) -> None:
    for mesh, _ in piece(tmp_path, table(), "dining table").pieces:
        corners = mesh.vertices[mesh.faces].astype(float)
        out = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.einsum("fk,fk->f", out, mesh.normals[mesh.faces[:, 0]]) > 0).all()


def test_an_open_surface_is_seen_from_both_sides_and_a_closed_one_is_not_doubled() -> None:
    closed = box((1.0, 1.0, 1.0))
    assert both_sided(closed) is closed
    opened = both_sided(box((1.0, 1.0, 1.0), skip=("+z",)))
    assert len(opened.faces) == 20 and np.allclose(
        opened.normals[len(opened.normals) // 2 :], -opened.normals[: len(opened.normals) // 2]
    )


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        ({"size": (200, 80, 60)}, {}, "other proportions"),
        ({}, {"most_faces": 20}, "has 24 faces, more than 20"),
        ({}, {"holes": True}, "a texture with holes"),
        ({"boxes": []}, {}, "no triangles|cannot be read"),
        ({"boxes": [*sofa().boxes, (sofa().boxes[0][0], "paint")]}, {}, "two materials on the same triangles"),
        ({"extra": {"model": "/scopia/none/none.obj"}}, {}, "is not in Scopia.sh3f"),
    ],
)
def test_what_makes_a_model_unfit(tmp_path: Path, change: dict, options: dict, why: str) -> None:
    with pytest.raises(UnfitModel, match=why):
        piece(tmp_path, replace(sofa(), **change), "sofa", **options)
