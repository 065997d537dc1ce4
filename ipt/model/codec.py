"""Images to latents and back: the FLUX VAE (through diffusers), and a patch PCA that needs no download.

A codec scales its latents for flow matching (about unit variance) and always runs in float32. Images of different sizes are
encoded separately: the VAE's norms and attention are global, so padding one image would change its latents.

Shape suffixes: C channels, H / W pixels, z latent channels, h / w latent cells, B images of one size.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import read_json, read_typed, write_json
from ipt.model.keys import autoencoder_name, differences
from ipt.model.weights import headers, opened, save_tensors
from ipt.sequence.pictures import grid_of, patchify, unpatchify

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159
PCA_FILE = "codec.safetensors"


class LatentCodec(Protocol):
    """``channels`` numbers per latent cell, one cell per ``downsample`` pixels squared."""

    channels: int
    downsample: int

    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images [3, H, W] in [-1, 1] to scaled float32 latents [z, h, w]; sides must be multiples of ``downsample``."""
        ...

    def decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Scaled latents [z, h, w] to images [3, H, W] (not clamped)."""
        ...

    def to(self, device: torch.device | str) -> LatentCodec:
        """Compute there from now on, wherever images and latents come from; returns itself."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which `load_codec` reads this codec."""
        ...


def by_size(images: Sequence[Tensor], run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Apply ``run`` to stacks of equally sized images; results in the order of ``images``."""
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        groups[image.shape].append(number)
    results: dict[int, Tensor] = {}
    for numbers in groups.values():
        results |= zip(numbers, run(torch.stack([images[number] for number in numbers])), strict=True)
    return [results[number] for number in range(len(images))]


class AutoencoderCodec:
    """A KL autoencoder; latents are means of its posterior (the BAGEL reference draws them from it), functions of the image that
    can be cached."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae.float().eval().requires_grad_(False)
        self.channels: int = vae.config.latent_channels
        self.downsample = 2 ** (len(vae.config.block_out_channels) - 1)

    def to(self, device: torch.device | str) -> AutoencoderCodec:
        self.vae.to(device)
        return self

    @torch.no_grad()
    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        def run(images_BCHW: Tensor) -> Tensor:
            grid_of(images_BCHW, self.downsample)
            z = self.vae.encode(images_BCHW.to(self.vae.device, torch.float32)).latent_dist.mode()
            scaled: Tensor = self.vae.config.scaling_factor * (z - self.vae.config.shift_factor)
            return scaled

        return by_size(images, run)

    @torch.no_grad()
    def decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        def run(latents_Bzhw: Tensor) -> Tensor:
            z = latents_Bzhw.to(self.vae.device, torch.float32) / self.vae.config.scaling_factor
            decoded: Tensor = self.vae.decode(z + self.vae.config.shift_factor).sample
            return decoded

        return by_size(latents, run)

    def save(self, folder: Path) -> None:
        """``ae.safetensors`` in the FLUX layout, and its scale and shift."""
        levels = len(self.vae.config.block_out_channels)
        tensors = {autoencoder_name(name, levels): t for name, t in self.vae.state_dict().items()}
        tensors = {name: t[..., None, None] if _is_pointwise(name) else t for name, t in tensors.items()}
        save_tensors(tensors, folder / "ae.safetensors")
        config = self.vae.config
        values = {"scale_factor": config.scaling_factor, "shift_factor": config.shift_factor}
        write_json(folder / "ae_config.json", values)


def _is_pointwise(bfl_name: str) -> bool:
    """Attention projections: linear layers in diffusers, 1x1 convolutions in the FLUX layout."""
    return "attn_1." in bfl_name and bfl_name.endswith(".weight") and ".norm." not in bfl_name


def autoencoder_shapes(vae: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a diffusers autoencoder in the FLUX layout."""
    levels = len(vae.config.block_out_channels)
    named = {autoencoder_name(name, levels): tuple(t.shape) for name, t in vae.state_dict().items()}
    return {name: (*shape, 1, 1) if _is_pointwise(name) else shape for name, shape in named.items()}


def build_autoencoder(
    channels: Sequence[int], blocks: int, latent_channels: int, scale: float = FLUX_SCALE, shift: float = FLUX_SHIFT
) -> Any:
    """diffusers' ``AutoencoderKL`` as FLUX configures it; ``channels`` per level, ``blocks`` residual blocks per level."""
    from diffusers import AutoencoderKL

    levels = len(channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(channels),
        layers_per_block=blocks,
        latent_channels=latent_channels,
        norm_num_groups=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=scale,
        shift_factor=shift,
    )


@dataclass(frozen=True)
class FluxScaling:
    """What ``ae_config.json`` says."""

    scale_factor: float = FLUX_SCALE
    shift_factor: float = FLUX_SHIFT


def load_flux_autoencoder(path: Path) -> AutoencoderCodec:
    """Read ``ae.safetensors`` in the FLUX layout; its sizes are read off the tensors, scale and shift from ``ae_config.json``
    beside it where there is one.

    Raises ``ValueError`` naming tensors that are missing, unexpected or of another shape.
    """
    headers([path])
    tensors = load_file(path)
    levels = sum(f"encoder.down.{level}.block.0.conv1.weight" in tensors for level in range(8))
    blocks = sum(f"encoder.down.0.block.{block}.conv1.weight" in tensors for block in range(8))
    if not levels or "decoder.conv_in.weight" not in tensors:
        raise UserError(f"{path} is no autoencoder in the FLUX layout")
    channels = [tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    config_file = path.with_name("ae_config.json")
    scaling = read_typed(FluxScaling, config_file) if config_file.is_file() else FluxScaling()
    with torch.device("meta"):
        vae = build_autoencoder(
            channels, blocks, tensors["decoder.conv_in.weight"].shape[1], scaling.scale_factor, scaling.shift_factor
        )
    differences({name: tuple(t.shape) for name, t in tensors.items()}, autoencoder_shapes(vae), str(path))
    state = {}
    for name in vae.state_dict():
        theirs = autoencoder_name(name, levels)
        tensor = tensors.pop(theirs).float()
        state[name] = tensor[..., 0, 0] if _is_pointwise(theirs) else tensor
    vae.load_state_dict(state, assign=True)
    return AutoencoderCodec(vae)


class PatchPca:
    """Principal components of image patches: linear, fitted in seconds, exact in its own span.

    The basis is orthonormal and one factor scales all components, so a squared error in latents is the squared error in
    pixels up to a constant, and the flow loss weighs what can be seen.
    """

    def __init__(self, mean_P: Tensor, basis_Pz: Tensor, scale: float, patch: int) -> None:
        self.mean_P, self.basis_Pz, self.scale = mean_P, basis_Pz, scale
        self.channels, self.downsample = basis_Pz.shape[1], patch

    @classmethod
    def fit(cls, images: Sequence[Tensor], patch: int, channels: int) -> PatchPca:
        """Fit on images [3, H, W] in [-1, 1]; deterministic. Raises ``ValueError`` for more components than patch numbers."""
        size = 3 * patch**2
        if not 0 < channels <= size:
            raise UserError(f"a patch of {patch} x {patch} has {size} numbers; cannot keep {channels}")
        patches = torch.cat([patchify(image.double(), patch) for image in images])
        mean = patches.mean(0)
        centred = patches - mean
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        basis = vectors.flip(1)[:, :channels]
        basis = basis * basis[basis.abs().argmax(0), torch.arange(channels)].sign()
        scale = float(variances.flip(0)[:channels].mean().clamp(min=1e-12) ** -0.5)
        return cls(mean.float(), basis.float().contiguous(), scale, patch)

    def to(self, device: torch.device | str) -> PatchPca:
        self.mean_P, self.basis_Pz = self.mean_P.to(device), self.basis_Pz.to(device)
        return self

    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        latents = []
        for image in images:
            height, width = grid_of(image, self.downsample)
            patches = patchify(image.to(self.mean_P), self.downsample)
            components = (patches - self.mean_P) @ self.basis_Pz * self.scale
            latents.append(rearrange(components, "(h w) z -> z h w", h=height, w=width).contiguous())
        return latents

    def decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        images = []
        for latent in latents:
            components = rearrange(latent.to(self.mean_P), "z h w -> (h w) z") / self.scale
            patches = components @ self.basis_Pz.T + self.mean_P
            images.append(unpatchify(patches, (latent.shape[1], latent.shape[2]), self.downsample))
        return images

    def save(self, folder: Path) -> None:
        """``codec.safetensors``, which explains itself in its metadata."""
        metadata = {"kind": "patch_pca", "scale": self.scale, "patch": self.downsample}
        save_tensors({"mean": self.mean_P, "basis": self.basis_Pz}, folder / PCA_FILE, metadata)

    @classmethod
    def load(cls, path: Path) -> PatchPca:
        """Read what `save` wrote."""
        with opened(path) as handle:
            try:
                metadata = {key: json.loads(value) for key, value in (handle.metadata() or {}).items()}
                mean, basis = handle.get_tensor("mean"), handle.get_tensor("basis")
                scale, patch = float(metadata["scale"]), int(metadata["patch"])
                if metadata["kind"] != "patch_pca" or mean.shape != (3 * patch**2,) or basis.shape[:1] != mean.shape:
                    raise ValueError("other contents")
            except (KeyError, TypeError, ValueError, SafetensorError) as error:
                raise UserError(f"{path} is no patch PCA ({error})") from error
        return cls(mean, basis, scale, patch)


def load_codec(folder: Path | str) -> LatentCodec:
    """The codec in a model folder: our ``codec.safetensors``, FLUX's ``ae.safetensors``, or a diffusers VAE folder.

    Raises ``FileNotFoundError`` where there is none.
    """
    folder = Path(folder)
    if (folder / PCA_FILE).is_file():
        return PatchPca.load(folder / PCA_FILE)
    if (folder / "ae.safetensors").is_file():
        return load_flux_autoencoder(folder / "ae.safetensors")
    for candidate in (folder, folder / "vae"):
        config = candidate / "config.json"
        if config.is_file() and read_json(config).get("_class_name") == "AutoencoderKL":
            from diffusers import AutoencoderKL

            for file in candidate.glob("*.safetensors"):
                headers([file])
            vae = AutoencoderKL.from_pretrained(candidate, use_safetensors=True, local_files_only=True)
            return AutoencoderCodec(vae)
    raise MissingFile(f"{folder} holds no codec: expected {PCA_FILE}, ae.safetensors or a diffusers AutoencoderKL")


def codec_digest(codec: LatentCodec) -> str:
    """Hex SHA-256 of all numbers a codec computes with, whatever file they came from: it names the latents of a cache."""
    if isinstance(codec, AutoencoderCodec):
        tensors = codec.vae.state_dict()
        numbers = [codec.vae.config.scaling_factor, codec.vae.config.shift_factor]
    elif isinstance(codec, PatchPca):
        tensors, numbers = {"mean": codec.mean_P, "basis": codec.basis_Pz}, [codec.scale, codec.downsample]
    else:
        raise UserError(f"no digest is defined for a codec of type {type(codec).__name__}")
    return digest_of(numbers, tensors)


def digest_of(numbers: Sequence[float], tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of numbers and named tensors."""
    digest = hashlib.sha256(repr(numbers).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
