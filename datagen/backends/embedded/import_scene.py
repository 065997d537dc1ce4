"""A user's own scene: an MJCF file (a MolmoSpaces house, for example) or a GLB mesh with named nodes.

Names make objects: ``Chair_02`` becomes category "chair". The head noun of a name, its last one, says what is structure:
``Wall_North``, ``kitchen floor`` and ``DoorFrame`` are, ``FloorLamp_01``, ``WallClock`` and ``DoorMat`` are things. Ceilings
and roofs are hidden from above. MJCF: a body is an object, unless it is a part of its parent: it has no name, is named
after its parent (``Table_leg`` of ``Table``), or turns or slides on it, as doors and drawers do; visual groups 0-2 only, as
MuJoCo's viewer shows. GLB: each mesh node is one object, whatever number of materials it has. Its axes are y up, as glTF
says, or z up: by ``up``, or by the thin side of what is called floor, ground, ceiling or roof. The floor (the top of what
is called floor or ground, else the lowest point) is moved to z = 0.
"""

from __future__ import annotations

import json
import logging
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from datagen.backends.base import Layer, Room, SceneError
from datagen.backends.embedded.gl import prepare_gl
from datagen.backends.embedded.scene import Material, Mesh, Part, Scene, object_from_parts
from ipt.common.images import flatten

logger = logging.getLogger(__name__)
Floats = NDArray[np.float64]

STRUCTURE = frozenset({"wall", "floor", "ground", "ceiling", "door", "doorway", "window", "roof", "stage"})
FLOORS = frozenset({"floor", "ground"})
CEILINGS = frozenset({"ceiling", "roof"})
#: Words after a noun that say where it is or what it is of: a north wall is a wall.
PLACES = frozenset(
    re.findall(
        r"\w+",
        """north south east west left right front back rear top bottom upper lower inner outer interior exterior inside outside
        main kitchen bedroom bathroom livingroom living room hall hallway corridor mesh geom geometry visual node object obj
        wood wooden stone concrete brick marble plaster""",
    )
)
#: Parts of structure that stand after its noun: a door frame is structure, a picture frame is not.
STRUCTURE_PARTS = frozenset(
    re.findall(
        r"\w+",
        "frame sill panel casing trim slab plane surface section segment tile tiles covering molding header jamb glass pane",
    )
)
BODY_SLAB = (0.10, 1.70)  # metres above the floor: what an agent would bump into
MAX_TEXTURE_SIDE = 1024
Y_UP_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.float64)


@dataclass
class Piece:
    """Triangles read from a file, in the world frame, with the name of the object they belong to."""

    owner: str
    mesh: Mesh
    material: Material


def import_scene(path: Path, up: str = "auto") -> Scene:
    """Read ``path``; a ``SceneError`` names the file, what is wrong with it and what would be right.

    ``up``: the axis of a GLB file that points up, y or z; auto guesses and says so in the log and in the scene's notes.
    """
    if not path.is_file():
        raise SceneError(f"scene_file {path}: no such file")
    readers: dict[str, Callable[[Path, str], tuple[list[Piece], str]]] = {
        ".xml": lambda file, _: (read_mjcf(file), "z"),
        ".mjcf": lambda file, _: (read_mjcf(file), "z"),
        ".glb": read_glb,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SceneError(f"scene_file {path}: unknown kind '{path.suffix}'; valid: {', '.join(sorted(readers))}")
    pieces, axis = reader(path, up)
    if not pieces:
        raise SceneError(f"scene_file {path}: holds no visible triangles (MJCF: visual groups 0-2; GLB: mesh nodes)")
    return replace(scene_of(path.stem, pieces), notes={"up": axis})


def read_mjcf(path: Path) -> list[Piece]:
    """Visible geoms of an MJCF model in its initial configuration."""
    prepare_gl()
    import mujoco

    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise SceneError(f"scene_file {path}: MuJoCo cannot read this MJCF: {error}") from error
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    pieces = []
    for geom in range(model.ngeom):
        if model.geom_group[geom] > 2 or model.geom_rgba[geom, 3] == 0:
            continue
        mesh = geom_mesh(mujoco, model, geom)
        if mesh is None:
            kind = mujoco.mjtGeom(model.geom_type[geom]).name
            logger.warning("%s: geom %d (%s) cannot be imported and is left out", path, geom, kind)
            continue
        rotation, position = data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom]
        vertices = (mesh.vertices @ rotation.T + position).astype(np.float32)
        placed = replace(mesh, vertices=vertices, normals=(mesh.normals @ rotation.T).astype(np.float32))
        body = owner_of(mujoco, model, int(model.geom_bodyid[geom]))
        owner = model.body(body).name or f"object {body}" if body else model.geom(geom).name or f"geom {geom}"
        pieces.append(Piece(owner, placed, geom_material(model, geom)))
    return pieces


