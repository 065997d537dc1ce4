"""What a model costs, counted and not measured: parameters of its parts, operations of a sample, memory of training."""

from __future__ import annotations

import torch

from ipt.common.errors import UserError
from ipt.model.config import ModelConfig
from ipt.model.parts import FREEZABLE, PARTS, part_of
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss

KINDS = {"vit": Kind.VIT, "vae": Kind.VAE, "noised": Kind.VAE_NOISED}


def parameters(model: UnifiedModel) -> dict[str, int]:
    """Parameters per part."""
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


def imagining_layout(config: ModelConfig, draws: int = 1) -> str:
    """The layout of one imagining sample: latents as large as their table, ViT images of at most 518 pixels per side, and
    ``draws`` noised copies of the image to be drawn."""
    latent, vit = config.latents.side, min(config.vision.side, 518 // config.vision.patch)
    seen = f"vae:{latent}x{latent} vit:{vit}x{vit}"
    noised = f"noised:{latent}x{latent} " * draws
    return f"{seen} text:200 answer:20 {noised}{seen} answer:12"


def sample(config: ModelConfig, layout: str) -> PackedBatch:
    """A sample of the given layout with empty payloads. Raises ``ValueError`` for a segment that cannot be read."""
    geometry, segments = config.geometry, []
    for word in (imagining_layout(config) if layout == "imagination" else layout).split():
        kind, _, size = word.partition(":")
        try:
            if kind in ("text", "answer"):
                loss = Loss.CE if kind == "answer" else Loss.NONE
                segments.append(Segment(Kind.TEXT, TokenIds(torch.zeros(int(size), dtype=torch.long)), loss=loss))
            else:
                rows, columns = (int(side) for side in size.split("x"))
                patch, channels = (
                    (geometry.vit_patch, 3) if kind == "vit" else (geometry.latent_patch, geometry.latent_channels)
                )
                blank = torch.zeros(channels, rows * patch, columns * patch)
                segments.append(Segment(KINDS[kind], Pixels(blank) if kind == "vit" else Latents(blank)))
        except (KeyError, ValueError) as error:
            raise UserError(
                f"cannot read '{word}' of the layout; write text:n, answer:n, vit:RxC, vae:RxC, noised:RxC"
            ) from error
    return lay_out([segments], SpecialTokens(0, 0, 0, 0), geometry)


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """Adapters of ``rank`` on every linear layer of both experts."""
    d = config.decoder
    sides = 2 * (d.hidden + d.heads * d.head_dim) + 2 * (d.hidden + d.kv_heads * d.head_dim)
    return 2 * d.layers * rank * (sides + 3 * (d.hidden + d.intermediate))


def state_bytes(config: ModelConfig, counts: dict[str, int], lora_rank: int) -> dict[str, int]:
    """Bytes of weights and optimizer, all GPUs together: trained numbers cost 16 (float32 weight, gradient, two AdamW
    moments), frozen ones 2 (bfloat16)."""
    total = sum(counts.values())
    generation = sum(counts[part] for part in FREEZABLE["generation"])
    return {
        "full": 16 * total,
        "LoRA": 2 * total + 16 * lora_parameters(config, lora_rank),
        "generation expert": 16 * generation + 2 * (total - generation),
    }


def activation_bytes(config: ModelConfig, tokens: int) -> int:
    """Bytes of activations per GPU in bfloat16 with every layer recomputed: the inputs of all layers, and one layer live
    (eight hidden-sized and four MLP-sized tensors)."""
    d = config.decoder
    return 2 * tokens * (d.layers * d.hidden + 8 * d.hidden + 4 * d.intermediate)
