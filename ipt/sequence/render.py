"""From samples to segments: token ids, pictures at their sizes, losses. Training and inference build every segment here.

What stands in which order is decided by the profile (`ipt.samples.prompts`), what an imagination consists of by its mode
(`ipt.imagination`); this file decides sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ipt.common.images import image_size
from ipt.samples.prompts import Profile, PromptPart, render_prompt
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.pictures import SMALL_KEPT, Picture, ResizeRule, Size, shrunk_size
from ipt.sequence.segments import Codes, Kind, RejectedSample, Segment, Slots, TokenIds, num_tokens, with_draws
from ipt.sequence.settings import Geometry, SequenceConfig
from ipt.sequence.spans import Loss, Role
from ipt.sequence.tokenizer import Tokenizer

KINDS: Mapping[str, Kind] = {"vae": Kind.VAE, "vit": Kind.VIT}
SHRINK_STEP, SHRINK_STEPS = 0.9, 20
#: Images of at most so many bytes have their headers read once.
SMALL_BYTES = 2**14

_size = lru_cache(maxsize=SMALL_KEPT)(image_size)


class Renderer:
    """Makes the segments of one model's sequences."""

    def __init__(self, tokenizer: Tokenizer, geometry: Geometry, profile: Profile, config: SequenceConfig) -> None:
        self.tokenizer, self.geometry, self.profile, self.config = tokenizer, geometry, profile, config

    def text(self, text: str, role: Role, trained: bool = False, blocked: frozenset[Role] = frozenset()) -> Segment:
        """A text; a ``trained`` one has a loss on every token and on its end."""
        ids = TokenIds(torch.tensor(self.tokenizer.encode(text), dtype=torch.long))
        return Segment(Kind.TEXT, ids, role, Loss.CE if trained else Loss.NONE, blocked=blocked)

    def prompt(self, sample: SpatialSample, mode: str) -> list[Segment]:
        """The prompt of a sample for an imagination mode, its images sized by the policy of `SequenceConfig`.

        Raises `RejectedSample` where the policy says so, ``BadSample`` and ``BadImage`` for what is wrong in the data.
        """
        limit, parts = self.config.max_prompt_tokens, render_prompt(sample, mode, self.profile)
        texts = [part if part.image is not None else self.text(part.text, Role[part.role.upper()]) for part in parts]
        for step in range(SHRINK_STEPS if self.config.oversize == "shrink" else 1):
            segments = self._sized(sample, texts, SHRINK_STEP**step)
            if num_tokens(segments, self.geometry) <= limit:
                return segments
        length = num_tokens(self._sized(sample, texts, 1.0), self.geometry)
        policy = f", also at {SHRINK_STEP**step:.2f} of its image sizes" if step else ""
        raise RejectedSample(sample.id, f"its prompt has {length} tokens, at most {limit} are allowed{policy}")

    def _sized(self, sample: SpatialSample, parts: Sequence[Segment | PromptPart], scale: float) -> list[Segment]:
        segments: list[Segment] = []
        numbers = itertools.count()
        for part in parts:
            if isinstance(part, Segment):
                segments.append(part)
            elif part.image is not None:
                segments += self.observation(sample, part.image, f"images[{next(numbers)}]", scale)
        return segments

    def observation(self, sample: SpatialSample, image: SampleImage, name: str, scale: float = 1.0) -> list[Segment]:
        """What the encoders of ``observe`` see of an input image, at ``scale`` times its configured size."""
        what, at = f"sample '{sample.id}', field '{name}'", self.config.resolution(sample.task)
        rules = {
            "vae": self._rule(at.input_side * scale, at.input_min_side * scale, self.geometry.latent_stride),
            "vit": self._rule(at.vit_side * scale, at.vit_min_side * scale, self.geometry.vit_patch),
        }
        size = _size(image.data, what) if len(image.data) <= SMALL_BYTES else image_size(image.data, what)
        shrunk = None if at.several_side is None or len(sample.images) == 1 else shrunk_size(size, at.several_side)
        seen = {encoder: rules[encoder].size(*(shrunk or size)) for encoder in self.config.observe}
        return [
            Segment(KINDS[encoder], Picture(image.data, (seen[encoder],), what, shrunk), Role.OBSERVATION)
            for encoder in self.config.observe
        ]

    def _rule(self, longest: float, shortest: float, stride: int) -> ResizeRule:
        longest = max(int(longest) // stride * stride, stride)
        return ResizeRule(longest, min(int(shortest), longest), stride)

    def imagination_size(self, task: str) -> Size:
        """(width, height) in pixels of an imagination."""
        side = self.config.resolution(task).imagination * self.geometry.latent_stride
        return side, side

    def noised(self, sample: SpatialSample, image: SampleImage, trained: bool = True) -> Segment:
        """The imagination as a flow-matching target; without loss where it is not ``trained``."""
        picture = Picture(
            image.data, (self.imagination_size(sample.task),), f"sample '{sample.id}', field 'imagination'"
        )
        return Segment(Kind.VAE_NOISED, picture, Role.IMAGINATION, Loss.FLOW if trained else Loss.NONE)

    def imagined(
        self, task: str, image: SampleImage, condition: Sequence[str], what: str = "imagination"
    ) -> list[Segment]:
        """What the answer may see of an imagination: its clean copies, whoever made it."""
        size, at = self.imagination_size(task), self.config.resolution(task)
        vit = self._rule(at.vit_side, at.vit_min_side, self.geometry.vit_patch).size(*size)
        sizes = {"vae": (size,), "vit": (size, vit)}
        return [Segment(KINDS[name], Picture(image.data, sizes[name], what), Role.IMAGINATION) for name in condition]

    def codes(self, task: str, image: SampleImage, what: str = "imagination", trained: bool = False) -> Segment:
        """An imagination as codes that are written."""
        picture = Picture(image.data, (self.imagination_size(task),), what)
        return Segment(Kind.CODES, picture, Role.IMAGINATION, Loss.CE if trained else Loss.NONE)

    def codes_of(self, numbers_hw: NDArray[np.int64]) -> Segment:
        """Codes of any origin [rows, columns]."""
        return Segment(Kind.CODES, Codes(torch.from_numpy(numbers_hw)), Role.IMAGINATION)

    def slots_of(self, vectors_KD: NDArray[np.float32]) -> Segment:
        """Latent slots that hold vectors [k, D] of any origin."""
        return Segment(Kind.LATENT, Slots(len(vectors_KD), torch.from_numpy(vectors_KD)), Role.IMAGINATION)

    def slots(
        self,
        count: int,
        shown: Segment | None = None,
        pool: str = "raster",
        loss: Loss = Loss.NONE,
        end_label: int | None = None,
    ) -> Segment:
        """``count`` latent slots of an imagination, made of the picture that is ``shown``; free without one."""
        return Segment(Kind.LATENT, Slots(count, shown, pool), Role.IMAGINATION, loss, end_label)

    def finish(self, sample: SpatialSample, segments: Sequence[Segment], epoch: int, draws: int = 1) -> list[Segment]:
        """A training sample with ``draws`` noised copies of what is to be drawn, after guidance dropout; `RejectedSample` where
        it is too long without it.
        """
        segments = with_draws(segments, draws)
        length, limit = num_tokens(segments, self.geometry), self.config.max_sample_tokens
        if length > limit:
            raise RejectedSample(sample.id, f"it has {length} tokens, at most {limit} are allowed")
        every_row = self.config.dropout.rows == "all"
        if not every_row and not any(segment.kind is Kind.VAE_NOISED for segment in segments):
            return list(segments)
        lost = {
            group: self.config.stream(f"dropout {group}", sample, epoch).random() < rate
            for group, rate in self.config.dropout.rates.items()
            if rate
        }
        if not any(lost.values()):
            return list(segments)
        kept = [replace(s, dropped=True) if lost.get(guidance_group(s), False) else s for s in segments]
        if every_row:
            return kept
        return [replace(s, loss=Loss.NONE) if lost.get("text") and s.loss is Loss.CE else s for s in kept]


def guidance_group(segment: Segment) -> str:
    """The group of `GuidanceDropout` that a segment belongs to; empty for one that is never dropped."""
    if segment.loss is not Loss.NONE or segment.kind is Kind.VAE_NOISED:
        return ""
    if segment.role is Role.OBSERVATION:
        return "observation"
    if segment.role is Role.IMAGINATION:
        return {Kind.VAE: "imagination_vae", Kind.VIT: "imagination_vit"}.get(segment.kind, "")
    return "text" if segment.kind is Kind.TEXT else ""
