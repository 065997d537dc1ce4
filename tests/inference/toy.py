"""A toy model that knows four samples by heart, in every imagination mode: it writes what it was trained to write."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from ipt.imagination.mixture import ImaginationConfig, make_mode
from ipt.imagination.recipe import Recipe
from ipt.inference.checkpoint import Checkpoint
from ipt.model.checkpoint import save_pretrained
from ipt.model.codec import PatchPca
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.unified import UnifiedModel, add_noise
from ipt.samples.prompts import (
    ANSWER,
    ANSWER_END,
    IMAGE_END,
    IMAGE_START,
    LATENT_END,
    LATENT_START,
    Profile,
    describe,
    think,
)
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import seal, write_shard
from ipt.sequence.batch import lay_out
from ipt.sequence.render import Renderer
from ipt.sequence.settings import GuidanceDropout, SequenceConfig
from ipt.sequence.tokenizer import Tokenizer, train_tokenizer
from tests.imagination.examples import GEOMETRY, RESOLUTION, example, noise_picture

PROFILE = Profile(
    "toy", {"label_only": "L", "text_cot": "T", "caption": "C", "ipt": "I", "latent": "Z"}, {"pet": ("look",)}
)
SEQUENCE = SequenceConfig(resolutions={"pet": RESOLUTION}, dropout=GuidanceDropout(text=0.1))
STEPS = 80


def sample(number: int, answer: str | None = None) -> SpatialSample:
    """Samples 0 to 3 are known by heart; each is of a scene of its own."""
    plain = example("pet")
    return replace(
        plain,
        id=f"pet/{number}",
        question=f"Q{number}{'?' * (number % 3)}",
        choices=("far", "near"),
        answer=answer or "AB"[number % 2],
        rationale=f"r{number % 2}",
        caption=f"c{number % 2}",
        images=(SampleImage(noise_picture(number), "observation"),),
        imagination=SampleImage(noise_picture(50 + number), "view"),
        provenance=replace(plain.provenance, scene_id=f"scene-{number}"),
    )


SAMPLES = [sample(number) for number in range(4)]


@functools.cache
def tokenizer() -> Tokenizer:
    tags = f"{think('r0')}{describe('c0')}{IMAGE_START}{IMAGE_END}{ANSWER}A{ANSWER_END}{ANSWER}B{ANSWER_END}"
    tags += f"{LATENT_START}{LATENT_END}"
    return train_tokenizer([tags, tags], 300)


@functools.cache
def codec() -> PatchPca:
    generator = torch.Generator().manual_seed(1)
    return PatchPca.fit([torch.rand(3, 16, 16, generator=generator) * 2 - 1], patch=2, channels=3)


def recipe(*modes: str) -> Recipe:
    return Recipe(ImaginationConfig(dict.fromkeys(modes or ("ipt", "label_only"), 1.0)), SEQUENCE, PROFILE)


@functools.cache
def model() -> UnifiedModel:
    config = ModelConfig(
        "toy",
        DecoderConfig(hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2, vocab=300),
        VisionConfig(hidden=24, intermediate=32, layers=1, heads=2, patch=4, side=5),
        LatentConfig(channels=3, patch=2, side=4, downsample=2),
    )
    assert config.geometry == GEOMETRY
    generator = torch.Generator().manual_seed(0)
    made = UnifiedModel(config)
    made.initialise(generator)
    with torch.no_grad():
        made.latent_out.weight.normal_(0, 0.1, generator=generator)
    renderer = Renderer(tokenizer(), GEOMETRY, PROFILE, SEQUENCE)
    made_modes = [make_mode(name, renderer, recipe().imagination) for name in PROFILE.systems]
    segments = [mode.segments(each, 0) for mode, each in itertools.product(made_modes, SAMPLES)]
    batch = lay_out(segments, tokenizer().special, GEOMETRY).encoded(codec().encode)
    noise = torch.randn(batch.noised_latents().shape, generator=generator)
    noised, targets = add_noise(batch, torch.rand(len(batch.spans.noised_images), generator=generator), noise)
    optimizer = torch.optim.AdamW(made.parameters(), lr=8e-3, weight_decay=0.0)
    for _ in range(STEPS):
        output = made(batch, noised)
        assert output.logits_CV is not None
        loss = F.cross_entropy(output.logits_CV, batch.labels_C) + F.mse_loss(output.velocities_FD, targets)
        loss = loss - F.cosine_similarity(output.before_slots_ZD, output.vectors_ZD.detach(), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.requires_grad_(False).eval()


def checkpoint(*modes: str) -> Checkpoint:
    """The toy as a checkpoint that was trained on ``modes`` (ipt and label_only)."""
    return Checkpoint(model(), codec(), tokenizer(), recipe(*modes))


def save_run(folder: Path, *modes: str) -> Path:
    """The toy as a run of train.py leaves it."""
    tokenizer().save(folder / "assets")
    recipe(*modes).save(folder / "model")
    save_pretrained(model(), folder / "model", codec=codec(), tokenizer=folder / "assets")
    return folder


def save_data(folder: Path, samples: list[SpatialSample]) -> Path:
    write_shard(folder / "test-00000.parquet", samples)
    seal(folder, {})
    return folder
