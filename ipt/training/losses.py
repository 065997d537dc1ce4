"""Cross-entropy of texts and flow matching of images, token by token, and their sum as the paper weighs it.

    loss = ce_weight * sum(CE) / (CE tokens of the step) + flow_weight * sum(MSE) / (flow tokens of the step)

The counts are those of a whole optimisation step over all ranks (`TokenCounts`, summed before the first backward pass), so
that neither packing nor accumulation nor world size changes the loss or its gradient (``spec/bagel.md`` section 3).

Logits exist for one chunk of positions at a time and are computed again in the backward pass: a pack of 24,000 trained tokens
with BAGEL's vocabulary would otherwise hold 15 GB of them, and as much again for their gradient.

Shape suffixes: C trained text positions, F noised latent tokens, D numbers per token, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ipt.common.seeding import derived_seed
from ipt.flow.path import sigmoid_normal_timesteps
from ipt.model.latents import add_noise
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch
from ipt.training.settings import LossConfig


class TokenCounts(NamedTuple):
    """What a step divides its sums by. ``ce`` is the weight of its trained text tokens: their number, unless reweighted."""

    ce: float = 0.0
    flow: float = 0.0

    @classmethod
    def of(cls, batch: PackedBatch, config: LossConfig) -> TokenCounts:
        """The counts of one pack."""
        return cls(float(text_weights(batch, config).sum()), float(batch.spans.is_flow_trained.sum()))

    def __add__(self, other: object) -> TokenCounts:
        assert isinstance(other, TokenCounts)
        return TokenCounts(self.ce + other.ce, self.flow + other.flow)


class TokenLosses(NamedTuple):
    """Float32 losses per token, unweighted: ``ce_C`` in nats; ``flow_F`` mean squared errors, 0 where an image is not trained."""

    ce_C: Tensor
    flow_F: Tensor


@dataclass(frozen=True)
class LossBreakdown:
    """The losses of a step by kind, as means over its tokens (``total`` is their weighted sum), and how many tokens there
    were."""

    total: float
    ce: float
    flow: float
    ce_tokens: float
    flow_tokens: float


class Objective(nn.Module):
    """The model together with its token losses: the unit that wrappers of distributed training wrap, so that the vocabulary
    projection happens inside of it. ``pieces``: cut the positions into so many, whatever their number, instead of
    into chunks: where every projection is a collective, all ranks have to make as many."""

    def __init__(self, model: UnifiedModel, config: LossConfig, pieces: int | None = None) -> None:
        super().__init__()
        self.model, self.config, self.pieces = model, config, pieces

    def forward(self, batch: PackedBatch, target_FD: Tensor) -> TokenLosses:
        """Losses of a noised batch with velocity targets [F, D]. Every kind is computed, also where it has no tokens: all
        parameters get gradients."""
        output = self.model(batch, logits=False)
        errors_F = (output.velocities_FD - target_FD).square().mean(-1)
        trained_F = torch.from_numpy(batch.spans.is_flow_trained).to(errors_F)
        return TokenLosses(self._cross_entropy(output.ce_hidden_CD, batch.labels_C), errors_F * trained_F)

    def _cross_entropy(self, hidden_CD: Tensor, labels_C: Tensor) -> Tensor:
        cut = [
            t.tensor_split(self.pieces) if self.pieces else t.split(self.config.chunk) for t in (hidden_CD, labels_C)
        ]
        pieces = zip(*cut, strict=True)
        return torch.cat(
            [checkpoint(self._chunk, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
        )

    def _chunk(self, hidden_CD: Tensor, labels_C: Tensor) -> Tensor:
        return F.cross_entropy(self.model.logits(hidden_CD).float(), labels_C, reduction="none")


def text_weights(batch: PackedBatch, config: LossConfig) -> np.ndarray:
    """[C] float32 weight of each trained text position."""
    spans = batch.spans
    return spans.ce_weights if config.reweight_text else np.ones(len(spans.ce_positions), dtype=np.float32)


def weighted_loss(
    losses: TokenLosses, batch: PackedBatch, counts: TokenCounts, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """The pack's shares of the step's mean cross-entropy and mean flow loss, scalars to be summed over the step's packs.

    A kind without tokens anywhere in the step is 0, and still part of the graph.
    """
    weights_C = torch.from_numpy(text_weights(batch, config)).to(losses.ce_C)
    return (losses.ce_C * weights_C).sum() / (counts.ce or 1.0), losses.flow_F.sum() / (counts.flow or 1.0)


def sample_losses(losses: TokenLosses, batch: PackedBatch, config: LossConfig) -> np.ndarray:
    """[N] weighted mean losses of each sample of the pack, for finding those that the model fails on."""
    spans, total = batch.spans, np.zeros(batch.spans.num_samples)
    kinds = (
        (losses.ce_C, spans.ce_positions, config.ce_weight),
        (losses.flow_F, spans.noised_positions, config.flow_weight),
    )
    for values, positions, weight in kinds:
        sample = spans.sample[spans.span_of[positions]]
        sums = np.bincount(sample, values.detach().double().cpu().numpy(), minlength=len(total))
        total += weight * sums / np.maximum(np.bincount(sample, minlength=len(total)), 1)
    return total


def noised(batch: PackedBatch, seed: int, shift: float, fresh: bool = True) -> tuple[PackedBatch, Tensor]:
    """The batch with noise at random times in its noised images, and the velocity targets [F, D].

    Time and noise of an image are a pure function of the seed, the sample's position in the data order (its number, in a batch
    that no loader made) and the image's number in the sample: packing, world size and resuming do not change them. Unless
    ``fresh``, a sample has the same in every epoch, by its id.
    """
    spans = batch.spans
    owners = spans.sample[spans.expert == 1][spans.noised_images].tolist()
    times, noise = [torch.empty(0)], [batch.latents_GD.new_empty(0, batch.latents_GD.shape[1], device="cpu")]
    for place, (image, owner) in enumerate(zip(spans.noised_images.tolist(), owners, strict=True)):
        origin = batch.origins[owner] if batch.origins else None
        name = owner if origin is None else origin.position if fresh else origin.sample_id
        stream = torch.Generator().manual_seed(derived_seed(seed, "flow", name, place - owners.index(owner)))
        times.append(sigmoid_normal_timesteps(1, shift, stream))
        rows, columns = batch.latent_grids[image]
        noise.append(torch.randn(rows * columns, batch.latents_GD.shape[1], generator=stream))
    device = batch.latents_GD.device
    return add_noise(batch, torch.cat(times).to(device), torch.cat(noise).to(device))
