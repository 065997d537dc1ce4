"""The unified model: text, ViT patches and VAE latents in one sequence, answered by hidden states, logits and velocities.

One forward path serves training and inference: they differ only in the `Attention` they pass (the whole packed sequence, or
new tokens against a KV cache, `cache.extend`). No losses and no I/O here.

Every part runs in every pass that records gradients, on zero tokens if need be: absent kinds contribute empty rows that stay
in the graph, so all parameters get gradients (zeros) and all ranks of a distributed run do the same work. A loss has to do
its share: sum over `ModelOutput`'s logits (or ``ce_hidden_CD``) and velocities even where they have no rows.

Shape suffixes: S packed tokens, T the same in the grouped order, U / G understanding / generation tokens, C trained text
positions, F noised latent tokens, I latent images, Z latent slots, D hidden size.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ipt.flow.path import interpolate, velocity_target
from ipt.model.attention import Attention, packed_attention, to_device
from ipt.model.config import ModelConfig
from ipt.model.mot import LayerRunner, MoTDecoder, Rope
from ipt.model.slots import SlotInput, pooled_all
from ipt.model.vision import GeluMlp, PositionTable, VisionTower
from ipt.model.weights import fill_normal
from ipt.sequence.batch import NoisedImages, PackedBatch
from ipt.sequence.spans import Mode, SpanTable

TIME_FREQUENCIES = 256

#: Fresh linear layers have variance 1 / (3 fan-in), as torch's own do, and embeddings this deviation. With variance 1 / fan-in
#: models learn to draw half as fast; with Qwen2's 0.02 everywhere, narrow ones hardly learn to answer (docs/painter.md).
EMBEDDING_DEVIATION = 0.3


class ModelOutput(NamedTuple):
    """``grouped_TD``: last hidden states in the grouped order. ``ce_hidden_CD``: those at the trained text positions, whose
    ``logits_CV`` are there if asked for. ``velocities_FD``: float32, at the noised latent tokens. ``before_slots_ZD``: the hidden
    states before the latent slots, ``vectors_ZD`` what the slots held, without gradient where these were given.

    A named tuple, so that wrappers such as FSDP find its tensors.
    """

    spans: SpanTable
    grouped_TD: Tensor
    ce_hidden_CD: Tensor
    logits_CV: Tensor | None
    velocities_FD: Tensor
    before_slots_ZD: Tensor
    vectors_ZD: Tensor

    @property
    def hidden_SD(self) -> Tensor:
        """[S, D] last hidden states in packed order."""
        return self.grouped_TD[_index(self.spans.rank, self.grouped_TD)]


class UnifiedModel(nn.Module):
    """BAGEL's architecture. ``attention``: name of the back-end for packed sequences; ``pad_packs``: the multiple of tokens to
    which it may pad them (`packed_attention`)."""

    def __init__(self, config: ModelConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config, self.attention, self.pad_packs = config, attention, 4096
        hidden, latents, vision = config.decoder.hidden, config.latents, config.vision
        self.decoder = MoTDecoder(config.decoder)
        self.lm_head = nn.Linear(hidden, config.decoder.vocab, bias=False)
        self.vision = VisionTower(vision)
        self.connector = GeluMlp(vision.hidden, hidden, hidden)
        self.vision_positions = PositionTable(vision.side, hidden, "ViT image", vision.interpolate_positions)
        self.latent_in = nn.Linear(config.geometry.latent_size, hidden)
        self.latent_out = nn.Linear(hidden, config.geometry.latent_size)
        self.latent_positions = PositionTable(latents.side, hidden, "latent image", vision.interpolate_positions)
        self.time_embedder = TimeEmbedder(hidden)
        self.slot_in = SlotInput(hidden, config.phi)
        self.codes = CodeTokens(config.codes.count, hidden) if config.codes.count else None

    def set_layer_runner(self, runner: LayerRunner) -> None:
        """Run every decoder and vision layer through ``runner(layer, *inputs)``, for example to checkpoint activations."""
        self.decoder.run_layer = self.vision.run_layer = runner

    def compute_tables(self) -> None:
        """Fill the position tables, which are no weights, after memory was given to a model that had none."""
        self.vision_positions.reset_parameters()
        self.latent_positions.reset_parameters()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Random weights for training from scratch: normal, zero biases, unit norms, and a zero velocity head, so that the first
        velocity is 0 (BAGEL zero-initialises ``llm2vae``, too)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                fill_normal(module.weight, (3 * module.in_features) ** -0.5, generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                fill_normal(module.weight, EMBEDDING_DEVIATION, generator)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm | PositionTable):
                module.reset_parameters()
        self.latent_out.weight.zero_()
        self.slot_in.reset_parameters()

    def forward(
        self,
        batch: PackedBatch,
        noised: NoisedImages | None = None,
        attention: Attention | None = None,
        logits: bool = True,
        rounds: tuple[int, int] = (0, 0),
    ) -> ModelOutput:
        """``noised``: the state of the batch's noised images, where it has any. ``attention``: that of the whole packed sequence
        by default. ``logits=False`` leaves ``logits_CV`` out, for losses that go through the vocabulary in chunks (`logits` of
        ``ce_hidden_CD``).

        ``rounds``: how often the latent slots are filled anew with the states before them, starting from zeros, and how many of
        the last of these rounds have gradients. Round r makes the first r slots of every sample what they would be one after
        the other: k rounds are exact for k slots (Jacobi's method), values and gradients.

        Raises ``ValueError`` for images larger than a position table, for a batch that is not `encoded`, and where ``noised``
        does not match its noised images.
        """
        spans = batch.spans
        x_UD, x_GD, vectors_ZD = self.embed(batch, noised, skip_absent=attention is not None)
        if attention is None:
            attention = packed_attention(self.attention, spans, x_UD, self.pad_packs)
        rope = self.rope(batch, x_UD)
        if len(vectors_ZD) and batch.vectors_ZD is None and batch.shown is None and not rounds[0]:
            raise ValueError("the batch has free latent slots: it takes rounds to fill them")
        slots_Z, before_Z = (_index(spans.rank[spans.slot_positions - back], x_UD) for back in (0, 1))

        def decoded(vectors_ZD: Tensor) -> Tensor:
            filled_UD = x_UD.index_copy(0, slots_Z, self.slot_in(vectors_ZD).to(x_UD.dtype)) if filling else x_UD
            return self.decoder(filled_UD, x_GD, rope, attention)

        filling = len(slots_Z) > 0 or self.config.phi == "linear"  # whose map gets gradients on every rank
        for number in range(rounds[0]):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= rounds[0] - rounds[1]):
                vectors_ZD = decoded(vectors_ZD)[before_Z]
        grouped_TD = decoded(vectors_ZD)
        ce_hidden_CD = grouped_TD[_index(spans.rank[spans.ce_positions], grouped_TD)]
        noised_FD = grouped_TD[_index(spans.rank[spans.noised_positions], grouped_TD)]
        return ModelOutput(
            spans=spans,
            grouped_TD=grouped_TD,
            ce_hidden_CD=ce_hidden_CD,
            logits_CV=self.logits(ce_hidden_CD) if logits else None,
            velocities_FD=self.latent_out(noised_FD).float(),
            before_slots_ZD=grouped_TD[before_Z],
            vectors_ZD=vectors_ZD,
        )

    def rope(self, batch: PackedBatch, like: Tensor) -> Rope:
        """The turns of a batch's tokens, in the grouped order, on the device of ``like``."""
        order = batch.spans.order
        cells_T2 = _index(batch.cells[order], like) if self.config.decoder.grid_rope else None
        return self.decoder.rope(_index(batch.spans.position_ids[order], like), cells_T2)

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """[C, vocabulary] next-token logits in the compute dtype; those of codes follow those of the tokens."""
        scores: Tensor = self.lm_head(hidden_CD)
        return scores if self.codes is None else torch.cat([scores, self.codes.head(hidden_CD)], dim=-1)

    def embed_ids(self, ids_X: Tensor) -> Tensor:
        """[X, D] of tokens and codes."""
        if self.codes is None:
            tokens_XD: Tensor = self.decoder.embed_tokens(ids_X)
            return tokens_XD
        first = self.config.decoder.vocab
        tokens_XD = self.decoder.embed_tokens(ids_X.clamp(max=first - 1))
        return torch.where((ids_X >= first)[:, None], self.codes.embed((ids_X - first).clamp(min=0)), tokens_XD)

    def embed(
        self, batch: PackedBatch, noised: NoisedImages | None = None, skip_absent: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder inputs of the understanding tokens [U, D], zeros at latent slots, and of the generation tokens [G, D]; the
        vectors [Z, D] of the slots, zeros where they are free.

        The pictures that slots are made of go through the same towers as those that are seen, in one pass, without gradient.

        ``skip_absent`` does not run parts on zero tokens: for decoding, never for training.
        """
        spans = batch.spans
        x_UD = self.embed_ids(batch.token_ids_X)
        x_GD = x_UD[:0] if skip_absent and not batch.latent_grids else self.embed_latents(batch, noised)
        patches_VD, grids, shown = batch.patches_VD, batch.patch_grids, batch.shown
        if shown is not None:
            patches_VD, grids = torch.cat([patches_VD, shown.patches_VD]), (*grids, *shown.patch_grids)
        slots = len(spans.slot_positions)
        if skip_absent and not grids and not slots:
            return x_UD, x_GD, x_UD[:0]
        # images that only see themselves are faster without flex (docs/benchmarks.md), and their lengths vary the most
        backend = "sdpa" if self.attention == "flex" else self.attention
        absent = skip_absent and not grids
        all_VD = x_UD[:0] if absent else self.connector(self.vision(patches_VD, grids, backend))
        features_VD, seen_VD = all_VD.split([len(batch.patches_VD), len(patches_VD) - len(batch.patches_VD)])
        placed_VD = features_VD + self.vision_positions(batch.patch_grids).to(features_VD.dtype)
        vectors_ZD = self._vectors(batch, seen_VD.detach(), slots)
        order_U = spans.order[: spans.num_understanding]
        kind_U = spans.is_body[order_U] + 2 * (spans.mode[spans.span_of[order_U]] == Mode.SLOTS)
        place_U = np.argsort(np.argsort(kind_U, kind="stable"), kind="stable")
        inputs_UD = torch.cat([x_UD, placed_VD, x_UD.new_zeros(slots, x_UD.shape[1])])
        return inputs_UD[_index(place_U, x_UD)], x_GD, vectors_ZD

    def _vectors(self, batch: PackedBatch, seen_VD: Tensor, slots: int) -> Tensor:
        """[Z, D] what the slots hold: given vectors, features of the vision tower or of the codec's latents as the decoder reads
        them (``latent_in``), or zeros."""
        if batch.vectors_ZD is not None:
            return batch.vectors_ZD.to(seen_VD)
        if batch.shown is None:
            return seen_VD.new_zeros(slots, seen_VD.shape[1])
        if batch.shown.patch_grids:
            return pooled_all(seen_VD, batch.shown.patch_grids, batch.pools)
        latents_GD, _ = batch.shown.seen_latents()
        features_GD = self.latent_in(latents_GD.to(self.latent_in.weight.dtype)).detach()
        return pooled_all(features_GD, batch.shown.latent_grids, batch.pools)

    def embed_latents(self, batch: PackedBatch, noised: NoisedImages | None = None) -> Tensor:
        """[G, D] decoder inputs of the latent tokens: projection of clean latents or x_t, timestep and position."""
        latents_GD, timesteps_I = batch.seen_latents(noised)
        weight = self.latent_in.weight
        sizes = np.array([math.prod(grid) for grid in batch.latent_grids], dtype=np.int64)
        times_ID = self.time_embedder(timesteps_I)
        times_GD = times_ID.repeat_interleave(_index(sizes, weight), dim=0, output_size=int(sizes.sum()))
        positions_GD = self.latent_positions(batch.latent_grids).to(weight.dtype)
        return self.latent_in(latents_GD.to(weight.dtype)) + times_GD + positions_GD


class CodeTokens(nn.Module):
    """Embedding and language head of ``count`` codes, beside those of the tokens: weights that were made without codes are as
    they were, whatever the vocabulary grows by and whether its head is tied to its embedding."""

    def __init__(self, count: int, hidden: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(count, hidden), nn.Linear(hidden, count, bias=False)

    @torch.no_grad()
    def reset_parameters(self, deviation: float, generator: torch.Generator) -> None:
        """``deviation``: that of the tokens' embeddings."""
        fill_normal(self.embed.weight, deviation, generator)
        fill_normal(self.head.weight, (3 * self.head.in_features) ** -0.5, generator)


def _index(index: np.ndarray, like: Tensor) -> Tensor:
    return to_device(index, like.device)


def time_sinusoid(timesteps_I: Tensor) -> Tensor:
    """[I, 256] float32: cos then sin of t * 10000^(-j / 128); t in [0, 1], unscaled."""
    half = TIME_FREQUENCIES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps_I.device) / half
    angles = timesteps_I.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Timestep t in [0, 1] to a hidden vector: sinusoid in float32, then two linear layers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, timesteps_I: Tensor) -> Tensor:
        first = cast(nn.Linear, self.mlp[0])
        vectors: Tensor = self.mlp(time_sinusoid(timesteps_I).to(first.weight.dtype))
        return vectors


def add_noise(batch: PackedBatch, timesteps: Tensor, noise_FD: Tensor) -> tuple[NoisedImages, Tensor]:
    """x_t of a batch's noised images at ``timesteps`` (one per noised image), and the velocity target [F, D], both float32."""
    sizes = [math.prod(batch.latent_grids[image]) for image in batch.spans.noised_images]
    per_token = timesteps.repeat_interleave(torch.tensor(sizes, device=timesteps.device, dtype=torch.long))
    x0_FD = batch.noised_latents()
    return NoisedImages(interpolate(x0_FD, noise_FD, per_token), timesteps), velocity_target(x0_FD, noise_FD)
