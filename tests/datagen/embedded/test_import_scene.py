"""A user's own MJCF or GLB scene becomes objects, free space and pictures; a broken one is explained."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from datagen.backends.base import SceneError, SceneInfo
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.import_scene import import_scene, node_owners, structure_of, words_of
from datagen.backends.embedded.scene import Material
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.contract import BackendContract
from tests.datagen.embedded.scenes import checker

needs_gl = pytest.mark.skipif(
    gl.prepare_gl() is None, reason="no OpenGL on this machine: `make setup` says how to get it"
)

MJCF = """
<mujoco>
  <asset>
    <texture name="tiles" type="2d" builtin="checker" rgb1=".8 .8 .8" rgb2=".3 .3 .3" width="64" height="64"/>
    <material name="tiles" texture="tiles"/>
    <material name="oak" rgba=".6 .4 .2 1"/>
    <mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1" inertia="shell"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="3 2.5 .1" material="tiles"/>
    <geom name="wall_north" type="box" pos="0 2.55 1.25" size="3.1 .05 1.25"/>
    <geom name="wall_south" type="box" pos="0 -2.55 1.25" size="3.1 .05 1.25"/>
    <geom name="wall_east" type="box" pos="3.05 0 1.25" size=".05 2.5 1.25"/>
    <geom name="wall_west" type="box" pos="-3.05 0 1.25" size=".05 2.5 1.25"/>
    <geom name="ceiling" type="box" pos="0 0 2.55" size="3 2.5 .04"/>
    <body name="DiningTable_01" pos="1.5 1 0">
      <geom type="box" pos="0 0 .72" size=".6 .4 .03" material="oak"/>
      <geom type="cylinder" pos=".5 .3 .345" size=".03 .345" material="oak"/>
      <geom type="cylinder" pos="-.5 -.3 .345" size=".03 .345" material="oak"/>
      <geom name="hidden" type="box" group="3" size="2 2 2"/>
    </body>
    <body name="Ball" pos="-1.5 1 .3"><geom type="sphere" size=".3" rgba="1 0 0 1"/></body>
    <body name="lamp" pos="-1.5 -1.2 0"><geom type="capsule" pos="0 0 .8" size=".1 .7"/></body>
    <body name="wedge" pos="1 -1.5 0"><geom type="mesh" mesh="wedge"/></body>
    <body name="egg" pos="0 1.8 .4"><geom type="ellipsoid" size=".2 .2 .4"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def mjcf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "flat.xml"
    path.write_text(MJCF)
    return path