def owner_of(mujoco: Any, model: Any, body: int) -> int:
    """The body whose object a body belongs to: itself, or an ancestor that it is a part of; 0 for the world."""
    fixed_to = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    while body and (parent := int(model.body_parentid[body])):
        name, over = model.body(body).name, model.body(parent).name
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        jointed = (
            any(mujoco.mjtJoint(kind) in fixed_to for kind in model.jnt_type[first : first + count]) if count else False
        )
        if name and not (over and name.startswith(over)) and not jointed:
            break
        body = parent
    return body


def geom_mesh(mujoco: Any, model: Any, geom: int) -> Mesh | None:
    """A geom's surface in its own frame, or None for kinds without one (height fields, SDFs)."""
    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        index = model.geom_dataid[geom]
        rows = slice(model.mesh_faceadr[index], model.mesh_faceadr[index] + model.mesh_facenum[index])
        vertices = model.mesh_vert[model.mesh_vertadr[index] :][model.mesh_face[rows].ravel()]
        normals = model.mesh_normal[model.mesh_normaladr[index] :][model.mesh_facenormal[rows].ravel()]
        uv = np.zeros((len(vertices), 2), np.float32)
        if model.mesh_texcoordadr[index] >= 0:
            uv = model.mesh_texcoord[model.mesh_texcoordadr[index] :][model.mesh_facetexcoord[rows].ravel()].copy()
            uv[:, 1] = 1 - uv[:, 1]  # MuJoCo counts v downwards
        return Mesh(vertices, normals, uv, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3))
    primitives: dict[Any, Callable[[], trimesh.Trimesh]] = {
        mujoco.mjtGeom.mjGEOM_BOX: lambda: trimesh.creation.box(2 * size),
        mujoco.mjtGeom.mjGEOM_SPHERE: lambda: trimesh.creation.icosphere(2, size[0]),
        mujoco.mjtGeom.mjGEOM_ELLIPSOID: lambda: trimesh.creation.icosphere(2).apply_scale(size),
        mujoco.mjtGeom.mjGEOM_CYLINDER: lambda: trimesh.creation.cylinder(size[0], 2 * size[1], sections=24),
        mujoco.mjtGeom.mjGEOM_CAPSULE: lambda: trimesh.creation.capsule(2 * size[1], size[0], count=[12, 24]),
        mujoco.mjtGeom.mjGEOM_PLANE: lambda: trimesh.creation.box(
            [2 * size[0] or 20.0, 2 * size[1] or 20.0, 0.02]
        ).apply_translation([0, 0, -0.01]),
    }
    return mesh_of(primitives[kind]()) if kind in primitives else None


def geom_material(model: Any, geom: int) -> Material:
    """Colour and texture of a geom; untextured primitives keep their rgba."""
    index, rgba, texture = model.geom_matid[geom], model.geom_rgba[geom], None
    if index >= 0:
        if np.allclose(rgba, (0.5, 0.5, 0.5, 1)):  # MuJoCo: the default rgba gives way to the material's
            rgba = model.mat_rgba[index]
        for texture_id in model.mat_texid[index]:
            if texture_id >= 0 and model.tex_type[texture_id] == 0 and model.tex_nchannel[texture_id] == 3:
                height, width = model.tex_height[texture_id], model.tex_width[texture_id]
                start = model.tex_adr[texture_id]
                texture = model.tex_data[start : start + height * width * 3].reshape(height, width, 3).copy()
    return Material(f"geom{geom}", (float(rgba[0]), float(rgba[1]), float(rgba[2])), texture)


