"""The pipe to the worker: messages survive it, and whatever goes wrong behind it is noticed and explained.

Limits stand for "hangs", but where a worker never answers: there the limit is what ends the wait, and as short as it likes."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.base import BackendUnavailable, SceneError, SimulatorDied
from datagen.backends.habitat import process
from datagen.backends.habitat.backend import HabitatBackend
from datagen.backends.habitat.process import WORKER, WorkerProcess, explain_death
from datagen.backends.habitat.protocol import DTYPES, MAGIC, MAX_PAYLOAD, ProtocolError, encode, receive
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.habitat_tools import GOLDEN, PYTHON, golden_backend
from tests.waiting import HANGS, ended

CAMERA = Camera(CameraPose((0.0, -2.5, 1.5), 1.5), 64, 48)


@given(
    st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=4),
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=4),
)
def test_messages_come_out_as_they_went_in(header: dict, shapes: list) -> None:
    header.pop("arrays", None)
    rng = np.random.default_rng(0)
    arrays = {f"a{i}": (rng.random(shape) * 200).astype(dtype) for i, (dtype, shape) in enumerate(shapes)}
    stream = io.BytesIO(b"".join(encode(header, arrays)))
    seen, values = receive(lambda count: bytearray(stream.read(count)))
    assert seen == header and list(values) == list(arrays) and not stream.read()
    for name, array in arrays.items():
        assert values[name].dtype == array.dtype and values[name].shape == array.shape
        assert np.array_equal(values[name], array) and values[name].flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1",
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + b"\0\0\0\x02[]",
        MAGIC + b"\0\0\0\x02{}",
        b"".join(encode({"arrays": 1}, {})).replace(b"[]", b"17"),
        *(
            MAGIC + len(text).to_bytes(4, "big") + text
            for text in (
                b'{"arrays": [["a", "object", [1]]]}',
                b'{"arrays": [["a", "float64", [-1]]]}',
                b'{"arrays": [["a", "uint8", [%d]]]}' % (MAX_PAYLOAD + 1),
                b'{"arrays": [["a", "uint8", [%d]], ["b", "uint8", [%d]]]}' % (MAX_PAYLOAD, 1),
            )
        ),
    ],
)
def test_what_is_no_message_is_refused_before_memory_is_taken(data: bytes) -> None:
    def read(count: int) -> bytes:
        assert count <= 1 << 26, "asked for the payload of a bad message"
        return stream.read(count)

    stream = io.BytesIO(data)
    if b"b" in data and b"uint8" in data:  # the first array is within the limit
        read = lambda count: stream.read(count) if count < 1 << 26 else b"\0" * 8  # noqa: E731
    with pytest.raises((ProtocolError, ValueError)):
        receive(read)


def faulty(fault: str, tmp_path: Path, **changes: object) -> HabitatBackend:
    wrapper = Path(__file__).with_name("habitat_faults.py")
    command = f"{PYTHON} {wrapper} '{fault}' {tmp_path / 'mark'}"
    return golden_backend(python=command, **changes)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("crash at start", "died while starting.*crashed"),
        ("exit at start", r"exit code 3[\s\S]*libEGL"),
        ("silence at start", "did not answer in time"),
        ("endless noise at start", "no message in the first"),
        (
            "crash while rendering",
            r"died while measuring the floor of scene golden_room[\s\S]*Segmentation of everything",
        ),
        ("killed while rendering", "memory ran out"),
        ("silence while rendering", "did not answer in time"),
        ("closed output", "closed its output"),
        ("garbage", "not a message"),
        ("huge header", "exceeds the limit"),
        ("huge array", "exceed the limit"),
    ],
)
def test_faults_are_noticed_explained_and_survived(
    fault: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the worker did, not by a limit: but for silence, which only a limit can tell."""
    limits = {"silence at start": {"start_timeout_s": 0.5}, "silence while rendering": {"timeout_s": 0.5}}
    if fault != "closed output":  # such a worker lives on
        monkeypatch.setattr(process, "GRACE_S", HANGS)
    with faulty(fault, tmp_path, **limits.get(fault, {})) as backend:
        with pytest.raises(SimulatorDied, match=words):
            backend.load("golden_room")
        (tmp_path / "mark").touch()
        backend.config = golden_backend(python=backend.config.python).config
        assert backend.load("golden_room").floor_z == pytest.approx(0, abs=1e-3), "the unit of work can be retried"
        assert backend.render([CAMERA])[0].depth.any()