@pytest.fixture(scope="module")
def glb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A y-up glTF room with a textured table, a coloured chair and named walls, 1 m above the origin."""
    scene = trimesh.Scene()

    def add(name: str, extents: tuple, centre: tuple, visual=None) -> None:
        mesh = trimesh.creation.box(extents)
        if visual is None:
            mesh.visual = trimesh.visual.TextureVisuals(
                material=trimesh.visual.material.PBRMaterial(baseColorFactor=[200, 180, 160, 255])
            )
        else:
            mesh.visual = visual(mesh)
        x, y, z = centre  # z up here; glTF is y up
        scene.add_geometry(
            mesh.apply_transform(np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])),
            node_name=name, geom_name=name, transform=trimesh.transformations.translation_matrix([x, z + 1.0, -y]),
        )  # fmt: skip

    def textured(mesh: trimesh.Trimesh):
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(checker()))
        return trimesh.visual.TextureVisuals(uv=mesh.vertices[:, :2] + 0.5, material=material)

    add("Floor", (6, 5, 0.1), (0, 0, -0.05))
    for name, extents, centre in (
        ("wall.001", (6, 0.1, 2.5), (0, 2.55, 1.25)),
        ("wall.002", (6, 0.1, 2.5), (0, -2.55, 1.25)),
        ("wall.003", (0.1, 5, 2.5), (3.05, 0, 1.25)),
        ("wall.004", (0.1, 5, 2.5), (-3.05, 0, 1.25)),
        ("Ceiling", (6, 5, 0.1), (0, 0, 2.55)),
        ("Chair_07", (0.5, 0.5, 0.9), (-1.6, -1.2, 0.451)),
        ("Box", (0.4, 0.4, 0.4), (-1.8, 1.4, 0.201)),
        ("ShoeRack", (0.8, 0.3, 0.5), (1.8, -1.9, 0.251)),
        ("plant", (0.3, 0.3, 1.2), (2.4, 1.9, 0.601)),
    ):
        add(name, extents, centre)
    add("CoffeeTable", (1.0, 0.6, 0.45), (1.4, 0.8, 0.226), textured)
    path = tmp_path_factory.mktemp("scenes") / "room.glb"
    path.write_bytes(scene.export(file_type="glb"))
    return path


class ImportedContract(BackendContract):
    @pytest.fixture(scope="class")
    def info(self, backend: EmbeddedBackend) -> SceneInfo:
        return backend.load(backend.scenes("train")[0])


@needs_gl
class TestMjcf(ImportedContract):
    @pytest.fixture(scope="class")
    def backend(self, mjcf: Path) -> Iterator[EmbeddedBackend]:
        with EmbeddedBackend(EmbeddedConfig(renderer="mujoco", scene_file=str(mjcf))) as backend:
            yield backend


class TestGlb(ImportedContract):
    @pytest.fixture(scope="class")
    def backend(self, glb: Path) -> Iterator[EmbeddedBackend]:
        with EmbeddedBackend(EmbeddedConfig(renderer="ray", scene_file=str(glb))) as backend:
            yield backend


def test_names_become_categories() -> None:
    assert words_of("DiningTable_02.001") == ["dining", "table"]
    assert words_of("TVStand") == ["tv", "stand"] and words_of("wall_north") == ["wall", "north"]
    assert words_of("0042") == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("FloorLamp_01", None), ("WallClock", None), ("wallCabinet", None), ("DoorMat", None), ("WindowPlanter", None),
        ("CeilingFan.002", None), ("floor_lamp", None), ("PictureFrame", None), ("wine glass", None), ("Table_North", None),
        ("Floor", "floor"), ("floor_0_3", "floor"), ("Floor_Kitchen", "floor"), ("ground", "ground"), ("Floor tiles", "floor"),
        ("wall_north", "wall"), ("Wall.001", "wall"), ("Walls", "wall"), ("KitchenWall_A", "wall"), ("DoorFrame", "door"),
        ("window_pane_2", "window"), ("Ceiling", "ceiling"), ("Roof_Wood", "roof"), ("", None),
    ],
)  # fmt: skip
def test_the_head_noun_decides_what_is_structure(name: str, kind: str | None) -> None:
    assert structure_of(words_of(name)) == kind


def test_lamps_clocks_and_mats_stay_things_and_do_not_move_the_floor(tmp_path: Path) -> None:
    """A floor lamp 1.65 m high is no floor: the scene does not sink by its height, and nothing of it is hidden from above."""
    scene = trimesh.Scene()
    sizes = {
        "Floor": (4, 4, 0.1),
        "FloorLamp_01": (0.3, 0.3, 1.65),
        "DoorMat": (0.6, 0.4, 0.02),
        "CeilingFan": (0.5, 0.5, 0.1),
    }
    for place, (name, extents) in enumerate(sizes.items()):
        mesh = trimesh.creation.box(extents)
        centre = (0, 0, -0.05) if name == "Floor" else (place - 2.0, 0, extents[2] / 2)
        mesh.apply_translation(centre)
        turned = mesh.apply_transform(np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]))
        scene.add_geometry(turned, node_name=name, geom_name=name)
    path = tmp_path / "lamps.glb"
    path.write_bytes(scene.export(file_type="glb"))
    read = import_scene(path)
    by_id = {thing.id: thing for thing in read.objects}
    assert {name for name, thing in by_id.items() if thing.is_structure} == {"Floor"}
    assert by_id["Floor"].aabb_max[2] == pytest.approx(0, abs=1e-5)
    assert by_id["FloorLamp_01"].category == "floor lamp" and by_id["FloorLamp_01"].aabb_max[2] == pytest.approx(
        1.65, abs=1e-5
    )
    assert all(part.layer is None for part in read.parts)


def test_mjcf_objects_are_its_bodies(mjcf: Path) -> None:
    scene = import_scene(mjcf)
    categories = [thing.category for thing in scene.objects]
    assert sorted(categories) == sorted(
        ["floor", *["wall"] * 4, "ceiling", "dining table", "ball", "lamp", "wedge", "egg"]
    )
    table = scene.objects[categories.index("dining table")]
    assert np.allclose(table.aabb_min, (0.9, 0.6, 0.0), atol=1e-5) and np.allclose(
        table.aabb_max, (2.1, 1.4, 0.75), atol=1e-5
    )
    ball = scene.objects[categories.index("ball")]
    assert ball.movable and not ball.is_structure and np.allclose(ball.centre, (-1.5, 1, 0.3), atol=0.01)
    assert {thing.category for thing in scene.objects if thing.is_structure} == {"floor", "wall", "ceiling"}
    floor = next(part for part in scene.parts if scene.objects[part.instance].category == "floor")
    assert scene.materials[floor.material].texture is not None


def test_glb_is_turned_upright_and_put_on_the_floor(glb: Path) -> None:
    scene = import_scene(glb)
    table = next(thing for thing in scene.objects if thing.category == "coffee table")
    assert np.allclose(table.aabb_min, (0.9, 0.5, 0.001), atol=1e-4) and np.allclose(
        table.aabb_max, (1.9, 1.1, 0.451), atol=1e-4
    )
    assert (
        scene.materials[next(part.material for part in scene.parts if part.instance == table.index)].texture is not None
    )
    chair = next(thing for thing in scene.objects if thing.category == "chair")
    colour = scene.materials[next(part.material for part in scene.parts if part.instance == chair.index)]
    assert isinstance(colour, Material) and np.allclose(colour.rgb, np.array([200, 180, 160]) / 255, atol=0.01)


@needs_gl
def test_both_renderers_draw_an_imported_scene_alike(mjcf: Path, glb: Path) -> None:
    for path in (mjcf, glb):
        frames = []
        for renderer in ("mujoco", "ray"):
            with EmbeddedBackend(EmbeddedConfig(renderer=renderer, scene_file=str(path))) as backend:
                backend.load(path.stem)
                cameras = [Camera(CameraPose((-0.4, -0.5, 1.3), yaw, -0.2), 96, 96, 80) for yaw in (0.4, 2.2, -1.2)]
                frames.append([*backend.render(cameras), backend.render_top_down((-3.2, -3.2, 3.2, 3.2), 96)])
        for one, other in zip(*frames, strict=True):
            assert (one.instance != other.instance).mean() < 2e-3
            assert np.median(np.abs(one.depth - other.depth)) < 1e-4
            assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xml", b"<mujoco><worldbody><geom type='box'/></worldbody></mujoco>", "MuJoCo cannot read this MJCF"),
        ("x.xml", b"<mujoco><worldbody>", "MuJoCo cannot read this MJCF"),
        ("x.xml", b"<mujoco/>", "holds no visible triangles"),
        ("x.glb", b"glTF, but not really", "export it as binary glTF 2.0"),
        ("x.glb", b"", "export it as binary glTF 2.0"),
        ("x.obj", b"v 0 0 0", "unknown kind '.obj'; valid: .glb"),
    ],
)
def test_broken_files_are_named_and_explained(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match=message) as failure:
        import_scene(tmp_path / name)
    assert name in str(failure.value)
    with pytest.raises(SceneError, match="no such file"):
        import_scene(tmp_path / "absent.xml")


def test_a_truncated_glb_is_explained(tmp_path: Path, glb: Path) -> None:
    data = glb.read_bytes()
    (tmp_path / "cut.glb").write_bytes(data[: len(data) // 2])
    with pytest.raises(SceneError, match="not a readable GLB"):
        import_scene(tmp_path / "cut.glb")


def box(name: str, extents: tuple[float, float, float], centre: tuple[float, float, float]) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents).apply_translation(centre)
    mesh.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(name=name))
    return mesh


def several_materials(path: Path) -> Path:
    """A GLB, y up, whose node "Sofa" has one mesh of two primitives with a material each; written by hand, as exporters do."""
    blobs, views, accessors, primitives = b"", [], [], []
    for number, height in enumerate((0.2, 0.6)):
        mesh = trimesh.creation.box((1.0, 0.3, 0.5)).apply_translation((0, height, 0))
        for values, kind, component in (
            (mesh.vertices.astype("<f4"), "VEC3", 5126),
            (mesh.faces.astype("<u4").ravel(), "SCALAR", 5125),
        ):
            data = values.tobytes()
            views.append({"buffer": 0, "byteOffset": len(blobs), "byteLength": len(data)})
            entry = {"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": kind}
            if kind == "VEC3":
                entry |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
            accessors.append(entry)
            blobs += data
        primitives.append({"attributes": {"POSITION": 2 * number}, "indices": 2 * number + 1, "material": number})
    colours = ([1, 0, 0, 1], [0, 0, 1, 1])
    content = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"name": "Sofa", "mesh": 0}],
        "meshes": [{"name": "sofa mesh", "primitives": primitives}], "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": len(blobs)}],
        "materials": [{"name": f"m{n}", "pbrMetallicRoughness": {"baseColorFactor": c}} for n, c in enumerate(colours)],
    }  # fmt: skip
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    blobs += bytes(-len(blobs) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blobs), b"BIN\0") + blobs
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def test_a_node_of_several_materials_is_one_object_with_its_name(tmp_path: Path) -> None:
    path = several_materials(tmp_path / "sofa.glb")
    first, again = import_scene(path), import_scene(path)
    assert [thing.id for thing in first.objects] == ["Sofa"] == [thing.id for thing in again.objects]
    assert len(first.parts) == 2 and [part.material for part in first.parts] == [part.material for part in again.parts]
    colours = {tuple(np.round(material.rgb, 2)) for material in first.materials.values()}
    assert colours == {(1, 0, 0), (0, 0, 1)}
    assert first.objects[0].size[2] == pytest.approx(0.7, abs=1e-4), "both parts, upright"


def test_nodes_that_end_in_six_characters_by_themselves_are_not_joined() -> None:
    shelves = ["shelf_middle", "shelf_bottom"]
    assert node_owners([*shelves, "Lamp"], {*shelves, "Lamp"}) == {name: name for name in (*shelves, "Lamp")}
    assert node_owners(["Lamp_abc123", "Sofa"], {"Sofa"}) == {"Lamp_abc123": "Lamp_abc123", "Sofa": "Sofa"}


@pytest.mark.parametrize(("turned", "guess"), [(False, "z"), (True, "y")])
@pytest.mark.parametrize("up", ["auto", "y", "z"])
def test_which_axis_points_up_is_guessed_said_and_settable(
    turned: bool, guess: str, up: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A room modelled z up, written as it is, and turned to y up as glTF wants it: a lamp of 1.6 m stands in both."""
    scene = trimesh.Scene()
    y_up = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    for name, extents, centre in (("Floor", (5, 4, 0.1), (0, 0, -0.05)), ("Lamp", (0.3, 0.3, 1.6), (1, 1, 0.8))):
        mesh = box(name, extents, centre)
        scene.add_geometry(mesh.apply_transform(y_up) if turned else mesh, node_name=name, geom_name=name)
    path = tmp_path / "room.glb"
    path.write_bytes(scene.export(file_type="glb"))
    with caplog.at_level("INFO"):
        read = import_scene(path, up)
    axis = guess if up == "auto" else up
    assert read.notes["up"] == axis and ("taken as" in caplog.text) is (up == "auto")
    (lamp,) = [thing for thing in read.objects if thing.category == "lamp"]
    assert bool(abs(lamp.size[2] - 1.6) < 1e-4) is (axis == guess)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(SceneError, match="unknown scene_up 'x'; valid: auto, y, z"):
        EmbeddedConfig(scene_up="x")


