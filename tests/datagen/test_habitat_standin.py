"""The stand-in for habitat-sim against what the real one returned, so that tests on it say something about the real one."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.datagen.habitat_tools import FRAMES, GOLDEN, ROOT, STANDINS, recorded

import habitat_sim  # isort: skip  # found once the stand-ins are on the path

NAVMESHES = json.loads((GOLDEN / "navmesh" / "navmesh.json").read_text())
ERRORS = json.loads((GOLDEN / "errors.json").read_text())
API = json.loads((GOLDEN / "api.json").read_text())
DEPTH_RESIDUAL = 7e-4  # metres, inside faces: the README's 6e-4 and the rays' own rounding
SCENE = str(GOLDEN / "scene" / "golden_room.glb")


def open_golden(frame: dict | None = None) -> habitat_sim.Simulator:
    settings = habitat_sim.SimulatorConfiguration()
    settings.scene_id, settings.gpu_device_id = SCENE, -1
    specs = []
    for kind in ("COLOR", "DEPTH", "SEMANTIC") if frame else ():
        spec = habitat_sim.CameraSensorSpec()
        spec.uuid, spec.sensor_type = kind, habitat_sim.SensorType[kind]
        spec.sensor_subtype = habitat_sim.SensorSubType[frame["subtype"]]
        spec.resolution = frame["resolution_hw"]
        spec.position = np.array(frame["sensor_position"], float)
        spec.orientation = np.array(frame["sensor_orientation_rad"], float)
        spec.hfov, spec.ortho_scale = frame["hfov_deg"] or 90.0, frame["ortho_scale"] or 0.1
        spec.near, spec.far = frame["near"], frame["far"]
        specs.append(spec)
    agent = habitat_sim.AgentConfiguration(sensor_specifications=specs)
    sim = habitat_sim.Simulator(habitat_sim.Configuration(settings, [agent]))
    if frame:
        w, x, y, z = frame["agent_rotation_wxyz"]
        sim.get_agent(0).set_state(habitat_sim.AgentState(np.array(frame["agent_position"]), [x, y, z, w]))
    return sim


def open_navmesh(name: str) -> habitat_sim.PathFinder:
    sim, settings = open_golden(), habitat_sim.NavMeshSettings()
    for field in ("agent_radius", "agent_height", "cell_size", "cell_height", "agent_max_climb"):
        setattr(settings, field, NAVMESHES[name]["settings"][field])
    assert sim.recompute_navmesh(sim.pathfinder, settings) and sim.pathfinder.is_loaded
    return sim.pathfinder


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["name"])
def test_frames_are_the_recorded_ones(frame: dict) -> None:
    sim = open_golden(frame)
    seen = sim.get_sensor_observations()
    depth = recorded(frame, "depth")
    assert seen["DEPTH"].dtype == np.float32 and seen["SEMANTIC"].dtype == np.uint32
    assert np.count_nonzero((seen["DEPTH"] > 0) != (depth > 0)) <= 1
    semantic = recorded(frame, "semantic")
    # Where a pixel's centre lies on the line between two parts, either may win.
    assert np.mean(seen["SEMANTIC"] != semantic) < 3e-3
    assert np.mean((seen["COLOR"] != recorded(frame, "color")).any(-1)) < 3e-3
    same = (seen["SEMANTIC"] == semantic) & (depth > 0) & (seen["DEPTH"] > 0)
    limit = 2e-7 if frame["subtype"] == "ORTHOGRAPHIC" else DEPTH_RESIDUAL
    assert np.abs(seen["DEPTH"] - depth)[same].max() < limit


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["name"])
def test_poses_and_projections_are_the_recorded_ones(frame: dict) -> None:
    sim = open_golden(frame)
    state, sensor = sim.get_agent(0).get_state(), sim.get_sensor("DEPTH")
    assert np.allclose(state.position, frame["readback"]["position"], atol=1e-6)
    wxyz = [state.rotation.w, state.rotation.x, state.rotation.y, state.rotation.z]
    assert np.allclose(wxyz, frame["readback"]["rotation_wxyz"], atol=2e-7)
    assert np.allclose(sensor.camera_to_world(), frame["camera_to_world"], atol=5e-7)
    projection = sensor.sensor_object.render_camera.projection_matrix
    assert np.allclose(projection, frame["projection_matrix"], atol=5e-7)


def test_semantic_annotations_are_the_recorded_ones() -> None:
    expected = json.loads((GOLDEN / "semantic.json").read_text())["golden_room"]["objects"]
    things = open_golden().semantic_scene.objects
    assert [thing.id for thing in things] == [record["id"] for record in expected]
    for thing, record in zip(things, expected, strict=True):
        assert (thing.semantic_id, thing.category.name()) == (record["semantic_id"], record["category"])
        assert np.allclose(list(thing.obb.center), record["obb"]["center"], atol=1e-6)
        assert np.allclose(list(thing.obb.half_extents), record["obb"]["half_extents"], atol=1e-6)
        assert np.allclose(thing.obb.rotation, record["obb"]["rotation_xyzw"])
        assert np.allclose(list(thing.aabb.size()), record["aabb_size"], atol=1e-6)
        assert np.allclose(list(thing.aabb.center()), record["aabb_center"], atol=1e-6)


def test_an_added_cube_is_drawn_where_the_recorded_one_was() -> None:
    frame = dict(FRAMES[2], agent_position=[0.0, 0.0, 3.3], agent_rotation_wxyz=[1.0, 0, 0, 0])
    expected = json.loads((GOLDEN / "semantic.json").read_text())["golden_room"]["with_cube"]
    sim = open_golden(frame)
    cube = sim.get_rigid_object_manager().add_object_by_template_handle("cubeSolid")
    cube.translation, cube.semantic_id = type(cube.translation)(expected["translation"]), expected["semantic_id"]
    seen = sim.get_sensor_observations()
    truth = np.load(GOLDEN / "frames" / "golden_room_with_cube.semantic.npy")
    assert np.mean(seen["SEMANTIC"] != truth) < 1e-3 and (truth == 42).sum() == (seen["SEMANTIC"] == 42).sum()
    depth = seen["DEPTH"][truth == 42]
    assert [depth.min(), depth.max()] == pytest.approx(expected["depth_on_cube_minmax"], abs=1e-3)


@pytest.mark.parametrize("name", NAVMESHES)
def test_navmesh_queries_give_the_recorded_answers(name: str) -> None:
    finder, expected = open_navmesh(name), NAVMESHES[name]
    assert finder.navigable_area == pytest.approx(expected["navigable_area"], rel=1e-4)
    assert finder.num_islands == expected["num_islands"]
    assert np.allclose([list(corner) for corner in finder.get_bounds()], list(expected["get_bounds"].values())[2:])
    for query in expected["points"]:
        point = np.array(query["point"], np.float32)
        assert finder.is_navigable(point) == query["is_navigable"], point
        assert finder.is_navigable(point, 0.1) == query["is_navigable_dy01"], point
        snapped = np.array(query["snap_point"], float)
        assert np.allclose(list(finder.snap_point(point)), snapped, atol=1e-4, equal_nan=True), point
        assert finder.get_island(point) == query["get_island"]
        distance = float(query["distance_to_closest_obstacle"])
        assert finder.distance_to_closest_obstacle(point) == pytest.approx(distance, abs=1e-3), point


@pytest.mark.parametrize("name", NAVMESHES)
def test_paths_are_the_recorded_ones_or_shorter(name: str) -> None:
    """Detour searches polygons, not points, and walks around the wrong side of the box now and then."""
    finder, equal = open_navmesh(name), 0
    queries = NAVMESHES[name]["paths"]
    for query in queries:
        path = habitat_sim.ShortestPath()
        path.requested_start = np.array(query["start"], np.float32)
        path.requested_end = np.array(query["end"], np.float32)
        assert finder.find_path(path) == query["returned"]
        recorded_length = float(query["geodesic_distance"])
        equal += path.geodesic_distance == pytest.approx(recorded_length, abs=1e-3)
        assert path.geodesic_distance <= recorded_length + 1e-3
        for index in (0, -1) if query["returned"] else ():
            apart = np.abs(np.array(list(path.points[index])) - query["points"][index])
            assert apart[[0, 2]].max() < 1e-4, query
            # An end keeps its height where it is over the mesh; on its very border either may happen.
            assert apart[1] < 1e-4 or finder.distance_to_closest_obstacle(path.points[index]) < 1e-3, query
        plan = np.array(query["points"]).reshape(-1, 3)[:, [0, 2]]
        assert all(finder._surface.covers(a, b) for a, b in itertools.pairwise(plan)), "it leaves the mesh"
    assert equal >= 0.5 * len(queries)


@pytest.mark.parametrize("name", NAVMESHES)
def test_views_from_above_sample_the_recorded_cells(name: str) -> None:
    finder = open_navmesh(name)
    for view in NAVMESHES[name]["topdown"]:
        arguments = view["meters_per_pixel"], view["height"], view["eps"]
        grid = finder.get_topdown_view(*arguments)
        assert grid.shape == tuple(view["shape"]) and grid.dtype == bool
        assert np.mean(grid != np.load(GOLDEN / "navmesh" / view["file"])) < 2e-3
        islands = finder.get_topdown_island_view(*arguments)
        assert islands.dtype == np.int32 and np.array_equal(islands >= 0, grid)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{STANDINS}:{ROOT}",
        "PROBE_FOLDER": str(tmp_path_factory.mktemp("probes")),
    }
    command = [sys.executable, str(Path(__file__).with_name("habitat_probes.py"))]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


#: Recorded probes of what the worker never calls, so that the stand-in does not offer it.
BEYOND = {
    *(
        "scene_NONE",
        "uuid_duplicate",
        "hfov_zero",
        "hfov_180",
        "hfov_200",
        "random_near_no_navmesh",
        "save_without_navmesh",
    ),
    *("recompute_huge_radius", "random_after_failed_recompute", "step_unknown_action", "agent_after_close", "two_sims"),
    *("semantic_sensor_no_semantics", "random_seed_repro"),
}


def test_every_recorded_error_is_probed_or_named(outcomes: dict) -> None:
    assert set(outcomes) | BEYOND == set(ERRORS) and not set(outcomes) & BEYOND


@pytest.mark.parametrize("name", sorted(set(ERRORS) - BEYOND))
def test_errors_and_process_deaths_are_the_recorded_ones(name: str, outcomes: dict) -> None:
    seen, expected = outcomes[name], ERRORS[name]
    assert seen["kind"] == expected["kind"], (seen, expected)
    if expected["kind"] == "process_died":
        number = getattr(signal, expected["signal"]) if expected["signal"] else None
        assert (seen["signal"], seen["exit_code"]) == (number, expected["exit_code"])
        assert seen["log"] == expected["log_tail"]
    elif expected["kind"] == "exception":
        assert seen["type"] == expected["type"].removeprefix("builtins.")
        assert seen["message"][:40] == expected["message"].replace("<tmp>", os.path.dirname(SCENE))[:40]
    elif numbers := re.findall(r"-?\d+\.\d+", str(expected["value"])):
        assert [float(value) for value in re.findall(r"-?\d+\.\d+", seen["value"])] == pytest.approx(
            [float(value) for value in numbers], rel=1e-4
        )


PUBLIC = {
    "SimulatorConfiguration": habitat_sim.SimulatorConfiguration(),
    "AgentConfiguration": habitat_sim.AgentConfiguration(),
    "CameraSensorSpec": habitat_sim.CameraSensorSpec(),
    "NavMeshSettings": habitat_sim.NavMeshSettings(),
    "PathFinder": habitat_sim.PathFinder(),
    "ShortestPath": habitat_sim.ShortestPath(),
    "AgentState": habitat_sim.AgentState(),
    "Simulator": open_golden(),
    "Agent": open_golden().get_agent(0),
    "Sensor(python wrapper)": open_golden(FRAMES[0]).get_sensor("DEPTH"),
}
SETTINGS = ("SimulatorConfiguration", "CameraSensorSpec", "NavMeshSettings", "AgentConfiguration")
#: What tests need to look behind the stand-in.
OURS = {"check", "build", "projection", "transformation", "camera_to_world"}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_stand_in_offers_no_name_that_the_real_module_lacks(name: str) -> None:
    real = API["classes"][name]
    names = {entry for entry in dir(PUBLIC[name]) if not entry.startswith("_")} - OURS
    assert names <= set(real["attributes"]) | set(real["methods"])
    for attribute, record in real["attributes"].items() if name in SETTINGS else ():
        default = getattr(PUBLIC[name], attribute, None)
        if type(default) in (bool, int, float, str):
            assert default == record["value"] or record["value"] == f"Deg({default:g})", attribute


@pytest.mark.parametrize("field", ["position", "orientation", "resolution"])
def test_vectors_are_accepted_from_the_recorded_types(field: str) -> None:
    given = {
        "list_mixed": [0, 1.5, 0.0],
        "list_int": [0, 1, 2] if field != "resolution" else [32, 32],
        "list_float": [0.0, 1.5, 0.0] if field != "resolution" else [32.5, 32.0],
        "tuple_int": (0, 1, 2) if field != "resolution" else (32, 32),
        "tuple_float": (0.0, 1.5, 0.0),
        "np_float32": np.zeros(3, np.float32),
        "np_float64": np.zeros(3),
        "np_int32": np.full(2, 32, np.int32),
        "np_int64": np.zeros(3, np.int64) if field != "resolution" else np.full(2, 32),
        "list3": [32, 32, 3],
    }
    checked = 0
    for kind, verdict in API["accepted_input_types"][f"CameraSensorSpec.{field}"].items():
        if kind in given:
            checked += 1
            spec = habitat_sim.CameraSensorSpec()
            if verdict == "ok":
                setattr(spec, field, given[kind])
            else:
                with pytest.raises(TypeError, match=re.escape(verdict.removeprefix("TypeError: "))):
                    setattr(spec, field, given[kind])
    assert checked >= 5
