"""The mode `latent`: what its stages train, what they refuse, and the two of them as one command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra

import train as command
from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.imagination.mixture import ImaginationConfig, make_mode
from ipt.imagination.modes.latent import Latent, LatentSettings
from ipt.imagination.recipe import load_profile
from ipt.model.checkpoint import from_scratch
from ipt.model.unified import UnifiedModel
from ipt.samples.prompts import LATENT_END, LATENT_START, answer_text
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import seal, write_shard
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Kind, Slots
from ipt.sequence.spans import Loss, Role
from ipt.training.config import train_config
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig
from tests.imagination.examples import CONFIG as SEQUENCE
from tests.imagination.examples import GEOMETRY, byte_tokenizer, example, renderer
from tests.imagination.recording import trained_texts
from tests.model.toy import CONFIG


def latent(**settings: Any) -> Latent:
    return Latent(renderer(), LatentSettings(**settings))


def test_stage_ground_shows_the_slots_the_picture_and_stage_relax_does_not() -> None:
    sample = example()
    ground, relax = (latent(stage=stage).segments(sample, 0) for stage in ("ground", "relax"))
    assert [s.loss for s in ground[-3:]] == [Loss.CE, Loss.COSINE, Loss.CE]
    assert [s.loss for s in relax[-3:]] == [Loss.CE, Loss.NONE, Loss.CE]
    assert trained_texts(latent(), sample) == [LATENT_START, LATENT_END + answer_text(sample)]
    held, free = ground[-2].payload, relax[-2].payload
    assert isinstance(held, Slots) and isinstance(free, Slots) and held.count == free.count == 4
    assert free.content is None and held.content.payload.data == sample.imagination.data  # type: ignore[union-attr]
    assert [s.kind for s in ground] == [s.kind for s in relax]


@pytest.mark.parametrize("stage", ["ground", "relax"])
def test_the_last_slot_can_learn_where_they_end(stage: str) -> None:
    segments = latent(stage=stage, until_end=True).segments(example(), 0)
    batch = lay_out([segments], byte_tokenizer().special, GEOMETRY)
    last = int(batch.spans.slot_positions[-1])
    assert batch.labels_C[batch.spans.ce_positions.tolist().index(last)] == byte_tokenizer().encode(LATENT_END)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "warm"}, "latent.stage is ground or relax, not 'warm'"),
        ({"pool": "mean"}, "latent.pool is raster or grid"),
        ({"phi": "norm"}, "latent.phi is none or rms or linear"),
        ({"k": 0}, "1 <= k <= longest, got 0 and 8"),
        ({"stage": "relax", "rounds": 5}, "rounds=5 must be 1 to k=4"),
        ({"rounds": 2}, "rounds has no effect in stage ground"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LatentSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 20, "longest": 20}, r"k=20, task pet: a picture of 2 x 2 tokens cannot fill 20 slots: choose fewer"),
        ({"k": 3, "pool": "grid"}, r"k=3, task pet: a grid of 3 slots does not divide a picture of 2 x 2 tokens"),
        ({"k": 9, "longest": 9, "target": "vae"}, r"k=9, task pet: a picture of 2 x 2 tokens cannot fill 9 slots"),
    ],
)
def test_a_number_of_slots_that_does_not_fit_is_named_before_anything_is_trained(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        latent(**settings)


def run_values(folder: Path, **latent_settings: Any) -> dict[str, Any]:
    return {
        "task": {"names": ["pet"]},
        "data": {"train": str(folder)},
        "imagination": {"modes": {"latent": 1.0}, "latent": latent_settings},
        "sequence": {"observe": ["vit"]},
        "loader": {"budget": 24576},
        "resolution": {"input_side": 16, "vit_side": 16, "imagination": 2},
    }


def test_what_targets_come_from_is_not_trained(tmp_path: Path) -> None:
    config = train_config(run_values(tmp_path))
    assert config.full_tuning.freeze == ("vision", "connector", "generation") and config.full_trainer.rounds == (0, 0)
    assert train_config(run_values(tmp_path, target="vae")).full_tuning.freeze == ()
    with pytest.raises(UserError, match=r"latent.target=vae and .* need a codec: set model.codec"):
        train_config({**run_values(tmp_path, target="vae"), "model": {"codec": "none"}})
    lora = {"kind": "lora", "lora": {"groups": ["attention", "vision"]}}
    with pytest.raises(UserError, match=r"tuning.lora.groups=\['vision'\] would change the features"):
        train_config({**run_values(tmp_path), "tuning": lora})


def test_stage_relax_needs_a_run_of_stage_ground(tmp_path: Path) -> None:
    message = r"stage=relax goes on from a run of stage ground: set model.init to its folder.*experiment=mirage"
    with pytest.raises(UserError, match=message):
        train_config(run_values(tmp_path, stage="relax"))
    with pytest.raises(UserError, match=message):
        train_config({**run_values(tmp_path, stage="relax"), "model": {"init": str(tmp_path), "codec": "none"}})


def colour_task(number: int) -> SpatialSample:
    """The answer is the colour of the picture alone; the question and the input, of one of four kinds, say which that is."""
    kind, colour = number % 4, (number % 4) % 2
    plain = example("pet")
    value = np.full((16, 16, 3), (200, 30, 30) if colour else (30, 30, 200), np.uint8)
    value[: 4 * (1 + kind), :, 1] = 40 * kind
    seen = np.full((16, 16, 3), 60 * kind, np.uint8)
    seen[number % 16, number // 16 % 16] = 255
    return replace(
        plain,
        id=f"pet/{number}",
        question="Q",
        answer="AB"[colour],
        images=(SampleImage(encode_image(seen), "observation"),),
        imagination=SampleImage(encode_image(value), "view"),
    )


def train_on(model: UnifiedModel, mode: Latent, samples: list[SpatialSample], steps: int, rate: float) -> None:
    config = LossConfig(ce_weight=0.1 if mode.settings.stage == "ground" else 1.0)
    for part in (model.vision, model.connector):
        part.requires_grad_(False)
    objective = Objective(model, config, mode.settings.free_rounds)
    batch = packed(mode, samples)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for _ in range(steps):
        losses = objective(batch, *noised(batch, 0, 1.0))
        loss = config.total(mean_losses(losses, batch, token_counts(batch, config).tolist(), config))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def packed(mode: Latent, samples: list[SpatialSample]) -> PackedBatch:
    return lay_out([mode.segments(sample, 0) for sample in samples], byte_tokenizer().special, GEOMETRY)


@torch.no_grad()
def answers(model: UnifiedModel, batch: PackedBatch, rounds: tuple[int, int]) -> list[str]:
    """The letter that is likeliest where each sample's stands."""
    logits, letters = model(batch, rounds=rounds).logits_CV, [byte_tokenizer().encode(letter)[0] for letter in "AB"]
    labels = batch.labels_C
    owner = batch.spans.role[batch.spans.span_of[batch.spans.ce_positions]] == Role.ANSWER
    at = [i for i, label in enumerate(labels.tolist()) if label in letters and owner[i]]
    return ["AB"[int(logits[i, letters].argmax())] for i in at]


