"""Shifted views: rendered around the true camera where that can be done, and left out with the reason where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.embedded.backend import EmbeddedConfig
from datagen.config import RunConfig
from datagen.run import generate
from datagen.shifted import ShiftedConfig, main
from datagen.tasks.perspective_taking import PerspectiveTakingConfig
from ipt.common.errors import UserError
from ipt.common.files import MANIFEST, read_json
from ipt.common.images import encode_image
from ipt.evaluation.quality.judge import judge
from ipt.evaluation.quality.viewpoints import FOUND, HEADING, PLACE, Views, apart
from ipt.evaluation.settings import QualityConfig
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader, seal, write_shard
from tests.evaluation.worlds import answered

FEW = {"headings_deg": (-90.0, 0.0, 90.0), "distances_m": (0.5,), "size": 32}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pet")
    blocks = EmbeddedConfig(preset="blocks", renderer="ray")
    generate(
        RunConfig(PerspectiveTakingConfig(), "embedded", blocks, str(folder), num_samples=6, image_size=48), quiet=True
    )
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[SpatialSample]:
    folder = tmp_path_factory.mktemp("shifted")
    main(ShiftedConfig(str(data), str(folder), **FEW))  # type: ignore[arg-type]
    return list(SampleReader(folder))


def test_views_are_taken_around_the_true_camera(data: Path, made: list[SpatialSample]) -> None:
    assert {sample.id for sample in made} == set(SampleReader(data).ids())
    for sample in made:
        truth = sample.imagination.camera
        roles = [view.role for view in sample.counterfactuals]
        assert truth is not None and roles[0] == "true" and len(roles) == len(set(roles)) >= 3
        for view in sample.counterfactuals:
            assert view.camera is not None and view.pixels().shape == (32, 32, 3)
            degrees, metres = apart(view.camera, truth)
            assert round(degrees) in (0, 90) and round(metres, 3) in (0, 0.5)
            assert (view.role == "true") == (degrees < 1e-6 and metres < 1e-6)
    assert any("ahead+0.5" in view.role for sample in made for view in sample.counterfactuals)


def test_every_view_is_nearest_to_itself(made: list[SpatialSample]) -> None:
    """The true picture is found without error, and shifted ones by how far they were shifted."""
    for sample in made:
        views = Views.of(sample, (32, 32))
        pictures = [view.pixels().tobytes() for view in sample.counterfactuals]
        for number, view in enumerate(sample.counterfactuals):
            first = pictures.index(pictures[number])  # of equal views, before a bare wall
            assert views.nearest(view.pixels())[:2] == (views.degrees[first], views.metres[first])
        assert views.nearest(sample.counterfactuals[0].pixels()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("role", "degrees"), [("true", 0.0), ("ahead+0 left+0 yaw+90", 90.0)])
def test_a_report_says_how_far_imaginations_are_turned(
    data: Path, made: list[SpatialSample], tmp_path: Path, role: str, degrees: float
) -> None:
    """Runs that imagine the truth, or what lies to its left."""
    samples = list(SampleReader(data))
    views = {each.id: {view.role: view.pixels() for view in each.counterfactuals} for each in made}
    write_shard(tmp_path / "shifted" / "a.parquet", made)
    seal(tmp_path / "shifted", {})
    run = answered(
        tmp_path / "run", data, samples, "imagination", lambda n: True, lambda n, listed: views[listed[n].id][role]
    )
    config = QualityConfig(probe=False, shifted=str(tmp_path / "shifted"))
    (found,) = judge(run, config)
    rows = {row.metric: row for row in found.rows}
    turned, moved, wrong = rows[HEADING], rows[PLACE], rows[FOUND]
    assert (
        turned.figures["imagined"].value == pytest.approx(degrees, abs=1e-6) and moved.figures["imagined"].value < 0.2
    )
    assert wrong.figures["imagined"].value == float(degrees > 0) and not turned.higher_is_better
    assert wrong.figures["permuted"].value > 0 and not found.notes
    (without,) = judge(run, QualityConfig(probe=False))
    assert HEADING not in {row.metric for row in without.rows}
    (told,) = judge(run, replace(config, shifted=str(data)))
    assert "has no shifted views with cameras" in told.notes[0]


def test_what_cannot_be_made_again_is_left_out_by_name(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, strange, other, *_ = SampleReader(data)
    lost = replace(strange, provenance=replace(strange.provenance, scene_id="home-train-3"))
    grey = np.full((48, 48, 3), 7, np.uint8)
    changed = replace(other, imagination=replace(other.imagination, data=encode_image(grey)))
    source = tmp_path / "data"
    write_shard(source / "a.parquet", [good, lost, changed])
    seal(source, {"config": read_json(data / MANIFEST)["config"]})
    main(ShiftedConfig(str(source), str(tmp_path / "out"), **FEW))  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert "1 samples" in told and "1 left out: the scene is not made again: scene 'home-train-3'" in told
    assert "1 left out: the scene that is made again differs" in told
    left = read_json(tmp_path / "out" / MANIFEST)["shifted"]["left_out"]
    assert sum(left.values()) == 2
    with pytest.raises(UserError, match="holds samples already"):
        main(ShiftedConfig(str(source), str(tmp_path / "out")))


def test_data_of_no_simulator_and_wrong_settings_are_named(data: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "plain" / "a.parquet", list(SampleReader(data)))
    seal(tmp_path / "plain", {})
    with pytest.raises(UserError, match="was not made by a simulator of ours"):
        main(ShiftedConfig(str(tmp_path / "plain"), str(tmp_path / "out")))
    with pytest.raises(UserError, match="single shard"):
        main(ShiftedConfig(str(tmp_path / "plain" / "a.parquet"), str(tmp_path / "out")))
    for wrong in ({"headings_deg": ()}, {"distances_m": (0.0,)}, {"size": 2}, {"limit": -1}):
        with pytest.raises(UserError):
            ShiftedConfig("a", "b", **wrong)  # type: ignore[arg-type]


def test_a_limit_takes_the_first_samples(data: Path, tmp_path: Path) -> None:
    main(ShiftedConfig(str(data), str(tmp_path / "two"), limit=2, **FEW))  # type: ignore[arg-type]
    assert set(SampleReader(tmp_path / "two").ids()) == set(SampleReader(data).ids()[:2])
