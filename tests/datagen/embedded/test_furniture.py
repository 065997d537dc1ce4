"""Meshes and furniture: closed, outward, textured in metres, standing on the floor, of real sizes."""

import numpy as np
import pytest
import trimesh

from datagen.backends.embedded import meshes
from datagen.backends.embedded.furniture import FURNITURE, build
from datagen.backends.embedded.materials import FINISHES, FLOORS, WALLS, material, shaded_floor, wall_material
from datagen.backends.embedded.style import STYLES, Kit
from ipt.common.registry import UnknownName
from ipt.common.seeding import generator

SOLIDS = {
    "box": (meshes.box((1, 2, 3), (0.5, 0, 1)), 6.0),
    "rounded box": (meshes.rounded_box((1, 2, 3), radius=0.01), 6.0),
    "cylinder": (meshes.cylinder(0.5, 2, segments=64), np.pi / 2),
    "cone": (meshes.cylinder(0.5, 3, top_radius=0, segments=64), np.pi / 4),
    "sphere": (meshes.sphere(1, segments=64), 4 * np.pi / 3),
    "prism": (meshes.prism([(0, 0), (2, 0), (2, 1), (0, 1)], 3), 6.0),
    "turned box": (meshes.turned(meshes.box((1, 2, 3)), meshes.rotation("y", 30), (0, 0, 1)), 6.0),
}
UPSIDE = {"ceiling lamp"}
ON_WALL = {
    "curtain",
    "mirror",
    "painting",
    "clock",
    "towel",
    "toilet paper",
    "wall shelf",
    "wall cabinet",
    "range hood",
}


def closed(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """The surface with vertices at the same place joined."""
    places, corner = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    return trimesh.Trimesh(places, corner.ravel()[faces], process=False)


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_outward_and_of_the_right_volume(name):
    mesh, volume = SOLIDS[name]
    surface = closed(mesh.vertices, mesh.faces)
    assert surface.is_watertight and surface.is_winding_consistent
    assert surface.volume == pytest.approx(volume, rel=0.01)
    corners = mesh.vertices[mesh.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fi,fci->fc", outward, mesh.normals[mesh.faces]) > 0).all()
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)


def test_texture_runs_upright_and_in_metres_on_the_sides_of_a_box():
    mesh = meshes.box((1.0, 2.0, 3.0))
    for face in range(4):
        rows = slice(4 * face, 4 * face + 4)
        vertices, uv = mesh.vertices[rows], mesh.uv[rows]
        assert np.allclose(uv[:, 1], vertices[:, 2])
        right = np.cross([0, 0, 1], mesh.normals[4 * face])
        assert np.allclose(uv[:, 0] - uv[0, 0], (vertices - vertices[0]) @ right, atol=1e-6)


@pytest.mark.parametrize("category", FURNITURE)
def test_furniture_is_closed_varied_and_stands_where_it_says(category):
    shapes = set()
    for seed in range(6):
        piece = build(category, Kit(STYLES[seed % len(STYLES)], generator(seed, category)))
        for mesh, look in piece.pieces:
            assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all()
            surface = closed(mesh.vertices, mesh.faces)
            assert surface.is_winding_consistent
            assert material(look.finish).name == look.finish
        low, high = piece.low, piece.high
        vertices = np.concatenate([mesh.vertices for mesh, _ in piece.pieces])
        assert np.allclose(vertices.min(axis=0), low, atol=2e-3) and np.allclose(vertices.max(axis=0), high, atol=2e-3)
        assert min(piece.size) > 0.005 and max(piece.size) < 2.4
        if category in UPSIDE:
            assert -0.005 < high[2] <= 0
        elif category in ON_WALL:
            assert -0.002 < low[0] < 0.02 and low[2] > 0
        else:
            assert abs(low[2]) < 1e-6
        for surface in piece.surfaces:
            x0, y0, x1, y1 = surface.rectangle
            assert low[0] <= x0 < x1 <= high[0] and low[1] <= y0 < y1 <= high[1]
            tops = piece.solids[:, 1, 2]
            assert np.abs(tops - surface.height).min() < 0.004, "a surface with nothing under it"
        shapes.add(vertices.tobytes() + repr([look for _, look in piece.pieces]).encode())
    assert len(shapes) > 1


def test_an_unknown_category_names_the_valid_ones():
    with pytest.raises(
        UnknownName, match=r"unknown object category 'sofaa' \(did you mean 'sofa'\?\); valid: armchair"
    ):
        build("sofaa", Kit(STYLES[0], generator(0)))


def test_every_texture_is_a_picture_that_repeats_without_a_seam():
    for name in FINISHES:
        texture = material(name).texture
        if texture is not None:
            assert texture.dtype == np.uint8 and texture.shape[2] == 3
            assert texture.std() > 0.5, name
            assert material(name).texture is texture, "drawn twice"
    for style in WALLS:
        texture = wall_material(style).texture.astype(float)
        assert texture[-1].mean() < texture[len(texture) // 3].mean(), "no darkening towards the floor"
    plaster = material("ceiling").texture.astype(float)
    inner = np.abs(np.diff(plaster, axis=1)).mean()
    assert np.abs(plaster[:, 0] - plaster[:, -1]).mean() < 3 * inner + 1


@pytest.mark.parametrize("style", FLOORS)
def test_floors_are_darker_under_furniture(style):
    room = (0.0, 0.0, 4.0, 3.0)
    bare = shaded_floor("bare", style, room, [], []).texture.astype(float)
    shaded = shaded_floor("shaded", style, room, [(1.0, 1.0, 2.0, 2.0, 1.0)], []).texture.astype(float)
    assert bare.shape == (300, 400, 3)
    under, far = (slice(130, 170), slice(130, 170)), (slice(20, 60), slice(300, 380))
    assert shaded[under].mean() < 0.7 * bare[under].mean()
    assert np.array_equal(shaded[far], bare[far])
