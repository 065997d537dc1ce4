"""MessyTable from its published layout: counts by hand, views, errors with file and row, resume, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datagen import run
from datagen.backends.base import SceneError, SceneInfo
from datagen.config import RunConfig, run_config
from datagen.real.messytable import MessyTableBackend, MessyTableConfig, MessyTableCounting, chosen_views, drawn
from datagen.tasks.base import SceneView
from datagen.tasks.multiview_counting import MultiviewCountingConfig
from datagen.verify import recheck
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.seeding import generator
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from tests.datagen.conftest import interrupted, shards
from tests.datagen.real.made_messytable import table, write


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("messytable") / "MessyTable")


def settings(root: Path, output: Path, **changes: Any) -> RunConfig:
    """A run of six samples; ``task`` and ``backend`` settings as the command line gives them."""
    values = {
        "num_samples": 6,
        "seed": 3,
        "image_size": 64,
        "samples_per_shard": 3,
        "task": {"name": "mvc", "max_noun_share": 1.0},
        **changes,
    }
    return run_config({**values, "backend": {"name": "messytable", "root": str(root)}, "output_dir": str(output)})


def generate(config: RunConfig) -> dict[str, Any]:
    return run.generate(config, quiet=True)


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    generate(settings(root, folder))
    return folder


def number_of(sample: SpatialSample) -> int:
    return int(sample.provenance.scene_id.split("-")[1].removeprefix("train"))


def test_counts_are_those_of_the_tables(made: Path) -> None:
    samples = list(SampleReader(made))
    assert len(samples) == 6
    for sample in samples:
        assert sample.facts["category"] in ("fork", "black mug"), (
            "lemons never reach a run of four counts; packs are vague"
        )
        assert sample.answer_text == str(number_of(sample) % 4 + 1) == str(sample.facts["count"])
        assert 2 <= len(sample.images) <= 7 and "1" not in sample.facts["cameras"]
        assert len(sample.choices) == 4 and sample.imagination.role == "bev"
        seen = [set(ids) for ids in sample.facts["instances_per_frame"]]
        assert set().union(*seen) == set(sample.facts["instances"]), "every instance is in a picture of the question"
        others = {"black mug", "fork", "lemon", "pack"} - {sample.facts["category"]}
        count = number_of(sample) % 4 + 1
        assert sample.facts["also_on_map"] == {noun: 1 if noun in ("lemon", "pack") else count for noun in others}


def test_pictures_are_the_cameras_cropped_to_what_lies_on_the_table(made: Path) -> None:
    """The shade of the background tells the camera; the crop is the union of the boxes and a margin."""
    for sample in SampleReader(made):
        cameras = [*sample.facts["cameras"], "1"]
        for camera, image in zip(cameras, (*sample.images, sample.imagination), strict=True):
            pixels = image.pixels()
            blue = pixels[..., 2][pixels[..., 2] < 190].astype(int)  # that of things is 200
            assert max(pixels.shape[:2]) == 64 and np.median(blue) == pytest.approx(20 * int(camera), abs=9)
    sample = next(sample for sample in SampleReader(made) if number_of(sample) % 4 == 0)
    height, width = sample.imagination.pixels().shape[:2]  # four things in one row: 70 x 10 pixels and 5 % around them
    assert (width, height) == (64, round(64 * (10 + 2) / (70 + 8)))


def test_the_manifest_names_the_licence_and_the_answers_are_recomputed(root: Path, made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["complete"] and any("MessyTable" in licence for licence in manifest["licences"])
    samples = list(SampleReader(made))
    with MessyTableBackend(MessyTableConfig(str(root))) as backend:
        assert not list(recheck(samples, backend))
        scene = samples[0].provenance.scene_id
        labels = (
            backend._labels["train"]["scenes"] if "scenes" in backend._labels["train"] else backend._labels["train"]
        )
        thing = samples[0].facts["instances"][0]
        for camera in samples[0].facts["cameras"]:
            labels[scene]["cameras"][camera]["instances"].pop(thing, None)
        assert [mismatch.sample_id for mismatch in recheck(samples, backend)] == [samples[0].id]


def test_two_workers_and_a_killed_run_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    generate(settings(root, tmp_path / "one"))
    generate(settings(root, tmp_path / "two", workers=2))
    killed = settings(root, tmp_path / "killed")
    interrupted(killed, 5)
    generate(killed)
    assert shards(tmp_path / "one") == shards(tmp_path / "two") == shards(tmp_path / "killed")
    assert len(shards(tmp_path / "one")) == 2


def spoil(root: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the labels of the first training table; returns its id."""
    path = root / "labels" / "train.json"
    record = json.loads(path.read_text())
    scene_id = next(iter(record["scenes"]))
    change(record["scenes"][scene_id]["cameras"])
    path.write_text(json.dumps(record))
    return scene_id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda cameras: cameras.update({"12": cameras.pop("3")}), "camera 12: there is no such camera; valid: 1, 2"),
        (
            lambda cameras: cameras["3"]["instances"]["4"].update(subcls=121),
            "camera 3, instance 4: unknown subclass 121",
        ),
        (
            lambda cameras: cameras["3"]["instances"]["4"].update(subcls=99),
            "camera 3, instance 4: subclass 99 here, 31",
        ),
        (lambda cameras: cameras["3"]["instances"]["4"].update(pos=[5, 5, 4, 9]), "camera 3, instance 4: field 'pos'"),
        (lambda cameras: cameras["3"].pop("extrinsics"), "camera 3: field 'extrinsics' is missing"),
        (lambda cameras: cameras["3"].update(extrinsics=[1, 2]), "camera 3, extrinsics: cannot reshape"),
        (lambda cameras: cameras.pop("1"), "field '1' is missing"),
    ],
)
def test_a_wrong_label_is_named_with_file_and_row(tmp_path: Path, change: Any, told: str) -> None:
    root = write(tmp_path / "set")
    scene_id = spoil(root, change)
    with MessyTableBackend(MessyTableConfig(str(root))) as backend:
        with pytest.raises(SceneError, match=f"labels/train.json, scene {scene_id}.*{told}"):
            backend.load(scene_id)
        assert backend.load(backend.scenes("train")[1]).scene_id, "the others load"