TREE = """
<mujoco><worldbody>
  <body name="desk">
    <geom type="box" size=".6 .4 .03" pos="0 0 .7"/>
    <body name="desk_leg"><geom type="box" size=".03 .03 .35" pos=".5 .3 .35"/></body>
    <body><geom type="box" size=".03 .03 .35" pos="-.5 .3 .35"/></body>
    <body name="microwave" pos="0 0 .73">
      <geom type="box" size=".25 .2 .15" pos="0 0 .15"/>
      <body name="microdoor"><joint type="hinge" axis="0 0 1"/><geom type="box" size=".24 .01 .14" pos="0 -.2 .15"/></body>
    </body>
    <body name="kettle" pos=".4 0 .73"><geom type="sphere" size=".1" pos="0 0 .1"/></body>
    <body name="drawer"><joint type="slide" axis="0 1 0"/><geom type="box" size=".2 .2 .05" pos="0 0 .6"/></body>
  </body>
  <body name="ball" pos="2 0 .2"><freejoint/><geom type="sphere" size=".2"/></body>
</worldbody></mujoco>
"""


@needs_gl
def test_a_tree_of_bodies_becomes_objects_by_its_rule(tmp_path: Path) -> None:
    (tmp_path / "tree.xml").write_text(TREE)
    scene = import_scene(tmp_path / "tree.xml")
    parts = {thing.id: sum(part.instance == thing.index for part in scene.parts) for thing in scene.objects}
    assert parts == {"desk": 4, "microwave": 2, "kettle": 1, "ball": 1}


def test_a_scene_of_ones_own_is_read_once(glb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datagen.backends.embedded import backend as module
    from datagen.backends.embedded import import_scene as reading

    made: list[str] = []
    real = module.FreeSpace
    monkeypatch.setattr(module, "FreeSpace", lambda *args: (made.append("space"), real(*args))[1])
    monkeypatch.setattr(reading, "import_scene", lambda *args: (made.append("scene"), import_scene(*args))[1])
    with EmbeddedBackend(EmbeddedConfig(renderer="ray", scene_file=str(glb))) as backend:
        for _ in range(3):
            backend.load("room")
            backend.sample_navigable(2, np.random.default_rng(0))
    assert made == ["scene", "space"]
