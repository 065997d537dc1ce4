"""The published code's way to answer and to draw against ours, for `benchmarks.reference`: equal prompts, weights, noise, steps
and guidance contexts, which both prefill themselves. Theirs answers one question at a time, ours several, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.decisions import TOKENS
from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.cache import Context, KVCache, extend
from ipt.model.decoding import TokenSteps
from ipt.model.sampling import sample_latents
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import lay_out
from ipt.sequence.segments import Kind, Pixels, Segment, TokenIds
from ipt.sequence.spans import Role

IDS = {
    "bos_token_id": TOKENS.bos,
    "eos_token_id": TOKENS.eos,
    "start_of_image": TOKENS.image_start,
    "end_of_image": TOKENS.image_end,
}
WRITTEN, STEPS = 32, 10
GUIDANCE, SHIFT = Guidance(4.0, 2.0, 0.0, 1.0, "text_channel"), 3.0


@dataclass(frozen=True)
class Request:
    """Ids of a system prompt and of a question, and the pixels [3, H, W] of the picture between them."""

    system: Tensor
    pixels: Tensor
    question: Tensor

    @classmethod
    def random(
        cls, vocab: int, patches: int, patch: int, words: tuple[int, int], generator: torch.Generator
    ) -> Request:
        """``patches`` per side of the picture; ``words`` of the two texts, without their markers."""
        system, question = (torch.randint(10, vocab, (count,), generator=generator) for count in words)
        return cls(system, torch.rand(3, patch * patches, patch * patches, generator=generator) * 2 - 1, question)

    @property
    def branches(self) -> list[list[Tensor]]:
        """What is seen of it without a branch's texts or its picture: all, the picture, the texts; pictures have three axes."""
        return [[self.system, self.pixels, self.question], [self.pixels], [self.system, self.question]]


class Theirs:
    """The published model, one request at a time."""

    def __init__(self, model: Any, empty: Callable[[], Any]) -> None:
        self.model, self.empty = model.eval(), empty
        self.tokenizer = SimpleNamespace(encode=lambda ids: ids.tolist())

    def prefilled(self, parts: Sequence[Tensor]) -> tuple[Any, list[int], list[int]]:
        """The cache, its lengths, and the next rope ids."""
        cache, lengths, positions = self.empty(), [0], [0]
        for part in parts:
            if part.ndim == 3:
                given = self.model.prepare_vit_images(lengths, positions, [part], lambda image: image, IDS)
                cache = self.model.forward_cache_update_vit(cache, **given[0])
            else:
                given = self.model.prepare_prompts(lengths, positions, [part], self.tokenizer, IDS)
                cache = self.model.forward_cache_update_text(cache, **given[0])
            _, lengths, positions = given
        return cache, lengths, positions

    @torch.no_grad()
    def answer(self, request: Request) -> list[int]:
        cache, lengths, positions = self.prefilled(request.branches[0])
        start = self.model.prepare_start_tokens(lengths, positions, IDS)
        written = self.model.generate_text(cache, max_length=WRITTEN, **start)
        return [int(token) for token in written[1:, 0]]

    @torch.no_grad()
    def draw(self, request: Request, noise_LD: Tensor, pixels: int) -> Tensor:
        contexts = [self.prefilled(parts) for parts in request.branches]
        given = self.model.prepare_vae_latent(*contexts[0][1:], [(pixels, pixels)], IDS)
        given["packed_init_noises"] = noise_LD
        for name, (cache, *at) in zip(("cfg_text", "cfg_img"), contexts[1:], strict=True):
            branch = self.model.prepare_vae_latent_cfg(*at, [(pixels, pixels)])
            given |= {key.replace("cfg", name, 1): value for key, value in branch.items()}
            given[f"{name}_past_key_values"] = cache
        (drawn,) = self.model.generate_image(
            past_key_values=contexts[0][0],
            num_timesteps=STEPS + 1,
            timestep_shift=SHIFT,
            cfg_renorm_type=GUIDANCE.renorm,
            cfg_text_scale=GUIDANCE.text_scale,
            cfg_img_scale=GUIDANCE.image_scale,
            **given,
        )
        return drawn


class Ours:
    """The same of our model, for several requests at a time."""

    def __init__(self, model: UnifiedModel) -> None:
        self.model = model.eval()

    def prefilled(self, cache: KVCache, rows: Sequence[Sequence[Tensor]]) -> Context:
        segments = [
            [
                Segment(Kind.VIT, Pixels(part), Role.OBSERVATION)
                if part.ndim == 3
                else Segment(Kind.TEXT, TokenIds(part), Role.QUESTION)
                for part in parts
            ]
            for parts in rows
        ]
        context = cache.empty(len(rows))
        batch = lay_out(segments, TOKENS, self.model.config.geometry, context.positions)
        return extend(self.model, batch, cache, context, logits=False)[1]

    def answer(self, requests: Sequence[Request]) -> list[list[int]]:
        cache = KVCache(self.model.config.decoder, torch.empty(0))
        context = self.prefilled(cache, [request.branches[0] for request in requests])
        steps, tokens, written = TokenSteps(self.model, cache), [TOKENS.bos] * len(requests), []
        for _ in range(WRITTEN):
            context, _, logits = steps(context, tokens, Role.ANSWER, frozenset())
            tokens = logits.argmax(dim=-1).tolist()
            written.append(tokens)
        return [list(row) for row in zip(*written, strict=True)]

    def draw(self, requests: Sequence[Request], noise_BLD: Tensor, side: int) -> Tensor:
        cache = KVCache(self.model.config.decoder, torch.empty(0))
        contexts = [
            self.prefilled(cache, list(parts)) for parts in zip(*(each.branches for each in requests), strict=True)
        ]
        times = schedule(STEPS + 1, SHIFT)
        return sample_latents(
            *(self.model, cache, contexts[0], noise_BLD, (side, side), times, TOKENS, GUIDANCE), *contexts[1:]
        )


def agreement(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Print how far apart the two are."""
    print(f"{what}: {float((ours - theirs).abs().max()):.1e} apart", file=sys.stderr)
