"""The real AI2-THOR client drives the stand-in player: contract, faults, refusals, recycling.

Limits stand for "hangs", but where a player never answers: there the limit is what ends the wait, and as short as it likes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
from joblib.externals.loky import get_reusable_executor

pytest.importorskip("ai2thor")

from datagen.backends.ai2thor import Ai2thorBackend, diagnose, process, setup
from datagen.backends.base import BackendUnavailable, SceneError, SceneInfo, SimulatorDied
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.samples.camera import Camera, CameraPose
from tests.datagen.contract import BackendContract
from tests.standins.thor import ThorMachine, running, thor_machine
from tests.waiting import HANGS, ended, until

LEFT_OPEN: dict[str, Ai2thorBackend] = {}
VIEW = Camera(CameraPose((1.5, 1.5, 1.4), 0.5, -0.2), 64, 48, 80)
FAULTS = {
    "crash": "ended with code -11",
    "hang": "silent for",
    "leave": "closed its pipe",
    "unknown_field": "not understood",
    "huge": "not AI2-THOR's protocol",
    "not_metadata": "not understood",
    "wrong_sequence": "Sequence id mismatch",
}
HTTP_FAULTS = ("crash", "hang", "not_metadata", "wrong_sequence")


@pytest.fixture
def machine(tmp_path) -> Iterator[ThorMachine]:
    with thor_machine(tmp_path, "blocks") as machine:
        yield machine


class ThorContract(BackendContract):
    preset, server, raised = "home", "fifo", False
    sources: tuple[str, ...] = ("ithor",)

    @pytest.fixture(scope="class")
    def backend(self, tmp_path_factory) -> Iterator[Ai2thorBackend]:
        with thor_machine(tmp_path_factory.mktemp("thor"), self.preset) as machine:
            machine.settings(raised=self.raised)
            houses = machine.houses(3, 5, 7) if "procthor" in self.sources else None
            config = machine.config(server=self.server, sources=self.sources, houses=houses)
            with Ai2thorBackend(config) as backend:
                yield backend

    @pytest.fixture(scope="class")
    def info(self, backend: Ai2thorBackend) -> SceneInfo:
        """The first scene with room for the contract's clearance: the lattice of a small room has none."""
        for scene_id in backend.scenes("train"):
            info = backend.load(scene_id)
            if backend.free_map(0.3).grid.sum() > 8:
                return info
        raise AssertionError("the stand-in has no roomy scene")


class TestHomeThroughPipes(ThorContract):
    pass


@pytest.mark.long
class TestHouseThroughHttp(ThorContract):
    server, sources = "wsgi", ("procthor",)


class TestBlocksThroughPipes(ThorContract):
    preset = "blocks"


class TestRaisedBlocksThroughPipes(ThorContract):
    preset, raised = "blocks", True

    def test_the_floor_is_at_three_metres(self, info: SceneInfo) -> None:
        assert info.floor_z == pytest.approx(3.0, abs=0.02)


