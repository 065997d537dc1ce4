"""The command that writes a latent cache, on a stored dataset and a saved model folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ipt.common.cli import parse
from ipt.imagination.mixture import make_segmenter
from ipt.imagination.profiles import load_profile
from ipt.imagination.settings import ImaginationConfig
from ipt.model.checkpoint import build_on_meta, materialise, save_pretrained
from ipt.model.codec import PatchPca, codec_digest, load_codec
from ipt.model.config import presets
from ipt.samples.store import SampleReader, seal, write_shards
from ipt.sequence.latent_cache import LatentCache
from ipt.sequence.loader import Loader, Part
from ipt.sequence.settings import LoaderConfig
from ipt.sequence.tokenizer import dataset_texts, train_tokenizer
from ipt.training.cache_latents import CacheConfig, main, make_renderer
from tests.sequence.loading import SAMPLES, with_broken_image
from tests.synthetic import make_sample


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    data, model = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("model")
    write_shards(data, "train", SAMPLES)
    seal(data, {})
    config = presets["tiny"]
    decoder = dataclasses.replace(config.decoder, hidden=16, intermediate=16, layers=1)
    network = materialise(build_on_meta(dataclasses.replace(config, decoder=decoder)), "cpu")
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1]
    train_tokenizer(dataset_texts(SampleReader(data), load_profile()), 300).save(model)
    save_pretrained(network, model, codec=PatchPca.fit(images, patch=8, channels=48))
    return data, model


def arguments(folders: tuple[Path, Path], output: Path, *more: str) -> list[str]:
    sizes = ["imagination=4", "input_side=32", "input_min_side=16"]
    views = ["vit_side=32", "vit_min_side=16"]
    return [f"dataset={folders[0]}", f"model={folders[1]}", f"output={output}", *sizes, *views, *more]


def test_training_finds_every_latent_that_it_asks_for(folders: tuple[Path, Path], tmp_path: Path) -> None:
    config = parse(CacheConfig, arguments(folders, tmp_path))
    main(config)
    reader = SampleReader(folders[0])
    renderer = make_renderer(config)
    segmenter = make_segmenter(ImaginationConfig({"ipt": 1.0, "label_only": 1.0}), renderer, reader)
    cache = LatentCache(tmp_path, codec_digest(load_codec(folders[1])))
    assert len(cache) == 3 * len(SAMPLES)
    loader_config = LoaderConfig(budget=2000, epochs=2, workers=1)
    loader = Loader(
        [Part("all", reader, segmenter)], renderer.tokenizer.special, renderer.geometry, loader_config, cache
    )
    batches = list(loader)
    assert sum(len(batch.origins) for batch in batches) == 2 * len(SAMPLES)
    assert all(not batch.pictures and len(batch.latents_GD) for batch in batches)


def test_the_command_of_a_cache_says_how_it_was_made(folders: tuple[Path, Path], tmp_path: Path) -> None:
    config = parse(CacheConfig, arguments(folders, tmp_path, "modes=[ipt]", "dtype=bfloat16"))
    command = config.command()
    assert command.startswith("python -m ipt.training.cache_latents dataset=")
    assert parse(CacheConfig, command.replace("'", "").split()[3:]) == config


def test_a_broken_image_is_located(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [*SAMPLES[:3], with_broken_image(make_sample(3))])
    seal(tmp_path, {})
    config = parse(CacheConfig, arguments((tmp_path, folders[1]), tmp_path / "cache"))
    with pytest.raises(
        ValueError, match=r"train-00000\.parquet, row 3: sample 'sample-00003', field 'images\[0\]': broken"
    ):
        main(config)
