"""What is trained: a table of named losses, each a weighted mean over its own tokens, and their sum.

    loss = sum over terms of  weight * sum(w * value) / (sum of w over the step)

``ce`` is the cross-entropy of texts, ``flow`` the flow matching of noised images (BAGEL's two losses, arXiv 2505.14683),
``cosine`` one minus the cosine of each latent slot's vector and the state before it (Mirage, arXiv 2506.17218). A new loss is an
entry of `TERMS` and its weight in `LossConfig`; counts, records, validation and reports follow from these. Packs of rollouts have
tables of their own (`ipt.training.policy`).

The sums of w are those of a whole optimisation step over all ranks (`token_counts`, added up before the first backward pass),
so that neither packing nor accumulation nor world size changes the loss or its gradient.

Logits exist for one chunk of positions at a time and are computed again in the backward pass: a pack of 24,000 trained tokens
with BAGEL's vocabulary would otherwise hold 15 GB of them, and as much again for their gradient.

Shape suffixes: R rows of a term, C trained text positions, F noised latent tokens, Z latent slots, D numbers per
token, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ipt.common.seeding import derived_seed
from ipt.flow.path import sigmoid_normal_timesteps
from ipt.model.unified import UnifiedModel, add_noise
from ipt.sequence.batch import NoisedImages, PackedBatch
from ipt.sequence.replay import Drawn
from ipt.training.policy import TABLES, observed
from ipt.training.settings import LossConfig
from ipt.training.terms import Floats, LossTerm

TokenLosses = dict[str, Tensor]
"""Float32 losses [R] of every row by term, unweighted."""


class Objective(nn.Module):
    """The model together with its token losses: the unit that wrappers of distributed training wrap, so that the vocabulary
    projection happens inside of it."""

    clip: tuple[float, float]

    def __init__(
        self,
        model: UnifiedModel,
        config: LossConfig,
        rounds: tuple[int, int] = (0, 0),
        clip: tuple[float, float] = (0.2, 0.2),
    ) -> None:
        """``rounds``: of free latent slots (`UnifiedModel.forward`), the same in every pack of every rank. ``clip``: how far
        below and above 1 ratios of rollouts count."""
        super().__init__()
        self.model, self.config, self.rounds, self.clip = model, config, rounds, clip

    def forward(
        self, batch: PackedBatch, noised: NoisedImages, target_FD: Tensor, choices: bool = False
    ) -> TokenLosses:
        """Losses of an encoded batch whose images are noised, with velocity targets. Every term is computed, also where it has
        no rows: all parameters get gradients. ``choices``: instead what the weights make of the choices of a rollout."""
        # the slots of a rollout hold what they held then
        rounds = self.rounds if batch.replay is None else (0, 0)
        output = self.model(batch, noised, logits=False, rounds=rounds)
        if batch.replay is not None:
            target_FD = observed(self, output, batch)
        if choices:
            return {"choices": target_FD}
        return {name: term.values(self, output, batch, target_FD) for name, term in terms_of(batch).items()}

    def cross_entropy(
        self, hidden_CD: Tensor, labels_C: Tensor, temperature: float = 1.0, words: int | None = None
    ) -> Tensor:
        """[C] in nats, chunk by chunk; at ``temperature``, and over the first ``words`` of the vocabulary."""
        chunks = zip(*(tensor.split(self.config.chunk) for tensor in (hidden_CD, labels_C)), strict=True)
        as_ = temperature, words
        return torch.cat(
            [checkpoint(self._chunk, *chunk, *as_, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
        )

    def _chunk(self, hidden_CD: Tensor, labels_C: Tensor, temperature: float, words: int | None) -> Tensor:
        logits_CV = self.model.logits(hidden_CD).float()[:, :words]
        return F.cross_entropy(logits_CV if temperature == 1 else logits_CV / temperature, labels_C, reduction="none")


def text_weights(batch: PackedBatch, config: LossConfig) -> Floats:
    """[C] what each trained text position counts: 1, or BAGEL's (n + 1)^-0.5."""
    spans = batch.spans
    return spans.ce_weights if config.reweight_text else np.ones(len(spans.ce_positions), dtype=np.float32)


TERMS: Mapping[str, LossTerm] = {
    "ce": LossTerm(
        rows=lambda batch: batch.spans.ce_positions,
        weights=text_weights,
        values=lambda objective, output, batch, _: objective.cross_entropy(output.ce_hidden_CD, batch.labels_C),
    ),
    "flow": LossTerm(
        rows=lambda batch: batch.spans.noised_positions,
        weights=lambda batch, _: batch.spans.is_flow_trained.astype(np.float32),
        values=lambda _, output, __, target_FD: (output.velocities_FD - target_FD).square().mean(-1),
    ),
    "cosine": LossTerm(
        rows=lambda batch: batch.spans.slot_positions,
        weights=lambda batch, _: batch.spans.is_cosine_trained.astype(np.float32),
        values=lambda _, output, __, ___: (
            1 - F.cosine_similarity(output.before_slots_ZD.float(), output.vectors_ZD.detach().float(), dim=-1)
        ),
    ),
}


def terms_of(batch: PackedBatch) -> Mapping[str, LossTerm]:
    """The losses that a pack has: those of supervised samples, or of the choices of a rollout."""
    return TERMS if batch.replay is None else TABLES[type(batch.replay)]


def token_counts(batch: PackedBatch, config: LossConfig) -> NDArray[np.float64]:
    """[terms] the sum of a pack's weights, which over a step is what its losses are divided by."""
    return np.array(
        [
            float(term.weights(batch, config).sum()) if term.count is None else term.count(batch)
            for term in terms_of(batch).values()
        ]
    )


def mean_losses(losses: TokenLosses, batch: PackedBatch, counts: Sequence[float], config: LossConfig) -> list[Tensor]:
    """The pack's shares of the step's mean losses, a scalar per term, to be summed over the step's packs.

    A term without rows anywhere in the step is 0, and still part of the graph.
    """
    shares = []
    for (name, term), count in zip(terms_of(batch).items(), counts, strict=True):
        weights_R = torch.from_numpy(term.weights(batch, config)).to(losses[name])
        shares.append((losses[name] * weights_R).sum() / (count or 1.0))
    return shares


def sample_losses(
    losses: Mapping[str, NDArray[np.float64]], batch: PackedBatch, config: LossConfig, factors: Mapping[str, float]
) -> NDArray[np.float64]:
    """[N] the loss of each sample of the pack by itself, for finding those that the model fails on, from those of its tokens."""
    spans, total = batch.spans, np.zeros(batch.spans.num_samples)
    for name, term in terms_of(batch).items():
        sample, weights_R = spans.sample[spans.span_of[term.rows(batch)]], term.weights(batch, config)
        values_R = losses[name] * weights_R
        sums, counts = (np.bincount(sample, each, minlength=len(total)) for each in (values_R, weights_R))
        total += factors[name] * sums / np.where(counts > 0, counts, 1.0)
    return total


def noised(batch: PackedBatch, seed: int, shift: float, fresh: bool = True) -> tuple[NoisedImages, Tensor]:
    """Noise at random times in the batch's noised images, and the velocity targets [F, D].

    Time and noise of an image are a pure function of the seed, the sample's position in the data order (its number, in a batch
    that no loader made) and the image's number in the sample, in which every draw of an image counts: packing, world size and
    resuming do not change them. Unless ``fresh``, a sample has the same in every epoch, by its id. The steps of a drawing are
    replayed from where they were.
    """
    if isinstance(batch.replay, Drawn):
        return NoisedImages(batch.replay.states_FD, batch.replay.times_J), batch.latents_GD[:0]
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
