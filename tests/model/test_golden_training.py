"""Every training batch of the reference: packing and masks exactly, activations, losses and gradients within tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.published import Published, inputs_of
from ipt.common.errors import MissingFile
from ipt.flow.path import shift_timesteps
from ipt.model.keys import bagel_name
from ipt.model.unified import add_noise
from ipt.model.vision import grid_rows
from ipt.sequence.batch import NoisedImages, PackedBatch, lay_out
from ipt.sequence.pictures import patchify
from ipt.sequence.spans import Mode
from ipt.sequence.visibility import dense_mask
from tests.model.golden_set import FORWARD, GRADIENT, TRAIN_NAMES, assert_close, load, model, segments, special_tokens


def packed(name: str) -> tuple[PackedBatch, dict, dict[str, Tensor]]:
    """The batch laid out from its semantic lists, not yet noised."""
    info, tensors = load(name)
    samples = [segments(sample, tensors) for sample in info["samples"]]
    return lay_out(samples, special_tokens(), model().config.geometry), info, tensors


def noised(name: str) -> tuple[PackedBatch, NoisedImages | None, Tensor, dict, dict[str, Tensor]]:
    batch, info, tensors = packed(name)
    if not len(batch.spans.noised_images):
        return batch, None, torch.empty(0), info, tensors
    raw = [s["timestep_raw"] for sample in info["samples"] for s in sample if s["type"] == "vae_image" and s["loss"]]
    times = shift_timesteps(torch.tensor(raw).sigmoid(), info["timestep_shift"])
    images, target = add_noise(batch, times, tensors["in.noise"][torch.from_numpy(batch.spans.is_noised)])
    return batch, images, target, info, tensors


def absent(tensors: dict[str, Tensor], name: str) -> Tensor:
    return tensors.get(name, torch.empty(0, dtype=torch.long))


@pytest.mark.parametrize("name", TRAIN_NAMES)
def test_packing_equals_the_flattened_tensors(name: str) -> None:
    batch, _, tensors = packed(name)
    spans, config = batch.spans, model().config
    exact = {
        "in.sample_lens": spans.sample_lengths,
        "in.split_lens": spans.length,
        "in.attn_modes": spans.mode,
        "in.attention_allowed": dense_mask(spans),
        "in.packed_position_ids": spans.position_ids,
        "in.ce_loss_indexes": spans.ce_positions,
        "in.ce_loss_weights": spans.ce_weights,
        "in.mse_loss_indexes": spans.noised_positions,
        "in.packed_vae_token_indexes": spans.order[spans.num_understanding :],
        "in.packed_text_indexes": [i for i in range(spans.num_tokens) if not spans.is_body[i]],
        "in.packed_vit_token_indexes": [
            i for i in range(spans.num_tokens) if spans.is_body[i] and not spans.is_generation[i]
        ],
        "in.packed_text_ids": batch.token_ids_X,
        "in.packed_label_ids": batch.labels_C,
        "in.packed_vit_tokens": batch.patches_VD,
        "in.packed_vit_position_ids": grid_rows(batch.patch_grids, config.vision.side, "image"),
        "in.patchified_latent": batch.latents_GD,
        "in.latent_grids": torch.tensor(batch.latent_grids).reshape(-1, 2),
        "in.packed_latent_position_ids": grid_rows(batch.latent_grids, config.latents.side, "image"),
    }
    for key, ours in exact.items():
        theirs, ours = absent(tensors, key), torch.as_tensor(ours)
        assert ours.numel() == theirs.numel() and torch.equal(ours.reshape(theirs.shape).to(theirs), theirs), key
    assert bool(spans.is_flow_trained.all())
    assert set(spans.mode[spans.loss == 3]) <= {int(Mode.NOISED)}


@pytest.mark.parametrize("name", [name for name in TRAIN_NAMES if "in.packed_timesteps_raw" in load(name)[1]])
def test_the_benchmark_gives_the_published_code_the_batches_that_it_packs(name: str) -> None:
    batch, images, _, info, tensors = noised(name)
    assert images is not None
    shift = info["timestep_shift"]
    times = images.timesteps_J / (shift - (shift - 1) * images.timesteps_J)  # as before the shift, which is the model's
    given = inputs_of(batch, times, model().config)
    given["packed_timesteps_raw"] = given.pop("packed_timesteps")
    latents = [patchify(latent, model().config.latents.patch) for latent in given.pop("padded_latent")]
    assert_close(torch.cat(latents), tensors["in.patchified_latent"], FORWARD, "latents")
    shared = [key for key in given if f"in.{key}" in tensors]
    assert len(shared) >= 10 and {"sample_lens", "packed_timesteps_raw", "packed_vae_token_indexes"} <= set(shared)
    for key in shared:
        ours, theirs = torch.as_tensor(given[key]), tensors[f"in.{key}"]
        torch.testing.assert_close(ours.to(theirs), theirs, atol=1e-5, rtol=1e-5)


def test_a_folder_that_is_no_checkout_of_the_published_code_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no checkout of ByteDance-Seed/Bagel: modeling/bagel/bagel.py is missing"):
        Published(tmp_path)


@pytest.mark.parametrize("name", TRAIN_NAMES)
def test_forward_equals_the_reference(name: str) -> None:
    batch, images, target, info, tensors = noised(name)
    layers: list[Tensor] = []
    unified = model()

    def record(layer: torch.nn.Module, *inputs: object) -> object:
        result = layer(*inputs)
        if isinstance(result, tuple):
            layers.append(torch.cat(result)[torch.from_numpy(batch.spans.rank)])
        return result

    unified.set_layer_runner(record)
    try:
        output = unified(batch, images)
    finally:
        unified.set_layer_runner(lambda layer, *inputs: layer(*inputs))
    features = unified.vision(batch.patches_VD, batch.patch_grids, "sdpa")
    embeds = torch.cat(unified.embed(batch, images)[:2])[torch.from_numpy(batch.spans.rank)]
    ours = {
        "mid.vit_features": features,
        "mid.x_t": batch.seen_latents(images)[0],
        "mid.velocity_target": target,
        "mid.input_embeds": embeds,
        "mid.layer_hidden_states": torch.stack(layers),
        "out.last_hidden_state": output.hidden_SD,
        "out.logits": output.logits_CV,
        "out.velocity_pred": output.velocities_FD,
        "out.mse_per_token": (output.velocities_FD - target).square().mean(-1) if len(target) else target,
        "out.ce": F.cross_entropy(output.logits_CV, batch.labels_C, reduction="none"),
    }
    for key, value in ours.items():
        if key in tensors:
            assert_close(value, tensors[key], FORWARD, key)
    assert {"out.last_hidden_state", "mid.input_embeds"} <= tensors.keys()
    weights = torch.from_numpy(batch.spans.ce_weights)
    losses = {
        "loss_ce_mean": ours["out.ce"].mean(),
        "loss_ce_reweighted": (ours["out.ce"] * weights).sum() / weights.sum(),
        "loss_mse": ours["out.mse_per_token"].mean(),
    }
    losses["loss_total"] = losses["loss_ce_mean"] + (losses["loss_mse"] if len(target) else 0)
    for key, value in info["losses"].items():
        if value is not None:
            assert_close(losses[key], torch.tensor(value), FORWARD, key)


@pytest.mark.parametrize("name", TRAIN_NAMES)
def test_gradient_norms_equal_the_reference(name: str) -> None:
    batch, images, target, info, _ = noised(name)
    unified = model()
    unified.zero_grad()
    output = unified(batch, images)
    error = output.velocities_FD - target if len(target) else output.velocities_FD
    loss = F.cross_entropy(output.logits_CV, batch.labels_C) + error.square().sum() / max(error.numel(), 1)
    loss.backward()
    expected = {key: value for key, value in info["grad_l2_norm_of_loss_total"].items() if "pos_embed" not in key}
    ours = {bagel_name(key): parameter.grad for key, parameter in unified.named_parameters()}
    assert all(gradient is not None for gradient in ours.values()), "a part did not run"
    assert expected.keys() <= ours.keys()
    for key, norm in expected.items():
        norm = norm or 0.0
        relative = abs(float(ours[key].norm()) - norm) / max(norm, 1e-2)
        assert relative <= GRADIENT, f"{key}: relative error {relative:.2e}"
