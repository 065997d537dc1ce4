"""Runs: the same samples whatever the workers, interruptions and parts; clear errors; finished work stays."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from datagen import engine, run, units
from datagen.backends.base import SceneError, SceneInfo, SimulatorDied
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.tasks.path_settings import PathTracingConfig
from datagen.tasks.perspective_questions import SUB_CATEGORIES
from datagen.tasks.perspective_taking import PerspectiveTaking, PerspectiveTakingConfig
from datagen.units import UnitRef, read_unit, scene_of
from datagen.yields import NoYield, Yields
from ipt.common.errors import UserError
from ipt.common.files import CorruptFile
from ipt.common.locking import held
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from tests.datagen.conftest import generate, run_settings, shards

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Shards of an undisturbed run with one worker."""
    folder = tmp_path_factory.mktemp("reference")
    generate(run_settings(folder))
    return shards(folder)


def test_two_workers_give_the_same_bytes(tmp_path: Path, reference: dict[str, bytes]) -> None:
    generate(run_settings(tmp_path, workers=2, recycle=2))
    assert shards(tmp_path) == reference


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    config = run_settings(tmp_path, num_samples=4)
    first = generate(config)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert generate(config) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert not (tmp_path / ".work").exists()


@pytest.mark.parametrize("survivors", [0, 2, 4])
def test_resumes_after_losing_everything_unfinished(
    tmp_path: Path, reference: dict[str, bytes], survivors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop while the ``survivors``-th unit is read; leave litter of a killed writer; run again."""
    reads = 0

    def read_or_die(unit: UnitRef) -> dict[str, object]:
        nonlocal reads
        reads += 1
        if reads > survivors:
            raise KeyboardInterrupt
        return read_unit(unit)

    config = run_settings(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(run, "read_unit", read_or_die)
        with pytest.raises(KeyboardInterrupt):
            generate(config)
    work = tmp_path / ".work" / config.prefix
    (work / ".0000009.bin.77.partial").write_bytes(b"half")
    (tmp_path / f".{config.prefix}-00000.parquet.77.partial").write_bytes(b"half")
    generate(config)
    assert shards(tmp_path) == reference
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*reference, "manifest.json"])


def test_parts_join_without_overlap(tmp_path: Path) -> None:
    whole = run_settings(tmp_path, num_samples=25)
    parts = [replace(whole, shard=f"{number}/3") for number in range(3)]
    assert not generate(parts[1])["complete"]
    assert not generate(parts[0])["complete"]
    manifest = generate(parts[2])
    assert manifest["complete"] and manifest["samples"] == 25
    samples = list(SampleReader(tmp_path, verify=True))
    assert len({sample.id for sample in samples}) == 25
    owners: dict[str, set[str]] = {}
    for path in tmp_path.glob("*.parquet"):
        for sample in SampleReader(path):
            owners.setdefault(sample.provenance.scene_id, set()).add(path.name.rsplit("-", 1)[0])
    assert all(len(owner) == 1 for owner in owners.values())


def test_scenes_of_parts_cover_the_split_once() -> None:
    config = run_settings(Path("unused"), num_samples=100)
    scenes = [f"scene-{number}" for number in range(7)]
    drawn = [scene_of(replace(config, shard=f"{part}/2"), scenes, unit) for unit in range(7) for part in (0, 1)]
    assert sorted(drawn) == sorted([(scene, turn) for scene in scenes for turn in (0, 1)])


def test_samples_say_where_they_come_from(tmp_path: Path) -> None:
    config = run_settings(tmp_path, num_samples=6)
    manifest = generate(config)
    samples = list(SampleReader(tmp_path))
    assert sorted(sample.question_type for sample in samples) == sorted(SUB_CATEGORIES)
    for sample in samples:
        assert sample.provenance.config_sha256 == config.sha256 == manifest["config_sha256"]
        assert sample.provenance.scene_id in sample.id and sample.split in sample.provenance.scene_id
        assert all(image.camera is not None for image in (*sample.images, sample.imagination))
        assert SpatialSample.from_record(sample.to_record()) == sample
    assert set(manifest["yields"]) >= {"first_view.area", "verify.contradiction", "selection.balance"}  # type: ignore[arg-type]


def test_runtime_settings_do_not_change_the_digest(tmp_path: Path) -> None:
    config = run_settings(tmp_path)
    assert config.sha256 == run_settings(tmp_path / "b", workers=2, engine="dask", recycle=5).sha256
    for change in ({"seed": 8}, {"image_size": 65}, {"split": "val"}, {"num_samples": 25}):
        assert config.sha256 != run_settings(tmp_path, **change).sha256
    assert config.sha256 != replace(config, task=PerspectiveTakingConfig(min_area=0.005)).sha256


def test_two_processes_do_not_make_one_part(tmp_path: Path) -> None:
    config = run_settings(tmp_path, num_samples=4)
    with held(tmp_path, f".work/{config.prefix}.lock"):
        with pytest.raises(UserError, match=rf"{tmp_path} is being written by process \d+ .* since"):
            generate(config)
        assert not list(tmp_path.glob("*.parquet"))
    assert generate(config)["complete"]


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    generate(run_settings(tmp_path, num_samples=4))
    with pytest.raises(ValueError, match=r"num_samples: 4 there, 5 here.*choose another output_dir"):
        generate(run_settings(tmp_path, num_samples=5))


@pytest.mark.parametrize(
    ("revision", "told"),
    [("0123456789ab", r"git checkout 0123456789ab\)"), ("0123456789ab-dirty", r"its local changes\)")],
)
def test_other_code_in_the_same_folder_is_refused_with_what_to_do(tmp_path: Path, revision: str, told: str) -> None:
    config = run_settings(tmp_path)
    run.claim(run.Part(config, revision, "aaaa"))
    with pytest.raises(ValueError, match=f"sources aaaa.*sources bbbb.*{told}.*another output_dir, or delete"):
        run.claim(run.Part(config, revision, "bbbb"))
    later = run.Part(config, "a commit that touches other files", "aaaa")
    run.claim(later)
    assert later.revision == revision


def test_units_leave_other_cores_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS has one thread while a unit is made, and its own number again afterwards."""

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    found: list[list[int]] = []
    monkeypatch.setattr(units, "make_unit", lambda *_: found.append(threads()))
    with threadpool_limits(2, user_api="blas"):
        units.run_unit(run_settings(tmp_path), tmp_path, 0)
        assert set(threads()) == {2}
    assert found and set(found[0]) == {1}


def test_impossible_filters_name_the_filter(tmp_path: Path) -> None:
    task = PerspectiveTakingConfig(min_area=0.9, patience=3)
    with pytest.raises(
        NoYield, match=r"no scene satisfied task 'pet' in 3 tries: filter 'first_view.area' rejected 100"
    ):
        generate(replace(run_settings(tmp_path), task=task))


def test_a_run_whose_samples_are_rare_is_given_longer_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(run_settings(tmp_path), task=PerspectiveTakingConfig(patience=60))
    assert run.patience(config, found=0, scenes=0) == run.patience(config, found=90, scenes=30) == 60
    assert run.patience(config, found=1000, scenes=2500) == 150
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(run, "patience", lambda _, found, scenes: asked.append((found, scenes)) or 2)
    with pytest.raises(NoYield, match="in 2 tries"):
        generate(replace(config, task=PerspectiveTakingConfig(min_area=0.9)))
    assert asked == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("done", "wanted", "available", "words"),
    [
        (0, 100, 10_000, "0 of 100 samples from 10 scenes: about 2,000 scenes will be needed; filter 'x'"),
        (1, 100, 50, "about 1,000 scenes, each of the 50 about 20 times will be needed; filter 'x'"),
        (20, 100, 50, ""),
        (100, 100, 50, ""),
    ],
)
def test_a_long_search_is_announced_with_what_starves_it(done: int, wanted: int, available: int, words: str) -> None:
    said = run.forecast(done, 10, wanted, available, "filter 'x'")
    assert words in said and bool(said) is bool(words)


