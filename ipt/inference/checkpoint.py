"""A trained model as it is loaded for inference: weights, codec, tokenizer and recipe, all from one folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import sha256_file
from ipt.imagination.recipe import PUBLISHED, Recipe, read_recipe
from ipt.model.checkpoint import StoredModel
from ipt.model.codec import AutoencoderCodec, LatentCodec, load_codec
from ipt.model.codes import CodeCodec, load_codes
from ipt.model.config import EXPORT, model_path
from ipt.model.devices import use_threads
from ipt.model.unified import UnifiedModel
from ipt.sequence.render import Renderer
from ipt.sequence.tokenizer import Tokenizer, load_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """What inference needs of a model; training makes one of its own parts to evaluate itself. ``graphs``: its steps are captured
    and replayed (`ipt.model.graphs`)."""

    model: UnifiedModel
    codec: LatentCodec | None
    tokenizer: Tokenizer
    recipe: Recipe
    codes: CodeCodec | None = None
    graphs: bool = False

    def renderer(self, side: int | None = None) -> Renderer:
        """The renderer of the model's training, for every task; ``side``: latent tokens per side of an imagination instead."""
        config, largest = self.recipe.inference_sequence, self.model.config.latents.side
        if side is not None and side > largest:
            raise UserError(f"mode.draw.side={side} is beyond the model's table of {largest} x {largest} latent tokens")
        if side is not None:
            config = replace(
                config, resolutions={k: replace(v, imagination=side) for k, v in config.resolutions.items()}
            )
        return Renderer(self.tokenizer, self.model.config.geometry, self.recipe.profile, config)


def load_checkpoint(
    folder: Path,
    recipe: Path | None = None,
    weights: str | None = None,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    latent_side: int | None = None,
    graphs: bool = False,
) -> Checkpoint:
    """Load a run of ``train.py``, or the ``model`` folder that it exports, in ``dtype``; ``graphs``: see `Checkpoint`.

    ``recipe``: a file to use instead of the folder's ``recipe.json``, for weights that were not trained here. ``weights``: a file
    name where there are several. ``latent_side``: latent tokens per side of the largest image, where not the folder's. Weights in
    BAGEL's layout are sampled as published, unless the recipe says how. Raises
    ``FileNotFoundError`` for a folder that is no checkpoint and ``ValueError`` for one that is damaged.
    """
    folder = model_folder(folder)
    stored = StoredModel.in_folder(folder, weights)
    found = read_recipe(folder if recipe is None else recipe)
    if found.sampling is None and stored.layout == "bagel":
        found = replace(found, sampling=PUBLISHED)
    if found.imagination.drawing and not stored.draws:
        raise UserError(
            f"{folder} was trained without image generation (visual_gen False), its recipe knows modes that draw: "
            f"{', '.join(found.imagination.drawing)}"
        )
    tokenizer = load_tokenizer(folder)
    try:
        codec: LatentCodec | None = load_codec(folder)
    except FileNotFoundError:
        codec = None
    needs = found.imagination.encodes or "vae" in found.sequence.observe
    if codec is None and needs:
        raise MissingFile(f"{folder} holds no codec, which the model needs to see and draw images")
    codes = load_codes(folder)
    if isinstance(codec, AutoencoderCodec):
        codec.to(device)
    model = stored.load(device=device, dtype=DTYPES[dtype], latent_side=latent_side)
    use_threads(sum(weight.numel() for weight in model.parameters()), str(device))
    if tokenizer.size > model.config.decoder.vocab:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, the model a vocabulary of {model.config.decoder.vocab}; "
            "these are files of different models"
        )
    if model.codes is not None and (codes is None or codes.shape != model.config.codes):
        raise MissingFile(
            f"{folder} holds no codec of the model's {model.config.codes.count} codes: export the model again"
        )
    if codes is not None:
        codes.to(device)
    return Checkpoint(model, codec, tokenizer, found, codes, graphs)


def model_folder(folder: Path) -> Path:
    """The folder of the weights; ``base`` is that of the model that ships. Raises ``FileNotFoundError`` saying what ``folder`` is
    instead of a checkpoint."""
    folder = model_path(folder)
    if not folder.is_dir():
        raise MissingFile(f"checkpoint={folder} is no folder")
    if (folder / "checkpoints").is_dir():
        raise MissingFile(
            f"{folder} is a training run that has not finished: it has no {EXPORT} folder yet; run train.py again to the end"
        )
    return folder


def digest(folder: Path) -> str:
    """Hex SHA-256 that names everything a checkpoint's answers depend on: weights, codec, tokenizer, recipe."""
    result = hashlib.sha256()
    for path in sorted((root := model_folder(folder)).rglob("*")):
        if path.suffix in (".safetensors", ".json", ".txt"):
            result.update(f"{path.relative_to(root).as_posix()} {sha256_file(path)}\n".encode())
    return result.hexdigest()
