"""Codecs: what a latent must not depend on, round trips, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile
from ipt.model.codec import PCA_FILE, AutoencoderCodec, PatchPca, build_autoencoder, load_codec, load_flux_autoencoder
from tests.model.toy import Maker


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderCodec:
    torch.manual_seed(0)
    return AutoencoderCodec(build_autoencoder((32, 64), 1, 4))


def test_latents_do_not_depend_on_the_other_images(autoencoder: AutoencoderCodec) -> None:
    make = Maker(0)
    images = [make.random(3, 16, 16), make.random(3, 24, 8), make.random(3, 16, 16)]
    together = autoencoder.encode(images)
    for image, latent in zip(images, together, strict=True):
        torch.testing.assert_close(autoencoder.encode([image])[0], latent, atol=1e-5, rtol=1e-4)
    decoded = autoencoder.decode(together)
    assert [tuple(image.shape) for image in decoded] == [tuple(image.shape) for image in images]


def test_an_image_that_does_not_fit_the_codec_is_refused(autoencoder: AutoencoderCodec) -> None:
    with pytest.raises(ValueError, match="15 x 16 cannot be cut into patches of 2"):
        autoencoder.encode([Maker(1).random(3, 15, 16)])


def test_flux_and_diffusers_files_give_the_same_codec(tmp_path: Path) -> None:
    image = Maker(2).random(3, 16, 24)
    autoencoder = AutoencoderCodec(build_autoencoder((32, 64), 1, 4, scale=0.7, shift=-0.2))
    expected = autoencoder.encode([image])[0]
    autoencoder.save(tmp_path / "flux")
    autoencoder.vae.save_pretrained(tmp_path / "diffusers")
    autoencoder.vae.save_pretrained(tmp_path / "pipeline" / "vae")
    for folder in ("flux", "diffusers", "pipeline"):
        assert torch.equal(load_codec(tmp_path / folder).encode([image])[0], expected), folder
    with pytest.raises(FileNotFoundError, match="holds no codec"):
        load_codec(tmp_path)


def test_a_broken_autoencoder_file_names_its_tensors(autoencoder: AutoencoderCodec, tmp_path: Path) -> None:
    autoencoder.save(tmp_path)
    tensors = load_file(tmp_path / "ae.safetensors")
    del tensors["decoder.mid.attn_1.q.weight"]
    save_file(tensors, tmp_path / "ae.safetensors")
    with pytest.raises(ValueError, match=r"missing: decoder\.mid\.attn_1\.q\.weight"):
        load_flux_autoencoder(tmp_path / "ae.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "ae.safetensors")
    with pytest.raises(ValueError, match="no autoencoder in the FLUX layout"):
        load_flux_autoencoder(tmp_path / "ae.safetensors")


@pytest.mark.parametrize("kind", ["flux", "diffusers", "patch_pca"])
def test_a_codec_that_is_cut_off_is_named(kind: str, autoencoder: AutoencoderCodec, tmp_path: Path) -> None:
    if kind == "diffusers":
        autoencoder.vae.save_pretrained(tmp_path)
    else:
        codec = autoencoder if kind == "flux" else PatchPca.fit(smooth_images(2, 8, 0), patch=4, channels=3)
        codec.save(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CorruptFile, match=f"{file.name} is not a whole safetensors file"):
        load_codec(tmp_path)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"kind": '"patch_pca"', "scale": "1.0", "patch": "9"}])
def test_a_file_of_another_kind_is_no_codec(metadata: dict[str, str], tmp_path: Path) -> None:
    save_file({"mean": torch.zeros(12), "basis": torch.zeros(12, 3)}, tmp_path / "codec.safetensors", metadata)
    with pytest.raises(UserError, match=r"codec\.safetensors is no patch PCA"):
        load_codec(tmp_path)


def smooth_images(count: int, size: int, seed: int) -> list[torch.Tensor]:
    coarse = Maker(seed).random(count, 3, 4, 4)
    return list(torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").clamp(-1, 1))


def test_patch_pca_is_exact_with_all_components_and_better_with_more() -> None:
    images = smooth_images(8, 32, 3)
    errors = []
    for channels in (3, 12, 48):
        codec = PatchPca.fit(images, patch=4, channels=channels)
        decoded = codec.decode(codec.encode(images))
        errors.append(float(torch.stack(decoded).sub(torch.stack(images)).square().mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-8


def test_patch_pca_latents_are_scaled_and_their_error_is_the_pixel_error() -> None:
    images = smooth_images(8, 32, 4)
    codec = PatchPca.fit(images, patch=4, channels=12)
    latents = torch.stack(codec.encode(images))
    assert latents.shape == (8, 12, 8, 8) and latents.square().mean().sqrt() == pytest.approx(1, rel=1e-4)
    other = latents + Maker(5).random(*latents.shape)
    pixels = torch.stack(codec.decode(list(other))) - torch.stack(codec.decode(list(latents)))
    assert pixels.square().sum() * codec.scale**2 == pytest.approx(float((other - latents).square().sum()), rel=1e-4)


def test_patch_pca_is_deterministic_and_saved_whole(tmp_path: Path) -> None:
    images = smooth_images(4, 16, 6)
    codec, again = (PatchPca.fit(images, patch=8, channels=10) for _ in range(2))
    assert torch.equal(codec.basis_Pz, again.basis_Pz)
    codec.save(tmp_path)
    loaded = load_codec(tmp_path)
    assert torch.equal(loaded.encode(images)[0], codec.encode(images)[0])
    assert (loaded.channels, loaded.downsample) == (10, 8)
    with pytest.raises(ValueError, match="192 numbers; cannot keep 193"):
        PatchPca.fit(images, patch=8, channels=193)


def test_the_same_codec_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    """The library writes the keys of metadata in an order of chance, with which the digest of a checkpoint would change."""
    codec = PatchPca.fit([torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))], 8, 4)
    files = set()
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        codec.save(tmp_path / str(number))
        files.add((tmp_path / str(number) / PCA_FILE).read_bytes())
    assert len(files) == 1
    torch.testing.assert_close(PatchPca.load(tmp_path / "0" / PCA_FILE).basis_Pz, codec.basis_Pz)
