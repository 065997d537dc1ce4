"""The command that writes a latent cache: training with the same settings finds every latent that it asks for."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ipt.common.files import read_manifest
from ipt.common.hydra_command import Command
from ipt.common.locking import held
from ipt.model.codec import codec_digest
from ipt.samples.store import seal, write_shards
from ipt.sequence.latent_cache import LatentCache
from ipt.training.build import ASSETS, make_assets, make_loader, readers
from ipt.training.cache_latents import main
from ipt.training.command import register
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from tests.sequence.loading import SAMPLES, with_broken_image
from tests.synthetic import make_sample


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cache_latents"])


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    data = tmp_path / "data"
    write_shards(data, "train", SAMPLES)
    seal(data, {})
    places = [f"data.train={data}", f"data.cache={tmp_path / 'cache'}", f"output_dir={tmp_path / 'run'}"]
    return ["task=mvc", "model=micro", "resolution=micro", "imagination=mixed", *places]


def composed(*overrides: str) -> TrainConfig:
    command = Command("train")
    register(command)
    return train_config(OmegaConf.to_container(command.compose(overrides), resolve=True))  # type: ignore[arg-type]


def test_training_finds_every_latent_that_it_asks_for(given: list[str], tmp_path: Path) -> None:
    main([*given, f"data.validation={tmp_path / 'data'}", "dtype=float16"])
    config = composed(*given, "loader.budget=2000", "sequence.max_sample_tokens=1000")
    datasets = readers(config)
    assets = make_assets(config, list(datasets.values()), tmp_path / "run" / ASSETS)
    loader = make_loader(config, datasets, assets, World())
    batches = [batch for _, batch in zip(range(6), loader, strict=False)]
    assert all(not batch.pictures and len(batch.latents_GD) for batch in batches)
    assert assets.codec is not None
    assert len(LatentCache(tmp_path / "cache", codec_digest(assets.codec))) == 3 * len(SAMPLES)


def test_the_command_of_a_cache_makes_it_again(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*given, "imagination=ipt"])
    program, *arguments = shlex.split(read_manifest(tmp_path / "cache")["command"])
    assert [program, *arguments[:2]] == ["python", "-m", "ipt.training.cache_latents"]
    capsys.readouterr()
    main(arguments[2:])
    assert capsys.readouterr().out.startswith("0 images encoded")


@pytest.mark.parametrize("folder", ["cache", "run"])
def test_two_processes_do_not_write_one_cache(
    folder: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path / folder), pytest.raises(SystemExit):
        main(given)
    assert f"error: {tmp_path / folder} is being written by process" in capsys.readouterr().err


def test_mistakes_end_with_one_line(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    write_shards(broken, "train", [*SAMPLES[:3], with_broken_image(make_sample(3))])
    seal(broken, {})
    for change, told in (
        (f"data.train={broken}", r"train-00000.parquet, row 3: sample 'sample-00003', frame_0: broken"),
        ("data.cache=null", "set data.cache=FOLDER"),
        ("model.codec=none", "need a codec"),
        ("dtype=int8", "unknown dtype 'int8'"),
        ("dtyp=float16", "unknown key 'dtyp'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*given, change])
        assert ended.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert told in line
