"""Depth maps: near is bright in views, high is bright on maps, and what is not made again is left out by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.base import TOP_DOWN_HIDES
from datagen.backends.embedded.backend import EmbeddedBackend
from datagen.depth import DepthConfig, main
from datagen.run import generate
from ipt.common.errors import UserError
from ipt.common.files import MANIFEST, read_json
from ipt.common.images import RGB, decode_image
from ipt.imagination.modes.discrete import DiscreteSettings
from ipt.samples.sample import SpatialSample, picture_path
from ipt.samples.store import SampleReader, seal, write_shard
from tests.datagen.conftest import run_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawing pairs: views, and plans from above."""
    folder = tmp_path_factory.mktemp("pairs")
    generate(run_settings(folder, task="drawing"))
    return folder


def levels(folder: Path, sample: SpatialSample) -> RGB:
    return decode_image(picture_path(folder, sample.id).read_bytes())


def test_levels_are_metres(data: Path, tmp_path: Path, blocks: EmbeddedBackend) -> None:
    main(DepthConfig(str(data), str(tmp_path), far_m=8.0, height_m=2.0))
    kinds = set()
    for sample in SampleReader(data):
        camera, info = sample.imagination.camera, blocks.load(sample.provenance.scene_id)
        assert camera is not None
        above = camera.ortho_height_m is not None
        (frame,) = blocks.render([camera], ("depth",), TOP_DOWN_HIDES if above else frozenset())
        assert frame.depth is not None
        share = (camera.pose.position[2] - info.floor_z - frame.depth) / 2 if above else 1 - frame.depth / 8
        found = levels(tmp_path, sample)
        assert np.abs(found - 255 * np.clip(share * (frame.depth > 0), 0, 1)[..., None]).max() <= 0.51
        assert np.ptp(found) > 20
        kinds.add(above)
    assert kinds == {True, False}


def test_the_mode_discrete_finds_them(data: Path, tmp_path: Path) -> None:
    main(DepthConfig(str(data), str(tmp_path), limit=2))
    assert len(list(tmp_path.iterdir())) == 2
    settings = DiscreteSettings(target="depth", depth_maps=tmp_path)
    first, last = SampleReader(data)[0], SampleReader(data)[len(SampleReader(data)) - 1]
    np.testing.assert_array_equal(decode_image(settings.picture(first).data), levels(tmp_path, first))
    with pytest.raises(UserError, match=r"no depth map at .*datagen.depth"):
        settings.picture(last)


def test_what_is_not_made_again_is_counted(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, strange, *_ = (sample for sample in SampleReader(data) if sample.question_type == "plan")
    lost = replace(strange, provenance=replace(strange.provenance, scene_id="home-train-3"))
    source = tmp_path / "data"
    seal_of = {"config": read_json(data / MANIFEST)["config"]}
    write_shard(source / "a.parquet", [good, lost])
    seal(source, seal_of)
    main(DepthConfig(str(source), str(tmp_path / "out")))
    assert "1 depth maps; 1 left out: the scene is not made again" in capsys.readouterr().out
    write_shard(tmp_path / "none" / "a.parquet", [lost])
    seal(tmp_path / "none", seal_of)
    with pytest.raises(UserError, match=r"no view of .* could be rendered again .1 left out"):
        main(DepthConfig(str(tmp_path / "none"), str(tmp_path / "out")))
    for wrong in ({"far_m": 0.0}, {"height_m": -1.0}, {"limit": -1}):
        with pytest.raises(UserError, match="must be positive"):
            DepthConfig("a", "b", **wrong)  # type: ignore[arg-type]
