"""The parts of the AI2-THOR backend that need no player: frames, objects, scene lists, lattice."""

import gzip
import json
import math
import sys
import types
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.ai2thor import Ai2thorConfig
from datagen.backends.ai2thor.frames import (
    box_of_corners,
    camera_to_thor,
    from_thor,
    linearised_as_perspective,
    planar_depth,
    rotation_to_thor,
    to_thor,
    without_ceiling,
)
from datagen.backends.ai2thor.lattice import Lattice
from datagen.backends.ai2thor.objects import Inventory, noun_of
from datagen.backends.ai2thor.scenes import SceneLibrary, outline_of
from datagen.backends.base import BackendUnavailable, OrientedBox, SceneError, top_down_camera
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SPLITS
from tests.standins.thor_player import pose_of, unity_axes

metres = st.floats(-50, 50)
poses = st.builds(
    CameraPose,
    st.tuples(metres, metres, metres),
    yaw=st.floats(-math.pi, math.pi),
    pitch=st.floats(-1.5, 1.5),
    roll=st.floats(-3.1, 3.1),
)


@given(poses)
def test_a_pose_is_the_same_axes_in_unity(pose: CameraPose) -> None:
    """Against Unity's definition: the columns of Ry Rx Rz are right, up and forward, with y and z exchanged."""
    right, up, forward = unity_axes(rotation_to_thor(pose)).T[:, [0, 2, 1]]
    expected = pose.camera_to_world
    assert np.allclose(np.stack([right, up, -forward], axis=1), expected[:3, :3], atol=1e-9)
    assert np.allclose(from_thor(to_thor(pose.position)), pose.position)


@given(poses)
def test_poses_survive_the_journey(pose: CameraPose) -> None:
    again = pose_of(to_thor(pose.position), rotation_to_thor(pose))
    assert np.allclose(again.camera_to_world, pose.camera_to_world, atol=1e-6)


def test_yaw_and_horizon_as_the_manual_has_them() -> None:
    """AI2-THOR: yaw 0 looks along +z and grows clockwise from above; a positive horizon looks down."""
    assert rotation_to_thor(CameraPose((0, 0, 0), math.pi / 2)) == pytest.approx({"x": 0, "y": 0, "z": 0})
    assert rotation_to_thor(CameraPose((0, 0, 0), 0.0))["y"] == pytest.approx(90)
    assert rotation_to_thor(CameraPose((0, 0, 0), 0.0, pitch=-math.pi / 6))["x"] == pytest.approx(30)


@given(st.floats(0.02, 5), st.floats(6, 100), st.floats(0, 1))
def test_orthographic_depth_is_recovered_from_the_perspective_formula(near: float, far: float, share: float) -> None:
    """Unity's LinearEyeDepth on an orthographic buffer: 1 / ((1/near - 1/far) z + 1/far), z = (far - d) / (far - near)."""
    depth = near + (far - near) * 0.99 * share
    buffer = (far - depth) / (far - near)
    reported = np.full((2, 2), 1 / ((1 / near - 1 / far) * buffer + 1 / far), np.float32)
    camera = Camera(CameraPose((0, 0, 9), 0), 2, 2, ortho_height_m=3, near=near, far=far)
    assert np.allclose(planar_depth(reported, camera, True), depth, rtol=1e-4)
    assert np.allclose(planar_depth(np.full((2, 2), depth, np.float32), camera, False), depth)
    assert (planar_depth(np.full((2, 2), far, np.float32), camera, True) == 0).all()


def test_the_way_a_build_reports_orthographic_depth_is_recognised() -> None:
    camera = top_down_camera((0, 0, 4, 4), 8, 0.0)
    rng = generator(1, "depth")
    depth = 20 - rng.uniform(0, 2.5, (8, 8))
    buffer = (camera.far - depth) / (camera.far - camera.near)
    shader = 1 / ((1 / camera.near - 1 / camera.far) * buffer + 1 / camera.far)
    assert linearised_as_perspective(shader, camera, (0.0, 2.5))
    assert not linearised_as_perspective(depth, camera, (0.0, 2.5))
    with pytest.raises(SceneError, match="cannot be read"):
        linearised_as_perspective(depth / 2, camera, (0.0, 2.5))


