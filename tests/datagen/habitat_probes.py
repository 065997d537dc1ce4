"""Calls that went wrong in the real simulator, run one by one in processes of their own: prints what happened as JSON.

Each probe is named as in ``tests/golden_habitat/errors.json``. Run with the stand-in on the path.
"""

import json
import os
import sys
from pathlib import Path

import habitat_sim
import numpy as np

SCENE = str(Path(__file__).parents[1] / "golden_habitat" / "scene" / "golden_room.glb")


def spec(**fields):
    made = habitat_sim.CameraSensorSpec()
    made.resolution = [32, 32]
    made.sensor_type = habitat_sim.SensorType.DEPTH
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def simulator(scene=SCENE, sensors=(), navmesh=None, **fields):
    settings = habitat_sim.SimulatorConfiguration()
    settings.scene_id, settings.gpu_device_id, settings.navmesh_settings = scene, -1, navmesh
    for name, value in fields.items():
        setattr(settings, name, value)
    agent = habitat_sim.AgentConfiguration(sensor_specifications=list(sensors))
    return habitat_sim.Simulator(habitat_sim.Configuration(settings, [agent]))


def finder():
    sim = simulator()
    sim.recompute_navmesh(sim.pathfinder, habitat_sim.NavMeshSettings())
    return sim.pathfinder


def path(of, end):
    query = habitat_sim.ShortestPath()
    query.requested_start, query.requested_end = np.zeros(3, np.float32), np.array(end, np.float32)
    return of.find_path(query), query.geodesic_distance


def state(**fields):
    sim = simulator()
    sim.get_agent(0).set_state(habitat_sim.AgentState(**fields))
    return sim.get_agent(0).get_state().rotation


def closed():
    sim = simulator(sensors=[spec()])
    sim.close()
    return sim


def recompute(scene=SCENE, **fields):
    sim = simulator(scene)
    settings = habitat_sim.NavMeshSettings()
    for name, value in fields.items():
        setattr(settings, name, value)
    return sim.recompute_navmesh(sim.pathfinder, settings), sim.pathfinder.is_loaded


def no_agents():
    habitat_sim.Simulator(habitat_sim.Configuration(habitat_sim.SimulatorConfiguration(), []))


def corrupt():
    broken = Path(os.environ["PROBE_FOLDER"]) / "corrupt.glb"
    broken.write_text("a corrupt file")
    return simulator(str(broken))


FAR, ZERO = np.array([10.0, 0, 10]), np.zeros(3, np.float32)
PROBES = {
    "missing_scene": lambda: simulator("/nonexistent/nope.glb", [spec()]),
    "missing_scene_no_sensors": lambda: simulator("/nonexistent/nope.glb"),
    "empty_scene_id": lambda: simulator("").curr_scene_name,
    "corrupt_glb": corrupt,
    "missing_dataset_config": lambda: simulator(scene_dataset_config_file="/nonexistent.json").curr_scene_name,
    "gpu_99": lambda: simulator(sensors=[spec()], gpu_device_id=99),
    "gpu_0_no_cuda_device": lambda: simulator(sensors=[spec()], gpu_device_id=0),
    "gpu_minus1": lambda: str(simulator(sensors=[spec()]).gpu_device),
    "gpu_0_no_renderer": lambda: str(simulator(gpu_device_id=0).gpu_device),
    "resolution_zero": lambda: simulator(sensors=[spec(resolution=[0, 32])]),
    "resolution_negative": lambda: simulator(sensors=[spec(resolution=[-32, 32])]),
    "resolution_huge": lambda: simulator(sensors=[spec(resolution=[100000, 100000])]),
    "resolution_wrong_len": lambda: spec(resolution=[32, 32, 3]),
    "resolution_float": lambda: spec(resolution=[32.5, 32]),
    "uuid_empty": lambda: simulator(sensors=[spec(uuid="")]),
    "near_zero": lambda: simulator(sensors=[spec(near=0.0)]),
    "ortho_scale_zero": lambda: simulator(sensors=[spec(ortho_scale=0.0)]),
    "no_agents": no_agents,
    "random_point_no_navmesh": lambda: simulator().pathfinder.get_random_navigable_point(),
    "random_point_fresh_pathfinder": lambda: habitat_sim.PathFinder().get_random_navigable_point(),
    "find_path_no_navmesh": lambda: path(simulator().pathfinder, [1.0, 0, 1]),
    "snap_no_navmesh": lambda: simulator().pathfinder.snap_point(ZERO),
    "is_navigable_no_navmesh": lambda: simulator().pathfinder.is_navigable(ZERO),
    "topdown_no_navmesh": lambda: [simulator().pathfinder.get_topdown_view(0.1, 0.0)][0].shape,
    "area_no_navmesh": lambda: simulator().pathfinder.navigable_area,
    "num_islands_no_navmesh": lambda: simulator().pathfinder.num_islands,
    "bounds_no_navmesh": lambda: simulator().pathfinder.get_bounds(),
    "settings_no_navmesh": lambda: str(simulator().pathfinder.nav_mesh_settings),
    "load_missing_navmesh": lambda: str(simulator().pathfinder.load_nav_mesh("/nonexistent.navmesh")),
    "island_out_of_range": lambda: finder().get_random_navigable_point(island_index=99),
    "island_area_out_of_range": lambda: finder().island_area(99),
    "snap_far": lambda: finder().snap_point(FAR),
    "snap_nan": lambda: finder().snap_point(np.full(3, np.nan)),
    "find_path_nan": lambda: path(finder(), [np.nan] * 3),
    "recompute_zero_cell": lambda: recompute(cell_size=0.0),
    "recompute_negative_height": lambda: recompute(agent_height=-1.0),
    "recompute_scene_NONE": lambda: recompute("NONE"),
    "topdown_mpp_zero": lambda: finder().get_topdown_view(0.0, 0.0),
    "state_nan": lambda: state(position=np.array([np.nan, 0, 0])),
    "state_nonunit_quat": lambda: state(rotation=[0.0, 0.0, 0.0, 2.0]),
    "state_list_rotation_xyzw": lambda: state(rotation=[0.0, 0.479425538604203, 0.0, 0.877582561890373]),
    "state_position_len2": lambda: state(position=np.zeros(2)),
    "agent_id_bad": lambda: simulator().get_agent(3),
    "initialize_agent_bad_id": lambda: simulator().initialize_agent(3),
    "use_after_close": lambda: closed().get_sensor_observations(),
    "close_twice": lambda: str(closed().close() or "ok"),
    "context_manager": lambda: simulator(sensors=[spec(uuid="d")]).__enter__().get_sensor_observations()["d"].shape,
    "navmesh_settings_in_cfg": lambda: simulator(navmesh=habitat_sim.NavMeshSettings()).pathfinder.navigable_area,
}


def outcome(name):
    """What one probe did, seen from the parent process."""
    read, write = os.pipe()
    errors = os.path.join(os.environ["PROBE_FOLDER"], name)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        try:
            value = PROBES[name]()
            result = {"kind": "returned", "value": value if isinstance(value, str) else repr(value)}
        except Exception as error:
            result = {"kind": "exception", "type": type(error).__name__, "message": str(error)}
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    status = os.waitpid(child, 0)[1]
    if said:
        return json.loads(said)
    signal, code = (os.WTERMSIG(status), None) if os.WIFSIGNALED(status) else (None, os.WEXITSTATUS(status))
    return {"kind": "process_died", "signal": signal, "exit_code": code, "log": Path(errors).read_text().splitlines()}


if __name__ == "__main__":
    json.dump({name: outcome(name) for name in PROBES}, sys.stdout)
