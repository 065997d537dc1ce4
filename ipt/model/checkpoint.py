"""Models to and from folders: BAGEL's layout and ours.

BAGEL: ``llm_config.json``, ``vit_config.json``, ``ema.safetensors`` (or shards with an index) and the VAE in
``ae.safetensors``. Ours: ``config.json``, ``model.safetensors`` (or shards with an index), codec files and the tokenizer's.

Loading builds the model on the meta device and compares all names and shapes first. Weights that can be used as they are
stored are then mapped, others copied tensor by tensor.

Checkpoints that BAGEL's trainer writes without image generation (``visual_gen False``) lack the parts between decoder and
latents. They are loaded with fresh ones, a velocity head of zeros among them, as before BAGEL's own training.
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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import read_json, read_typed, reading, write_json
from ipt.common.seeding import derived_seed
from ipt.common.settings import typed, within
from ipt.model.codec import LatentCodec
from ipt.model.codes import CodeCodec
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.keys import LATENT_PARTS, POSITION_TABLES, bagel_name, differences, is_adapter, plain_name
from ipt.model.unified import UnifiedModel
from ipt.model.vision import sincos_table
from ipt.model.weights import (
    fill_normal,
    headers,
    mapped_tensors,
    own_numbers,
    own_part,
    read_tensors,
    weight_files,
    write_weights,
)

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


class Unfilled(TorchFunctionMode):
    """Modules are made without drawing their weights. Where there is no memory, that would fill nothing, but import the compiler,
    which takes longer than to load a small model; so does ``to_empty`` of a model on the meta device (torch 2.13)."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if function in (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_):
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def build_on_meta(config: ModelConfig, attention: str = "sdpa") -> UnifiedModel:
    """A model without memory; `materialise` gives it some."""
    with torch.device("meta"), Unfilled():
        return UnifiedModel(config, attention)


def materialise(model: UnifiedModel, device: torch.device | str) -> UnifiedModel:
    """Allocate uninitialised weights on ``device`` and compute the position tables."""
    for module in model.modules():
        for name, old in module.named_parameters(recurse=False):
            new = torch.empty(old.shape, dtype=old.dtype, device=device)
            setattr(module, name, nn.Parameter(new, old.requires_grad))
    return _with_tables(model, device)


def _with_tables(model: UnifiedModel, device: torch.device | str) -> UnifiedModel:
    for positions in (model.vision_positions, model.latent_positions):
        positions.table = torch.empty(positions.table.shape, dtype=positions.table.dtype, device=device)
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
    return stored.load(attention=attention, device=device, dtype=dtype, latent_side=latent_side)


@dataclass(frozen=True)
class StoredModel:
    """The weights in a folder: all there and of the right shapes, but not read yet. ``names``: ours to those in the files;
    ``draws``: whether the parts between decoder and latents are among them. ``blank``: the model without memory, which
    `load` gives it, once."""

    config: ModelConfig
    layout: Layout
    files: list[Path]
    names: Mapping[str, str]
    dtype: torch.dtype
    blank: UnifiedModel

    @property
    def draws(self) -> bool:
        return any(name.startswith(LATENT_PARTS) for name in self.names)

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
        if layout == "bagel" and not any(theirs in shapes for ours, theirs in names.items() if is_latent_part(ours)):
            names = {ours: theirs for ours, theirs in names.items() if not is_latent_part(ours)}
        differences(shapes, {theirs: tuple(t.shape) for theirs, t in _expected(model, names).items()}, str(files[0]))
        dtype = stored[names["lm_head.weight"]][1]
        if narrow := sum(kind.itemsize == 1 for _, kind in stored.values()):
            dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype
            print(f"note: {folder}: {narrow} tensors of 8 bits are computed with in 16 or more", file=sys.stderr)
        return cls(config, layout, files, names, dtype, model)

    def load(
        self,
        *,
        attention: str = "sdpa",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        latent_side: int | None = None,
    ) -> UnifiedModel:
        """The model; arguments as of `from_pretrained`."""
        model, dtype = self.blank, dtype or self.dtype
        assert model.lm_head.weight.is_meta, "a stored model is loaded once"
        if latent_side is not None:
            latents = dataclasses.replace(self.config.latents, side=latent_side)
            model = build_on_meta(dataclasses.replace(self.config, latents=latents))
        model.attention = attention
        model.to(dtype)
        if torch.device(device).type == "cpu" and dtype == self.dtype and self.draws:
            self._map_into(model)
        else:
            self.copy_into(materialise(model, device))
        return model.eval()

    def _map_into(self, model: UnifiedModel) -> None:
        """Let the parameters of ``model``, which has no memory, be the files' own bytes."""
        _with_tables(model, "cpu")
        stored = mapped_tensors(self.files)
        model.load_state_dict(
            {n: stored.pop(t).to(self.dtype) for n, t in self.names.items() if n not in POSITION_TABLES}, assign=True
        )
        for name, tensor in stored.items():
            self._check_table(model, name, tensor)

    @torch.no_grad()
    def copy_into(self, model: UnifiedModel) -> None:
        """Read the weights into those of ``model``, one after the other. It may have adapters, which are left alone, and may be
        divided among processes, each of which then reads its own part from the disk and no more."""
        own = {plain_name(name): tensor for name, tensor in model.state_dict().items() if not is_adapter(name)}
        for name, tensor in own.items():
            if name not in self.names and is_latent_part(name):
                _fresh(name, tensor)
        targets = {self.names[name]: tensor for name, tensor in own.items() if name in self.names}
        for name, tensor in read_tensors(self.files, {name: own_part(target) for name, target in targets.items()}):
            if name in targets:
                own_numbers(targets[name]).copy_(tensor)
            else:
                self._check_table(model, name, tensor)

    def _check_table(self, model: UnifiedModel, name: str, table: Tensor) -> None:
        """A stored position table must be the sin-cos table (to its precision), which is computed, not loaded; where it has
        the size of the model's own, it is compared with that."""
        precision = 2**-8 if table.dtype.itemsize > 1 else 2**-3
        side, size = math.isqrt(len(table)), table.shape[1]
        own = model.vision_positions if name == POSITION_TABLES["vision_positions.table"] else model.latent_positions
        computed = own.table if (own.side, own.size) == (side, size) else sincos_table(side, size)
        if not torch.allclose(table.float(), computed.to("cpu", torch.float32), rtol=0, atol=precision):
            raise UserError(f"{self.files[0]}: '{name}' is not the fixed 2-D sin-cos table of this architecture")


