"""The decoder's small parts against transformers' Qwen2."""

from __future__ import annotations

import torch

from ipt.model.mot import Rope
from tests.model.golden_set import assert_close
from tests.model.toy import CONFIG, Maker, model


@torch.no_grad()
def test_norm_mlp_and_rope_equal_those_of_qwen2() -> None:
    from transformers import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import (
        Qwen2MLP,
        Qwen2RMSNorm,
        Qwen2RotaryEmbedding,
        apply_rotary_pos_emb,
    )

    c, make, expert = CONFIG.decoder, Maker(0), model().decoder.layers[0].generation
    config = Qwen2Config(
        hidden_size=c.hidden, intermediate_size=c.intermediate, num_attention_heads=c.heads, rope_theta=c.rope_theta
    )
    x_TD = make.random(7, c.hidden)
    mlp, norm = Qwen2MLP(config), Qwen2RMSNorm(c.hidden, c.norm_eps)
    mlp.load_state_dict(expert.mlp.state_dict())
    norm.load_state_dict(expert.input_layernorm.state_dict())
    assert_close(expert.mlp(x_TD), mlp(x_TD), 1e-6, "MLP")
    assert_close(expert.input_layernorm(x_TD), norm(x_TD), 1e-6, "norm")
    positions, q_TNH = torch.tensor([0, 1, 5, 900, 900, 31_000, 7]), make.random(7, c.heads, c.head_dim)
    cos, sin = Qwen2RotaryEmbedding(config)(x_TD, positions[None])
    theirs, _ = apply_rotary_pos_emb(q_TNH[None], q_TNH[None], cos, sin, unsqueeze_dim=2)
    assert_close(Rope.at(positions, c.head_dim, c.rope_theta).rotate(q_TNH), theirs[0], 1e-6, "RoPE")
