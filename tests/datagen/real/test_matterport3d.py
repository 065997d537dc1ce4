"""Matterport3D from its published layout: the levels of a house show, open and ask what the embedded scenes do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen import run
from datagen.backends.base import SceneError
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.backends.splits import SHARES, fraction
from datagen.config import RunConfig, run_config
from datagen.real.matterport3d import MatterportBackend, MatterportConfig, house_file
from datagen.verify import recheck
from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.store import SampleReader
from tests.datagen.conftest import interrupted, shards
from tests.datagen.real.made_matterport3d import HOUSES, STOREY_M, embedded, scene_name, write

SIDE = 64
TASK = {"name": "pt", "variants": ["td_path", "td_path_arrow"], "walks_per_bin": 4, "min_opposite": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("matterport") / "scans")


@pytest.fixture
def scan(root: Path) -> Iterator[MatterportBackend]:
    with MatterportBackend(MatterportConfig(str(root))) as backend:
        yield backend


@pytest.fixture(scope="module")
def original() -> Iterator[EmbeddedBackend]:
    with embedded() as backend:
        yield backend


def settings(root: Path, output: Path, **changes: Any) -> RunConfig:
    values = {"num_samples": 3, "seed": 3, "image_size": SIDE, "samples_per_shard": 2, "task": TASK, **changes}
    return run_config({**values, "backend": {"name": "matterport3d", "root": str(root)}, "output_dir": str(output)})


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run.generate(settings(root, folder), quiet=True)
    return folder


def test_a_level_shows_what_the_embedded_scene_shows(scan: MatterportBackend, original: EmbeddedBackend) -> None:
    """Things, heights, views, plan and open floor; the upper level hides nothing of the lower one."""
    for level, kind in enumerate(("bedroom", "kitchen")):
        info, there = scan.load(f"house1-level{level}"), original.load(scene_name(original, 1, level))
        up = np.array([0, 0, STOREY_M * level])
        assert info.floor_z == pytest.approx(there.floor_z + up[2], abs=1e-5)
        assert [room.kind for room in info.rooms] == [kind]
        assert [thing.category for thing in scan.objects()] == [thing.name for thing in original.objects()]
        for mine, theirs in zip(scan.objects(), original.objects(), strict=True):
            assert np.allclose(mine.centre, theirs.centre + up, atol=1e-5)
        places = original.sample_navigable(3, generator(1), 0.3)
        eyes = [CameraPose((x, y, z + 1.5), yaw, -0.3) for yaw, (x, y, z) in enumerate(places)]
        lifted = [replace(eye, position=tuple(np.array(eye.position) + up)) for eye in eyes]
        shown = scan.render([Camera(eye, SIDE, SIDE, 80) for eye in lifted])
        for mine, theirs in zip(shown, original.render([Camera(eye, SIDE, SIDE, 80) for eye in eyes]), strict=True):
            assert (mine.instance != theirs.instance).mean() < 2e-3
            assert np.abs(mine.depth - theirs.depth)[mine.instance == theirs.instance].max() < 2e-3
        region = (*there.bounds_min[:2], *there.bounds_max[:2])
        mine, theirs = (backend.render_top_down(region, 128) for backend in (scan, original))
        assert (mine.instance != theirs.instance).mean() < 2e-3
        clearance = 0.25
        grid, cells = (backend.free_map(clearance) for backend in (scan, original))
        points = np.stack(np.meshgrid(np.arange(-3, 3, 0.1), np.arange(-3, 3, 0.1)), axis=-1)
        assert (grid.contains(points) != cells.contains(points)).mean() < 0.04, "but for the edges of things"
        assert scan.sample_navigable(5, generator(0), clearance, info.rooms[0].id).shape == (5, 3)


def test_walks_on_plans_are_recomputed_in_both_places(made: Path, root: Path) -> None:
    samples = list(SampleReader(made))
    assert len(samples) == 3
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["complete"] and any("Matterport3D" in licence for licence in manifest["licences"])
    for sample in samples:
        assert [image.role for image in sample.images] == ["map"] and sample.imagination.role == "side_view"
        assert sample.facts["room"] in ("bedroom", "kitchen") and len(sample.choices) == 4
    with MatterportBackend(MatterportConfig(str(root))) as backend:
        assert not list(recheck(samples, backend))
        wrong = replace(samples[0], facts={**samples[0].facts, "answer": "piano"})
        assert [mismatch.sample_id for mismatch in recheck([wrong], backend)] == [wrong.id]


def test_two_workers_and_a_killed_run_give_the_same_bytes(root: Path, made: Path, tmp_path: Path) -> None:
    run.generate(settings(root, tmp_path / "two", workers=2), quiet=True)
    killed = settings(root, tmp_path / "killed")
    interrupted(killed, 1)
    run.generate(killed, quiet=True)
    assert shards(made) == shards(tmp_path / "two") == shards(tmp_path / "killed") and len(shards(made)) == 2


def test_houses_are_split_by_the_hash_of_their_names(scan: MatterportBackend) -> None:
    expected = [name for name in HOUSES if fraction(name) < SHARES["train"][1]]
    assert scan.scenes("train") == [f"{name}-level{level}" for name in expected for level in (0, 1)]
    with pytest.raises(SceneError, match=r"no scenes in split 'test'.*v1/scans"):
        scan.scenes("test")


def test_every_setting_of_the_open_floor_is_heard(root: Path) -> None:
    def free(**changes: Any) -> float:
        with MatterportBackend(MatterportConfig(str(root), **changes)) as backend:
            backend.load("house0-level0")
            cells = backend.free_map(0.2)
            return float(cells.grid.sum() * cells.resolution**2)

    usual = free()
    assert free(cell_m=0.1) == pytest.approx(usual, rel=0.1)
    with MatterportBackend(MatterportConfig(str(root), cell_m=0.1)) as backend:
        backend.load("house0-level0")
        assert backend.free_map(0.2).resolution == 0.1
    assert free(body_height_m=0.3) >= usual, "one that low passes under nothing here, but no higher thing counts"
    assert free(floor_tolerance_m=0.6, body_height_m=0.7) > usual, "small things are stepped on"
    for changes in ({"cell_m": 0.0}, {"floor_tolerance_m": 0.0}, {"floor_tolerance_m": 2.0}):
        with pytest.raises(UserError, match=r"backend\.cell_m must lie"):
            MatterportConfig(**changes)


def test_surface_without_a_label_is_cut_above_its_height(tmp_path: Path) -> None:
    """A ceiling whose label is lost hides the plan, unless it is above ``cut_height_m``."""
    root = write(tmp_path / "scans")
    path = root / house_file("house0", "semseg.json")
    record = json.loads(path.read_text())
    record["segGroups"] = [group for group in record["segGroups"] if group["label"] != "ceiling"]
    path.write_text(json.dumps(record))
    seen = []
    for height in (2.0, 9.0):
        with MatterportBackend(MatterportConfig(str(root), cut_height_m=height)) as backend:
            info = backend.load("house0-level0")
            above = backend.render_top_down((*info.bounds_min[:2], *info.bounds_max[:2]), 32)
            seen.append({backend.objects()[index].category for index in np.unique(above.instance) if index >= 0})
    assert any("cube" in name for name in seen[0]) and seen[1] <= {"floor", "wall"}, "its rim is not under the ceiling"


def text_of(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("ending", "change", "told"),
    [
        ("house", text_of(lambda text: text.replace("L 0 1 -", "L zero 1 -")), "house, line 3: invalid literal"),
        ("house", text_of(lambda text: "\n".join(text.splitlines()[:2])), "house: there is no line of a level"),
        ("house", text_of(lambda text: text.replace("V 1 0 -", "V 1 0 - east")), "house, line 10: could not convert"),
        ("ply", lambda path: path.unlink(), "ply is missing"),
        ("ply", lambda path: path.write_bytes(path.read_bytes()[:-4000]), r"house0\.ply"),
        ("fsegs.json", lambda path: path.write_text('{"segIndices": [0, 1]}'), "2 segIndices, but the mesh has"),
        ("fsegs.json", lambda path: path.write_text("{"), r"house0\.fsegs\.json"),
        ("semseg.json", lambda path: path.write_text('{"segGroups": [{"label": "bed", "segments": [9999]}]}'),
         r"semseg\.json, segGroups\[0\]: field 'segments' names a segment that no face or vertex has"),
        ("semseg.json", lambda path: path.write_text('{"segGroups": [{"segments": [1]}]}'), r"segGroups\[0\]: field 'label'"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_and_the_other_houses_load(
    tmp_path: Path, ending: str, change: Callable[[Path], object], told: str
) -> None:
    root = write(tmp_path / "scans")
    change(root / house_file("house0", ending))
    with MatterportBackend(MatterportConfig(str(root))) as backend:
        with pytest.raises(SceneError, match=f"house0.*{told}"):
            backend.load("house0-level0")
        assert backend.load("house1-level1").scene_id and "house0-level0" in backend.scenes("train")
        with pytest.raises(SceneError, match="there is no level 7; levels"):
            backend.load("house1-level7")
        with pytest.raises(SceneError, match="a scene is named HOUSE-levelN"):
            backend.load("house1")