def is_latent_part(name: str) -> bool:
    """Whether one of our tensors stands between decoder and latents; its position table does, too."""
    return name.startswith((*LATENT_PARTS, "latent_positions."))


def _fresh(name: str, tensor: Tensor) -> None:
    """Random numbers for a tensor that a checkpoint lacks, always the same; zeros for biases and the velocity head."""
    if name.endswith("bias") or name.startswith("latent_out."):
        own_numbers(tensor).zero_()
    else:
        generator = torch.Generator(own_numbers(tensor).device).manual_seed(derived_seed(0, name))
        fill_normal(tensor, (3 * tensor.shape[1]) ** -0.5, generator)


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

    downsample: int = 8
    z_channels: int = 16


def _bagel_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """What the JSON files do not say is read off the tensors: table sides and latent channels. A latent table that is stored
    counts more than what ``max_latent_size`` says, which is that of the released model in the folders of some fine-tuned ones.
    Without the tensors of drawing, sides and channels are BAGEL's own."""
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
    latent_table, latent_in = bagel_name("latent_positions.table"), bagel_name("latent_in.weight")
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
    vae, patch = read_typed(BagelVae, vae_file) if vae_file.is_file() else BagelVae(), extra.latent_patch_size
    channels = of(latent_in)[1] // max(patch**2, 1) if {latent_in, latent_table} & shapes.keys() else vae.z_channels
    with reading(extra_file):
        within(extra, latent_patch_size=64)
        latents = LatentConfig(channels, patch, latent_side, vae.downsample)
    return ModelConfig("bagel", decoder, vision, latents)


def save_pretrained(
    model: UnifiedModel,
    folder: Path | str,
    *,
    layout: Layout = "native",
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    codec: LatentCodec | None = None,
    codes: CodeCodec | None = None,
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
    if layout == "bagel" and model.config.phi != "none":
        raise UserError(f"BAGEL's layout has no latent slots with phi={model.config.phi}: save the model as 'native'")
    if layout == "bagel" and model.codes is not None:
        raise UserError("BAGEL's layout has no codes of pictures: save the model as 'native'")
    tensors = dict(model.state_dict() if state is None else state)
    plain = build_on_meta(model.config)
    expected = {name: tuple(tensor.shape) for name, tensor in plain.state_dict().items()}
    differences({name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected, "the state to save")
    tensors |= {name: table for name, table in model.named_buffers() if name in POSITION_TABLES}
    renamed = {theirs: tensors[ours] for ours, theirs in _names(plain, layout).items()}
    write_weights(folder, renamed, "ema" if layout == "bagel" else "model", shard_bytes, dtype)
    for each in (codec, codes):
        if each is not None:
            each.save(folder)
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