def test_ceilings_are_left_out_where_that_is_possible() -> None:
    camera = top_down_camera((0, 0, 4, 4), 8, 0.0)
    cut = without_ceiling(camera, 2.1, 2.5)
    assert cut.near == pytest.approx(17.9) and cut.pose == camera.pose and cut.far == camera.far
    dollhouse = Camera(CameraPose((0, 0, 6), 0, -1.0), 8, 8)
    assert without_ceiling(dollhouse, 2.1, 2.5) == dollhouse
    low = Camera(CameraPose((0, 0, 1.5), 0, -1.0), 8, 8)
    slanted = Camera(CameraPose((0, 0, 9), 0, -1.5), 8, 8, ortho_height_m=3)
    for other in (low, slanted):
        with pytest.raises(SceneError, match="straight down"):
            without_ceiling(other, 2.1, 2.5)
    with pytest.raises(SceneError, match="does not reach down"):
        without_ceiling(replace(camera, far=10.0), 2.1, 2.5)
    assert camera_to_thor(cut)["orthographicSize"] == 2 and "orthographicSize" not in camera_to_thor(dollhouse)


@given(st.permutations(range(8)), st.floats(0, 6.28), st.tuples(*[st.floats(0.05, 3)] * 3))
def test_oriented_boxes_are_found_whatever_the_order_of_corners(order, yaw, half) -> None:
    turn = CameraPose((0, 0, 0), yaw, 0.3).camera_to_world[:3, :3]
    box = OrientedBox(np.array([1.0, 2.0, 0.5]), np.array(half), turn)
    found = box_of_corners(box.corners()[list(order)][:, [0, 2, 1]])
    assert found is not None and np.linalg.det(found.rotation) == pytest.approx(1)
    assert np.allclose(sorted(found.half_size), sorted(half), atol=1e-6)
    distance = np.linalg.norm(found.corners()[:, None] - box.corners()[None], axis=2)
    assert distance.min(axis=1).max() < 1e-6
    assert box_of_corners([[0, 0, 0]] * 8) is None


@pytest.mark.parametrize(
    ("kind", "noun"),
    [
        ("SideTable", "side table"),
        ("TVStand", "tv stand"),
        ("ArmChair", "armchair"),
        ("CD", "cd"),
        ("HousePlant", "potted plant"),
        ("Fridge", "fridge"),
        ("ToiletPaperHanger", "toilet paper hanger"),
    ],
)
def test_types_become_nouns(kind: str, noun: str) -> None:
    assert noun_of(kind) == noun


def test_instance_colours_find_their_objects() -> None:
    box = {"center": {"x": 0, "y": 0, "z": 0}, "size": {"x": 1, "y": 2, "z": 3}}
    records = [
        {"objectId": f"{kind}|{n}", "objectType": kind, "position": box["center"], "axisAlignedBoundingBox": box}
        for n, kind in enumerate(("Chair", "Chair", "Floor"))
    ]
    palette = [
        {"name": "Chair", "color": [9, 9, 9]},
        {"name": "Chair|0", "color": [255, 0, 0]},
        {"name": "Chair|1", "color": [0, 0, 255]},
        {"name": "Floor|2", "color": [0, 255, 0]},
        {"name": "Wall|1|2|3", "color": [1, 2, 3]},
        {"name": "mystery", "color": [4, 5, 6]},
    ]
    inventory = Inventory(records, palette, (np.zeros(3), np.ones(3)), ())
    names = [item.id for item in inventory.objects]
    assert names == ["Chair|0", "Chair|1", "Floor|2", "unlisted wall", "unlisted structure"]
    assert inventory.objects[0].aabb_max == (0.5, 1.5, 1.0), "y and z are exchanged"
    assert [item.is_structure for item in inventory.objects] == [False, False, True, True, True]
    image = np.array([[[255, 0, 0], [0, 0, 255], [0, 255, 0]], [[1, 2, 3], [4, 5, 6], [77, 77, 77]]], np.uint8)
    for alpha in (0, 255):
        pixels = np.dstack([image, np.full((2, 3), alpha, np.uint8)]).view("<u4")[..., 0]
        assert inventory.instances(pixels).tolist() == [[0, 1, 2], [3, 4, 4]]


