"""One packed sequence with all its inputs and labels, and the function that lays segments out in it.

Shape suffixes: S packed tokens, X text and marker tokens, V patches, G latent tokens, F noised latent tokens, I latent
images, C trained text positions, D numbers per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ipt.sequence.segments import Kind, Segment, SpecialTokens
from ipt.sequence.spans import Loss, Mode, Span, SpanTable
from ipt.sequence.transforms import grid_of, patchify

Grid = tuple[int, int]


@dataclass(frozen=True)
class PackedBatch:
    """Inputs of one forward pass, each in packed order. Absent kinds are tensors with zero rows.

    ``latents_GD`` are clean (x0). ``timesteps_I`` (0 for clean images) and ``noise_FD`` are set by `with_noise`; a batch with
    noised images cannot run without them.
    """

    spans: SpanTable
    token_ids_X: Tensor
    patches_VD: Tensor
    patch_grids: tuple[Grid, ...]
    latents_GD: Tensor
    latent_grids: tuple[Grid, ...]
    labels_C: Tensor
    timesteps_I: Tensor
    noise_FD: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch with its tensors on ``device``."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: t.to(device, non_blocking=non_blocking) for name, t in tensors.items()})

    @property
    def noised_images(self) -> tuple[int, ...]:
        """Numbers of the latent images that are noised."""
        spans = self.spans
        modes = spans.mode[(spans.mode != Mode.CAUSAL) & (spans.expert == Kind.VAE.expert)]
        return tuple(np.flatnonzero(modes == Mode.NOISED).tolist())

    def with_noise(self, timesteps: Tensor, noise_FD: Tensor) -> PackedBatch:
        """Set t in [0, 1] per noised image and the noise of their tokens, both in packed order.

        Raises ``ValueError`` where the counts do not match the noised images of the batch.
        """
        rows = int(self.spans.is_noised.sum())
        if timesteps.shape != (len(self.noised_images),) or noise_FD.shape != (rows, self.latents_GD.shape[1]):
            raise ValueError(
                f"{len(self.noised_images)} noised images of {rows} tokens need timesteps [{len(self.noised_images)}] and "
                f"noise [{rows}, {self.latents_GD.shape[1]}], got {tuple(timesteps.shape)} and {tuple(noise_FD.shape)}"
            )
        timesteps_I = torch.zeros_like(self.timesteps_I)
        timesteps_I[list(self.noised_images)] = timesteps.to(timesteps_I)
        return replace(self, timesteps_I=timesteps_I, noise_FD=noise_FD.to(self.latents_GD))


def lay_out(
    samples: Sequence[Sequence[Segment]],
    tokens: SpecialTokens,
    vit_patch: int,
    latent_patch: int,
    latent_channels: int,
    positions: Sequence[int] | None = None,
) -> PackedBatch:
    """Lay samples out back to back. ``positions``: the rope id at which each sample starts (0; at inference, where its
    cached context ends). Raises ``ValueError`` for images that cannot be cut into patches."""
    spans: list[Span] = []
    text: list[Tensor] = [torch.empty(0, dtype=torch.long)]
    labels: list[Tensor] = [torch.empty(0, dtype=torch.long)]
    patches, latents = [torch.empty(0, 3 * vit_patch**2)], [torch.empty(0, latent_channels * latent_patch**2)]
    grids: dict[Kind, list[Grid]] = {Kind.VIT: [], Kind.VAE: []}
    for number, segments in enumerate(samples):
        position = 0 if positions is None else positions[number]
        for segment in segments:
            kind, payload = segment.kind, segment.payload
            if segment.dropped:
                position += kind.mode is Mode.FULL
                continue
            if kind is Kind.TEXT:
                ids = torch.cat([payload.new_tensor([tokens.bos]), payload, payload.new_tensor([tokens.eos])])
                text.append(ids)
                length = len(ids)
                if segment.loss is not Loss.NONE:
                    end = [] if segment.end_label is None else [segment.end_label]
                    labels.append(torch.cat([ids[1:], ids.new_tensor(end)]))
            else:
                patch, rows = (vit_patch, patches) if kind is Kind.VIT else (latent_patch, latents)
                text.append(torch.tensor([tokens.image_start, tokens.image_end]))
                grids[Kind.VIT if kind is Kind.VIT else Kind.VAE].append(grid_of(payload, patch))
                rows.append(patchify(payload, patch))
                length = len(rows[-1]) + 2
            span = Span(
                number, length, kind.mode, kind.expert, position, segment.role, segment.blocked, segment.loss
            )
            spans.append(span)
            position = span.next_position
    return PackedBatch(
        spans=SpanTable.from_spans(spans),
        token_ids_X=torch.cat(text),
        patches_VD=torch.cat(patches),
        patch_grids=tuple(grids[Kind.VIT]),
        latents_GD=torch.cat(latents),
        latent_grids=tuple(grids[Kind.VAE]),
        labels_C=torch.cat(labels),
        timesteps_I=torch.zeros(len(grids[Kind.VAE])),
    )
