"""Logits of the answer in a tiny random model: packed training against the KV cache, and what they may depend on."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ipt.imagination.modes.ipt import Ipt, IptSettings, SelfMade
from ipt.model.cache import KVCache, extend
from ipt.model.codec import PatchPca
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.unified import UnifiedModel, add_noise
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import PackedBatch, lay_out, single_tokens
from ipt.sequence.segments import Segment, TokenIds
from ipt.sequence.spans import Loss
from tests.imagination.examples import (
    ANSWERING,
    CODES,
    GEOMETRY,
    byte_tokenizer,
    code_codec,
    example,
    ipt,
    mode,
    noise_picture,
)
from tests.imagination.recording import Recording, at_inference, trained_texts

TOKENS = byte_tokenizer().special
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@functools.cache
def model() -> UnifiedModel:
    """All weights random."""
    config = ModelConfig(
        "toy",
        DecoderConfig(hidden=32, intermediate=48, layers=2, heads=4, kv_heads=2, vocab=byte_tokenizer().size),
        VisionConfig(hidden=24, intermediate=32, layers=2, heads=2, patch=4, side=5),
        LatentConfig(channels=3, patch=2, side=4, downsample=2),
        codes=CODES,
    )
    assert config.geometry == GEOMETRY
    generator = torch.Generator().manual_seed(0)
    made = UnifiedModel(config)
    made.initialise(generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return made.requires_grad_(False).eval()


@functools.cache
def codec() -> PatchPca:
    generator = torch.Generator().manual_seed(1)
    return PatchPca.fit([torch.rand(3, 16, 16, generator=generator) * 2 - 1], patch=2, channels=3)


def encoded(batch: PackedBatch) -> PackedBatch:
    return batch.coded(code_codec().encode).encoded(codec().encode)


def lively(task: str = "pet", seed: int = 0) -> SpatialSample:
    """A sample with random pictures."""
    plain = example(task)
    images = tuple(
        SampleImage(noise_picture(seed + number), image.role) for number, image in enumerate(plain.images, start=1)
    )
    return example(task, images=images, imagination=SampleImage(noise_picture(seed + 50), plain.imagination.role))


@torch.no_grad()
def packed_logits(sample: Sequence[Segment], others: Sequence[Sequence[Segment]] = (), noise_seed: int = 0) -> Tensor:
    """[n, vocabulary] of the last text of ``sample``, which is packed behind ``others``."""
    batch = encoded(lay_out([*others, sample], TOKENS, GEOMETRY))
    noised = None
    if images := len(batch.spans.noised_images):
        generator = torch.Generator().manual_seed(noise_seed)
        noise = torch.randn(batch.noised_latents().shape, generator=generator)
        noised, _ = add_noise(batch, torch.rand(images, generator=generator), noise)
    logits = model()(batch, noised).logits_CV
    assert logits is not None
    return logits[1 - sample[-1].num_tokens(GEOMETRY) :]


@torch.no_grad()
def cached_logits(row: Sequence[Segment]) -> Tensor:
    """The same through a KV cache: segments are appended one by one, the last text token by token."""
    cache = KVCache(model().config.decoder, torch.empty(0))
    context = cache.empty(1)
    for segment in row[:-1]:
        batch = encoded(lay_out([[segment]], TOKENS, GEOMETRY, context.positions))
        _, context = extend(model(), batch, cache, context)
    answer, logits = row[-1], []
    assert isinstance(answer.payload, TokenIds)
    for token in [TOKENS.bos, *answer.payload.ids.tolist()]:
        step = single_tokens(torch.tensor([token]), context.positions, GEOMETRY, answer.role, answer.blocked)
        output, context = extend(model(), step, cache, context)
        assert output.logits_CV is not None
        logits.append(output.logits_CV)
    return torch.cat(logits)


def settings(self_made: bool = False, **changes: object) -> IptSettings:
    return IptSettings(source={"self": 1.0} if self_made else {"ground_truth": 1.0}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ANSWERING)
def test_training_logits_are_inference_logits(name: str) -> None:
    made, sample, other = mode(name), lively("pet"), mode("label_only").segments(lively("mvc", 7), 0)
    rows, _ = at_inference(made, [sample], lambda row, size: sample.imagination)
    torch.testing.assert_close(packed_logits(made.segments(sample, 0), [other]), cached_logits(rows[0]), **CLOSE)


@pytest.mark.parametrize(
    ("condition", "reveal", "bottleneck", "self_made", "described"),
    [
        *itertools.product([("vae", "vit"), ("vit",)], [1.0], [0.0, 1.0], [False, True], [False, True]),
        (("vae", "vit"), 0.0, 0.0, True, False),
        (("vae",), 0.0, 1.0, False, True),
        ((), 1.0, 0.0, False, False),
    ],
)
def test_training_logits_are_inference_logits_whatever_the_answer_sees(
    condition: tuple[str, ...], reveal: float, bottleneck: float, self_made: bool, described: bool, tmp_path: Path
) -> None:
    """With a given imagination, true or self-made, and with a drawn one."""
    sample, drawn, cache = lively(), SampleImage(noise_picture(99), "view"), SelfMade(tmp_path)
    cache.write(sample.id, drawn)
    seen = settings(self_made, condition=condition, reveal=reveal, bottleneck=bottleneck, described=described)
    made = ipt(settings=seen, self_made=cache)
    image = drawn if self_made else sample.imagination
    training = packed_logits(made.segments(sample, 0))
    rows, _ = at_inference(made, [sample], lambda row, size: image)
    torch.testing.assert_close(training, cached_logits(rows[0]), **CLOSE)
    start = Recording.of(made, [sample], [trained_texts(made, sample)[1:]], lambda row, size: image)
    given = made.given(start, [sample], [replace(sample, imagination=image)])
    final, _ = given.context.generate_text(rows[0][-1].role, 0, blocked=given.blocked)
    torch.testing.assert_close(training, cached_logits(final.rows[0]), **CLOSE)  # type: ignore[attr-defined]


def seen_instead(made: Ipt, sample: SpatialSample, image: SampleImage, folder: Path) -> list[Segment]:
    """The training sample whose answer sees ``image``."""
    cache = SelfMade(folder)
    cache.write(sample.id, image)
    return Ipt(made.renderer, made.settings, self_made=cache).segments(sample, 0)


@pytest.mark.parametrize("reveal", [0.0, 1.0])
def test_the_answer_depends_on_the_imagination_iff_it_is_revealed(reveal: float, tmp_path: Path) -> None:
    made = ipt(settings=settings(True, reveal=reveal), self_made=SelfMade(tmp_path))
    one, two = (
        packed_logits(seen_instead(made, lively(), SampleImage(noise_picture(seed), "view"), tmp_path))
        for seed in (70, 71)
    )
    assert torch.equal(one, two) == (reveal == 0)


@pytest.mark.parametrize("bottleneck", [0.0, 1.0])
def test_the_answer_depends_on_the_observation_iff_there_is_no_bottleneck(bottleneck: float, tmp_path: Path) -> None:
    """Given the imagination that is seen; also through the question, the announcement and the clean copies."""
    made = ipt(settings=settings(True, bottleneck=bottleneck), self_made=SelfMade(tmp_path))
    seen = SampleImage(noise_picture(70), "view")
    one, two = (packed_logits(seen_instead(made, lively("mvc", seed), seen, tmp_path)) for seed in (0, 20))
    assert torch.equal(one, two) == (bottleneck == 1)


def test_a_bottleneck_still_lets_the_drawn_image_see_the_observation() -> None:
    made = ipt(settings=settings(bottleneck=1.0))
    velocities = []
    for seed in (0, 20):
        sample = lively("pet", seed)
        kept = example("pet", images=sample.images, imagination=lively().imagination)
        batch = lay_out([made.segments(kept, 0)], TOKENS, GEOMETRY).encoded(codec().encode)
        noised, _ = add_noise(batch, torch.tensor([0.5]), torch.zeros_like(batch.noised_latents()))
        with torch.no_grad():
            velocities.append(model()(batch, noised).velocities_FD)
    assert not torch.allclose(*velocities)


def test_the_answer_does_not_depend_on_the_noised_image() -> None:
    segments = ipt().segments(lively(), 0)
    assert torch.equal(packed_logits(segments, noise_seed=1), packed_logits(segments, noise_seed=2))
    other = ipt(truth=lambda sample: SampleImage(noise_picture(42), "view")).segments(lively(), 0)
    swapped = [theirs if ours.loss is Loss.FLOW else ours for ours, theirs in zip(segments, other, strict=True)]
    assert torch.equal(packed_logits(segments), packed_logits(swapped))
    assert not torch.equal(packed_logits(segments), packed_logits(other))