def test_rooms_and_apartments_are_split_without_overlap() -> None:
    library = SceneLibrary(("ithor", "robothor"), None)
    split = {name: library.scenes(name) for name in SPLITS}
    rooms = {name: [scene for scene in ids if "_" not in scene] for name, ids in split.items()}
    assert {name: len(ids) for name, ids in rooms.items()} == {"train": 80, "val": 20, "test": 20}
    assert rooms["test"][-1] == "FloorPlan430" and rooms["val"][0] == "FloorPlan21"
    every = [scene for ids in split.values() for scene in ids]
    assert len(every) == len(set(every)) == 120 + 75
    layouts = {name: {scene.rsplit("_", 1)[0] for scene in ids if "_" in scene} for name, ids in split.items()}
    assert not layouts["train"] & layouts["val"] and not layouts["train"] & layouts["test"]
    assert all(library.scene(scene).payload == scene for scene in every)
    assert library.scene("FloorPlan402").kind == "bathroom"
    for wrong in ("FloorPlan31", "FloorPlan131", "FloorPlan_Val4_1", "procthor-train-1"):
        with pytest.raises(SceneError, match="unknown AI2-THOR scene"):
            library.scene(wrong)


def house(number: int) -> dict:
    return {"id": str(number), "rooms": [], "metadata": {"agent": {"position": {"x": 1, "y": 0.9, "z": 2}}}}


def test_houses_read_alike_from_every_kind_of_file(tmp_path) -> None:
    houses = [house(number) for number in range(60)]
    lines = "\n".join(json.dumps(each) for each in houses).encode()
    (tmp_path / "a.json").write_text(json.dumps(houses))
    (tmp_path / "a.jsonl").write_bytes(lines + b"\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    found = []
    for name in ("a.json", "a.jsonl", "a.jsonl.gz"):
        library = SceneLibrary(("procthor",), str(tmp_path / name))
        ids = {split: library.scenes(split) for split in SPLITS}
        found.append(ids)
        numbers = [int(scene.rsplit("-", 1)[1]) for split in SPLITS for scene in ids[split]]
        assert sorted(numbers) == list(range(60)), "every house belongs to one split"
        assert all(library.scene(scene).payload == house(int(scene.rsplit("-", 1)[1])) for scene in ids["val"])
    assert found[0] == found[1] == found[2] and len(found[0]["train"]) > 40


def test_published_splits_are_kept(tmp_path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(house(n)) for n in range(count)))
    library = SceneLibrary(("procthor",), str(tmp_path))
    assert [len(library.scenes(split)) for split in ("train", "val", "test")] == [3, 2, 1]


def test_the_papers_mix_has_houses_for_training_only(tmp_path) -> None:
    from omegaconf import OmegaConf

    from datagen import __main__ as command
    from datagen.config import run_config

    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(house(n)) for n in range(2)))
    command.register()
    composed = command.compose(["backend=ithor_procthor", "task=pt", f"backend.houses={tmp_path}"])
    config = run_config(OmegaConf.to_container(composed, resolve=True)).backend_config
    library = SceneLibrary(config.sources, config.houses, config.procthor_splits)
    counts = {split: len(library.scenes(split)) for split in SPLITS}
    assert counts == {"train": 80 + 2, "val": 20, "test": 20}
    assert not any("procthor" in scene for split in ("val", "test") for scene in library.scenes(split))
    assert len(SceneLibrary(("ithor", "procthor"), str(tmp_path)).scenes("val")) == 22
    with pytest.raises(SceneError, match="valid: "):
        SceneLibrary(("procthor",), str(tmp_path), ("training",))


