"""Models to and from folders: BAGEL's layout and ours.

BAGEL: ``llm_config.json``, ``vit_config.json``, ``ema.safetensors`` (or shards with an index) and the VAE in
``ae.safetensors``. Ours: ``config.json``, ``model.safetensors`` (or shards with an index), codec files and the tokenizer's.

Loading builds the model on the meta device, compares all names and shapes first, then copies tensor by tensor.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import read_json, read_typed, reading, write_json
from ipt.common.settings import typed, within
from ipt.model.codec import LatentCodec
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.keys import POSITION_TABLES, bagel_name, differences, is_adapter, plain_name
from ipt.model.unified import UnifiedModel
from ipt.model.vision import sincos_table
from ipt.model.weights import headers, own_numbers, own_part, read_tensors, weight_files, write_weights

Layout = Literal["native", "bagel"]
FORMAT = "ipt-unified-1"
#: Latent tokens per side in BAGEL, where a folder neither stores the table nor says its side.
LATENT_SIDE = 64
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def build_on_meta(config: ModelConfig, attention: str = "sdpa") -> UnifiedModel:
    """A model without memory; `materialise` gives it some."""
    with torch.device("meta"):
        return UnifiedModel(config, attention)


def materialise(model: UnifiedModel, device: torch.device | str) -> UnifiedModel:
    """Allocate uninitialised weights on ``device`` and compute the position tables."""
    model.to_empty(device=device)
    model.compute_tables()
    return model


def from_scratch(
    config: ModelConfig, generator: torch.Generator, attention: str = "sdpa", device: torch.device | str = "cpu"
) -> UnifiedModel:
    """A freshly initialised float32 model."""
    model = materialise(build_on_meta(config, attention), device)
    model.initialise(generator)
    return model


def from_pretrained(
    folder: Path | str,
    *,
    attention: str = "sdpa",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    weights: str | None = None,
    latent_side: int | None = None,
) -> UnifiedModel:
    """Load a model from a folder of either layout, in the stored dtype or in ``dtype``.

    ``weights``: file name, where a folder has several (``ema.safetensors`` or ``model.safetensors``). ``latent_side``: rebuild
    the latent position table for another grid. Raises ``ValueError`` naming tensors that are missing, unexpected or of
    another shape, and for pickles; ``FileNotFoundError`` for a folder that is no model.
    """
    stored = StoredModel.in_folder(Path(folder), weights)
    config = stored.config
    if latent_side is not None:
        config = dataclasses.replace(config, latents=dataclasses.replace(config.latents, side=latent_side))
    model = materialise(build_on_meta(config, attention).to(dtype or stored.dtype), device)
    stored.copy_into(model)
    return model.eval()


@dataclass(frozen=True)
class StoredModel:
    """The weights in a folder: all there and of the right shapes, but not read yet. ``names``: ours to those in the files."""

    config: ModelConfig
    files: list[Path]
    names: Mapping[str, str]
    dtype: torch.dtype

    @classmethod
    def in_folder(cls, folder: Path, weights: str | None = None) -> StoredModel:
        """Look at a folder; errors as in `from_pretrained`."""
        config, layout, files = read_config(folder, weights)
        stored, model = headers(files), build_on_meta(config)
        names = {
            ours: theirs
            for ours, theirs in _names(model, layout).items()
            if theirs in stored or ours not in POSITION_TABLES  # which are computed
        }
        shapes = {name: shape for name, (shape, _) in stored.items()}
        differences(shapes, {theirs: tuple(t.shape) for theirs, t in _expected(model, names).items()}, str(files[0]))
        dtype = stored[names["lm_head.weight"]][1]
        if narrow := sum(kind.itemsize == 1 for _, kind in stored.values()):
            dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype
            print(f"note: {folder}: {narrow} tensors of 8 bits are computed with in 16 or more", file=sys.stderr)
        return cls(config, files, names, dtype)

    @torch.no_grad()
    def copy_into(self, model: UnifiedModel) -> None:
        """Read the weights into those of ``model``, one after the other. It may have adapters, which are left alone, and may be
        divided among processes, each of which then reads its own part from the disk and no more."""
        targets = {
            self.names[plain_name(name)]: tensor for name, tensor in model.state_dict().items() if not is_adapter(name)
        }
        for name, tensor in read_tensors(self.files, {name: own_part(target) for name, target in targets.items()}):
            if name in targets:
                own_numbers(targets[name]).copy_(tensor)
            else:
                _check_table(name, tensor, self.files[0])


def _names(model: UnifiedModel, layout: Layout) -> dict[str, str]:
    """Our tensor names to those in files of ``layout``; BAGEL's include the position tables."""
    names = list(model.state_dict())
    return {n: n for n in names} if layout == "native" else {n: bagel_name(n) for n in (*names, *POSITION_TABLES)}


