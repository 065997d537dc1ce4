"""What the real habitat-sim was seen to do (tests/golden_habitat/rooms) and what is made of it: boxes, roofs, reuse, deaths."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datagen.backends.base import BackendUnavailable, SceneError
from datagen.backends.habitat import backend as habitat
from datagen.backends.habitat.backend import HabitatBackend, HabitatConfig, check_mesh, near_plane, scene_objects
from datagen.backends.habitat.process import WORKER
from datagen.backends.habitat.scenes import LAYOUTS, SceneFile
from datagen.backends.habitat.space import choose_level, floor_levels, height_spread, under_the_roof
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.habitat_tools import GOLDEN, golden_backend

sys.path.insert(0, str(WORKER.parent))
from worker import Worker, union  # type: ignore[import-not-found]

ROOMS = json.loads((GOLDEN / "rooms" / "recorded.json").read_text())
EXACT = {int(key): box for key, box in json.loads((GOLDEN / "rooms" / "exact_boxes.json").read_text()).items()}


def component(record: dict[str, Any]) -> Any:
    box = SimpleNamespace(center=record["center"], half_extents=record["half_extents"])
    return SimpleNamespace(obb=box, num_src_verts=record["num_src_verts"])


def recorded_worker(name: str, **changes: Any) -> Any:
    """A worker whose simulator answers as the real one did."""
    records = ROOMS[name]["objects"]
    things = [
        SimpleNamespace(
            id=record["id"],
            semantic_id=record["semantic_id"],
            category=SimpleNamespace(name=lambda record=record: record["category"]),
            obb=SimpleNamespace(
                center=record["obb_center"],
                half_extents=record["obb_half_extents"],
                rotation=record["obb_rotation_xyzw"],
            ),
        )
        for record in records
    ]
    components = {
        index: [component(part) for part in record["connected_components"]] for index, record in enumerate(records)
    }
    worker = Worker(SimpleNamespace())
    simulator = {"semantic_scene": SimpleNamespace(objects=things), "build_semantic_CC_objects": lambda: components}
    worker.sim = SimpleNamespace(**{**simulator, **changes})
    return worker


@pytest.mark.parametrize("room", ["parts_room", "roofed_room"])
def test_boxes_hold_all_parts_of_an_object(room: str) -> None:
    """Against the true extents; the recorded ``obb`` of the sofa is that of its larger part alone."""
    described = recorded_worker(room)._objects()
    bounds = np.array([[-5, -5, -5], [5, 5, 5]], float)
    things = {thing.id: thing for thing in scene_objects(described, bounds, 0.0, False)[0]}
    compared = 0
    for thing_id, thing in things.items():
        number = thing_id.rpartition("_")[2]
        if number.isdecimal() and int(number) in EXACT:
            np.testing.assert_allclose(thing.aabb_min, EXACT[int(number)]["low_zup"], atol=2e-3)
            np.testing.assert_allclose(thing.aabb_max, EXACT[int(number)]["high_zup"], atol=2e-3)
            compared += 1
    assert compared >= 5
    old = scene_objects(recorded_worker(room, build_semantic_CC_objects=dict)._objects(), bounds, 0.0, False)[0]
    (sofa,) = [thing for thing in old if thing.id == "sofa_4"]
    assert np.abs(np.array(sofa.aabb_min) - EXACT[4]["low_zup"]).max() > 0.1, "without components it would be wrong"


def test_stray_scraps_of_a_scan_do_not_stretch_a_box() -> None:
    parts = [component({"center": [0, 0, 0], "half_extents": [1, 1, 1], "num_src_verts": 990})]
    parts.append(component({"center": [9, 0, 0], "half_extents": [0.1, 0.1, 0.1], "num_src_verts": 10}))
    assert union(parts)["half_size"] == [1, 1, 1]
    parts[1].num_src_verts = 100
    assert union(parts)["half_size"] == pytest.approx([5.05, 1, 1])


def navmesh(room: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Flat islands of the recorded areas at the recorded heights, in our frame, and the top of the scene."""
    vertices, triangles = list[list[float]](), list[list[int]]()
    for number, island in enumerate(ROOMS[room]["navmesh"]["islands"]):
        side, x = float(np.sqrt(island["area_m2"])), 20.0 * number
        first = len(vertices)
        vertices += [[x + a * side, b * side, island["height_m"]] for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
        triangles += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    return np.array(vertices), np.array(triangles, np.int32), ROOMS[room]["scene_aabb"][1][1]


def test_the_top_of_a_closed_ceiling_is_no_floor() -> None:
    vertices, triangles, top = navmesh("roofed_room")
    assert choose_level(floor_levels(vertices, triangles), 0.0, "largest", 2.0, "x") == pytest.approx(2.8), (
        "as recorded"
    )
    kept = under_the_roof(vertices, triangles, top, 1.5)
    assert choose_level(
        floor_levels(vertices, kept), height_spread(vertices, kept), "single", 2.0, "x"
    ) == pytest.approx(0.1)
    assert {0.1, 0.6} == set(vertices[kept.ravel(), 2].tolist()), "the bed is an island of its own, and stays"
    vertices, triangles, top = navmesh("parts_room")
    assert len(under_the_roof(vertices, triangles, top, 1.5)) == len(triangles)


def test_the_next_scene_is_opened_in_the_same_simulator_and_after_some_in_a_new_one() -> None:
    made, reconfigured, closed = list[Any](), list[Any](), list[Any]()

    class Simulator:
        def __init__(self, config: Any) -> None:
            made.append(config)
            self.pathfinder = SimpleNamespace(is_loaded=False)
            self.scene_aabb = SimpleNamespace(min=[0, 0, 0], max=[1, 1, 1])
            self.semantic_scene = None

        def reconfigure(self, config: Any) -> None:
            reconfigured.append(config)

        def recompute_navmesh(self, *_: Any) -> bool:
            return False

        def close(self) -> None:
            closed.append(self)

    record = lambda *_: SimpleNamespace()  # noqa: E731
    api = SimpleNamespace(
        Simulator=Simulator, SimulatorConfiguration=record, Configuration=lambda *parts: parts, NavMeshSettings=record,
        agent=SimpleNamespace(AgentConfiguration=record), CameraSensorSpec=record, SensorSubType=SimpleNamespace(),
        SensorType=SimpleNamespace(COLOR=0, DEPTH=1, SEMANTIC=2),
    )  # fmt: skip
    worker = Worker(api)
    request = {"instances": "semantic", "scene": "a", "dataset_config": "default", "gpu": -1, "reuse": 3}
    request["navmesh"] = {"agent_height": 1.5, "agent_radius": 0.2}
    for number in range(7):
        reply, _ = worker.open({**request, "scene": str(number)}, {})
        assert reply["objects"] == [], "a scene without a descriptor has no labelled objects"
    assert (len(made), len(reconfigured), len(closed)) == (3, 4, 2)
    assert made[1][0].scene_id == "3" and reconfigured[0][0].scene_id == "1"


def test_simulators_without_the_newer_calls_are_drawn_by_their_table_of_sensors() -> None:
    drawn: list[str] = []
    sensors = {
        uuid: SimpleNamespace(
            draw_observation=lambda uuid=uuid: drawn.append(uuid), get_observation=lambda uuid=uuid: uuid.upper()
        )
        for uuid in ("a", "b")
    }
    worker = Worker(SimpleNamespace())
    worker.sim = SimpleNamespace(_sensors=dict(sensors))
    assert worker._draw({"COLOR": "a", "DEPTH": "b"}) == {"COLOR": "A", "DEPTH": "B"} and drawn == ["a", "b"]
    worker._remove("a")
    assert list(worker.sim._sensors) == ["b"]


def test_separate_objects_block_the_navmesh() -> None:
    things = {"chair": SimpleNamespace(motion_type="KINEMATIC"), "table": SimpleNamespace(motion_type="DYNAMIC")}
    manager = SimpleNamespace(get_objects_by_handle_substring=lambda: things)
    worker = Worker(SimpleNamespace(physics=SimpleNamespace(MotionType=SimpleNamespace(STATIC="STATIC"))))
    worker.sim = SimpleNamespace(get_rigid_object_manager=lambda: manager)
    worker._fix_objects()
    assert {thing.motion_type for thing in things.values()} == {"KINEMATIC", "DYNAMIC"}, "annotated meshes have none"
    worker.objects_are_instances = True
    worker._fix_objects()
    assert {thing.motion_type for thing in things.values()} == {"STATIC"}


def test_a_gpu_that_is_not_there_ends_the_run_at_once() -> None:
    with golden_backend(gpu=0) as backend, pytest.raises(BackendUnavailable, match=r"no CUDA device 0.*\n.*doctor"):
        backend.load("golden_room")


def test_a_damaged_file_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    for content, words in (
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<html>", "no GLB file"),
        (b"", "no GLB file"),
    ):
        (tmp_path / "a.glb").write_bytes(content)
        with pytest.raises(SceneError, match=f"scene a: .*a.glb.*{words}"):
            check_mesh(SceneFile("a", str(tmp_path / "a.glb"), ""))
    (tmp_path / "a.glb").write_bytes(b"glTF\x02")
    check_mesh(SceneFile("a", str(tmp_path / "a.glb"), ""))
    check_mesh(SceneFile("a", "a name that a config resolves", ""))


def test_a_scene_without_labelled_objects_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare.glb").write_bytes(b"glTF")
    backend = HabitatBackend(HabitatConfig(dataset="files", data=str(tmp_path), gpu=-1))
    reply = {"objects": [{"half_size": [0, 0, 0]}], "has_navmesh": True, "scene_bounds": [[0, 0, 0], [1, 1, 1]]}
    monkeypatch.setattr(backend, "_ask", lambda *_, **__: (reply, {}))
    with pytest.raises(SceneError, match="scene bare has no labelled objects"):
        backend.load("bare")


@pytest.mark.parametrize(("up", "upright"), [("y", True), ("z", False)])
def test_bare_glb_files_are_taken_as_gltf_says(up: str, upright: bool, tmp_path: Path) -> None:
    backend = HabitatBackend(HabitatConfig(dataset="files", data=str(tmp_path), up=up))
    name = backend._dataset_config()
    if upright:
        stages = json.loads(Path(name).read_text())["stages"]
        assert stages == {"default_attributes": {"up": [0.0, 1.0, 0.0], "front": [0.0, 0.0, -1.0]}}
        backend.close()
        assert not Path(name).exists()
    else:
        assert name == "default"


def test_views_from_above_are_cut_just_below_the_measured_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wardrobe of 2.09 m stays under a ceiling of 2.6 m; without a ceiling nothing is cut."""
    backend = HabitatBackend(HabitatConfig())
    space: Any = SimpleNamespace(scene_id="x")
    for seen, cut in (
        ([1.1] * 9, 2.5),
        ([1.1] * 5 + [0.2] * 3, 2.5),
        ([1.1] * 4, habitat.HEAD_ROOM),
        ([], habitat.HEAD_ROOM),
    ):
        monkeypatch.setattr(backend, "_soundings", lambda *_, seen=seen: seen)
        assert backend._measure_cut(space, 0.0) == pytest.approx(cut)
    camera = Camera(CameraPose((0, 0, 12.0), 0.0, -np.pi / 2), 8, 8, ortho_height_m=4.0)
    assert near_plane(camera, 2.5) == pytest.approx(9.5)


@pytest.mark.parametrize(("cut", "top"), [(None, 2.0), (1.9, 0.99)])
def test_without_a_ceiling_nothing_is_cut(cut: float | None, top: float) -> None:
    """The golden room is open: its inner wall is seen from above, 2 m high, unless it is cut below; the table is 1 m high."""
    with golden_backend(cut_height_m=cut) as backend:
        backend.load("golden_room")
        frame = backend.render_top_down((-3.5, -4.5, 3.5, 4.5), 96)
    seen = frame.camera.pose.position[2] - frame.depth[frame.depth > 0]
    assert seen.max() == pytest.approx(top, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"up": "x"}, "unknown up 'x'"),
        ({"reuse": 0}, "reuse must be at least 1"),
        ({"cut_height_m": 0.0}, "cut_height_m"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        HabitatConfig(**changes)


def test_the_download_goes_where_the_scenes_are_looked_for() -> None:
    """habitat-sim's downloader puts HM3D into scene_datasets/hm3d below its data path."""
    assert "--data-path data " in LAYOUTS["hm3d"].download and HabitatConfig().data == "data/scene_datasets/hm3d"


def test_the_worker_is_quiet_but_for_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from datagen.backends.habitat import process

    seen: dict[str, str] = {}

    def popen(command: Any, env: dict[str, str], **_: Any) -> Any:
        seen.update(env)
        raise OSError(2, "enough")

    monkeypatch.setattr(process.subprocess, "Popen", popen)
    monkeypatch.delenv("MAGNUM_LOG", raising=False)
    monkeypatch.setenv("HABITAT_SIM_LOG", "debug")
    with pytest.raises(BackendUnavailable):
        process.WorkerProcess("python", 1.0)
    assert seen["MAGNUM_LOG"] == "quiet" and seen["HABITAT_SIM_LOG"] == "debug", "what the user set stays"