def test_ground_learns_its_latents_and_relax_answers_from_its_own() -> None:
    """On a task whose answer is in the picture alone: cosine above .9 on samples that were not trained on, then right answers;
    after `ground`, whose answers read the slots, those of another sample change them."""
    torch.manual_seed(0)
    shape = replace(CONFIG, decoder=replace(CONFIG.decoder, vocab=260))
    model = from_scratch(shape, torch.Generator().manual_seed(0))
    fit, held_out = ([colour_task(n) for n in numbers] for numbers in (range(16), range(16, 24)))
    short = Renderer(byte_tokenizer(), GEOMETRY, load_profile("brief"), replace(SEQUENCE, observe=("vit",)))
    ground, relax = (Latent(short, LatentSettings(stage=stage, phi="rms")) for stage in ("ground", "relax"))
    train_on(model, ground, fit, 100, 3e-3)
    batch, truth = packed(ground, held_out), [sample.answer for sample in held_out]
    with torch.no_grad():
        output = model(batch)
    states, vectors = (x.reshape(8, 4, -1) for x in (output.before_slots_ZD, output.vectors_ZD))
    others = vectors.roll(1, dims=0)  # the sample before is always of the other colour
    assert F.cosine_similarity(states, vectors, dim=-1).mean() > 0.9
    assert F.cosine_similarity(states, others, dim=-1).mean() < 0.5
    assert answers(model, batch, (0, 0)) == truth
    swapped = replace(batch, shown=None, pools=(), vectors_ZD=others.flatten(0, 1))
    assert sum(a != b for a, b in zip(answers(model, swapped, (0, 0)), truth, strict=True)) >= 6
    train_on(model, relax, fit, 25, 1e-3)
    assert answers(model, packed(relax, held_out), relax.settings.free_rounds) == truth


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_shard(folder / "train-00000.parquet", [colour_task(n) for n in range(16)])
    seal(folder, {})
    return folder


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    small = ["model=micro", "resolution=micro", "data.profile=brief", "task=pet", "trainer.steps=3"]
    return ["experiment=mirage", *small, f"data.train={data}", f"output_dir={folder}", *more]


def test_one_command_trains_both_stages_and_goes_on_where_it_was_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def train(*given: str) -> None:
        GlobalHydra.instance().clear()
        command.main(list(given))

    def records(folder: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{key: line[key] for key in ("step", "loss", "ce", "cosine", "data")} for line in lines]

    train(*arguments(data, tmp_path / "whole"))
    ground, relax = (records(tmp_path / "whole" / stage) for stage in ("ground", "relax"))
    assert [line["step"] for line in ground] == [line["step"] for line in relax] == [0, 1, 2]
    assert all(line["cosine"] > 0 for line in ground) and all(line["cosine"] == 0 for line in relax)
    assert ground[0]["loss"] == pytest.approx(0.1 * ground[0]["ce"] + ground[0]["cosine"])
    assert relax[0]["loss"] == relax[0]["ce"] < ground[0]["ce"]
    train(*arguments(data, tmp_path / "whole"))
    assert records(tmp_path / "whole" / "relax") == relax
    capsys.readouterr()
    train(*arguments(data, tmp_path / "plan", "dry_run=true"))
    assert "relax goes on from a run of stage ground" in capsys.readouterr().out
    assert not (tmp_path / "plan" / "ground" / "model").exists()


def test_a_mixture_of_all_modes_packs(data: Path) -> None:
    names = ("label_only", "text_cot", "caption", "ipt", "latent")
    config = ImaginationConfig(dict.fromkeys(names, 1.0))
    made = [make_mode(name, renderer(), config) for name in names]
    batch = lay_out([mode.segments(example(), 0) for mode in made], byte_tokenizer().special, GEOMETRY)
    assert batch.spans.num_samples == len(names) and len(batch.spans.slot_positions) == 4
    assert config.slot_input == "none" and config.frozen == ("vision", "connector")
    kinds = [segment.kind for mode in made for segment in mode.segments(example(), 0)]
    assert {Kind.LATENT, Kind.VAE_NOISED, Kind.TEXT} <= set(kinds)
