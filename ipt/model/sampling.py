"""Drawing an image in a cached context: the velocity field of the model, guided, and its integration.

Guidance branches go through the model as rows of one batch, or one after the other. The image is never written to the cache;
layout, masks, positions and what is seen of the cache are the same in every step and are made once. Of a guided step of 256
tokens, three branches and hidden size 512, 91 % are matrix products and attention (docs/benchmarks.md).

Shape suffixes: A layers, B images (rows of the context), L tokens of an image, D numbers per token, M what a row sees, T tokens
of all rows in the grouped order, U markers, G latents, N / K query / key heads, H numbers per head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ipt.flow.guidance import Guidance
from ipt.flow.path import Advance, Forecast, euler
from ipt.model.attention import folded_sdpa, to_device
from ipt.model.cache import LONG, Context, KVCache
from ipt.model.graphs import Captured
from ipt.model.mot import Rope
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import Grid, lay_out
from ipt.sequence.segments import Kind, Latents, Segment, SpecialTokens
from ipt.sequence.spans import Role

#: Tokens around an image.
MARKERS = 2


class ImageAttention:
    """Attention of one image of ``tokens`` tokens, markers among them, after each row of ``context``, to that and to itself.

    The tokens come as the decoder has them: the markers of all rows, then their latents. What each row holds is laid out once,
    at its right end, with room for the image behind it, which every pass fills anew. Rows of equal lengths are attended to in one
    call, without a mask; where images are short and lengths differ, all are, with the mask that hides what is left of a row.
    A pass may be of the first rows alone.
    """

    def __init__(self, cache: KVCache, context: Context, tokens: int) -> None:
        self.tokens, self.seen = tokens, max(context.lengths)
        self.keys_ABMKH, self.values_ABMKH = (
            self._laid_out(storage, context) for storage in (cache.keys_ARMKH, cache.values_ARMKH)
        )
        ends = [i for i, n in enumerate(context.lengths) if context.lengths[i + 1 : i + 2] != (n,)]
        starts = [0, *(end + 1 for end in ends[:-1])]
        self.calls = [(i, end + 1, self.seen - context.lengths[i]) for i, end in zip(starts, ends, strict=True)]
        self.mask_B11M: Tensor | None = None
        if tokens < LONG and len(self.calls) > 1:
            left_B1 = np.array([[self.seen - length] for length in context.lengths])
            hidden = to_device(np.arange(self.seen + tokens) < left_B1, cache.keys_ARMKH.device)
            empty = cache.keys_ARMKH.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
            self.mask_B11M, self.calls = empty[:, None, None], [(0, len(context), 0)]

    def _laid_out(self, storage_ARMKH: Tensor, context: Context) -> Tensor:
        layers, _, _, *rest = storage_ARMKH.shape
        made = storage_ARMKH.new_zeros((layers, len(context), self.seen + self.tokens, *rest))
        for i, (row, length) in enumerate(zip(context.rows, context.lengths, strict=True)):
            made[:, i, self.seen - length : self.seen] = storage_ARMKH[:, row, :length]
        return made

    def __call__(self, layer: int, q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor) -> Tensor:
        rows = len(q_TNH) // self.tokens
        q_BLNH = torch.cat(_by_row(q_TNH, rows), dim=1)
        keys, values = self.keys_ABMKH[layer], self.values_ABMKH[layer]
        for held, new in ((keys, k_TKH), (values, v_TKH)):
            markers, latents = _by_row(new, rows)
            held[:rows, self.seen : self.seen + MARKERS] = markers
            held[:rows, self.seen + MARKERS :] = latents
        outputs = []
        for start, end, first in self.calls:
            own = slice(start, min(end, rows))
            if start < rows:
                mask = None if self.mask_B11M is None else self.mask_B11M[own]
                outputs.append(folded_sdpa(q_BLNH[own], keys[own, first:], values[own, first:], mask))
        out_BLNH = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return torch.cat([out_BLNH[:, :MARKERS].flatten(0, 1), out_BLNH[:, MARKERS:].flatten(0, 1)])


def _by_row(x_TNH: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """[B, 2, N, H] of the markers and [B, L, N, H] of the latents."""
    return x_TNH[: rows * MARKERS].unflatten(0, (rows, MARKERS)), x_TNH[rows * MARKERS :].unflatten(0, (rows, -1))


class LatentVelocity:
    """The model's velocity for images of one ``grid`` after each row of ``context``, or after its first rows. Whatever the steps
    have in common is made here. ``graphs``: passes are captured and replayed (`ipt.model.graphs`)."""

    def __init__(
        self,
        model: UnifiedModel,
        cache: KVCache,
        context: Context,
        grid: Grid,
        tokens: SpecialTokens,
        role: Role,
        graphs: bool = False,
    ) -> None:
        latents = model.config.latents
        blank = torch.zeros(latents.channels, grid[0] * latents.patch, grid[1] * latents.patch)
        image = [Segment(Kind.VAE_NOISED, Latents(blank), role)]
        batch = lay_out([image] * len(context), tokens, model.config.geometry, context.positions)
        batch = batch.to(cache.keys_ARMKH.device)
        self.model, self.graphs = model, graphs
        self.attention = ImageAttention(cache, context, math.prod(grid) + MARKERS)
        self._captured: dict[int, Captured] = {}
        with torch.no_grad():
            self.markers_UD = model.embed_ids(batch.token_ids_X)
            self.positions_LD = model.latent_positions([grid]).to(model.latent_in.weight.dtype)
            self.rope = model.rope(batch, self.markers_UD)

    @torch.no_grad()
    def __call__(self, x_BLD: Tensor, t: float) -> Tensor:
        """[B, L, D] float32 of the first B rows."""
        time_1 = x_BLD.new_full((1,), t)
        if not self.graphs:
            return self._step(x_BLD, time_1)[0]
        if len(x_BLD) not in self._captured:
            self._captured[len(x_BLD)] = Captured(self._step, x_BLD, time_1)
        return self._captured[len(x_BLD)](x_BLD, time_1)[0]

    def _step(self, x_BLD: Tensor, time_1: Tensor) -> tuple[Tensor]:
        model, rows = self.model, len(x_BLD)
        projected = model.latent_in(x_BLD.to(model.latent_in.weight.dtype))
        x_GD = (projected + model.time_embedder(time_1) + self.positions_LD).flatten(0, 1)
        grouped_TD = model.decoder(self.markers_UD[: rows * MARKERS], x_GD, self._rope_of(rows), self.attention)
        return (model.latent_out(grouped_TD[rows * MARKERS :]).float().unflatten(0, (rows, -1)),)

    def _rope_of(self, rows: int) -> Rope:
        """That of the first ``rows``."""
        whole = len(self.markers_UD)
        if rows * MARKERS == whole:
            return self.rope
        last = whole + rows * (self.attention.tokens - MARKERS)
        first = (torch.cat([x[: rows * MARKERS], x[whole:last]]) for x in (self.rope.cos_TH, self.rope.sin_TH))
        return Rope(*first)


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
    graphs: bool = False,
) -> Tensor:
    """Latent tokens [B, L, D] of one image per row of ``context``, from ``noise_BLD`` along ``times`` (`flow.schedule`).

    ``without_text`` and ``without_images``: the contexts of the guidance branches, as many rows; they may be snapshots that
    share rows with ``context``. ``together``: all branches in one forward pass, which is faster where the device is not full
    already; else in one each, which takes less memory. ``skip``: steps after each evaluated one whose velocity is a forecast.
    ``advance``: how a step is made instead (`euler`). ``graphs``: see `LatentVelocity`. Raises ``ValueError`` where guidance
    needs a branch that is not given.
    """
    expected = (len(context), math.prod(grid), model.config.geometry.latent_size)
    if noise_BLD.shape != expected:
        raise ValueError(f"noise must be [rows, tokens, numbers] = {expected}, got {tuple(noise_BLD.shape)}")

    def field(rows: Context) -> LatentVelocity:
        return LatentVelocity(model, cache, rows, grid, tokens, role, graphs)

    if guidance is None or not guidance.uses_text:
        return euler(Forecast(field(context), skip), noise_BLD, times, observe, advance)
    contexts = [context]
    for branch in [without_text, without_images] if guidance.uses_image else [without_text]:
        if branch is None or len(branch) != len(context):
            raise ValueError(f"guidance {guidance} needs a context of {len(context)} rows for each of its branches")
        contexts.append(branch)
    fields = [field(sum(contexts[1:], context))] if together else [field(rows) for rows in contexts]

    def velocity(x_BLD: Tensor, t: float) -> Tensor:
        if not guidance.active(t):
            return fields[0](x_BLD, t)
        if together:
            v, u, *i = fields[0](x_BLD.repeat(len(contexts), 1, 1), t).chunk(len(contexts))
        else:
            v, u, *i = (each(x_BLD, t) for each in fields)
        return guidance.combine(v, u, i[0] if i else None)

    return euler(Forecast(velocity, skip, guidance.active), noise_BLD, times, observe, advance)
