"""What a model costs: parameters per part, operations of a sample, memory of training.

    python -m ipt.model.summary model=bagel_7b_mot
    python -m ipt.model.summary model=tiny layout="vit:4x4 text:40 noised:4x4 vae:4x4 vit:4x4 answer:8" tokens=4096

``layout`` is ``imagination`` (an observation, a question, an imagined image with its copies, an answer, images as large as the
tables allow) or lists segments in order: ``text:n`` and ``answer:n`` (n ids; the latter trained), ``vit:RxC``, ``vae:RxC`` and
``noised:RxC`` (rows x columns of tokens). ``tokens``: length of a training pack; ``lora_rank``: rank of the LoRA column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.model.checkpoint import build_on_meta
from ipt.model.config import ModelConfig, presets
from ipt.model.flops import Flops, expert_weights, forward_flops
from ipt.model.parts import FREEZABLE, PARTS, part_of
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss

GPUS = (1, 2, 4, 8)
KINDS = {"vit": Kind.VIT, "vae": Kind.VAE, "noised": Kind.VAE_NOISED}


@dataclass(frozen=True)
class Options:
    """What a model costs: parameters per part, operations of a sample, memory of training.

    model: a preset; layout: "imagination", or segments such as "vit:4x4 text:40 answer:8"; tokens: length of a training pack;
    lora_rank: rank of the adapters.
    """

    model: str = "bagel_7b_mot"
    layout: str = "imagination"
    tokens: int = 24576
    lora_rank: int = 16


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


def report(options: Options) -> str:
    """The summary as text."""
    config = presets[options.model]
    counts = parameters(build_on_meta(config))
    lines = [f"model {config.name}", "", "parameters"]
    lines += [f"  {part:<22}{count:>18,}" for part, count in counts.items()]
    lines += [f"  {'all':<22}{sum(counts.values()):>18,}", ""]
    batch = sample(config, options.layout)
    flops: Flops = forward_flops(config, batch.spans, batch.patch_grids)
    lines += [f"operations of one sample: {options.layout} ({batch.spans.num_tokens:,} tokens), in GFLOP"]
    lines += [
        *(f"  {name:<22}{count / 1e9:>18,.3f}" for name, count in flops.parts.items()),
        f"  {'forward':<22}{flops.forward / 1e9:>18,.3f}",
        f"  {'training step':<22}{flops.training / 1e9:>18,.3f}",
    ]
    lines += [f"  (linear cost of one token in one expert: {2 * expert_weights(config) / 1e9:,.4f})", ""]
    activations = activation_bytes(config, options.tokens)
    lines += [
        f"training memory in GB (1e9 bytes) per GPU, sharded, packs of {options.tokens:,} tokens, layers recomputed",
        f"  {'GPUs':<22}" + "".join(f"{count:>10}" for count in GPUS),
    ]
    for tuning, total in state_bytes(config, counts, options.lora_rank).items():
        row = "".join(f"{(total / count + activations) / 1e9:>10.3g}" for count in GPUS)
        lines.append(f"  {tuning:<22}{row}")
    lines.append(f"  (of which activations {activations / 1e9:.3g}; gathered weights and logits come on top)")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Print the summary."""
    print(report(options))


if __name__ == "__main__":
    cli.run(Options, main)
