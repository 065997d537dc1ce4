"""Drawing an image in a cached context: the velocity field of the model, guided, and its integration.

Guidance branches go through the model as rows of one batch, or one after the other. The image is never written to the cache;
layout, masks, positions and what is seen of the cache are the same in every step and are made once.

Shape suffixes: B images (rows of the context), L tokens of an image, D numbers per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ipt.flow.guidance import Guidance
from ipt.flow.path import Advance, Forecast, euler
from ipt.model.attention import flash_kernel
from ipt.model.cache import CachedAttention, Context, KVCache
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import Grid, NoisedImages, lay_out
from ipt.sequence.segments import Kind, Latents, Segment, SpecialTokens
from ipt.sequence.spans import Role


class LatentVelocity:
    """The model's velocity for images of one ``grid`` after each row of ``context``."""

    def __init__(
        self, model: UnifiedModel, cache: KVCache, context: Context, grid: Grid, tokens: SpecialTokens, role: Role
    ) -> None:
        like, latents = cache.keys_ARMKH, model.config.latents
        blank = torch.zeros(latents.channels, grid[0] * latents.patch, grid[1] * latents.patch)
        image = [Segment(Kind.VAE_NOISED, Latents(blank), role)]
        self.model = model
        self.batch = lay_out([image] * len(context), tokens, model.config.geometry, context.positions).to(like.device)
        kernel = flash_kernel(like) if model.attention == "flash" else None
        self.attention = CachedAttention(cache, context, self.batch.spans, like, append=False, kernel=kernel)

    @torch.no_grad()
    def __call__(self, x_BLD: Tensor, t: float) -> Tensor:
        times = x_BLD.new_full((len(x_BLD),), t)
        noised = NoisedImages(x_BLD.flatten(0, 1), times)
        output = self.model(self.batch, noised, self.attention, logits=False)
        return output.velocities_FD.unflatten(0, (len(x_BLD), -1))


def sample_latents(
    model: UnifiedModel,
    cache: KVCache,
    context: Context,
    noise_BLD: Tensor,
    grid: Grid,
    times: Tensor,
    tokens: SpecialTokens,
    guidance: Guidance | None = None,
    without_text: Context | None = None,
    without_images: Context | None = None,
    role: Role = Role.IMAGINATION,
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
    together: bool = True,
    skip: int = 0,
    advance: Advance | None = None,
) -> Tensor:
    """Latent tokens [B, L, D] of one image per row of ``context``, from ``noise_BLD`` along ``times`` (`flow.schedule`).

    ``without_text`` and ``without_images``: the contexts of the guidance branches, as many rows; they may be snapshots that
    share rows with ``context``. ``together``: all branches in one forward pass, which is faster where the device is not full
    already; else in one each, which takes less memory. ``skip``: steps after each evaluated one whose velocity is a forecast.
    ``advance``: how a step is made instead (`euler`). Raises ``ValueError`` where guidance needs a branch that is not given.
    """
    expected = (len(context), math.prod(grid), model.config.geometry.latent_size)
    if noise_BLD.shape != expected:
        raise ValueError(f"noise must be [rows, tokens, numbers] = {expected}, got {tuple(noise_BLD.shape)}")

    def field(rows: Context) -> LatentVelocity:
        return LatentVelocity(model, cache, rows, grid, tokens, role)

    if guidance is None or not guidance.uses_text:
        return euler(Forecast(field(context), skip), noise_BLD, times, observe, advance)
    contexts = [context]
    for branch in [without_text, without_images] if guidance.uses_image else [without_text]:
        if branch is None or len(branch) != len(context):
            raise ValueError(f"guidance {guidance} needs a context of {len(context)} rows for each of its branches")
        contexts.append(branch)
    fields = [field(sum(contexts[1:], context))] if together else [field(rows) for rows in contexts]
    always = all(map(guidance.active, times[:-1].tolist()))
    plain = fields[0] if always or not together else field(context)

    def velocity(x_BLD: Tensor, t: float) -> Tensor:
        if not guidance.active(t):
            return plain(x_BLD, t)
        if together:
            v, u, *i = fields[0](x_BLD.repeat(len(contexts), 1, 1), t).chunk(len(contexts))
        else:
            v, u, *i = (each(x_BLD, t) for each in fields)
        return guidance.combine(v, u, i[0] if i else None)

    return euler(Forecast(velocity, skip, guidance.active), noise_BLD, times, observe, advance)