def test_a_starving_run_says_so_after_its_first_scenes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = replace(run_settings(tmp_path), num_samples=2000, task=PerspectiveTakingConfig(min_area=0.9, patience=12))
    with pytest.raises(NoYield), caplog.at_level("WARNING"):
        generate(config)
    assert sum("scenes will be needed; filter 'first_view.area'" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(("task", "most"), [("mvc", 0), ("pt", 0), ("pet", 0)])
def test_one_scene_that_cannot_give_as_much_is_refused_at_once(task: str, most: int, tmp_path: Path) -> None:
    """A user's room with a floor and nothing else, or, for counting, with too few of anything."""
    import trimesh

    scene = trimesh.Scene()
    things = ["Floor"] if task == "pet" else ["Floor", "Chair_1", "Chair_2", "Lamp"]
    for number, name in enumerate(things):
        mesh = trimesh.creation.box((4, 0.1, 4) if name == "Floor" else (0.4, 0.4, 0.4)).apply_translation(
            (number, 0, 0)
        )
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    path = tmp_path / "room.glb"
    path.write_bytes(scene.export(file_type="glb"))
    backend = EmbeddedConfig(renderer="ray", scene_file=str(path))
    config = replace(run_settings(tmp_path / "out", task), backend_config=backend, num_samples=3)
    with pytest.raises(
        UserError, match=rf"task '{task}' finds at most {most} questions in the one scene room, 3 are asked"
    ):
        generate(config)


def test_scenes_of_few_things_name_the_setting_that_helps_path_tracing(tmp_path: Path) -> None:
    task = PathTracingConfig(patience=3, min_opposite=3, map_margin_m=0.1)
    with pytest.raises(NoYield, match=r"in 3 tries: filter 'scene\.has_puzzles \(options=same_scene\)' rejected 100"):
        generate(replace(run_settings(tmp_path), task=task))


def test_a_foreign_or_damaged_shard_is_reported_and_kept(tmp_path: Path, reference: dict[str, bytes]) -> None:
    config = run_settings(tmp_path)
    generate(config)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="parquet files of something else"):
        generate(config)
    first = sorted(reference)[0]
    run.claim(
        run.Part(
            replace(config, output_dir=str(tmp_path / "again")), run.code_revision(), run.source_digest(*run.SOURCES)
        )
    )
    damaged = tmp_path / "again" / first
    damaged.write_bytes(reference[first][:2000])
    with pytest.raises(CorruptFile, match=first):
        generate(replace(config, output_dir=str(tmp_path / "again")))
    assert damaged.stat().st_size == 2000


