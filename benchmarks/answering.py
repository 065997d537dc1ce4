"""The two ways to answer and to draw that `benchmarks.inference` compares."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.imagination.modes.ipt import Ipt
from ipt.imagination.recipe import Sampling, load_profile
from ipt.inference.context import SessionContext
from ipt.inference.session import Session
from ipt.model.cache import Context, KVCache, extend
from ipt.model.checkpoint import from_scratch
from ipt.model.codec import PatchPca
from ipt.model.config import presets
from ipt.model.sampling import LatentVelocity
from ipt.samples.prompts import IMAGE_START
from ipt.samples.sample import Provenance, SampleImage, SpatialSample
from ipt.sequence.batch import lay_out, single_tokens
from ipt.sequence.pictures import normalised, to_image, unpatchify
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Kind, Segment
from ipt.sequence.settings import Resolution, SequenceConfig
from ipt.sequence.spans import Role
from ipt.sequence.tokenizer import train_tokenizer

WRITTEN = 12
GUIDANCE = Guidance(4.0, 2.0, 0.0, 1.0, "text_channel")
#: Pixels of inputs for codec and vision tower, latent tokens per side of an imagination, points of the schedule.
SIZES = {"tiny": (64, 64, 8, 11), "small": (64, 56, 4, 5)}


class Bench:
    """A preset with random weights, questions with random pictures, and both ways to answer them."""

    def __init__(self, preset: str) -> None:
        pixels, vit, side, points = SIZES[preset]
        config = presets[preset]
        self.model = from_scratch(config, torch.Generator().manual_seed(0)).requires_grad_(False).eval()
        pictures = [generator(0, "picture", n).integers(0, 256, (pixels, pixels, 3), np.uint8) for n in range(64)]
        self.images = [encode_image(picture) for picture in pictures]
        fitted = [normalised(torch.from_numpy(picture).permute(2, 0, 1)) for picture in pictures]
        self.codec = PatchPca.fit(fitted, config.latents.downsample, config.latents.channels)
        tokenizer = train_tokenizer([*load_profile().systems.values(), self.sample(0).question], 512)
        resolution = Resolution(pixels, pixels, vit, vit, side)
        self.mode = Ipt(
            Renderer(tokenizer, config.geometry, load_profile(), SequenceConfig(resolutions={"pet": resolution}))
        )
        self.times, self.special, self.tokenizer = schedule(points), tokenizer.special, tokenizer
        sampling = Sampling(max_tokens=WRITTEN)
        self.session = Session(self.model, self.codec, tokenizer, sampling, GUIDANCE, self.times)

    def sample(self, number: int) -> SpatialSample:
        image = SampleImage(self.images[number % len(self.images)], "observation")
        return SpatialSample(
            id=str(number),
            task="pet",
            split="test",
            question="You walk to the red 'X' and turn right: on which side of you is the green chair then?",
            question_type="side",
            choices=("on the left", "on the right"),
            answer="A",
            images=(image,),
            imagination=replace(image, role="view"),
            rationale="",
            caption="",
            provenance=Provenance("none", "", "", 0),
        )

    def batched(self, samples: Sequence[SpatialSample], draw: bool) -> None:
        names = [(sample.id,) for sample in samples]
        start = SessionContext.start(self.session, names, ["pet"] * len(samples))
        context = start.append([self.mode.prompt(sample) for sample in samples])
        if draw:
            rows, texts = context.generate_text(Role.IMAGINATION, seed=1)
            context = self.mode.announced(rows, [text + IMAGE_START for text in texts], 1).context  # type: ignore[assignment]
        context.generate_text(Role.ANSWER, seed=1)

    @torch.no_grad()
    def loop(self, samples: Sequence[SpatialSample], draw: bool) -> None:
        for sample in samples:
            self.answer(sample, draw)

    def answer(self, sample: SpatialSample, draw: bool) -> None:
        """One question in the published way."""
        prompt = self.mode.prompt(sample)
        full = self.fed(Branch.of(self), prompt)
        if draw:
            texts = [s for s in prompt if s.kind is Kind.TEXT]
            without_text = self.fed(Branch.of(self), [s for s in prompt if s.kind is not Kind.TEXT])
            without_images = self.fed(Branch.of(self), texts)
            announced = self.mode.renderer.text(self.written(copy.deepcopy(full)), Role.IMAGINATION)
            full = self.fed(full, [announced])
            image = self.drawn(full, without_text, without_images)
            full = self.fed(full, self.mode.shown("pet", image))
        self.written(copy.deepcopy(full))

    def fed(self, branch: Branch, segments: Sequence[Segment]) -> Branch:
        for segment in segments:
            batch = lay_out([[segment]], self.special, self.model.config.geometry, branch.context.positions)
            _, context = extend(self.model, batch.encoded(self.codec.encode), branch.cache, branch.context)
            branch = Branch(branch.cache, context)
        return branch

    def written(self, branch: Branch) -> str:
        token, ids, context = self.special.bos, [], branch.context
        while len(ids) < WRITTEN:
            batch = single_tokens(torch.tensor([token]), context.positions, self.model.config.geometry)
            output, context = extend(self.model, batch, branch.cache, context)
            assert output.logits_CV is not None
            token = int(output.logits_CV[0].argmax())
            if token == self.special.eos:
                break
            ids.append(token)
        return self.tokenizer.decode(ids)

    def drawn(self, *branches: Branch) -> SampleImage:
        geometry = self.model.config.geometry
        side = self.mode.renderer.imagination_size("pet")[0] // geometry.latent_stride
        fields = [
            LatentVelocity(self.model, each.cache, each.context, (side, side), self.special, Role.IMAGINATION)
            for each in branches
        ]
        x: Tensor = torch.randn(1, side * side, geometry.latent_size, generator=torch.Generator().manual_seed(1))
        for t, following in zip(self.times[:-1].tolist(), self.times[1:].tolist(), strict=True):
            x = x - GUIDANCE.combine(*(field(x, t) for field in fields)) * (t - following)
        (pixels,) = self.codec.decode([unpatchify(x[0], (side, side), geometry.latent_patch)])
        return SampleImage(encode_image(np.asarray(to_image(pixels))), "imagination")


@dataclass(frozen=True)
class Branch:
    """One sequence with a cache of its own."""

    cache: KVCache
    context: Context

    @classmethod
    def of(cls, bench: Bench) -> Branch:
        cache = KVCache(bench.model.config.decoder, torch.empty(0))
        return cls(cache, cache.empty(1))


def per_second(
    run: Callable[[Sequence[SpatialSample], bool], None], samples: Sequence[SpatialSample], draw: bool
) -> float:
    """Answers per CPU second, the first of which warms up."""
    run(samples[:1], draw)
    start = time.process_time()
    run(samples, draw)
    return len(samples) / (time.process_time() - start)
