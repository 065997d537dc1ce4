"""Images to codes and back: VQGANs (diffusers' ``VQModel``), and k-means over patches, fitted in seconds, that needs no download.

The counterpart of `ipt.model.codec` for pictures that are written as tokens. Codecs run in float32, on images in [-1, 1].

Shape suffixes: H / W pixels, h / w codes per side, K codes, P numbers per patch, B images of one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import read_json
from ipt.model.codec import by_size, digest_of
from ipt.model.config import CodesConfig
from ipt.model.weights import opened, save_tensors
from ipt.sequence.pictures import grid_of, patchify, unpatchify

KMEANS_FILE, VQ_FOLDER = "codes.safetensors", "codes"
#: Patches that k-means is fitted to, at most.
FITTED_PATCHES = 2**16


class CodeCodec(Protocol):
    """``shape``: how many codes there are, and the pixels per code and side."""

    @property
    def shape(self) -> CodesConfig: ...

    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images [3, H, W] in [-1, 1] to int64 codes [h, w]; sides must be multiples of the stride."""
        ...

    def decode(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Codes [h, w] to images [3, H, W] (not clamped)."""
        ...

    def to(self, device: torch.device | str) -> CodeCodec:
        """Compute there from now on, wherever images and codes come from; returns itself."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which `load_codes` reads this codec."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all numbers that it computes with: it names the codes of a cache."""
        ...


class PatchKMeans:
    """The nearest of K mean patches."""

    def __init__(self, centres_KP: Tensor, patch: int) -> None:
        self.centres_KP, self.patch = centres_KP, patch

    @property
    def shape(self) -> CodesConfig:
        return CodesConfig(len(self.centres_KP), self.patch)

    @classmethod
    def fit(cls, images: Sequence[Tensor], patch: int, count: int) -> PatchKMeans:
        """Fit on images [3, H, W] in [-1, 1]; deterministic. Raises ``UserError`` where they have fewer different patches than
        codes."""
        from sklearn.cluster import KMeans

        patches = torch.cat([patchify(image, patch) for image in images]).numpy().astype(np.float64)
        chosen = np.random.default_rng(0).permutation(len(patches))[:FITTED_PATCHES]
        patches = patches[np.sort(chosen)]
        different = len(np.unique(patches, axis=0))
        if count > different:
            raise UserError(
                f"the pictures of the dataset have {different} different patches of {patch} x {patch} pixels, too few for "
                f"{count} codes: set imagination.discrete.codes to {different} or less"
            )
        found = KMeans(count, n_init=1, max_iter=50, random_state=0).fit(patches)
        return cls(torch.from_numpy(found.cluster_centers_).float(), patch)

    def to(self, device: torch.device | str) -> PatchKMeans:
        self.centres_KP = self.centres_KP.to(device)
        return self

    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        codes = []
        for image in images:
            grid = grid_of(image, self.patch)
            distances = torch.cdist(patchify(image.to(self.centres_KP), self.patch), self.centres_KP)
            codes.append(distances.argmin(dim=-1).reshape(grid))
        return codes

    def decode(self, codes: Sequence[Tensor]) -> list[Tensor]:
        return [
            unpatchify(
                self.centres_KP[each.flatten().to(self.centres_KP.device)], (each.shape[0], each.shape[1]), self.patch
            )
            for each in codes
        ]

    def save(self, folder: Path) -> None:
        save_tensors({"centres": self.centres_KP}, folder / KMEANS_FILE, {"kind": "patch_kmeans", "patch": self.patch})

    @property
    def digest(self) -> str:
        return digest_of([self.patch], {"centres": self.centres_KP})


class VqCodec:
    """A VQGAN of diffusers: its codes are the entries of its codebook that are nearest to what its encoder says."""

    def __init__(self, vq: Any) -> None:
        self.vq = vq.float().eval().requires_grad_(False)

    @property
    def shape(self) -> CodesConfig:
        return _vq_shape(self.vq.config)

    def to(self, device: torch.device | str) -> VqCodec:
        self.vq.to(device)
        return self

    @torch.no_grad()
    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        def run(images_BCHW: Tensor) -> Tensor:
            rows, columns = grid_of(images_BCHW, self.shape.stride)
            latents = self.vq.encode(images_BCHW.to(self.vq.device, torch.float32)).latents
            numbers: Tensor = self.vq.quantize(latents)[2][2]
            return numbers.reshape(len(images_BCHW), rows, columns)

        return by_size(images, run)

    @torch.no_grad()
    def decode(self, codes: Sequence[Tensor]) -> list[Tensor]:
        def run(codes_Bhw: Tensor) -> Tensor:
            numbers = codes_Bhw.to(self.vq.device)
            shape = (*numbers.shape, self.vq.quantize.vq_embed_dim)
            entries = self.vq.quantize.get_codebook_entry(numbers.flatten(), shape)
            looked_up = self.vq.config.lookup_from_codebook  # then `decode` asks for numbers
            given = numbers.flatten() if looked_up else entries
            images: Tensor = self.vq.decode(given, force_not_quantize=True, shape=shape).sample
            return images

        return by_size(codes, run)

    def save(self, folder: Path) -> None:
        self.vq.save_pretrained(folder / VQ_FOLDER, safe_serialization=True)

    @property
    def digest(self) -> str:
        return digest_of([*vars(self.shape).values()], self.vq.state_dict())


def _vq_shape(config: Any) -> CodesConfig:
    return CodesConfig(config["num_vq_embeddings"], 2 ** (len(config["block_out_channels"]) - 1))


def _found(folder: Path) -> Path | None:
    """The file or folder of the codec in a model folder; None where there is none."""
    if (folder / KMEANS_FILE).is_file():
        return folder / KMEANS_FILE
    for candidate in (folder, folder / VQ_FOLDER, folder / "vqvae"):
        config = candidate / "config.json"
        if config.is_file() and read_json(config).get("_class_name") == "VQModel":
            return candidate
    return None


def codes_shape(folder: Path) -> CodesConfig:
    """The `CodeCodec.shape` of the codec in a folder, without loading it. Raises ``FileNotFoundError`` where there is none."""
    path = _found(folder)
    if path is None:
        raise MissingFile(
            f"{folder} holds no codec with codes: expected {KMEANS_FILE} or the folder of a diffusers VQModel"
        )
    return _vq_shape(read_json(path / "config.json")) if path.is_dir() else _load_kmeans(path).shape


def load_codes(folder: Path) -> CodeCodec | None:
    """The codec in a folder: our ``codes.safetensors``, or a diffusers ``VQModel`` there, in ``codes`` or in ``vqvae``; None
    where there is none."""
    path = _found(folder)
    if path is None or path.is_file():
        return None if path is None else _load_kmeans(path)
    from diffusers import VQModel

    return VqCodec(VQModel.from_pretrained(path, use_safetensors=True, local_files_only=True))


def _load_kmeans(path: Path) -> PatchKMeans:
    with opened(path) as handle:
        try:
            return PatchKMeans(handle.get_tensor("centres"), int((handle.metadata() or {})["patch"]))
        except (KeyError, ValueError, SafetensorError) as error:
            raise UserError(f"{path} holds no codes of patches ({error})") from error
