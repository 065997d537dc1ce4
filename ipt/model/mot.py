"""The Mixture-of-Transformers decoder: Qwen2.5 with QK-norm, two experts per layer, one attention over all tokens.

Tokens are grouped by expert once per forward pass and stay in two tensors, so that every projection, norm and MLP runs on a
contiguous slice. RoPE is computed and applied in float32 whatever the compute dtype (frequencies rounded
to bfloat16 turn the phase by more than a radian at position 1000).

An expert without tokens still runs while gradients are recorded: its parameters then receive zero gradients instead of none,
so every rank of a distributed run takes part in the same collectives whatever its pack holds.

`torch.nn.RMSNorm` and the few lines of the gated MLP stand in for transformers' Qwen2 modules, with which they agree: the
import costs seconds in every process, and its RMSNorm is slower on CPU.

Shape suffixes: T grouped tokens, U / G understanding / generation tokens, D hidden size, N query heads, K key/value heads, H
numbers per head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipt.model.attention import Attention
from ipt.model.config import DecoderConfig

#: Of rope over an image's rows and columns: turns from edge to edge of the slowest and the fastest frequency.
MIN_CYCLES, MAX_CYCLES = 0.25, 4.0
LayerRunner = Callable[..., Any]


def run_directly(layer: nn.Module, *inputs: Any) -> Any:
    """The default `LayerRunner`. Training replaces it to recompute activations (``torch.utils.checkpoint``)."""
    return layer(*inputs)


@dataclass(frozen=True)
class Rope:
    """cos and sin [T, H], float32, half-split layout. An object of its own, because FSDP2's mixed precision casts every tensor
    among a layer's arguments, also those in tuples."""

    cos_TH: Tensor
    sin_TH: Tensor

    @classmethod
    def at(cls, position_ids_T: Tensor, head_dim: int, theta: float, cells_T2: Tensor | None = None) -> Rope:
        """angle = position * theta^(-2i / head_dim). With ``cells_T2`` (`PackedBatch.cells`), three quarters of the angles are
        of a token's row and column instead: the first quarter of the frequencies keeps the position."""
        exponents = torch.arange(0, head_dim, 2, device=position_ids_T.device, dtype=torch.float32) / head_dim
        angles = position_ids_T.float()[:, None] * (1.0 / theta**exponents)
        if cells_T2 is not None:
            pairs = head_dim // 2
            each = 3 * pairs // 8
            steps = torch.arange(each, device=cells_T2.device, dtype=torch.float32) / max(1, each - 1)
            turns = 2 * math.pi * MIN_CYCLES * (MAX_CYCLES / MIN_CYCLES) ** steps
            angles = torch.cat([angles[:, : pairs - 2 * each], (cells_T2[:, :, None] * turns).flatten(1)], dim=-1)
        angles = torch.cat([angles, angles], dim=-1)
        return cls(angles.cos(), angles.sin())

    @cached_property
    def _signed_sin_TH(self) -> Tensor:
        first, second = self.sin_TH.chunk(2, dim=-1)
        return torch.cat([-first, second], dim=-1)

    def rotate(self, x_TNH: Tensor) -> Tensor:
        """RoPE applied in float32, returned in the dtype of ``x_TNH``."""
        x = x_TNH.float()
        swapped = x.roll(x.shape[-1] // 2, dims=-1)
        return (x * self.cos_TH[:, None] + swapped * self._signed_sin_TH[:, None]).to(x_TNH.dtype)


class GatedMlp(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ExpertBlock(nn.Module):
    """One expert's share of a layer: everything but the attention itself."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        hidden, self.head_dim = config.hidden, config.head_dim
        self.input_layernorm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.q_proj = nn.Linear(hidden, config.heads * config.head_dim)
        self.k_proj = nn.Linear(hidden, config.kv_heads * config.head_dim)
        self.v_proj = nn.Linear(hidden, config.kv_heads * config.head_dim)
        self.q_norm = nn.RMSNorm(config.head_dim, eps=config.norm_eps)
        self.k_norm = nn.RMSNorm(config.head_dim, eps=config.norm_eps)
        self.o_proj = nn.Linear(config.heads * config.head_dim, hidden, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.mlp = GatedMlp(hidden, config.intermediate)

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, N, H], k and v [T, K, H] before RoPE."""
        x = self.input_layernorm(x_TD)
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        return self.q_norm(q), self.k_norm(k), v

    def finish(self, x_TD: Tensor, attended_TNH: Tensor) -> Tensor:
        """Output projection and MLP, with their residuals."""
        x = x_TD + self.o_proj(attended_TNH.flatten(1))
        return x + self.mlp(self.post_attention_layernorm(x))


class MoTLayer(nn.Module):
    """Two experts around one attention."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.understanding = ExpertBlock(config)
        self.generation = ExpertBlock(config)

    def forward(self, x_UD: Tensor, x_GD: Tensor, rope: Rope, attention: Attention) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled() and not len(x_GD):
            q, k, v = self.understanding.project(x_UD)
            attended = attention(self.index, rope.rotate(q), rope.rotate(k), v)
            return self.understanding.finish(x_UD, attended), x_GD
        parts = zip(self.understanding.project(x_UD), self.generation.project(x_GD), strict=True)
        q, k, v = (torch.cat(part) for part in parts)
        attended = attention(self.index, rope.rotate(q), rope.rotate(k), v)
        attended_U, attended_G = attended.split([len(x_UD), len(x_GD)])
        return self.understanding.finish(x_UD, attended_U), self.generation.finish(x_GD, attended_G)


class ExpertNorms(nn.Module):
    """The final norm of each expert."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.understanding = nn.RMSNorm(config.hidden, eps=config.norm_eps)
        self.generation = nn.RMSNorm(config.hidden, eps=config.norm_eps)

    def forward(self, x_UD: Tensor, x_GD: Tensor) -> Tensor:
        return torch.cat([self.understanding(x_UD), self.generation(x_GD)])


class MoTDecoder(nn.Module):
    """Token embedding, layers and final norms. ``run_layer`` is the hook for activation checkpointing."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(MoTLayer(config, index) for index in range(config.layers))
        self.norm = ExpertNorms(config)
        self.run_layer: LayerRunner = run_directly

    def rope(self, position_ids_T: Tensor, cells_T2: Tensor | None) -> Rope:
        """The turns of tokens at these rope ids; ``cells_T2`` (`PackedBatch.cells`) are looked at with ``grid_rope`` alone."""
        cells = cells_T2 if self.config.grid_rope else None
        return Rope.at(position_ids_T, self.config.head_dim, self.config.rope_theta, cells)

    def forward(self, x_UD: Tensor, x_GD: Tensor, rope: Rope, attention: Attention) -> Tensor:
        """Hidden states [T, D] after the final norms, in the grouped order; ``rope`` in the same order."""
        for layer in self.layers:
            x_UD, x_GD = self.run_layer(layer, x_UD, x_GD, rope, attention)
        return self.norm(x_UD, x_GD)