def test_a_damaged_shard_of_an_unfinished_run_may_be_deleted(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of written shards are gone by then: those units are made again, the others are not."""

    def no_seal(*_: object) -> None:
        raise KeyboardInterrupt

    config = run_settings(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(run, "seal_if_complete", no_seal)
        with pytest.raises(KeyboardInterrupt):
            generate(config)
    (tmp_path / ".work" / config.prefix / "done.json").unlink()  # as if it had been killed before its end
    second = sorted(reference)[1]
    (tmp_path / second).write_bytes(reference[second][:2000])
    with pytest.raises(CorruptFile, match=second):
        generate(config)
    (tmp_path / second).unlink()
    made: list[int] = []
    make = units.make_unit
    monkeypatch.setattr(units, "make_unit", lambda config, unit: (made.append(unit.number), make(config, unit))[1])
    manifest = generate(config)
    assert shards(tmp_path) == reference and manifest["complete"]
    damaged, last = (
        {sample.provenance.scene_id for sample in SampleReader(tmp_path / shard)}
        for shard in (second, sorted(reference)[-1])
    )
    assert len(made) == len(set(made)) == len(damaged - last), "those of the last shard were still there"


def test_what_is_finished_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = units.make_unit
    monkeypatch.setattr(units, "make_unit", lambda config, unit: (made.append(unit.number), make(config, unit))[1])
    config = run_settings(tmp_path, num_samples=12)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(config)
    before = list(made)
    generate(config)
    assert len(before) > 1 and len(made) == len(set(made)), "every unit is made once, before the kill or after it"


def test_the_manifest_adds_up_what_the_units_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers: list[dict[str, Any]] = []

    def kept(unit: UnitRef) -> dict[str, Any]:
        headers.append(read_unit(unit))
        return headers[-1]

    monkeypatch.setattr(run, "read_unit", kept)
    manifest = generate(run_settings(tmp_path, num_samples=12))
    found: dict[str, list[int]] = {}
    for header in headers:
        for name, entry in header["yields"].items():
            tested, rejected = found.setdefault(name, [0, 0])
            found[name] = [tested + entry["tested"], rejected + entry["rejected"]]
    offered = sum(len(header["candidates"]) for header in headers)
    found["selection.balance"] = [offered, offered - 12]
    assert {name: [row["tested"], row["rejected"]] for name, row in manifest["yields"].items()} == found
    assert found["scene.loads"] == found["scene.simulator_survives"] == [len(headers), 0]
    assert manifest["licences"] == ["generated; no restrictions"] and manifest["scene_errors"] == {}


def test_scenes_that_do_not_load_are_counted_and_their_messages_capped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes are counted, too; thousands of broken scenes leave a short list; the filter that starves a run is named."""
    load = EmbeddedBackend.load

    def every_second(self: EmbeddedBackend, scene_id: str) -> SceneInfo:
        if int(scene_id.rsplit("-", 1)[1]) % 2:
            raise SceneError(f"scene {scene_id} is broken")
        return load(self, scene_id)

    monkeypatch.setattr(EmbeddedBackend, "load", every_second)
    manifest = generate(run_settings(tmp_path, num_samples=12))
    loads = manifest["yields"]["scene.loads"]
    assert loads["rejected"] >= 1 and abs(loads["tested"] - 2 * loads["rejected"]) <= 1
    assert sum(manifest["scene_errors"].values()) == loads["rejected"]
    assert all("is broken" in message for message in manifest["scene_errors"])
    with pytest.raises(NoYield, match=r"filter 'first_view.area' rejected 100"):
        generate(replace(run_settings(tmp_path / "b"), task=PerspectiveTakingConfig(min_area=0.9, patience=6)))


def test_yields_name_the_filter_that_least_passes_and_keep_few_messages() -> None:
    yields = Yields()
    yields.count("area", 10_000, 9_990)
    yields.check("scene.loads", False)
    yields.note("scene x: no such file")
    assert yields.worst() == "filter 'area' rejected 99.9%"
    yields.count("rare", 10, 10)
    assert yields.worst() == "filter 'area' rejected 99.9%"
    yields.count("scene.gives_candidates", 10**6, 10**6)
    assert yields.worst() == "filter 'area' rejected 99.9%", "the outcome is no cause"
    broken = Yields()
    broken.count("scene.loads", 60, 60)
    for number in range(1000):
        broken.note(f"scene {number}")
    broken.note("scene 3", 5)
    assert len(broken.errors) == 21 and broken.errors["others"] == 980 and broken.errors["scene 3"] == 6
    both = Yields()
    both.add(broken)
    both.add(broken)
    assert both.errors["scene 3"] == 12 and both.errors["others"] == 1960 and len(both.errors) == 21
    assert Yields.from_json(both.to_json(), both.errors) == both
    assert Yields({"scene.loads": 9}, {"scene.loads": 9}, {"no file": 9}).worst().endswith("rejected 100.0% (no file)")


def test_a_simulator_that_dies_is_counted_with_its_survivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    propose, deaths = PerspectiveTaking.propose, iter([True, False, True, True, True, False])

    def dies(self: PerspectiveTaking, *arguments: Any) -> Any:
        if next(deaths):
            raise SimulatorDied("the worker crashed\nlast words")
        return propose(self, *arguments)

    monkeypatch.setattr(PerspectiveTaking, "propose", dies)
    config = run_settings(tmp_path)
    counts = []
    for number in range(3):
        units.run_unit(config, tmp_path, number)
        header = read_unit(UnitRef(tmp_path, number))
        survives = header["yields"]["scene.simulator_survives"]
        counts.append((survives["tested"], survives["rejected"], bool(header["candidates"]), list(header["errors"])))
    scene = read_unit(UnitRef(tmp_path, 1))["scene_id"]
    assert counts == [(2, 1, True, []), (3, 3, False, [f"scene {scene}: the worker crashed"]), (1, 0, True, [])]


def test_worker_processes_are_replaced_after_so_many_scenes_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, two scenes each: processes end after every four units."""
    ends: list[int] = []
    done: list[int] = []
    workers = SimpleNamespace(shutdown=lambda wait: ends.append(len(done)))
    monkeypatch.setattr("joblib.externals.loky.get_reusable_executor", lambda: workers)
    monkeypatch.setattr(engine, "in_order", lambda config, folder, numbers: iter(numbers))
    for number in engine.make_units(run_settings(tmp_path, workers=2, recycle=2), tmp_path):
        done.append(number)
        if number == 9:
            break
    assert done == list(range(10)) and ends == [4, 8]


@pytest.mark.parametrize("recycle", [1, 2, 100])
def test_simulators_are_closed_after_so_many_units(
    tmp_path: Path, recycle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the engine: each worker process, this one too, closes its simulator and opens it again."""
    opened: list[object] = []
    make = EmbeddedBackend.__init__
    monkeypatch.setattr(
        EmbeddedBackend, "__init__", lambda self, config=None: (opened.append(self), make(self, config))[1]
    )
    monkeypatch.setattr(units, "_UNITS_MADE", itertools.count(1))
    config = run_settings(tmp_path, recycle=recycle)
    for number in range(4):
        units.run_unit(config, tmp_path, number)
    assert len(opened) == {1: 4, 2: 2, 100: 1}[recycle]


def test_full_disk_keeps_finished_shards(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    original = run.write_shard

    def fail_second(path: Path, samples: object) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")
        return original(path, samples)  # type: ignore[arg-type]

    config = run_settings(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_shard", fail_second)
        with pytest.raises(OSError, match="what was finished stays"):
            generate(config)
    first = sorted(reference)[0]
    assert shards(tmp_path) == {first: reference[first]}
    generate(config)
    assert shards(tmp_path) == reference


def test_a_folder_that_is_a_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        generate(run_settings(tmp_path / "taken", num_samples=2))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"engine": "spark"}, "dask, local, ray"),
        ({"shard": "2/2"}, "0 <= i < n"),
        ({"shard": "1of2"}, "must read i/n"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"image_size": 8}, "image_size must be at least 32"),
    ],
)
def test_bad_settings_say_what_is_right(tmp_path: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        run_settings(tmp_path, **change)


@pytest.mark.long
def test_twenty_kills_while_writing_lose_and_double_nothing(tmp_path: Path, reference: dict[str, bytes]) -> None:
    subprocess.run([sys.executable, "-m", "tests.datagen.kill", tmp_path, "20"], cwd=ROOT, check=True)
    assert all(shards(folder) == reference for folder in tmp_path.iterdir())


#: Every process of a command, its workers too, counts the files that it writes; the first to come to the fatal one takes all
#: with it.


@pytest.mark.long
@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_cluster_gives_the_same_bytes(tmp_path: Path, reference: dict[str, bytes], engine: str, package: str) -> None:
    """`make setup` installs Dask and no Ray: a local Ray gives its node 30 s to start (ray 2.60, ``_private/node.py``; no setting
    changes it), and on a busy machine has not started by then. With ``pip install '.[ray]'`` this test runs."""
    pytest.importorskip(package)
    generate(run_settings(tmp_path, engine=engine, workers=2))
    assert shards(tmp_path) == reference
