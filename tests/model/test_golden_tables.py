"""Tables, schedules, guidance arithmetic, image transforms and the VAE of the reference."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.codec import load_flux_autoencoder
from ipt.model.mot import Rope
from ipt.model.unified import time_sinusoid
from ipt.model.vision import grid_rows, sincos_table, stretched
from ipt.sequence.pictures import ResizeRule, to_pixels
from ipt.sequence.spans import Expert, Loss, Mode, Span, SpanTable
from tests.model.golden_set import FOLDER, FORWARD, assert_close, load, model


@torch.no_grad()
def test_tables() -> None:
    _, tensors = load("tables")
    unified = model()
    decoder = unified.config.decoder
    rope = Rope.at(tensors["rope.positions"], decoder.head_dim, decoder.rope_theta)
    ours = {
        "time.sinusoid_256": time_sinusoid(tensors["time.t"]),
        "time.embedding": unified.time_embedder(tensors["time.t"]),
        "latent_pos_embed.table": unified.latent_positions.table,
        "vit_pos_embed.table": unified.vision_positions.table,
        "rope.cos": rope.cos_TH,
        "rope.sin": rope.sin_TH,
        "sincos3584.latent64.values": sincos_table(64, 3584)[tensors["sincos3584.latent64.rows"]],
        "sincos3584.vit70.values": sincos_table(70, 3584)[tensors["sincos3584.vit70.rows"]],
    }
    for key, value in ours.items():
        assert_close(value, tensors[key], FORWARD, key)


def test_flattened_position_ids() -> None:
    for case in load("tables")[0]["flattened_position_ids"]:
        grid = tuple(side // case["patch"] for side in case["image_hw"])
        rows = grid_rows([grid], case["side"], "image", case["mode"] == "interpolate").tolist()
        assert (len(rows), sum(rows)) == (case["count"], case["sum"])
        assert rows[: len(case["first"])] == case["first"] and rows[-len(case["last"]) :] == case["last"]
        assert rows == case.get("ids", rows)


def test_a_stretched_grid_has_the_buckets_of_the_reference_where_they_are_no_exact_fractions() -> None:
    """``get_flattened_position_ids_interpolate`` counts in float32: of 70 rows, other ones at four counts."""
    exact = {count: [place * 70 // count for place in range(count)] for count in range(1, 71)}
    assert [count for count in exact if stretched(count, 70).tolist() != exact[count]] == [25, 49, 50, 55]
    assert sum(a - b for a, b in zip(exact[50], stretched(50, 70).tolist(), strict=True)) != 0


def test_schedule_and_loss_weights() -> None:
    info, _ = load("tables")
    expected = info["euler_schedule_num_timesteps9_shift3"]
    times = schedule(9, 3.0)
    assert_close(times[:-1], torch.tensor(expected["t"]), FORWARD, "t")
    assert_close(times[:-1] - times[1:], torch.tensor(expected["dt"]), FORWARD, "dt")
    assert times[-1] == 0
    for tokens, weight in info["len2weight_square"].items():
        span = Span(0, int(tokens) + 1, Mode.CAUSAL, Expert.UNDERSTANDING, 0, loss=Loss.CE)
        assert_close(
            torch.from_numpy(SpanTable.from_spans([span]).ce_weights[:1]), torch.tensor([weight]), FORWARD, tokens
        )


@pytest.mark.parametrize("case", load("guidance")[0]["cases"])
def test_guidance(case: str) -> None:
    info, tensors = load("guidance")
    a = info["cases"][case]
    guidance = Guidance(
        a["cfg_text_scale"], a["cfg_img_scale"], renorm=a["cfg_renorm_type"], renorm_min=a["cfg_renorm_min"]
    )
    combined = guidance.combine(*(tensors[name][None] for name in ("v", "u_text", "u_img")))
    assert_close(combined[0], tensors[f"out.{case}"], FORWARD, case)


def test_transforms() -> None:
    info, tensors = load("transforms")
    names = {"max_image_size": "max_side", "min_image_size": "min_side", "image_stride": "stride"}

    def rule(config: dict) -> ResizeRule:
        return ResizeRule(**{names.get(key, key): value for key, value in config.items()})

    for case in info["cases"]:
        size = rule(info["configs"][case["config"]]).size(case["width"], case["height"], case["img_num"])
        assert size == (case["out_width"], case["out_height"]), case
    image = Image.fromarray(tensors["image_uint8_hwc"].numpy())
    for which in ("a", "b"):
        resized = rule(info[f"pixel_config_{which}"])(image)
        assert_close(to_pixels(resized), tensors[f"out_{which}"], 0, f"pixels {which}")


@torch.no_grad()
def test_autoencoder() -> None:
    _, tensors = load("ae_io")
    codec = load_flux_autoencoder(FOLDER / "ae.safetensors")
    images = list(tensors["image"])
    moments = codec.vae.encode(tensors["image"]).latent_dist.parameters
    assert_close(moments, tensors["moments"], FORWARD, "moments")
    assert_close(torch.stack(codec.encode(images)), tensors["latent_mean"], FORWARD, "mean")
    mean, logvar = tensors["moments"].chunk(2, dim=1)
    config = codec.vae.config
    sampled = config.scaling_factor * (mean + (logvar / 2).exp() * tensors["eps"] - config.shift_factor)
    assert_close(sampled, tensors["latent_sampled"], FORWARD, "sampled")
    assert_close(torch.stack(codec.decode(list(tensors["latent_sampled"]))), tensors["decoded"], FORWARD, "decoded")