def test_broken_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    """Every picture of one table is truncated, one of another is missing: both are named, none of their samples is made."""
    root = write(tmp_path / "set")
    for path in (root / "images").glob("20190921-train000-01-0*.jpg"):
        path.write_bytes(path.read_bytes()[:-200])
    for path in (root / "images").glob("20190921-train001-01-0*.jpg"):
        path.unlink()
    manifest = generate(settings(root, tmp_path / "out"))
    messages = list(manifest["scene_errors"])
    assert any("images/20190921-train000-01-0" in text and "truncated" in text for text in messages)
    assert any("images/20190921-train001-01-0" in text and "is missing" in text for text in messages)
    scenes = {sample.provenance.scene_id for sample in SampleReader(tmp_path / "out")}
    assert len(manifest["scene_errors"]) == 2 and not scenes & {"20190921-train000-01", "20190921-train001-01"}


def test_a_wrong_folder_or_task_says_what_is_right(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels/train\.json is missing in .*unzipped MessyTable\.zip"):
        generate(settings(tmp_path, tmp_path / "out"))
    with pytest.raises(UserError, match="makes task=mvc, not task=pet"):
        generate(settings(root, tmp_path / "task", task={"name": "pet"}))
    with pytest.raises(UserError, match="needs edit_scene, ortho"):
        generate(settings(root, tmp_path / "wrong", task={"name": "mvc", "counterfactuals": {"enabled": True}}))
    (root / "labels" / "val.json").write_text("{")
    with pytest.raises(UserError, match=r"labels/val\.json"):
        generate(settings(root, tmp_path / "broken", split="val"))


def loaded(tmp_path: Path, number: int) -> MessyTableBackend:
    backend = MessyTableBackend(MessyTableConfig(str(tmp_path)))
    backend._table = backend._parsed("made", table(number), "here")
    return backend


def test_views_show_all_are_apart_and_prefer_those_that_hide_the_target(tmp_path: Path) -> None:
    """Four forks, each seen by two neighbours in the ring: two pictures suffice where every second camera sees two forks."""
    backend = loaded(tmp_path, 3)
    forks = backend.table.kinds["fork"]
    for seed in range(8):
        cameras = chosen_views(backend.table, forks, MessyTableConfig(views=(2, 2)), generator(seed))
        assert cameras is not None and {frozenset(backend.table.views[camera].boxes) & forks for camera in cameras} == {
            frozenset({"1", "2"}),
            frozenset({"3", "4"}),
        }
    mugs = backend.table.kinds["black mug"]
    apart = MessyTableConfig(views=(4, 4), min_angle_deg=40)
    cameras = chosen_views(backend.table, mugs, apart, generator(0))
    assert cameras is not None and len({int(camera) % 2 for camera in cameras}) == 1, "every second camera of the ring"
    five = [chosen_views(backend.table, forks, MessyTableConfig(views=(5, 5), min_angle_deg=0, prefer_absent=want),
                         generator(1)) for want in (True, False)]  # fmt: skip
    sightings = [sum(len(forks & backend.table.views[c].boxes.keys()) for c in cameras or ()) for cameras in five]
    assert sightings[0] == 4 < sightings[1]
    for view in backend.table.views.values():
        view.boxes.pop("1", None)  # type: ignore[attr-defined]
    assert chosen_views(backend.table, forks, MessyTableConfig(), generator(0)) is None


def test_nine_of_ten_draws_are_of_several() -> None:
    kinds = {"fork": frozenset("12"), "lemon": frozenset("3"), "lime": frozenset("4")}
    rng = generator(5)
    draws = [drawn(kinds, 0.9, rng) for _ in range(2000)]
    assert draws.count("fork") / len(draws) == pytest.approx(0.9, abs=0.03)
    assert drawn({"lemon": frozenset("3")}, 0.9, rng) == "lemon" and drawn({}, 0.9, rng) is None


def test_no_bowl_is_asked_about_where_another_kind_of_bowl_may_be_taken_for_it(tmp_path: Path) -> None:
    """Subclass 103 is a bowl, 104 a white rice bowl: two of these and one of that on one table."""
    record = json.loads(
        json.dumps(table(1)).replace('"subcls": 65', '"subcls": 103').replace('"subcls": 108', '"subcls": 104')
    )
    backend = loaded(tmp_path, 1)
    backend._table = backend._parsed("made", record, "here")
    task, yields = MessyTableCounting(MultiviewCountingConfig(max_count=4)), Yields()
    backend.picture = lambda name: Image.new("RGB", (192, 108))  # type: ignore[method-assign]
    info = SceneInfo("made", "messytable", "", (0, 0, 0), (0, 0, 0))
    candidates = task.propose(SceneView(backend, info, 64, task.config), generator(0), yields)
    assert {candidate.facts["category"] for candidate in candidates} == {"fork"}
    assert yields.rejected["count.no_lookalike"] > 1
