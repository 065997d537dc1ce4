"""ScanNet++ from its published layout: an embedded scene written as a scan shows, counts and plans the same."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen import run
from datagen.backends.base import SceneError
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.config import RunConfig, run_config
from datagen.real.scan import owners
from datagen.real.scannetpp import ScanNetBackend, ScanNetConfig, walk
from datagen.verify import recheck
from ipt.common.errors import UserError
from ipt.samples.camera import wrap_angle
from ipt.samples.store import SampleReader
from tests.datagen.conftest import interrupted, shards
from tests.datagen.real.made_scannetpp import SPLITS, embedded, write

SIDE = 96


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scannetpp") / "set")


@pytest.fixture
def scan(root: Path) -> Iterator[ScanNetBackend]:
    with ScanNetBackend(ScanNetConfig(str(root))) as backend:
        yield backend


@pytest.fixture(scope="module")
def original() -> Iterator[EmbeddedBackend]:
    with embedded() as backend:
        yield backend


def settings(root: Path, output: Path, **changes: Any) -> RunConfig:
    """A run of three samples; ``task`` and ``backend`` settings as the command line gives them."""
    task = {"name": "mvc", "spots_per_scene": 4, "samples_per_scene": 2, "patience": 15, "max_noun_share": 1.0}
    values = {"num_samples": 3, "seed": 3, "image_size": SIDE, "samples_per_shard": 2, "task": task, **changes}
    return run_config({**values, "backend": {"name": "scannetpp", "root": str(root)}, "output_dir": str(output)})


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run.generate(settings(root, folder), quiet=True)
    return folder


def test_a_scan_of_an_embedded_scene_shows_the_same(scan: ScanNetBackend, original: EmbeddedBackend) -> None:
    """Depth and instances of every picture, the photograph cropped to its camera and turned upright, and the plan."""
    name = scan.scenes("train")[0]
    info, there = scan.load(name), original.load(name)
    assert info.floor_z == pytest.approx(there.floor_z, abs=1e-6)
    assert [thing.category for thing in scan.objects()] == [thing.category for thing in original.objects()]
    cameras = [photo.camera(SIDE) for photo in scan.photos]
    assert {(camera.width > camera.height) for camera in cameras} == {True, False}, (
        "some were taken with the phone on its side"
    )
    assert all(abs(camera.pose.roll) < math.pi / 4 and max(camera.width, camera.height) == SIDE for camera in cameras)
    for mine, theirs in zip(scan.render(cameras), original.render(cameras), strict=True):
        assert (mine.instance != theirs.instance).mean() < 1e-3
        assert np.abs(mine.depth - theirs.depth)[mine.instance == theirs.instance].max() < 2e-3
        assert np.abs(mine.rgb.astype(int) - theirs.rgb).mean() < 3, "a shift by one pixel or a turn gives more"
    region = (*info.bounds_min[:2], *info.bounds_max[:2])
    mine, theirs = (backend.render_top_down(region, 128) for backend in (scan, original))
    assert (mine.instance != theirs.instance).mean() < 1e-3 and np.abs(mine.depth - theirs.depth).max() < 2e-3
    assert {scan.objects()[index].category for index in np.unique(mine.instance)} >= {"floor", "wall", "cube"}
    assert np.abs(mine.rgb.astype(int) - theirs.rgb).mean() < 8, "scanned colours are not lit again"


def test_counts_are_those_of_the_embedded_scene(made: Path, scan: ScanNetBackend, original: EmbeddedBackend) -> None:
    samples = list(SampleReader(made))
    assert len(samples) == 3 and not list(recheck(samples, original)) and not list(recheck(samples, scan))
    wrong = replace(samples[0], facts={**samples[0].facts, "answer": "9"})
    assert [mismatch.sample_id for mismatch in recheck([wrong], scan)] == [wrong.id]
    for sample in samples:
        assert 5 <= len(sample.images) <= 8 and sample.question_type == "walk"
        yaws = [image.camera.pose.yaw for image in sample.images if image.camera is not None]
        gaps = [abs(wrap_angle(one - other)) for one, other in itertools.combinations(yaws, 2)]
        assert len(yaws) == len(sample.images) and min(gaps) >= math.radians(20)
    manifest = json.loads((made / "manifest.json").read_text())
    assert any("ScanNet++ Terms of Use" in licence for licence in manifest["licences"])


def test_two_workers_and_a_killed_run_give_the_same_bytes(root: Path, made: Path, tmp_path: Path) -> None:
    run.generate(settings(root, tmp_path / "two", workers=2), quiet=True)
    killed = settings(root, tmp_path / "killed")
    interrupted(killed, 3)
    run.generate(killed, quiet=True)
    assert shards(made) == shards(tmp_path / "two") == shards(tmp_path / "killed")


def test_splits_share_no_scene(scan: ScanNetBackend) -> None:
    train, val, test = (scan.scenes(split) for split in ("train", "val", "test"))
    assert len(train) == SPLITS["nvs_sem_train"] - 1 and len(val) == 1 and len(test) == SPLITS["nvs_sem_val"]
    assert len({*train, *val, *test}) == sum(SPLITS.values())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def cut(path: Path, keep: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f / "scans/mesh_aligned_0.05.ply").unlink(), r"scans/mesh_aligned_0\.05\.ply is missing"),
        (lambda f: cut(f / "scans/mesh_aligned_0.05.ply"), r"scans/mesh_aligned_0\.05\.ply: "),
        (lambda f: cut(f / "scans/segments.json"), r"scans/segments\.json.*not valid JSON"),
        (
            lambda f: edit(f / "scans/segments.json", lambda r: r["segIndices"].pop()),
            r"segments\.json: \d+ segIndices, but",
        ),
        (
            lambda f: edit(f / "scans/segments_anno.json", lambda r: r["segGroups"][2]["segments"].append(10**6)),
            r"segments_anno\.json, segGroups\[2\]: field 'segments' names a segment that no face or vertex has",
        ),
        (
            lambda f: edit(f / "scans/segments_anno.json", lambda r: r["segGroups"][2].update(label="")),
            r"segments_anno\.json, segGroups\[2\]: field 'label'",
        ),
        (
            lambda f: edit(f / "iphone/pose_intrinsic_imu.json", lambda r: r.pop("frame_000030")),
            r"rgb/frame_000030\.jpg has no pose: 'frame_000030' is missing in .*pose_intrinsic_imu\.json",
        ),
        (
            lambda f: edit(f / "iphone/pose_intrinsic_imu.json", lambda r: r["frame_000030"].pop("aligned_pose")),
            r"pose_intrinsic_imu\.json, frame_000030: field 'aligned_pose' is missing",
        ),
        (
            lambda f: edit(
                f / "iphone/pose_intrinsic_imu.json", lambda r: r["frame_000030"]["aligned_pose"][0].__setitem__(0, 9)
            ),
            r"frame_000030: field 'aligned_pose' must be a rotation",
        ),
        (
            lambda f: edit(
                f / "iphone/pose_intrinsic_imu.json", lambda r: r["frame_000030"]["intrinsic"][0].__setitem__(2, 960)
            ),
            r"frame_000030: field 'intrinsic' is not that of a picture of 120 x 90 pixels",
        ),
        (lambda f: cut(f / "iphone/rgb/frame_000030.jpg", 0.001), r"iphone/rgb/frame_000030\.jpg"),
        (lambda f: shutil.rmtree(f / "iphone/rgb"), r"iphone/rgb has no frame_\*\.jpg: take the video apart"),
    ],
)
def test_a_broken_file_is_named(root: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    with ScanNetBackend(ScanNetConfig(str(tmp_path))) as backend:
        name = (root / "splits/nvs_sem_train.txt").read_text().split()[0]
        shutil.copytree(root / "data" / name, tmp_path / "data" / name)
        backend.load(name)
        spoil(tmp_path / "data" / name)
        with pytest.raises(SceneError, match=rf"data/{name}/.*{told}"):
            backend.load(name)


def test_a_photograph_cut_short_leaves_its_scene_out(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "set")
    names = (copy / "splits/nvs_sem_train.txt").read_text().split()
    for path in (copy / "data" / names[0] / "iphone/rgb").glob("*.jpg"):
        cut(path, 0.7)
    manifest = run.generate(settings(copy, tmp_path / "out", num_samples=1), quiet=True)
    assert any(f"data/{names[0]}/iphone/rgb/frame" in text and "truncated" in text for text in manifest["scene_errors"])
    assert names[0] not in {sample.provenance.scene_id for sample in SampleReader(tmp_path / "out")}


def test_ceilings_without_a_label_are_left_out_of_the_plan(root: Path, tmp_path: Path, scan: ScanNetBackend) -> None:
    name = scan.scenes("train")[0]
    info = scan.load(name)
    region = (*info.bounds_min[:2], *info.bounds_max[:2])
    plan = scan.render_top_down(region, 64)
    shutil.copytree(root / "data" / name, tmp_path / "data" / name)
    groups = tmp_path / "data" / name / "scans/segments_anno.json"
    edit(groups, lambda r: r["segGroups"].pop(next(i for i, g in enumerate(r["segGroups"]) if g["label"] == "ceiling")))
    for height, same in ((2.0, True), (9.0, False)):
        with ScanNetBackend(ScanNetConfig(str(tmp_path), cut_height_m=height)) as backend:
            backend.load(name)
            assert np.array_equal(backend.render_top_down(region, 64).depth, plan.depth) == same


def test_the_smallest_of_several_groups_owns_a_vertex() -> None:
    groups = [
        {"objectId": 1, "label": "table", "segments": [0, 1]},
        {"objectId": 2, "label": "cup", "segments": [1]},
        {"objectId": 3, "label": "room", "segments": [0, 1, 2]},
    ]
    labels, owner = owners(groups, np.array([0, 0, 1, 2, 5]), "here")
    assert labels == ["table", "cup", "room"] and owner.tolist() == [0, 0, 1, 2, -1]


def test_a_walk_adds_what_is_new_and_keeps_headings_apart() -> None:
    """Pictures 0 to 5 at 0, 5, 30, 60, 90 and 120 degrees; thing K is seen by the pictures listed."""
    yaws = np.radians([0.0, 5, 30, 60, 90, 120])
    shows = np.zeros((6, 4), bool)
    shows[0, 0] = shows[1, 1:] = shows[3, 1] = shows[4, 1:3] = shows[5, 3] = True
    few = ScanNetConfig(frames=(2, 4))
    assert walk(shows, yaws, 0, few) == [0, 4, 5], "picture 1 shows most and is too near; 2 and 3 add nothing"
    assert walk(shows, yaws, 0, ScanNetConfig(frames=(5, 5))) == [0, 4, 5, 2, 3]
    assert walk(shows, yaws, 0, ScanNetConfig(frames=(6, 6))) is None
    assert walk(shows, yaws, 1, few) == [1, 2], "the fewest, though nothing is new; thing 0 is too near"


def test_wrong_settings_say_what_is_right(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fit into a turn.*min_yaw_gap_deg 50"):
        ScanNetConfig(min_yaw_gap_deg=50)
    with pytest.raises(
        UserError, match=r"splits/nvs_sem_train\.txt is missing in .*backend\.root must be the ScanNet\+\+"
    ):
        run.generate(settings(tmp_path, tmp_path / "out"), quiet=True)
    with pytest.raises(UserError, match="makes task=mvc, not task=pt"):
        run.generate(settings(root, tmp_path / "pt", task={"name": "pt"}), quiet=True)