def test_broken_house_files_are_named(tmp_path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"rooms": []}\n{"rooms": [\n[1]\n')
    (tmp_path / "broken.json").write_text("[1,")
    library = SceneLibrary(("procthor",), str(broken))
    wrong = {scene.rsplit("-", 1)[1]: scene for split in SPLITS for scene in library.scenes(split)}
    with pytest.raises(SceneError, match=r"broken\.jsonl, house 1: not valid JSON"):
        library.scene(wrong["1"])
    with pytest.raises(SceneError, match=r"broken\.jsonl, house 2: not a ProcTHOR house"):
        library.scene(wrong["2"])
    with pytest.raises(SceneError, match="no house 7"):
        library.scene("procthor-train-7")
    with pytest.raises(SceneError, match="not valid JSON"):
        SceneLibrary(("procthor",), str(tmp_path / "broken.json")).scenes("train")
    with pytest.raises(SceneError, match="expected a file"):
        SceneLibrary(("procthor",), str(tmp_path / "nowhere")).scenes("train")
    with pytest.raises(SceneError, match=r"backend\.houses"):
        SceneLibrary(("procthor",), None)


def test_houses_from_the_package_prior(monkeypatch) -> None:
    library = SceneLibrary(("procthor",), "prior:procthor-10k")
    monkeypatch.setitem(sys.modules, "prior", None)
    with pytest.raises(BackendUnavailable, match="pip install prior"):
        library.scenes("val")
    prior = types.SimpleNamespace(load_dataset=lambda name: {split: [house(n) for n in range(4)] for split in SPLITS})
    monkeypatch.setitem(sys.modules, "prior", prior)
    library = SceneLibrary(("procthor",), "prior:procthor-10k")
    assert library.scenes("val") == [f"procthor-val-{n}" for n in range(4)]
    assert library.scene("procthor-val-2").payload == house(2)


@given(st.sampled_from([1, -1]), st.lists(st.tuples(metres, metres), min_size=3, max_size=3))
def test_outlines_run_counter_clockwise(direction: int, corners) -> None:
    polygon = outline_of([{"x": x, "y": 0.0, "z": y} for x, y in corners][::direction])
    (a, b, c) = polygon
    assert (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= -1e-6


@given(st.integers(0, 10_000))
def test_more_clearance_leaves_fewer_places(seed: int) -> None:
    rng = generator(seed, "lattice")
    rows, columns = np.nonzero(rng.uniform(size=(12, 12)) < 0.9)
    lattice = Lattice("test", np.column_stack([columns, rows]) * 0.25, 0.25, 0.1)
    grids = [lattice.map(clearance).grid for clearance in (0.0, 0.2, 0.3, 0.6)]
    assert np.array_equal(grids[0], grids[1])
    assert all(wide.sum() <= narrow.sum() for narrow, wide in pairwise(grids))
    with pytest.raises(SceneError, match="clearance anywhere"):
        lattice.sample(1, rng, 9.0)


def test_mistakes_in_the_configuration_name_the_valid_values() -> None:
    for change, message in (
        ({"platform": "Linux"}, "valid: CloudRendering, Linux64"),
        ({"server": "grpc"}, "valid: fifo, wsgi"),
        ({"recycle_after": 0}, "recycle_after >= 1"),
    ):
        with pytest.raises(SceneError, match=message):
            Ai2thorConfig(**change)
    with pytest.raises(SceneError, match="valid: ithor, procthor, robothor"):
        SceneLibrary(("thor",), None)