def read_glb(path: Path, up: str) -> tuple[list[Piece], str]:
    """Mesh nodes of a binary glTF file, and the axis that was taken for up."""
    try:
        loaded = trimesh.load_scene(path, file_type="glb")
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise SceneError(
            f"scene_file {path}: not a readable GLB file ({error!r}); export it as binary glTF 2.0"
        ) from error
    nodes = sorted(loaded.graph.nodes_geometry, key=lambda node: (loaded.graph[node][1], node))
    owners = node_owners(nodes, gltf_node_names(path))
    surfaces = []
    for node in nodes:
        transform, geometry = loaded.graph[node]
        surface = loaded.geometry[geometry]
        if not isinstance(surface, trimesh.Trimesh) or not len(surface.faces):
            logger.warning("%s: node '%s' has no triangles and is left out", path, owners[node])
            continue
        surfaces.append((owners[node], geometry, surface.copy().apply_transform(transform)))
    axis = up
    if up == "auto":
        axis = guessed_up([(owner, placed.extents) for owner, _, placed in surfaces])
        logger.info("%s: taken as %s up; backend.scene_up says otherwise", path, axis)
    pieces = []
    for owner, geometry, placed in surfaces:
        upright = placed.apply_transform(Y_UP_TO_Z_UP) if axis == "y" else placed
        pieces.append(Piece(owner, mesh_of(upright), glb_material(f"{owner}/{geometry}", placed)))
    return pieces, axis


def node_owners(nodes: Sequence[str], named: Collection[str]) -> dict[str, str]:
    """The glTF node of each node with triangles; ``named`` are those of the file. A mesh of several materials comes as several
    nodes, which trimesh calls after the one node with six random characters behind it.

    >>> node_owners(["Lamp", "Sofa_Xa81bQ", "Sofa_e0Zt3p"], ["Lamp", "Sofa"])
    {'Lamp': 'Lamp', 'Sofa_Xa81bQ': 'Sofa', 'Sofa_e0Zt3p': 'Sofa'}
    """
    stems = {node: node[:-7] for node in nodes if node not in named and re.fullmatch(r".+_[0-9A-Za-z]{6}", node)}
    several = Counter(stems.values())
    return {node: stems[node] if several[stems.get(node, "")] > 1 else node for node in nodes}


def gltf_node_names(path: Path) -> set[str]:
    """Names of the nodes in a GLB file's JSON chunk."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    content = json.loads(data[20 : 20 + length])
    return {str(node["name"]) for node in content.get("nodes", ()) if "name" in node}


def guessed_up(surfaces: Sequence[tuple[str, Floats]]) -> str:
    """``y`` or ``z``: the axis along which most of what is called floor or ceiling, by area, is thinnest; else glTF's y."""
    weight = dict.fromkeys("xyz", 0.0)
    for owner, extents in surfaces:
        if structure_of(words_of(owner)) in FLOORS | CEILINGS:
            thin = int(np.argmin(extents))
            weight["xyz"[thin]] += float(np.prod(np.delete(extents, thin)))
    return "z" if weight["z"] > weight["y"] else "y"


def glb_material(name: str, surface: trimesh.Trimesh) -> Material:
    """Base colour and base colour texture of a glTF surface, or the mean of its vertex colours."""
    visual: Any = surface.visual
    source = getattr(visual, "material", None)
    if source is None:
        red, green, blue = np.asarray(visual.vertex_colors, dtype=float)[:, :3].mean(axis=0) / 255
        return Material(name, (float(red), float(green), float(blue)))
    factor = getattr(source, "baseColorFactor", None)
    colour = np.ones(3) if factor is None else np.asarray(factor, dtype=float)[:3] / (255 if np.max(factor) > 1 else 1)
    picture = getattr(source, "baseColorTexture", None)
    texture = None
    if picture is not None and getattr(visual, "uv", None) is not None:
        picture = flatten(picture)
        picture.thumbnail((MAX_TEXTURE_SIDE, MAX_TEXTURE_SIDE))
        texture = np.asarray(picture).copy()
    return Material(name, (float(colour[0]), float(colour[1]), float(colour[2])), texture)


