"""The latent cache: batches are the same with and without it, and what is missing or foreign is an error."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ipt.common.files import CorruptFile
from ipt.model.codec import AutoencoderCodec, PatchPca, build_autoencoder, codec_digest
from ipt.samples.store import SampleReader
from ipt.sequence import latent_cache
from ipt.sequence.latent_cache import LatentCache, LatentWriter, codec_pictures
from ipt.sequence.loader import Loader, Part
from ipt.sequence.pictures import Picture, normalised
from ipt.sequence.settings import LoaderConfig
from tests.sequence.loading import GEOMETRY, SAMPLES, TOKENS, Words, contents, stored
from tests.synthetic import make_sample

COMMAND = "python -m ipt.training.cache_latents data.train=here"
PICTURES = [codec_pictures(Words(latents=True)(sample, 0, 0))[0] for sample in SAMPLES]


@pytest.fixture(scope="module")
def codec() -> PatchPca:
    return PatchPca.fit([normalised(picture.pixels()) for picture in PICTURES], patch=8, channels=48)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SampleReader:
    return stored(tmp_path_factory.mktemp("samples"))


def write(folder: Path, codec: PatchPca, pictures: Sequence[Picture] = PICTURES) -> int:
    writer = LatentWriter(folder, codec_digest(codec), COMMAND)
    written = writer.add(pictures, codec.encode)
    writer.close()
    return written


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_codec(tmp_path: Path, codec: PatchPca, reader: SampleReader, workers: int) -> None:
    assert write(tmp_path / "cache", codec, PICTURES + PICTURES) == len(SAMPLES)
    cache = LatentCache(tmp_path / "cache", codec_digest(codec))
    config = LoaderConfig(budget=200, epochs=1, workers=workers, start_method="fork")
    parts = [Part("words", reader, Words(latents=True))]
    plain, cached = (Loader(parts, TOKENS, GEOMETRY, config, latents=latents) for latents in (None, cache))
    for encoded_later, looked_up in zip(plain, cached, strict=True):
        assert encoded_later.pictures and not looked_up.pictures
        assert contents(encoded_later.encoded(codec.encode))[:4] == contents(looked_up)[:4]


def test_a_run_that_was_interrupted_continues_and_encodes_nothing_twice(
    tmp_path: Path, codec: PatchPca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD_BYTES", 2000)
    calls: list[int] = []

    def encode(images: Sequence[Tensor]) -> list[Tensor]:
        calls.append(len(images))
        return codec.encode(images)

    interrupted = LatentWriter(tmp_path, codec_digest(codec), COMMAND)
    for picture in PICTURES[:20]:
        interrupted.add([picture], encode)
    with pytest.raises(FileNotFoundError, match="not a finished folder"):
        LatentCache(tmp_path, codec_digest(codec))
    resumed = LatentWriter(tmp_path, codec_digest(codec), COMMAND)
    kept = 20 - len(resumed.missing(PICTURES[:20]))
    assert 0 < kept <= 20
    calls.clear()
    resumed.add(PICTURES, encode)
    resumed.close()
    assert sum(calls) == len(PICTURES) - kept
    cache = LatentCache(tmp_path, codec_digest(codec))
    for picture in PICTURES:
        assert torch.equal(cache(picture), codec.encode([normalised(picture.pixels())])[0])


def test_a_finished_cache_grows(tmp_path: Path, codec: PatchPca) -> None:
    write(tmp_path, codec, PICTURES[:5])
    larger = [Picture(picture.data, ((32, 32),)) for picture in PICTURES[:5]]
    assert write(tmp_path, codec, larger) == 5 and write(tmp_path, codec, larger) == 0
    cache = LatentCache(tmp_path, codec_digest(codec))
    assert len(cache) == 10
    assert cache(larger[0]).shape == (48, 4, 4) and cache(PICTURES[0]).shape == (48, 2, 2)
    assert torch.equal(pickle.loads(pickle.dumps(cache))(larger[1]), cache(larger[1]))


def test_few_shards_stay_open(tmp_path: Path, codec: PatchPca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_cache, "SHARD_BYTES", 1)
    monkeypatch.setattr(latent_cache, "OPEN_SHARDS", 2)
    for picture in PICTURES[:6]:
        write(tmp_path, codec, [picture])
    cache = LatentCache(tmp_path, codec_digest(codec))
    for picture in PICTURES[:6]:
        cache(picture)
    assert len(cache._open) == 2


def test_a_missing_latent_names_sample_size_and_command(tmp_path: Path, codec: PatchPca) -> None:
    write(tmp_path / "cache", codec)
    cache = LatentCache(tmp_path / "cache", codec_digest(codec))
    changed = [*SAMPLES[:4], make_sample(4, id="sample-00099")]
    changed[4] = make_sample(99)
    loader = Loader(
        [Part("words", stored(tmp_path, changed), Words(latents=True))],
        TOKENS,
        GEOMETRY,
        LoaderConfig(epochs=1),
        latents=cache,
    )
    with pytest.raises(
        ValueError,
        match=r"row 4, sample 'sample-00099' .*imagination: .* at 16x16 pixels.*cache_latents data.train=here",
    ):
        list(itertools.islice(loader, 1))


def test_another_codecs_latents_are_refused(tmp_path: Path, codec: PatchPca) -> None:
    write(tmp_path, codec)
    other = PatchPca(codec.mean_P + 1e-3, codec.basis_Pz, codec.scale, codec.downsample)
    with pytest.raises(ValueError, match=r"come from codec .* write them anew .*cache_latents"):
        LatentCache(tmp_path, codec_digest(other))
    with pytest.raises(ValueError, match="choose another folder"):
        LatentWriter(tmp_path, codec_digest(other), COMMAND)


def test_damaged_and_empty_caches_are_errors(tmp_path: Path, codec: PatchPca) -> None:
    write(tmp_path, codec)
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match="latents-00000"):
        LatentCache(tmp_path, codec_digest(codec))
    with pytest.raises(CorruptFile, match="delete it and run the command again"):
        LatentWriter(tmp_path, codec_digest(codec), COMMAND)
    with pytest.raises(ValueError, match="no picture to encode"):
        LatentWriter(tmp_path / "empty", codec_digest(codec), COMMAND).close()


def test_a_digest_belongs_to_the_numbers_of_a_codec(codec: PatchPca, tmp_path: Path) -> None:
    codec.save(tmp_path)
    assert codec_digest(PatchPca.load(tmp_path / "codec.safetensors")) == codec_digest(codec)
    torch.manual_seed(0)
    vae = build_autoencoder((32, 32), 1, 4)
    assert codec_digest(AutoencoderCodec(vae)) != codec_digest(AutoencoderCodec(build_autoencoder((32, 32), 1, 4)))


def test_half_precision_caches_are_half_the_size_and_close(tmp_path: Path, codec: PatchPca) -> None:
    writer = LatentWriter(tmp_path, codec_digest(codec), COMMAND, "bfloat16")
    writer.add(PICTURES, codec.encode)
    writer.close()
    latents = LatentCache(tmp_path, codec_digest(codec))(PICTURES[3])
    exact = codec.encode([normalised(PICTURES[3].pixels())])[0]
    assert latents.dtype == torch.float32
    assert torch.equal(latents, exact.bfloat16().float()) and not torch.equal(latents, exact)
