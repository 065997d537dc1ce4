"""The plan of a run, printed by ``dry_run=true``: what it trains, on what, and what a step costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ipt.model.checkpoint import build_on_meta
from ipt.model.config import ModelConfig
from ipt.model.costs import activation_bytes, imagining_layout, parameters, sample
from ipt.model.flops import forward_flops
from ipt.model.parts import PARTS
from ipt.model.tuning import apply_tuning
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch
from ipt.sequence.loader import Loader
from ipt.training.build import make_assets, make_loader, model_shape, readers
from ipt.training.config import TrainConfig, missing_weights
from ipt.training.distributed import World

PACKS_LOOKED_AT = 4
TRAINED_BYTES, FROZEN_BYTES = 16, 4


def plan(config: TrainConfig) -> str:
    """The plan as text. Reads a few packs of the dataset where there is one; builds the model without memory."""
    shape = model_shape(config)
    if config.reinforced:
        config = replace(config, imagination=config.imagination.at_inference)
    model = build_on_meta(shape)
    counts = parameters(model)
    apply_tuning(model, config.full_tuning)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    lines = [f"run {config.name} in {config.output_dir}", f"model {shape.name} from {config.model.init or 'scratch'}"]
    lines += [f"  {part:<22}{counts[part]:>18,}" for part in PARTS]
    lines += [
        f"  {'all':<22}{sum(counts.values()):>18,}",
        f"  {f'trained ({config.tuning.kind})':<22}{trained:>18,}",
        "",
    ]
    lines += ["mixture", *(f"  {mode:<22}{weight:>18g}" for mode, weight in config.imagination.modes.items()), ""]
    missing = missing_weights(config)
    lines += [f"to be set before training: {reason}" for reason in missing]
    lines += _data(config) if config.data.weights and not missing else _without_data(config, shape)
    if config.reinforced:
        lines += ["", *_rollouts(config, shape)]
    return "\n".join([*lines, "", *_memory(config, model, trained)])


def _rollouts(config: TrainConfig, shape: ModelConfig) -> list[str]:
    """What a rollout consists of, and the memory of the keys and values that it needs at a time."""
    grpo, decoder = config.grpo, shape.decoder
    texts = f" with {grpo.answers_each} texts each" if grpo.answers_each > 1 else ""
    longest = sample(shape, imagining_layout(shape, 0)).spans.num_tokens
    low = config.trainer.dtype == "bfloat16"
    cached = grpo.batch_size * longest * decoder.layers * 2 * decoder.kv_heads * decoder.head_dim * (2 if low else 4)
    return [
        f"rollouts of stage {grpo.stage}: {grpo.questions} questions with {grpo.imaginations} imaginations{texts}, for "
        f"{grpo.updates} steps; operations and tokens above are those of supervised samples",
        f"memory of a rollout: {cached / 1e9:,.3f} GB of keys and values at most, for {grpo.batch_size} rows "
        f"(grpo.batch_size) of {longest:,} tokens",
    ]


def _data(config: TrainConfig) -> list[str]:
    datasets = readers(config)
    assets = make_assets(config, list(datasets.values()), None)
    loader = make_loader(config, datasets, assets, World())
    packs = list(_some(loader))
    lengths = np.concatenate([pack.spans.sample_lengths for pack in packs])
    once = replace(config, loss=replace(config.loss, noise_draws=1))
    single = list(_some(make_loader(once, datasets, assets, World()))) if config.loss.noise_draws > 1 else packs
    per_step = float(np.mean([pack.spans.num_tokens for pack in packs])) * config.loader.packs_per_step
    rows = loader.order.epoch_rows
    flops = float(np.mean([_flops(config, assets.shape, pack) for pack in packs]))
    lines = [
        "data",
        *(f"  {len(part.samples):>10,} rows  weight {part.weight:g}  {part.name}" for part in loader.rows.parts),
    ]
    steps = rows * lengths.mean() / per_step
    lines += [
        "",
        f"tokens per sample: {lengths.mean():,.0f} on average, {lengths.min():,} to {lengths.max():,} ({len(lengths)} samples)",
        f"tokens per step: {per_step:,.0f} in {config.loader.packs_per_step} packs of at most {config.loader.budget:,}",
        f"operations per step: {flops * config.loader.packs_per_step / 1e12:,.4f} TFLOP, without recomputation",
        *_draws(config, assets.shape, packs, single),
        f"steps per epoch: {steps:,.1f}; {config.trainer.steps:,} steps are {config.trainer.steps / steps:,.2f} epochs",
    ]
    return lines


def _draws(
    config: TrainConfig, shape: ModelConfig, packs: Sequence[PackedBatch], single: Sequence[PackedBatch]
) -> list[str]:
    """What several noise draws cost: a sample of ``packs`` against one of ``single``, which holds one draw of each image."""
    if config.loss.noise_draws == 1:
        return []

    def per_sample(batches: Sequence[PackedBatch]) -> tuple[float, float]:
        samples = sum(batch.spans.num_samples for batch in batches)
        flops = sum(_flops(config, shape, batch) for batch in batches)
        return sum(batch.spans.num_tokens for batch in batches) / samples, flops / samples

    (tokens, flops), (tokens_1, flops_1) = per_sample(packs), per_sample(single)
    return [
        f"noise draws: {config.loss.noise_draws} of each image take {tokens / tokens_1:.2f} times the tokens and "
        f"{flops / flops_1:.2f} times the operations of one, per sample ({tokens:,.0f} tokens for {tokens_1:,.0f})"
    ]


def _flops(config: TrainConfig, shape: ModelConfig, batch: PackedBatch) -> int:
    """Of a step with this pack alone."""
    return forward_flops(shape, batch.spans, batch.patch_grids, config.imagination.free_rounds).training


def _some(loader: Loader) -> Iterable[PackedBatch]:
    batches = iter(loader)
    for _ in range(PACKS_LOOKED_AT):
        yield next(batches)


def _without_data(config: TrainConfig, shape: ModelConfig) -> list[str]:
    """No dataset is named: one imagining sample with images as large as the model's tables allow."""
    once, batch = (sample(shape, imagining_layout(shape, draws)) for draws in (1, config.loss.noise_draws))
    tokens = batch.spans.num_tokens
    flops = _flops(config, shape, batch) / tokens
    per_step = config.loader.budget * config.loader.packs_per_step
    return [
        *(f"data: {len(reader):,} rows in {folder}" for folder, reader in readers(config).items()),
        "without tokenizer and data (model.init, data.train), estimates are those of the largest sample with an imagination",
        "",
        f"tokens per sample: {tokens:,} at most",
        f"tokens per step: {per_step:,} at most, in {config.loader.packs_per_step} packs of {config.loader.budget:,}",
        f"operations per step: {flops * per_step / 1e12:,.4f} TFLOP, without recomputation",
        *_draws(config, shape, [batch], [once]),
        "steps per epoch: unknown without the dataset",
    ]


def _memory(config: TrainConfig, model: UnifiedModel, trained: int) -> list[str]:
    """Weights, gradients and moments of what is trained, copies in bfloat16 and averages, per process that shares them; and
    activations."""
    frozen = sum(parameter.numel() for parameter in model.parameters()) - trained
    low = config.trainer.dtype == "bfloat16"
    kept = (4 if config.ema.decay else 0) + (4 if config.reinforced else 0)  # the average, and the start
    state = trained * (TRAINED_BYTES + (2 if low else 0) + kept) + frozen * (2 if low else FROZEN_BYTES)
    shards = {"fsdp2": config.launch.gpus, "hsdp": config.distributed.shard}.get(config.distributed.kind, 1)
    divided = f", divided among {shards} processes" if shards > 1 else ""
    activations = activation_bytes(model.config, config.loader.budget) * (1 if low else 2)
    note = (
        ""
        if config.trainer.checkpoint_activations
        else ", if layers were recomputed (trainer.checkpoint_activations=true)"
    )
    return [
        f"memory of one process: {state / shards / 1e9:,.3f} GB of weights and optimizer{divided}, "
        f"{activations / 1e9:,.3f} GB of activations{note}"
    ]