def _expected(model: UnifiedModel, names: Mapping[str, str]) -> dict[str, Tensor]:
    tensors = {**model.state_dict(), **dict(model.named_buffers())}
    return {theirs: tensors[ours] for ours, theirs in names.items()}


def bagel_shapes(model: UnifiedModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's tensors in a BAGEL checkpoint."""
    return {name: tuple(t.shape) for name, t in _expected(model, _names(model, "bagel")).items()}


def _check_table(name: str, table: Tensor, file: Path) -> None:
    """A stored position table must be the sin-cos table (to its precision), which is computed, not loaded."""
    precision = 2**-8 if table.dtype.itemsize > 1 else 2**-3
    if not torch.allclose(table.float(), sincos_table(math.isqrt(len(table)), table.shape[1]), rtol=0, atol=precision):
        raise UserError(f"{file}: '{name}' is not the fixed 2-D sin-cos table of this architecture")


def read_config(folder: Path, weights: str | None = None) -> tuple[ModelConfig, Layout, list[Path]]:
    """The configuration, layout and weight files of a model folder."""
    own = folder / "config.json"
    if own.is_file() and (stored := read_json(own)).get("format") == FORMAT:
        with reading(own):
            config = typed(ModelConfig, stored["model"], "model")
        return config, "native", weight_files(folder, weights)
    if (folder / "llm_config.json").is_file() and (folder / "vit_config.json").is_file():
        files = weight_files(folder, weights)
        return _bagel_config(folder, {name: shape for name, (shape, _) in headers(files).items()}), "bagel", files
    raise MissingFile(
        f"{folder} is no model folder: it needs config.json with format '{FORMAT}', or BAGEL's llm_config.json and "
        "vit_config.json"
    )


@dataclass(frozen=True)
class BagelLlm:
    """What counts in ``llm_config.json``."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float
    hidden_act: str = "silu"
    use_sliding_window: Any = False
    rope_scaling: Any = None


@dataclass(frozen=True)
class BagelVit:
    """What counts in ``vit_config.json``."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: int
    layer_norm_eps: float = 1e-6
    rope: Any = None


@dataclass(frozen=True)
class BagelExtra:
    """What counts in ``bagel_config.json``."""

    latent_patch_size: int = 2
    max_latent_size: int | None = None
    vit_max_num_patch_per_side: int | None = None
    vit_select_layer: int = -2
    interpolate_pos: bool = False
    vit_rope: Any = None


@dataclass(frozen=True)
class BagelVae:
    """What counts in ``vae_config.json``."""

    downsample: int


def _bagel_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """What the JSON files do not say is read off the tensors: table sides and latent channels. A latent table that is stored
    counts more than what ``max_latent_size`` says, which is that of the released model in the folders of some fine-tuned ones."""
    llm_file, vit_file, extra_file, vae_file = (
        folder / f"{part}_config.json" for part in ("llm", "vit", "bagel", "vae")
    )
    llm, vit = read_typed(BagelLlm, llm_file), read_typed(BagelVit, vit_file)
    extra = read_typed(BagelExtra, extra_file) if extra_file.is_file() else BagelExtra()
    if llm.hidden_act != "silu" or llm.use_sliding_window or llm.rope_scaling:
        raise UserError(f"{llm_file}: only silu, full attention and unscaled RoPE are supported")
    if vit.rope or extra.vit_rope:
        raise UserError(f"{folder}: a vision tower with RoPE is not supported")

    def of(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise UserError(f"{folder} is no BAGEL checkpoint: tensor '{name}' is missing")
        return shapes[name]

    vision_side = math.isqrt(of(bagel_name("vision.position_embedding.weight"))[0])
    if extra.vit_max_num_patch_per_side not in (None, vision_side):
        raise UserError(
            f"{extra_file}: vit_max_num_patch_per_side is {extra.vit_max_num_patch_per_side}, but the stored position table "
            f"has side {vision_side}"
        )
    latent_table = POSITION_TABLES["latent_positions.table"]
    latent_side = (
        math.isqrt(shapes[latent_table][0]) if latent_table in shapes else extra.max_latent_size or LATENT_SIDE
    )
    with reading(llm_file):
        decoder = DecoderConfig(
            hidden=llm.hidden_size,
            intermediate=llm.intermediate_size,
            layers=llm.num_hidden_layers,
            heads=llm.num_attention_heads,
            kv_heads=llm.num_key_value_heads,
            vocab=llm.vocab_size,
            rope_theta=llm.rope_theta,
            norm_eps=llm.rms_norm_eps,
        )
    with reading(vit_file):
        vision = VisionConfig(
            hidden=vit.hidden_size,
            intermediate=vit.intermediate_size,
            layers=vit.num_hidden_layers + 1 + extra.vit_select_layer,
            heads=vit.num_attention_heads,
            patch=vit.patch_size,
            side=vision_side,
            norm_eps=vit.layer_norm_eps,
            interpolate_positions=extra.interpolate_pos,
        )
    downsample = read_typed(BagelVae, vae_file).downsample if vae_file.is_file() else 8
    numbers, patch = of("vae2llm.weight")[1], extra.latent_patch_size
    with reading(extra_file):
        within(extra, latent_patch_size=64)
        latents = LatentConfig(numbers // patch**2, patch, latent_side, downsample)
    return ModelConfig("bagel", decoder, vision, latents)


def save_pretrained(
    model: UnifiedModel,
    folder: Path | str,
    *,
    layout: Layout = "native",
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    codec: LatentCodec | None = None,
    tokenizer: Path | None = None,
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a model in either layout; ``config.json`` comes last.

    ``state``: weights to write instead of the model's own (an average, a gathered or merged state), with our names.
    ``tokenizer``: a folder whose tokenizer files are copied. Raises ``UserError`` for a model that BAGEL's layout cannot say.
    """
    folder = Path(folder)
    if layout == "bagel" and model.config.decoder.grid_rope:
        what = f"which model '{model.config.name}' has (grid_rope)"
        raise UserError(f"BAGEL's layout has no rope over rows and columns, {what}: save it as 'native'")
    tensors = dict(model.state_dict() if state is None else state)
    plain = build_on_meta(model.config)
    expected = {name: tuple(tensor.shape) for name, tensor in plain.state_dict().items()}
    differences({name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected, "the state to save")
    tensors |= {name: table for name, table in model.named_buffers() if name in POSITION_TABLES}
    renamed = {theirs: tensors[ours] for ours, theirs in _names(plain, layout).items()}
    write_weights(folder, renamed, "ema" if layout == "bagel" else "model", shard_bytes, dtype)
    if codec is not None:
        codec.save(folder)
    if tokenizer is not None:
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copy2(tokenizer / name, folder / name)
    if layout == "native":
        write_json(folder / "config.json", {"format": FORMAT, "model": dataclasses.asdict(model.config)})
    else:
        for name, values in _bagel_json(model.config).items():
            write_json(folder / name, values)


def _bagel_json(config: ModelConfig) -> dict[str, dict[str, Any]]:
    decoder, vision = config.decoder, config.vision
    return {
        "bagel_config.json": {
            "visual_gen": True,
            "visual_und": True,
            "latent_patch_size": config.latents.patch,
            "max_latent_size": config.latents.side,
            "vit_max_num_patch_per_side": vision.side,
            "connector_act": "gelu_pytorch_tanh",
            "interpolate_pos": vision.interpolate_positions,
            "vit_select_layer": -2,
        },
        "vit_config.json": {
            "model_type": "siglip_vision_model",
            "hidden_size": vision.hidden,
            "image_size": vision.side * vision.patch,
            "intermediate_size": vision.intermediate,
            "layer_norm_eps": vision.norm_eps,
            "num_attention_heads": vision.heads,
            "num_hidden_layers": vision.layers + 1,
            "patch_size": vision.patch,
        },
        "llm_config.json": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_act": "silu",
            "hidden_size": decoder.hidden,
            "intermediate_size": decoder.intermediate,
            "layer_module": "Qwen2MoTDecoderLayer",
            "num_attention_heads": decoder.heads,
            "num_hidden_layers": decoder.layers,
            "num_key_value_heads": decoder.kv_heads,
            "qk_norm": True,
            "rms_norm_eps": decoder.norm_eps,
            "rope_theta": decoder.rope_theta,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "vocab_size": decoder.vocab,
        },
    }