@pytest.mark.parametrize("fault", ["slow start", "noisy start", "logs to standard output"])
def test_harmless_peculiarities_are_borne(fault: str, tmp_path: Path) -> None:
    with faulty(fault, tmp_path) as backend, golden_backend() as honest:
        backend.load("golden_room")
        honest.load("golden_room")
        frame, expected = backend.render([CAMERA])[0], honest.render([CAMERA])[0]
        assert np.array_equal(frame.depth, expected.depth) and np.array_equal(frame.rgb, expected.rgb)


@pytest.mark.parametrize(
    ("fault", "words"), [("other version", "protocol 99"), ("old simulator", "a_method_of_tomorrow")]
)
def test_versions_that_do_not_match_end_with_an_instruction(fault: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        faulty(fault, tmp_path).load("golden_room")


def test_a_worker_killed_between_two_requests_is_replaced() -> None:
    with golden_backend() as backend:
        backend.load("golden_room")
        os.kill(backend.worker_pid, signal.SIGKILL)
        with pytest.raises(SimulatorDied, match="rendering scene golden_room"):
            backend.render([CAMERA])
        with pytest.raises(SceneError, match="no scene is loaded"):
            backend.render([CAMERA])
        backend.load("golden_room")
        assert backend.render([CAMERA])[0].rgb.any()


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    started = WorkerProcess(PYTHON, HANGS)
    yield started
    started.stop()


def opened(worker: WorkerProcess, **changes: object) -> dict:
    navmesh = {"agent_radius": 0.2, "agent_height": 1.5, "cell_size": 0.05, "cell_height": 0.1}
    request = {
        "scene": str(GOLDEN / "scene" / "golden_room.glb"),
        "dataset_config": "default",
        "gpu": -1,
        "navmesh": navmesh,
        "instances": "semantic",
    }
    return worker.ask("open", HANGS, "opening", **{**request, **changes})[0]


def test_no_navmesh_is_an_error_and_not_the_end(worker: WorkerProcess) -> None:
    navmesh = {"agent_radius": 0.2, "agent_height": -1.0, "cell_size": 0.05, "cell_height": 0.1}
    assert opened(worker, navmesh=navmesh)["has_navmesh"] is False
    for _ in range(2):
        with pytest.raises(SceneError, match="has no navmesh"):
            worker.ask("path", HANGS, "walking", start=[0.0, 0, 0], end=[1.0, 0, 0])
    with golden_backend() as backend:
        object.__setattr__(backend.config, "agent_height", -1.0)
        with pytest.raises(SceneError, match="no navmesh could be built"):
            backend.load("golden_room")


VIEW = {
    "position": [0.0, 1.5, 2.5],
    "rotation_xyzw": [0.0, 0, 0, 1],
    "width": 32,
    "height": 32,
    "near": 0.1,
    "far": 10.0,
    "hfov": 90.0,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "image size is not positive"),
        ({"height": 100_000, "width": 100_000}, "larger than the renderer can draw"),
        ({"near": 0.0}, "near plane must be positive"),
        ({"ortho_scale": 0.0}, "orthographic scale must be positive"),
    ],
)
def test_recorded_crashes_are_explained(change: dict, words: str, worker: WorkerProcess) -> None:
    opened(worker)
    with pytest.raises(SimulatorDied, match=rf"died while drawing: .*{words}"):
        worker.ask("render", HANGS, "drawing", camera={**VIEW, **change}, kinds=["DEPTH"])


def test_a_wrong_gpu_is_explained() -> None:
    with (
        golden_backend(gpu=99) as backend,
        pytest.raises(BackendUnavailable, match=r"no CUDA device 99; set backend\.gpu"),
    ):
        backend.load("golden_room")


