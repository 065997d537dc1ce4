"""Homes as files: read back by our own importers and by MuJoCo, with the objects where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.backends.base import SceneError
from datagen.backends.embedded import gl
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.export import DATASET_CONFIG, ExportConfig, colour_code, export, semantic_text
from datagen.backends.embedded.house import make_house
from datagen.backends.embedded.import_scene import import_scene
from datagen.backends.embedded.scene import Scene
from datagen.backends.embedded.scene_folder import find_scenes, split_scenes
from ipt.common.files import read_json
from ipt.common.seeding import derived_seed

needs_gl = pytest.mark.skipif(gl.prepare_gl() is None, reason="no OpenGL on this machine")
HOME = "home-val-3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("homes")
    assert export(ExportConfig(1, 3, "val", output_dir=str(path))) == [HOME]
    return path


@pytest.fixture(scope="module")
def home() -> Scene:
    return make_house(HOME, derived_seed(3, "scene", "home", "val"))


def same_objects(read: Scene, home: Scene) -> None:
    floor = max(thing.aabb_max[2] for thing in home.objects if thing.category == "floor")
    there = {thing.id: thing for thing in read.objects}
    assert set(there) == {thing.id for thing in home.objects}
    for thing in home.objects:
        for corner in ("aabb_min", "aabb_max"):
            moved = np.array(getattr(thing, corner)) - [0, 0, floor]
            np.testing.assert_allclose(getattr(there[thing.id], corner), moved, atol=2e-3, err_msg=thing.id)
        if not thing.is_structure:
            assert there[thing.id].category == thing.category


def test_a_home_comes_back_from_its_glb_with_all_its_objects(folder: Path, home: Scene) -> None:
    read = import_scene(folder / "glb" / HOME / f"{HOME}.glb")
    assert read.notes["up"] == "y"
    same_objects(read, home)
    assert sum(material.texture is not None for material in read.materials.values()) > 3


@needs_gl
def test_a_home_comes_back_from_its_mjcf_with_all_its_objects(folder: Path, home: Scene) -> None:
    same_objects(import_scene(folder / "mjcf" / HOME / "scene.xml"), home)


def test_the_annotation_names_the_colour_of_every_object(folder: Path, home: Scene) -> None:
    lines = (folder / "glb" / HOME / f"{HOME}.semantic.txt").read_text().splitlines()
    assert lines == semantic_text(home).splitlines() and lines[0] == "HM3D Semantic Annotations"
    colours = {line.split(",")[1]: line.split('"')[1] for line in lines[1:]}
    assert len(colours) == len(home.objects)
    drawn = trimesh.load_scene(folder / "glb" / HOME / f"{HOME}.semantic.glb")
    seen = set()
    for surface in drawn.geometry.values():
        red, green, blue = np.unique(surface.visual.vertex_colors[:, :3], axis=0)[0]
        seen.add(f"{red:02X}{green:02X}{blue:02X}")
    assert seen == set(colours), "every colour of the mesh is annotated, and the other way round"


def test_no_two_objects_share_a_colour() -> None:
    assert len({colour_code(index) for index in range(3000)}) == 3000 and (0, 0, 0) not in map(colour_code, range(3000))


def test_habitat_finds_the_homes_as_it_finds_hm3d(folder: Path) -> None:
    from datagen.backends.habitat.scenes import LAYOUTS, find_scenes

    found = find_scenes(folder / "glb", LAYOUTS["hm3d"])
    assert list(found) == [HOME] and Path(found[HOME].handle).name == f"{HOME}.glb"
    stages = read_json(folder / "glb" / DATASET_CONFIG)["stages"]
    assert stages["default_attributes"]["up"] == [0.0, 1.0, 0.0] and LAYOUTS["hm3d"].config == DATASET_CONFIG


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("obj",)}, "unknown format 'obj'"),
        ({"split": "dev"}, "unknown split"),
        ({"homes": 0}, "homes must be"),
    ],
)
def test_what_cannot_be_exported_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=message):
        export(ExportConfig(**{"output_dir": str(tmp_path), **changes}))  # type: ignore[arg-type]


def test_a_folder_of_scenes_is_a_backend_with_splits(folder: Path, tmp_path: Path) -> None:
    """Exported homes, one in a folder of its split; annotations and files that others include are no scenes."""
    for place in ("test", "a", "b"):
        (tmp_path / place).mkdir()
    source = folder / "glb" / HOME
    for target in ("test/kept.glb", "a/room.glb", "b/room.glb", "kept.semantic.glb"):
        (tmp_path / target).write_bytes((source / f"{HOME}.glb").read_bytes())
    (tmp_path / "included.xml").write_text("<mujocoinclude><body/></mujocoinclude>")
    (tmp_path / "a" / "scene.xml").write_text("<mujoco><worldbody/></mujoco>")
    assert sorted(find_scenes(tmp_path)) == ["a", "a.room", "b.room", "kept"]
    with EmbeddedBackend(EmbeddedConfig(renderer="ray", scene_folder=str(tmp_path))) as backend:
        assert "kept" in backend.scenes("test") and "kept" not in backend.scenes("train")
        dealt = [name for split in ("train", "test") for name in backend.scenes(split)]
        assert sorted({*dealt, "a", "a.room", "b.room"}) == ["a", "a.room", "b.room", "kept"]
        info = backend.load("kept")
        assert info.scene_id == "kept" and len(backend.objects()) > 10
        with pytest.raises(SceneError, match="unknown scene of"):
            backend.load("nowhere")


def test_scenes_are_dealt_by_their_ids_alone(tmp_path: Path) -> None:
    scenes = {f"room{number}": tmp_path / f"room{number}.glb" for number in range(400)}
    dealt = {split: split_scenes(scenes, tmp_path, split) for split in ("train", "val", "test")}
    assert sorted(name for names in dealt.values() for name in names) == sorted(scenes)
    assert 290 < len(dealt["train"]) < 350 and 20 < len(dealt["val"]) < 65
    fewer = dict(list(scenes.items())[:200])
    assert set(split_scenes(fewer, tmp_path, "val")) == set(dealt["val"]) & set(fewer)


def test_folders_without_scenes_and_two_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no such folder"):
        find_scenes(tmp_path / "nothing")
    with pytest.raises(SceneError, match=r"holds no \.glb file"):
        find_scenes(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "one.glb").touch()
    with pytest.raises(SceneError, match="none of its 1 scenes belongs to split val"):
        split_scenes(find_scenes(tmp_path), tmp_path, "val")
    with pytest.raises(SceneError, match="both set"):
        EmbeddedConfig(scene_file="a.glb", scene_folder="b")
