"""Tensor names: ours and those of BAGEL checkpoints.

Ours group by expert (``decoder.layers.0.generation.q_proj.weight``); BAGEL suffixes the module of the generation expert
(``language_model.model.layers.0.self_attn.q_proj_moe_gen.weight``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ipt.common.errors import UserError

SUFFIX = {"understanding": "", "generation": "_moe_gen"}
POSITION_TABLES = {
    "vision_positions.table": "vit_pos_embed.pos_embed",
    "latent_positions.table": "latent_pos_embed.pos_embed",
}
#: What stands between decoder and latents.
LATENT_PARTS = ("latent_in.", "latent_out.", "time_embedder.")
_LLM, _VIT = "language_model.model", "vit_model.vision_model"

_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"decoder\.embed_tokens\.", rf"{_LLM}.embed_tokens."),
    (r"lm_head\.", "language_model.lm_head."),
    (r"decoder\.norm\.(\w+)\.", lambda m: f"{_LLM}.norm{SUFFIX[m[1]]}."),
    (r"decoder\.layers\.(\d+)\.(\w+)\.mlp\.", lambda m: f"{_LLM}.layers.{m[1]}.mlp{SUFFIX[m[2]]}."),
    (
        r"decoder\.layers\.(\d+)\.(\w+)\.([qkvo]_\w+)\.",
        lambda m: f"{_LLM}.layers.{m[1]}.self_attn.{m[3]}{SUFFIX[m[2]]}.",
    ),
    (r"decoder\.layers\.(\d+)\.(\w+)\.(\w+layernorm)\.", lambda m: f"{_LLM}.layers.{m[1]}.{m[3]}{SUFFIX[m[2]]}."),
    (r"vision\.(patch|position)_embedding\.", rf"{_VIT}.embeddings.\1_embedding."),
    (r"vision\.layers\.", rf"{_VIT}.encoder.layers."),
    (r"vision\.post_layernorm\.", rf"{_VIT}.post_layernorm."),
    (r"latent_in\.", "vae2llm."),
    (r"latent_out\.", "llm2vae."),
    (r"(connector|time_embedder)\.", r"\1."),
]


def is_adapter(name: str) -> bool:
    """Whether a tensor is part of a low-rank adapter."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """The name that a weight under an adapter has in a model without adapters."""
    return name.replace(".base_layer.", ".")


def bagel_name(name: str) -> str:
    """The BAGEL name of one of our tensors. Raises ``KeyError`` for a name that has none."""
    if name in POSITION_TABLES:
        return POSITION_TABLES[name]
    for pattern, replacement in _RULES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    raise KeyError(f"tensor '{name}' has no BAGEL name")


def autoencoder_name(name: str, levels: int) -> str:
    """The FLUX (BFL) name of a tensor of diffusers' ``AutoencoderKL`` with ``levels`` resolution levels."""

    def up(match: re.Match[str]) -> str:
        return f"up.{levels - 1 - int(match[1])}."

    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"down_blocks\.", "down."),
        (r"up_blocks\.(\d+)\.", up),
        (r"mid_block\.resnets\.0\.", "mid.block_1."),
        (r"mid_block\.resnets\.1\.", "mid.block_2."),
        (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
        (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
        (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
        (r"resnets\.(\d+)\.", r"block.\1."),
        (r"downsamplers\.0\.conv\.", "downsample.conv."),
        (r"upsamplers\.0\.conv\.", "upsample.conv."),
        (r"conv_shortcut\.", "nin_shortcut."),
        (r"conv_norm_out\.", "norm_out."),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def differences(
    found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], where: str, shown: int = 5
) -> None:
    """Raise ``ValueError`` naming tensors that are missing, unexpected or of another shape."""

    def some(names: Iterable[str]) -> str:
        listed = sorted(names)
        more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
        return ", ".join(listed[:shown]) + more

    problems = []
    if missing := expected.keys() - found.keys():
        problems.append(f"missing: {some(missing)}")
    if unexpected := found.keys() - expected.keys():
        problems.append(f"unexpected: {some(unexpected)}")
    wrong = [
        f"{name} is {list(found[name])}, not {list(expected[name])}"
        for name in expected.keys() & found.keys()
        if tuple(found[name]) != tuple(expected[name])
    ]
    if wrong:
        problems.append(f"of another shape: {some(wrong)}")
    if problems:
        raise UserError(f"{where} does not hold this model; " + "; ".join(problems))
