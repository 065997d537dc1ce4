"""Imagination quality: the probe reads what is there, references are what they say, and what cannot be read is withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ipt.common.images import RGB
from ipt.evaluation.quality import judge as judging
from ipt.evaluation.quality.judge import Quality, judge
from ipt.evaluation.quality.labels import Labels, labels_of
from ipt.evaluation.quality.pictures import mean_of_other_scenes, of_other_scenes
from ipt.evaluation.quality.probe import Probe, Readings, fit_probe
from ipt.evaluation.quality.reading import count, objects, option, order, side
from ipt.evaluation.settings import QualityConfig
from ipt.inference.prediction import Run
from ipt.samples.sample import SpatialSample
from ipt.samples.store import seal, write_shard
from tests.evaluation.worlds import answered, block, truth, view, world
from tests.synthetic import make_sample

STEPS = 60


def mirrored(number: int, samples: Sequence[SpatialSample]) -> RGB:
    return truth(number, samples)[:, ::-1].copy()


def fitted(samples: Sequence[SpatialSample], seed: int = 0, steps: int = STEPS) -> Probe:
    pictures = np.stack([sample.imagination.pixels() for sample in samples])
    return fit_probe(pictures, [labels_of(sample) for sample in samples], seed, steps)


@pytest.fixture(scope="module")
def probe() -> Probe:
    torch.set_num_threads(1)
    return fitted([block(number) for number in range(120)])


def test_a_probe_reads_objects_side_and_distance_of_pictures_it_never_saw(probe: Probe) -> None:
    samples = [block(number) for number in range(200, 280)]
    labels = [labels_of(sample) for sample in samples]
    readings = probe.read(np.stack([sample.imagination.pixels() for sample in samples]))
    assert probe.nouns == ("blue cube", "red cube")
    for metric in (objects, side, order):
        assert np.nanmean(metric(readings, probe.nouns, labels)) > 0.9, metric.__name__
    flipped = probe.read(np.stack([sample.imagination.pixels()[:, ::-1] for sample in samples]))
    assert np.nanmean(side(flipped, probe.nouns, labels)) < 0.1
    assert np.nanmean(objects(flipped, probe.nouns, labels)) > 0.9


def test_a_probe_is_a_function_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    samples = [block(number) for number in range(20)]
    pictures = np.stack([sample.imagination.pixels() for sample in samples])
    before = torch.random.get_rng_state()
    first, same, other = (fitted(samples, seed, 2).read(pictures).count for seed in (0, 0, 1))
    assert (first == same).all() and (first != other).any()
    assert (torch.random.get_rng_state() == before).all()
    with pytest.raises(ValueError, match="a noun that 8 pictures show"):
        fitted(samples[:3])


def test_metrics_apply_where_the_facts_say() -> None:
    nouns = ("bed", "lamp")
    shown = Labels({"bed": 1}, True, False, "bed", place=0.8, distance_m=1.0, distance_before_m=2.0, options=nouns)
    cases = [
        shown,
        replace(shown, place=0.55, distance_before_m=None),
        replace(shown, asked="piano", counts={"piano": 1}),
    ]
    numbers = np.array([[0.9, 0.2], [0.1, 0.8], [0.5, 0.5]])
    readings = Readings(numbers, np.full((3, 2), 0.7), np.full((3, 2), 1.5))
    assert objects(readings, nouns, cases).tolist()[:2] == [1.0, 0.0] and np.isnan(objects(readings, nouns, cases)[2])
    np.testing.assert_array_equal(side(readings, nouns, cases), [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(order(readings, nouns, cases), [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(option(readings, nouns, cases), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(count(readings, nouns, cases), [1.0, 0.0, np.nan])


def test_facts_of_each_task_become_labels() -> None:
    facts = {"also_on_map": {"sofa": 2, "chair": 1}, "members": ["chair"], "category": "seat", "count": 3}
    counted = labels_of(make_sample(facts=facts))
    assert counted == Labels({"sofa": 2, "seat": 3}, True, True, "seat")
    full = {"visible_side": list("abcdef"), "object": {"name": "g"}, "options": ["g", "h"]}
    beside = labels_of(make_sample(task="pt", facts=full))
    assert not beside.complete and set(beside.counts) == set("abcdefg") and beside.options == ("g", "h")
    with pytest.raises(ValueError, match="'sample-00000' has no fact 'also_on_map'"):
        labels_of(make_sample(facts={}))


def test_references_are_of_other_scenes() -> None:
    scenes = ["a", "a", "b", "c", "c", "c"]
    drawn = of_other_scenes(scenes, 3, np.random.default_rng(0))
    assert all(scenes[other] != scene for row in drawn for scene, other in zip(scenes, row, strict=True))
    assert all(len(set(column)) == 3 for column in drawn.T)
    with pytest.raises(ValueError, match="'c' is compared with 4 pictures of other scenes, there are 3"):
        of_other_scenes(scenes, 4, np.random.default_rng(0))
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (0, 30, 60, 90, 120, 150)]
    means = [int(mean[0, 0, 0]) for mean in mean_of_other_scenes(pictures, scenes)]
    assert means == [105, 105, 78, 30, 30, 30]


def quality(run: Run, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Quality:
    """The quality of a run, with a probe of a few steps."""
    monkeypatch.setattr(judging, "fit_probe", lambda *arguments: fit_probe(*arguments, steps=STEPS))
    (found,) = judge(run, QualityConfig(**changes))  # type: ignore[arg-type]
    return found


def test_a_run_that_imagines_the_truth_beats_both_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = world(tmp_path / "data", 80)
    run = answered(tmp_path / "run", tmp_path / "data", samples, "imagination", lambda n: True, truth)
    found = quality(run, monkeypatch)
    assert (found.judged, found.imagined, found.size, found.notes) == (80, 80, (16, 16), ())
    rows = {row.metric: row for row in found.rows}
    assert set(rows) == {"PSNR", "SSIM", "objects", "side", "distance order"}
    assert rows["PSNR"].figures["imagined"].value == 90 and rows["SSIM"].figures["imagined"].value == pytest.approx(1)
    for row in rows.values():
        assert row.valid and row.count == (40 if row.metric == "distance order" else 80)
        for gain in row.gains.values():
            assert gain.interval is not None and gain.interval[0] > 0
        assert row.truth is None or row.truth == row.figures["imagined"]


def test_a_mirrored_imagination_shows_the_object_on_the_wrong_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = world(tmp_path / "data", 40)
    write_others(tmp_path / "others")
    run = answered(tmp_path / "run", tmp_path / "data", samples, "imagination", lambda n: True, mirrored)
    same = quality(run, monkeypatch, probe_data=str(tmp_path / "data"))
    assert "has no scene that was not asked about" in same.notes[0]
    found = quality(run, monkeypatch, probe_data=str(tmp_path / "others"), limit=30)
    assert found.judged == 30 and found.imagined == 40
    rows = {row.metric: row for row in found.rows}
    assert rows["side"].truth is not None and rows["side"].truth.value > 0.9
    assert rows["side"].figures["imagined"].value < 0.1
    assert rows["objects"].figures["imagined"].value > 0.9


def write_others(folder: Path) -> None:
    """120 samples of scenes that come after those of the test."""
    write_shard(folder / "part-00000.parquet", [block(number) for number in range(40, 160)])
    seal(folder, {})


def test_what_the_probe_cannot_read_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    samples = world(tmp_path / "data", 40, imagination=block(0).imagination)  # the picture tells nothing
    run = answered(tmp_path / "run", tmp_path / "data", samples, "imagination", lambda n: True, lambda *_: noise(rng))
    rows = {row.metric: row for row in quality(run, monkeypatch).rows}
    assert not rows["side"].valid and rows["side"].figures == {} and rows["side"].truth is not None
    assert rows["PSNR"].valid


def noise(rng: np.random.Generator) -> RGB:
    return view("red cube", float(rng.random()), True, rng)


def test_a_dataset_without_facts_keeps_its_likeness_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = world(tmp_path / "data", 8, facts={})
    run = answered(tmp_path / "run", tmp_path / "data", samples, "imagination", lambda n: True, truth)
    found = quality(run, monkeypatch)
    assert [row.metric for row in found.rows] == ["PSNR", "SSIM"]
    assert "'block-000' has no fact" in found.notes[0]
    assert judge(replace(run, predictions=()), QualityConfig()) == []
