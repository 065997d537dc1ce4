"""Answering with BAGEL's geometry and random weights: reading a prompt of two images, writing text, drawing with guidance."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.measure import Results, seconds_of, synchronise
from benchmarks.gpu.packs import TOKENS, Maker, Sizes
from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.cache import Context, KVCache, extend
from ipt.model.checkpoint import build_on_meta, materialise
from ipt.model.codec import AutoencoderCodec, build_autoencoder
from ipt.model.sampling import LatentVelocity, sample_latents
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import lay_out, single_tokens
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role

NEW_TOKENS = 64


@dataclass(frozen=True)
class Request:
    """A prompt in the cache, with what guidance leaves out of it."""

    cache: KVCache
    full: Context
    without_text: Context
    without_images: Context


def make_model(sizes: Sizes, device: str, dtype: torch.dtype) -> UnifiedModel:
    """Random weights, allocated in ``dtype``; the velocity head's, too."""
    model = build_on_meta(sizes.shape).to(dtype)
    generator = torch.Generator(device).manual_seed(0)
    model = materialise(model, device)
    model.initialise(generator)
    with torch.no_grad():
        model.latent_out.weight.normal_(0, 0.02, generator=generator)
    return model.requires_grad_(False).eval()


def read(model: UnifiedModel, cache: KVCache, context: Context, segments: list[Segment]) -> Context:
    """Append to the first row of ``context``."""
    batch = lay_out([segments], TOKENS, model.config.geometry, context.positions).to(cache.keys_ARMKH.device)
    return extend(model, batch, cache, context, logits=False)[1]


def asked(model: UnifiedModel, maker: Maker) -> Request:
    """Two input images and a question."""
    images, text = maker.observations(2), maker.text(120, Role.QUESTION)
    like = model.lm_head.weight
    cache = KVCache(model.config.decoder, like)
    without_text = read(model, cache, cache.empty(1), images)
    full = read(model, cache, without_text, [text])
    return Request(cache, full, without_text, read(model, cache, cache.empty(1), [text]))


@torch.no_grad()
def run(results: Results, sizes: Sizes) -> None:
    """The whole section."""
    device = results.device
    cuda = device != "cpu"
    model, maker = make_model(sizes, device, torch.bfloat16 if cuda else torch.float32), Maker(sizes)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with results.attempt("prompt"):
        request = asked(model, maker)
        seconds = seconds_of(lambda: asked(model, maker), device, repeats=3, warm_up=1)
        results.add("prompt", tokens=request.full.lengths[0], both_branches_s=seconds)
    with results.attempt("text"):
        text(results, model, maker, request)
    largest = model.config.latents.side
    for side, steps in ((sizes.latent, 24), (sizes.latent, 50), (largest, 24)) if cuda else ((sizes.latent, 3),):
        with results.attempt(f"image of {side} x {side} tokens, {steps} steps"):
            image(results, model, maker, request, side, steps)
    if cuda:
        results.add("memory", peak_gb=torch.cuda.max_memory_allocated() / 1e9)
        autoencoder(results, (sizes.latent, largest))


def text(results: Results, model: UnifiedModel, maker: Maker, request: Request) -> None:
    """Greedy tokens after the prompt, one row; each is read back before the next, as a decoder has to."""
    cache, context, device = request.cache, request.full, results.device
    ids = torch.zeros(1, dtype=torch.long, device=device)
    started = time.perf_counter()
    for step in range(2 * NEW_TOKENS):
        if step == NEW_TOKENS:
            synchronise(device)
            started = time.perf_counter()
        batch = single_tokens(ids, context.positions, maker.geometry)
        output, context = extend(model, batch, cache, context)
        assert output.logits_CV is not None
        ids = output.logits_CV.argmax(-1)
        ids.tolist()
    seconds = time.perf_counter() - started
    results.add("text", tokens_per_s=NEW_TOKENS / seconds, ms_per_token=1e3 * seconds / NEW_TOKENS)


def image(results: Results, model: UnifiedModel, maker: Maker, request: Request, side: int, steps: int) -> None:
    """One image: without guidance, with BAGEL's (three branches as rows of one forward), and guided at all times, where the
    branches also run one after the other."""
    device, times, grid = results.device, schedule(steps + 1), (side, side)
    noise = maker.random(1, side * side, maker.geometry.latent_size).to(device)
    always = Guidance(4.0, 2.0, start=0.0)

    def drawn(guidance: Guidance | None, points: Tensor = times) -> Tensor:
        contexts = request.full, noise, grid, points, TOKENS, guidance, request.without_text, request.without_images
        return sample_latents(model, request.cache, *contexts)

    def one_by_one() -> None:
        branches = (request.full, request.without_text, request.without_images)
        fields = [LatentVelocity(model, request.cache, c, grid, TOKENS, Role.IMAGINATION) for c in branches]
        x = noise
        for t, following in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            x = x - always.combine(*(field(x, t) for field in fields)) * (t - following)

    drawn(always, schedule(3))
    seconds = {
        name: seconds_of(lambda guidance=guidance: drawn(guidance), device, repeats=1, warm_up=0)
        for name, guidance in (("plain", None), ("guided", Guidance()), ("guided_always", always))
    }
    separate = seconds_of(one_by_one, device, repeats=1, warm_up=0)
    results.add(
        f"image of {side} x {side} tokens, {steps} steps",
        **{f"{name}_s": value for name, value in seconds.items()},
        guided_always_three_forwards_s=separate,
    )


def autoencoder(results: Results, sides: tuple[int, ...]) -> None:
    """FLUX's autoencoder with random weights, float32: an image from latents and back."""
    with results.attempt("autoencoder"):
        torch.manual_seed(0)
        codec = AutoencoderCodec(build_autoencoder((128, 256, 512, 512), 2, 16)).to(results.device)
        for side in sides:
            latents = [torch.randn(16, 2 * side, 2 * side)]
            pixels = codec.decode(latents)
            results.add(
                f"autoencoder, {16 * side} pixels",
                decode_s=seconds_of(lambda x=latents: codec.decode(x), results.device, repeats=3, warm_up=1),
                encode_s=seconds_of(lambda x=pixels: codec.encode(x), results.device, repeats=3, warm_up=1),
            )