def test_frames_are_those_of_the_scene_in_the_player(machine: ThorMachine) -> None:
    """Through client, wire and adapter come the embedded simulator's own pixels, depths and instances."""
    cameras = [VIEW, replace(VIEW, pose=CameraPose((2, 1, 1.6), 2.8, 0.3, 0.4), width=80, vertical_fov_deg=110), VIEW]
    with Ai2thorBackend(machine.config()) as thor, EmbeddedBackend(EmbeddedConfig(preset="blocks")) as embedded:
        thor.load("FloorPlan4")
        embedded.load("blocks-train-4")
        for ours, theirs in zip(thor.render(cameras), embedded.render(cameras), strict=True):
            assert ours.camera == theirs.camera
            assert np.array_equal(ours.rgb, theirs.rgb)
            assert np.abs(ours.depth - theirs.depth).max() < 1e-5
            for index in np.unique(theirs.instance):
                (found,) = np.unique(ours.instance[theirs.instance == index])
                original = embedded.objects()[index]
                if not original.is_structure:
                    assert thor.objects()[found].category == original.category
                    assert np.allclose(thor.objects()[found].aabb_min, original.aabb_min, atol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_orthographic_depth_is_metric_whatever_the_build_does(machine: ThorMachine, linear: bool) -> None:
    machine.settings(ortho_is_linear=linear)
    with Ai2thorBackend(machine.config()) as thor, EmbeddedBackend(EmbeddedConfig(preset="blocks")) as embedded:
        info = thor.load("FloorPlan4")
        embedded.load("blocks-train-4")
        (left, low), (right, high) = info.bounds_min[:2], info.bounds_max[:2]
        region = (left - 0.7, low - 0.7, right - 0.3, high - 0.3)
        ours, theirs = (backend.render_top_down(region, 64) for backend in (thor, embedded))
        assert (ours.instance < 0).any() and np.array_equal(ours.instance < 0, ours.depth == 0)
        both = (ours.depth > 0) & (theirs.depth > 0) & (20 - theirs.depth < thor.config.top_down_cut_m)
        assert both.mean() > 0.5 and np.abs(ours.depth - theirs.depth)[both].max() < 1e-3


@pytest.mark.parametrize(
    ("server", "kind"),
    [("fifo", kind) for kind in FAULTS] + [pytest.param("wsgi", kind, marks=pytest.mark.long) for kind in HTTP_FAULTS],
)
def test_a_fault_is_named_and_survived(
    machine: ThorMachine, server: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit of work fails with ``SimulatorDied``; loading again starts a sound player that shows the same."""
    machine.settings(fault={"kind": kind, "at": "UpdateThirdPartyCamera", "after": 1})
    if kind != "leave":  # such a player lives on
        monkeypatch.setattr(process, "GRACE_S", HANGS)
    with Ai2thorBackend(machine.config(server=server)) as backend:
        backend.load("FloorPlan2")
        before = backend.render([VIEW])[0]
        player = running(backend)
        if kind == "hang":
            backend._player._controller.server.timeout = 0.5
        with pytest.raises(SimulatorDied, match=FAULTS[kind]):
            backend.render([VIEW])
        assert player.poll() is not None, "no player is left behind"
        with pytest.raises(SceneError, match="load"):
            backend.render([VIEW])
        backend.load("FloorPlan2")
        again = backend.render([VIEW])[0]
        assert np.array_equal(before.rgb, again.rgb) and np.array_equal(before.instance, again.instance)


@pytest.mark.parametrize("at", ["Reset", "Initialize", "GetReachablePositions", "launch"])
def test_a_crash_while_loading_is_survived(machine: ThorMachine, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", HANGS)
    machine.settings(fault={"kind": "crash", "at": at})
    with Ai2thorBackend(machine.config()) as backend:
        with pytest.raises(SimulatorDied, match="ended with code -11"):
            backend.load("FloorPlan2")
        assert backend.load("FloorPlan2").scene_id == "FloorPlan2"


def test_a_start_has_a_limit_of_its_own(machine: ThorMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer of a player is waited for as long as a start may take, every later one as long as a step may."""
    limits: list[float] = []

    class Noted(process.Watch):
        def __init__(self, player: object, timeout: float) -> None:
            limits.append(timeout)
            super().__init__(player, timeout)

    monkeypatch.setattr(process, "Watch", Noted)
    with Ai2thorBackend(machine.config(start_timeout_s=HANGS + 1, step_timeout_s=HANGS)) as backend:
        backend.load("FloorPlan2")
        first, later = limits[0], limits[limits.count(HANGS + 1) :]
    assert first == HANGS + 1 and later and set(later) == {HANGS}
    machine.settings(fault={"kind": "hang", "at": "launch"})
    with (
        Ai2thorBackend(machine.config(start_timeout_s=0.5)) as backend,
        pytest.raises(SimulatorDied, match=r"silent for 0\.5 s"),
    ):
        backend.load("FloorPlan2")


def test_another_build_is_refused_with_an_instruction(machine: ThorMachine) -> None:
    for settings, message in (
        ({"old_build": True}, "sends no depthFormat, third-party depth, third-party instances"),
        ({"unknown": ["UpdateThirdPartyCamera"]}, "does not know UpdateThirdPartyCamera"),
        ({"unknown": ["Initialize"]}, "does not know"),
    ):
        machine.settings(**settings)
        with Ai2thorBackend(machine.config()) as backend, pytest.raises(BackendUnavailable, match=message):
            backend.load("FloorPlan2")
            backend.render([VIEW])


def test_refusals_are_scene_errors_and_leave_the_player_running(machine: ThorMachine) -> None:
    with Ai2thorBackend(machine.config(sources=("ithor", "robothor"))) as backend:
        backend.load("FloorPlan2")
        player = running(backend)
        with pytest.raises(SceneError, match="not part of this AI2-THOR build"):
            backend.load("FloorPlan_Val1_1")
        with pytest.raises(SceneError, match="unknown AI2-THOR scene 'FloorPlan31'; valid"):
            backend.load("FloorPlan31")
        backend.load("FloorPlan3")
        with pytest.raises(SceneError, match="straight down"):
            backend.render([VIEW], hide=("ceiling",))
        assert running(backend) is player and player.poll() is None


def test_players_are_replaced_after_some_scenes(machine: ThorMachine) -> None:
    with Ai2thorBackend(machine.config(recycle_after=2)) as backend:
        processes = []
        for number in (1, 2, 3):
            backend.load(f"FloorPlan{number}")
            processes.append(running(backend))
        assert processes[0] is processes[1] and processes[1] is not processes[2]
        assert processes[0].poll() is not None and processes[2].poll() is None
    assert processes[2].poll() is not None


def test_no_player_outlives_a_worker(machine: ThorMachine) -> None:
    """A joblib worker that is shut down takes its player with it, though nobody closed the backend."""
    machine.settings(stays=True)  # and does not leave by itself when the client does
    executor = get_reusable_executor(max_workers=1, timeout=HANGS)
    player = psutil.Process(executor.submit(load_and_leave, machine.config()).result())
    assert not ended(player)
    executor.shutdown(wait=True)
    until(lambda: ended(player), "the end of the player")


def load_and_leave(config) -> int:
    backend = LEFT_OPEN.setdefault("backend", Ai2thorBackend(config))
    backend.load("FloorPlan2")
    return running(backend).pid


def test_metadata_is_filtered_once_a_scene_is_read(machine: ThorMachine) -> None:
    with Ai2thorBackend(machine.config()) as backend:
        backend.load("FloorPlan2")
        backend.render([VIEW])
        assert backend._player._controller.last_event.metadata["objects"] == []
        first = len(backend.objects())
        backend.load("FloorPlan3")
        assert first and len(backend.objects()) > 1, "the filter does not outlive its scene"


def test_procthor_houses_bring_their_rooms(machine: ThorMachine, tmp_path) -> None:
    with thor_machine(tmp_path, "home") as machine:
        houses = machine.houses(3, 5)
        with (
            Ai2thorBackend(machine.config(sources=("procthor",), houses=houses)) as backend,
            EmbeddedBackend(EmbeddedConfig(renderer="ray")) as embedded,
        ):
            info, original = backend.load("procthor-train-1"), embedded.load("home-train-5")
            assert [(room.id, room.kind) for room in info.rooms] == [(room.id, room.kind) for room in original.rooms]
            room = info.rooms[0]
            points = backend.sample_navigable(20, np.random.default_rng(0), 0.2, room.id)
            low, high = room.polygon.min(0), room.polygon.max(0)
            assert np.all((points[:, :2] >= low) & (points[:, :2] <= high))
            kinds = {item.room_id for item in backend.objects() if not item.is_structure}
            assert kinds <= {room.id for room in info.rooms} | {None} and len(kinds) >= 1


def test_a_machine_without_the_client_gets_an_instruction(monkeypatch) -> None:
    def missing(_: str) -> str:
        raise setup.PackageNotFoundError

    monkeypatch.setattr(setup, "version", missing)
    with pytest.raises(BackendUnavailable, match="pip install 'ai2thor"):
        Ai2thorBackend()
    assert not diagnose()[0].ok and diagnose()[0].fix == setup.INSTALL
    monkeypatch.setattr(setup, "version", lambda _: "4.3.0")
    with pytest.raises(BackendUnavailable, match=r"this is 4\.3\.0"):
        Ai2thorBackend()


def test_start_errors_of_the_client_become_instructions(machine: ThorMachine, monkeypatch) -> None:
    """Each is provoked in the real client."""
    with pytest.raises(BackendUnavailable, match="not an executable file"):
        Ai2thorBackend(machine.config(local_executable="/nowhere/thor"))
    with pytest.raises(BackendUnavailable, match="needs an X display"):
        Ai2thorBackend(machine.config(platform="Linux64")).load("FloorPlan1")
    monkeypatch.setattr("ai2thor.build.Build.exists", lambda self: False)
    with pytest.raises(BackendUnavailable, match=r"cannot reach s3.*commit_id"):
        Ai2thorBackend(machine.config(local_executable=None)).load("FloorPlan1")
    monkeypatch.setattr("ai2thor.build.Build.exists", lambda self: True)
    monkeypatch.setattr("ai2thor.platform.CloudRendering.validate", lambda request: ["Vulkan API driver missing."])
    with pytest.raises(BackendUnavailable, match="libvulkan1"):
        Ai2thorBackend(machine.config(local_executable=None)).load("FloorPlan1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendUnavailable, match="vulkan-tools"):
        Ai2thorBackend(machine.config(gpu_device=0)).load("FloorPlan1")
    mapping = machine.folder / ".ai2thor/cuda-vulkan-mapping.json"
    mapping.write_text('{"0": 0}')
    with pytest.raises(BackendUnavailable, match="out of date"):
        Ai2thorBackend(machine.config(gpu_device=3)).load("FloorPlan1")