def mesh_of(surface: trimesh.Trimesh) -> Mesh:
    """Our mesh of a trimesh surface, flat shaded unless the file brought smooth normals."""
    faces = np.asarray(surface.faces)
    corners = faces.ravel()
    if "vertex_normals" in surface._cache:
        normals = np.asarray(surface.vertex_normals)[corners]
    else:
        normals = np.repeat(np.asarray(surface.face_normals), 3, axis=0)
    uv = getattr(surface.visual, "uv", None)
    return Mesh(
        np.asarray(surface.vertices, np.float32)[corners],
        normals.astype(np.float32),
        np.zeros((len(corners), 2), np.float32) if uv is None else np.asarray(uv, np.float32)[corners],
        np.arange(len(corners), dtype=np.int32).reshape(-1, 3),
    )


def words_of(name: str) -> list[str]:
    """``DiningTable_02.001`` -> ["dining", "table"]."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def structure_of(words: Sequence[str]) -> str | None:
    """The kind of structure that a name's words stand for, decided by its head noun; None for a thing.

    >>> structure_of(["wall", "north"]), structure_of(["floor", "lamp"])
    ('wall', None)
    """
    rest = list(words)
    while len(rest) > 1 and (len(rest[-1]) == 1 or rest[-1] in PLACES | STRUCTURE_PARTS):
        rest.pop()
    head = rest[-1].removesuffix("s") if rest else ""
    return head if head in STRUCTURE else None


def scene_of(scene_id: str, pieces: list[Piece]) -> Scene:
    """Objects, free space outlines and bounds of what was read."""
    owners: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        owners[piece.owner].append(piece)
    words = {owner: words_of(owner) or ["object"] for owner in owners}
    kinds = {owner: structure_of(words[owner]) for owner in owners}
    floors = [piece.mesh for piece in pieces if kinds[piece.owner] in FLOORS]
    everything = np.concatenate([piece.mesh.vertices for piece in pieces])
    floor_z = float(max(mesh.vertices[:, 2].max() for mesh in floors) if floors else everything[:, 2].min())
    shift = (0.0, 0.0, -floor_z)
    parts, objects, materials = [], [], {}
    for index, (owner, owned) in enumerate(owners.items()):
        kind = kinds[owner]
        layer: Layer | None = "ceiling" if kind in CEILINGS else None
        mine = [Part(piece.mesh, piece.material.name, index, layer, shift) for piece in owned]
        materials.update({piece.material.name: piece.material for piece in owned})
        category = kind or " ".join(words[owner])
        made = object_from_parts(
            index, category, mine, raw_category=owner, is_structure=kind is not None, movable=kind is None
        )
        objects.append(replace(made, id=owner))
        parts += mine
    low, high = everything.min(axis=0) + shift, everything.max(axis=0) + shift
    outline = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]], dtype=np.float64)
    walkable = upward_triangles(floors) or [outline]
    return Scene(
        scene_id=scene_id,
        seed=None,
        parts=tuple(parts),
        materials=materials,
        objects=tuple(objects),
        rooms=(Room("room-0", "room", outline),),
        obstacles=tuple(body_outlines(parts)),
        walkable=tuple(walkable),
        bounds_min=(float(low[0]), float(low[1]), float(low[2])),
        bounds_max=(float(high[0]), float(high[1]), float(high[2])),
        licence="the user's own file",
    )


def upward_triangles(meshes: list[Mesh]) -> list[Floats]:
    """Floor triangles that face up, as outlines (3, 2)."""
    outlines: list[Floats] = []
    for mesh in meshes:
        corners = mesh.vertices[mesh.faces].astype(np.float64)
        up = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 1e-9
        outlines += list(corners[up][:, :, :2])
    return outlines


def body_outlines(parts: list[Part]) -> list[Floats]:
    """Floor outlines (3, 2), counter-clockwise, of all surface between knee and head height."""
    low, high = BODY_SLAB
    cut: Callable[..., Any] = trimesh.intersections.slice_faces_plane
    outlines: list[Floats] = []
    for part in parts:
        vertices, faces = part.world_vertices().astype(np.float64), part.mesh.faces
        if vertices[:, 2].max() < low or vertices[:, 2].min() > high:
            continue
        for height, up in ((low, 1.0), (high, -1.0)):
            vertices, faces, *_ = cut(vertices, faces, [0, 0, up], [0, 0, height])
        flat = np.asarray(vertices)[faces][:, :, :2]
        first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
        clockwise = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
        flat[clockwise] = flat[clockwise][:, ::-1]
        outlines += list(flat)
    return outlines