def test_refusals_leave_the_worker_alive(worker: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "broken.glb").write_text("a corrupt file")
    for scene, words in (
        ("/nonexistent/nope.glb", "no such scene"),
        (str(tmp_path / "broken.glb"), "damaged or an unfin"),
    ):
        with pytest.raises(SceneError, match=words):
            opened(worker, scene=scene)
    opened(worker)
    with pytest.raises(SceneError, match=r"refused while turning: ValueError"):
        worker.ask("render", HANGS, "turning", camera={**VIEW, "rotation_xyzw": [0, 0, 0, 2]}, kinds=["DEPTH"])
    assert worker.ask("render", HANGS, "drawing", camera=VIEW, kinds=["DEPTH"])[1]["depth"].any()


def test_sensors_are_reused_and_bounded(worker: WorkerProcess) -> None:
    """More kinds of cameras than the worker keeps sensors for: every one is drawn as if it were the only one."""
    opened(worker)
    first = worker.ask("render", HANGS, "drawing", camera=VIEW, kinds=["DEPTH"])[1]["depth"]
    for fov in range(40, 80):
        worker.ask("render", HANGS, "drawing", camera={**VIEW, "hfov": float(fov)}, kinds=["DEPTH"])
    again = worker.ask("render", HANGS, "drawing", camera=VIEW, kinds=["DEPTH"])[1]["depth"]
    assert np.array_equal(first, again)


def test_separate_objects_are_instances_where_the_data_set_is_made_of_them(tmp_path: Path) -> None:
    """ReplicaCAD and HSSD: a scene of one stage and objects, whose semantic ids are only classes."""
    (tmp_path / "sitecustomize.py").write_text(ADD_A_CHAIR)
    python = PYTHON.replace("PYTHONPATH=", f"PYTHONPATH={tmp_path}:")
    data = tmp_path / "replica"
    (data / "configs" / "scenes").mkdir(parents=True)
    (data / "configs" / "scenes" / "apt_0.scene_instance.json").touch()
    (data / "replicaCAD.scene_dataset_config.json").touch()
    with golden_backend(python=python, dataset="replica_cad", data=str(data)) as backend:
        info = backend.load("apt_0")
        chair, rest = backend.objects()
        assert (chair.category, chair.is_structure, rest.category) == ("chair", False, "unlabelled")
        assert np.allclose([chair.aabb_min, chair.aabb_max], [[-0.1, -2.1, 0.3], [0.1, -1.9, 0.5]], atol=1e-6)
        frame = backend.render([Camera(CameraPose((0, -3.3, 0.4), np.pi / 2), 65, 65)])[0]
        assert frame.instance[32, 32] == chair.index and frame.depth[32, 32] == pytest.approx(1.2, abs=1e-3)
        assert set(np.unique(frame.instance)) <= {-1, 0, 1} and info.source_licence.startswith("ReplicaCAD")


#: What a scene dataset config would do: open the stage and put an object in it.
ADD_A_CHAIR = f"""
import habitat_sim.simulator as s
from habitat_sim.values import Vector3
made = s.Simulator.__init__
def init(self, config):
    assert config.sim_cfg.scene_id == "apt_0"
    assert config.sim_cfg.scene_dataset_config_file.endswith("replicaCAD.scene_dataset_config.json")
    config.sim_cfg.scene_id = {str(GOLDEN / "scene" / "golden_room.glb")!r}
    made(self, config)
    chair = self.get_rigid_object_manager().add_object_by_template_handle("frl_apartment_chair_01")
    chair.translation, chair.semantic_id = Vector3(0.0, 0.4, 2.0), 7
s.Simulator.__init__ = init
"""


def test_unknown_deaths_are_named() -> None:
    assert "SIGILL" in explain_death(-signal.SIGILL, [])
    assert "exit code 7" in explain_death(7, ["nothing known"])
    assert "software renderer" in explain_death(1, ["unable to find CUDA device 0 among 1 EGL devices"])


def test_the_worker_needs_nothing_of_this_project_and_an_old_python() -> None:
    """It is compiled as Python 3.9 would, and imports only the standard library, numpy and habitat_sim."""
    import ast

    for path in (WORKER, WORKER.with_name("protocol.py")):
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or top in ("numpy", "habitat_sim", "protocol"), f"{path}: {name}"


def test_nothing_is_left_running() -> None:
    backend = golden_backend()
    backend.load("golden_room")
    worker = psutil.Process(backend.worker_pid)
    assert not ended(worker)
    backend.close()
    assert ended(worker)
