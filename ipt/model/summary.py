"""What a model costs: parameters per part, operations of a sample, memory of training.

    python -m ipt.model.summary model=bagel_7b_mot
    python -m ipt.model.summary model=tiny layout="vit:4x4 text:40 noised:4x4 vae:4x4 vit:4x4 answer:8" tokens=4096

``layout`` is ``imagination`` (an observation, a question, an imagined image with its copies, an answer, images as large as the
tables allow) or lists segments in order: ``text:n`` and ``answer:n`` (n ids; the latter trained), ``vit:RxC``, ``vae:RxC`` and
``noised:RxC`` (rows x columns of tokens). ``tokens``: length of a training pack; ``lora_rank``: rank of the LoRA column.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipt.common import cli

GPUS = (1, 2, 4, 8)


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


def report(options: Options) -> str:
    """The summary as text."""
    from ipt.model.checkpoint import build_on_meta  # torch takes seconds to import
    from ipt.model.config import presets
    from ipt.model.costs import activation_bytes, parameters, sample, state_bytes
    from ipt.model.flops import Flops, expert_weights, forward_flops

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
