"""habitat-sim behind the backend interface: real adapter, real worker, real pipe, recorded truth."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.base import BackendUnavailable, SceneError, SceneInfo
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.habitat.backend import HabitatBackend, HabitatConfig, scene_objects
from datagen.backends.habitat.categories import FURNITURE, furniture_category, is_structure
from datagen.backends.habitat.scenes import LAYOUTS, find_scenes, split_scenes
from datagen.backends.habitat.space import choose_level, floor_levels, height_spread
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.contract import BackendContract, look_around
from tests.datagen.embedded.scenes import RaisedBackend
from tests.datagen.habitat_tools import FRAMES, GOLDEN, golden_backend, homes_backend, our_camera, recorded

NAVMESH = json.loads((GOLDEN / "navmesh" / "navmesh.json").read_text())["golden_r02"]
HOME = "home-train-3"


@pytest.fixture(scope="module")
def golden() -> Iterator[HabitatBackend]:
    with golden_backend() as backend:
        backend.load("golden_room")
        yield backend


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["name"])
def test_our_frames_equal_the_recorded_ones(golden: HabitatBackend, frame: dict) -> None:
    seen = golden.render([our_camera(frame)])[0]
    depth, semantic = recorded(frame, "depth"), recorded(frame, "semantic")
    if frame["subtype"] == "ORTHOGRAPHIC":
        # What the simulator reports is not metric: take the metres from the formula of the README with the recorded matrix.
        p = frame["projection_matrix"]
        buffer = p[2][3] / 2 / np.where(depth > 0, depth, 1) - (p[2][2] - 1) / 2
        depth = np.where(depth > 0, frame["near"] + buffer * (frame["far"] - frame["near"]), 0)
    ids = np.array([int(thing.id.rpartition("_")[2]) for thing in golden.objects()[:-1]] + [0])
    index = np.where(seen.instance >= 0, ids[seen.instance], 0)
    assert np.mean(index != semantic) < 3e-3
    assert np.count_nonzero((seen.depth > 0) != (depth > 0)) <= 1
    same = (index == semantic) & (depth > 0) & (seen.depth > 0)
    assert np.abs(seen.depth - depth)[same].max() < 7e-4
    assert np.mean((seen.rgb != recorded(frame, "color")[..., :3]).any(-1)) < 3e-3


def test_the_golden_room_is_described_in_our_frame(golden: HabitatBackend) -> None:
    info = golden.load("golden_room")
    assert info.floor_z == pytest.approx(0, abs=1e-3), "the navmesh lies up to a cell above the floor"
    assert np.allclose([info.bounds_min, info.bounds_max], [[-3, -4, 0], [3, 4, 2.5]], atol=1e-5)
    table = next(thing for thing in golden.objects() if thing.category == "table")
    assert np.allclose([table.aabb_min, table.aabb_max], [[0.5, 1, 0], [1.5, 2, 1]], atol=1e-5)
    assert not table.is_structure and all(thing.is_structure for thing in golden.objects() if thing is not table)
    assert info.backend_version.startswith("habitat-sim-0.3.3")


def test_free_space_is_the_recorded_navmesh(golden: HabitatBackend) -> None:
    """Radius 0.2 m: free with that clearance where the recorded mesh is; free nowhere else with much more."""
    for query in NAVMESH["points"]:
        x, y, z = query["point"]
        if query["is_navigable"] and query["distance_to_closest_obstacle"] > 0.06:
            assert golden.is_free(np.array([[x, -z]]), 0.2)[0], query["point"]
        elif not query["is_navigable"] and 0 <= y <= 0.6:
            assert not golden.is_free(np.array([[x, -z]]), 0.25)[0], query["point"]
    area = golden.free_map(0.2).grid.sum() * golden.free_map(0.2).resolution ** 2
    assert area == pytest.approx(NAVMESH["navigable_area"], rel=0.04)
    # The grid's cell centres are the samples: the wall at x = -3 is as far away on one side as the one at 3 on the other.
    rows, columns = np.nonzero(golden.free_map(0.2).grid)
    x, y = golden.free_map(0.2).centre_of(rows, columns).T
    assert x.min() == pytest.approx(-x.max(), abs=0.06) and y.min() == pytest.approx(-y.max(), abs=0.06)


def test_paths_are_as_long_as_the_recorded_ones(golden: HabitatBackend) -> None:
    compared = 0
    for query in NAVMESH["paths"]:
        start, end = (np.array([x, -z, 0.0]) for x, _, z in (query["start"], query["end"]))
        path = golden.shortest_path(start, end)
        on_mesh = query["returned"] and np.allclose(query["points"][-1][::2], query["end"][::2], atol=0.3)
        assert (path is not None) == on_mesh
        if path is not None:
            flat = np.array(query["points"])[:, [0, 2]]
            assert path.length_m <= np.linalg.norm(np.diff(flat, axis=0), axis=1).sum() + 1e-3
            compared += 1
    assert compared >= 6


def test_hidden_ceilings_are_cut_away_from_above_only(golden: HabitatBackend) -> None:
    """Walls are 2.5 m high and the cut is at 2 m, so nothing over it is left; depth keeps counting from the camera."""
    region = (-3.5, -4.5, 3.5, 4.5)
    with golden_backend(cut_height_m=2.0) as low:
        low.load("golden_room")
        frame = low.render_top_down(region, 128)
    top = frame.camera.pose.position[2] - frame.depth[frame.depth > 0]
    assert top.max() <= 2.001 and np.isclose(np.median(top), 0, atol=2e-3)
    level = Camera(CameraPose((0, 0, 1.5), 0.0), 64, 64)
    with pytest.raises(SceneError, match="straight down"):
        golden.render([level], hide=("ceiling",))


class TestContractOnAHome(BackendContract):
    """The whole contract, on an embedded home that the stand-in draws."""

    scene = HOME
    kind: type[EmbeddedBackend] = EmbeddedBackend

    @pytest.fixture(scope="class")
    def backend(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HabitatBackend]:
        with homes_backend(tmp_path_factory.mktemp("homes"), (self.scene,)) as backend:
            yield backend

    @pytest.fixture(scope="class")
    def info(self, backend: HabitatBackend) -> SceneInfo:
        return backend.load(self.scene)

    def test_frames_are_those_of_the_embedded_simulator(self, backend: HabitatBackend, info: SceneInfo) -> None:
        """Two simulators, two conventions, one house: the same cameras see the same depth and the same objects."""
        with self.kind(EmbeddedConfig(preset=self.scene.partition("-")[0], renderer="ray")) as other:
            other.load(self.scene.removesuffix("-raised"))
            cameras = [
                *look_around(backend, 2),
                Camera(CameraPose((1.0, 1.0, info.floor_z + 6.0), 0.4, -1.5, 0.3), 96, 160, ortho_height_m=5.0),
            ]
            for one, two in zip(backend.render(cameras), other.render(cameras), strict=True):
                assert np.mean(one.instance != two.instance) < 2e-3
                same = one.instance == two.instance
                assert np.abs(one.depth - two.depth)[same].max() < 5e-3
            for mine, theirs in zip(backend.objects(), other.objects(), strict=False):
                # habitat-sim tells oriented boxes; upright ones of turned objects are looser for that.
                corners = theirs.corners()
                assert np.allclose([mine.aabb_min, mine.aabb_max], [corners.min(0), corners.max(0)], atol=1e-4)
                assert mine.raw_category == theirs.raw_category and mine.is_structure == theirs.is_structure
            rows, columns = np.nonzero(other.free_map(0.2).grid)
            places = other.free_map(0.2).centre_of(rows, columns)
            assert backend.is_free(places, 0.1).mean() > 0.99


class TestContractOnBlocks(TestContractOnAHome):
    scene = "blocks-train-5"


class TestContractOnRaisedBlocks(TestContractOnAHome):
    scene, kind = "blocks-train-5-raised", RaisedBackend

    def test_the_floor_is_at_three_metres(self, info: SceneInfo) -> None:
        assert info.floor_z == pytest.approx(3.0, abs=0.02)


def test_views_of_another_storey_are_left_out() -> None:
    record = {"id": "a", "semantic_id": 5, "category": "chair", "half_size": [0.5] * 3, "rotation_xyzw": [0, 0, 0, 1]}
    upstairs = {**record, "id": "b", "semantic_id": 9, "centre": [0.0, 4.5, 0.0]}
    nothing = {**record, "id": "c", "semantic_id": 2, "half_size": [0.0] * 3, "centre": [0.0, 0.5, 0.0]}
    bounds = np.array([[-5.0, -5, 0], [5, 5, 6]])
    objects, table = scene_objects([{**record, "centre": [0, 0.5, 0]}, upstairs, nothing], bounds, 0.0, True)
    assert [thing.id for thing in objects] == ["a", "unlabelled"]
    assert table.tolist() == [1, 1, 1, 1, 1, 0, 1, -1]


def storeys(*heights: float) -> tuple[np.ndarray, np.ndarray]:
    """A navmesh of one 10 m^2 square per height."""
    square = np.array([[0, 0], [3.1623, 0], [3.1623, 3.1623], [0, 3.1623]])
    vertices = np.concatenate([np.column_stack([square, np.full(4, height)]) for height in heights])
    return vertices, np.concatenate([4 * i + np.array([[0, 1, 2], [0, 2, 3]]) for i in range(len(heights))])


def test_levels_are_told_apart_and_chosen() -> None:
    mesh = storeys(0.1, 3.0, 3.1)
    levels = floor_levels(*mesh)
    assert [round(height, 1) for height, _ in levels] == [0.1, 3.0] and levels[1][1] == pytest.approx(20, rel=1e-3)
    spread = height_spread(*mesh)
    assert spread == pytest.approx(3.0)
    with pytest.raises(SceneError, match=r"2 levels, 3\.0 m"):
        choose_level(levels, spread, "single", 2.0, "x")
    assert choose_level(levels, spread, "largest", 2.0, "x") == levels[1][0]
    assert choose_level(levels, spread, "0", 2.0, "x") == levels[0][0]
    with pytest.raises(SceneError, match="levels 0 to 1"):
        choose_level(levels, spread, "2", 2.0, "x")
    split_level = storeys(0.0, 0.9)
    assert choose_level(floor_levels(*split_level), height_spread(*split_level), "single", 2.0, "x") in (0.0, 0.9)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Dark wooden office_chair", "chair"),
        ("tv_monitor", "television"),
        ("frl_apartment_sofa_01_:0003", "sofa"),
        ("Night Stand", "nightstand"),
        ("chest_of_drawers", "chest of drawers"),
        ("dining chairs", "chair"),
        ("wall", None),
        ("ceiling lamp", "lamp"),
        ("door frame", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_annotators_words_become_ours(raw: str, expected: str | None) -> None:
    assert furniture_category(raw) == expected


def test_the_whitelist_is_consistent() -> None:
    words = [word for name, others in FURNITURE.items() for word in (name, *others)]
    assert 65 <= len(FURNITURE) <= 80 and len(words) == len(set(words))
    assert all(furniture_category(word) == name for name, others in FURNITURE.items() for word in (name, *others))
    assert not any(is_structure(word) for word in words)
    assert is_structure("door frame") and is_structure("Walls") and is_structure("")


def test_splits_share_no_scene_and_lists_are_checked(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 40)):
        for number in range(count):
            folder = tmp_path / "hm3d" / split / f"{number:05}-s{split}{number}"
            folder.mkdir(parents=True)
            for suffix in ("basis.glb", "semantic.glb"):
                (folder / f"s{split}{number}.{suffix}").touch()
    (tmp_path / "hm3d" / "train" / "no_semantics.basis.glb").touch()
    scenes = find_scenes(tmp_path / "hm3d", LAYOUTS["hm3d"])
    splits = {split: split_scenes(scenes, split, None) for split in ("train", "val", "test")}
    assert splits["train"] == [f"strain{number}" for number in range(4)]
    assert len(splits["val"]) + len(splits["test"]) == 40 and min(map(len, splits.values())) > 3
    assert not set(splits["val"]) & set(splits["test"])
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, text in (("train", "strain1 # good\n\nstrain0\n"), ("val", "sval1\n"), ("test", "sval1\n")):
        (lists / f"{split}.txt").write_text(text)
    assert split_scenes(scenes, "train", lists) == ["strain1", "strain0"]
    with pytest.raises(SceneError, match=r"share sval1"):
        split_scenes(scenes, "val", lists)
    (lists / "test.txt").write_text("sval1x\n")
    with pytest.raises(SceneError, match=r"test.txt:1: unknown scene 'sval1x'"):
        split_scenes(scenes, "train", lists)


def test_mistakes_are_answered_before_habitat_sim_starts(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="does not exist"):
        HabitatBackend(HabitatConfig(data=str(tmp_path / "nowhere"))).scenes("train")
    (tmp_path / "a.semantic.glb").touch()
    with pytest.raises(SceneError, match="incomplete"):
        HabitatBackend(HabitatConfig(data=str(tmp_path))).scenes("train")
    (tmp_path / "a.glb").write_bytes(b"glTF")
    with pytest.raises(SceneError, match="none of the 1 scenes"):
        for split in ("train", "val", "test"):
            HabitatBackend(HabitatConfig(data=str(tmp_path))).scenes(split)
    with pytest.raises(SceneError, match="unknown scene 'b'"):
        HabitatBackend(HabitatConfig(data=str(tmp_path))).load("b")
    with pytest.raises(SceneError, match=r"hm3d_annotated_basis.scene_dataset_config.json is neither in"):
        HabitatBackend(HabitatConfig(data=str(tmp_path))).load("a")
    for wrong in ({"dataset": "hm3"}, {"floor": "top"}, {"agent_radius": 20.0}, {"timeout_s": 0}):
        with pytest.raises(SceneError):
            HabitatConfig(**wrong)


def test_without_the_package_there_is_an_instruction(tmp_path: Path) -> None:
    import sys

    (tmp_path / "a.glb").write_bytes(b"glTF")
    for python, reason in ((sys.executable, "cannot import habitat_sim"), ("/no/such/python", "cannot run")):
        backend = HabitatBackend(HabitatConfig(python=python, dataset="files", data=str(tmp_path)))
        with pytest.raises(BackendUnavailable, match=rf"{reason}[\s\S]*conda install habitat-sim"):
            backend.load("a")


def test_a_parallel_camera_measures_the_far_half_of_its_range(golden: HabitatBackend) -> None:
    """There habitat-sim reports negative depths."""
    camera = Camera(CameraPose((-2, 3, 20), 0.0, -np.pi / 2), 32, 32, ortho_height_m=1.0, near=0.1, far=30.0)
    frame = golden.render([camera])[0]
    assert np.allclose(frame.depth, 20, atol=1e-4) and (frame.instance >= 0).all()


def test_a_top_down_camera_keeps_its_own_near_plane_when_nothing_is_hidden(golden: HabitatBackend) -> None:
    camera = our_camera(FRAMES[13])
    whole, cut = golden.render([camera], ("depth",))[0], golden.render([camera], ("depth",), hide=("ceiling",))[0]
    assert (cut.depth == 0).sum() >= (whole.depth == 0).sum() and np.isclose(whole.depth, cut.depth).mean() > 0.9


def test_sampled_points_are_on_the_floor_and_reproducible(golden: HabitatBackend) -> None:
    points = golden.sample_navigable(50, generator(1, "habitat"), 0.3)
    assert np.array_equal(points, golden.sample_navigable(50, generator(1, "habitat"), 0.3))
    assert golden.is_free(points, 0.3).all()
    with pytest.raises(SceneError, match="rooms"):
        golden.sample_navigable(1, generator(1, "habitat"), room_id="kitchen")
