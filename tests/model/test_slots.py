"""Latent slots: pooled as Mirage's, filled in rounds as one after the other, the same in a pack and against a cache."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from ipt.common.errors import UserError
from ipt.model.cache import KVCache, extend
from ipt.model.checkpoint import StoredModel, from_pretrained, save_pretrained
from ipt.model.keys import bagel_name
from ipt.model.mot import Rope
from ipt.model.slots import SlotInput, pooled
from ipt.model.unified import ModelOutput, UnifiedModel
from ipt.sequence.batch import PackedBatch, lay_out, slot_tokens
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Loss, Mode, Role
from ipt.sequence.visibility import dense_mask
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig
from tests.model.toy import AS_BAGEL, CONFIG, TOKENS, Maker, random_model

K = 3
ROUNDED = {"atol": 1e-8, "rtol": 1e-6}


@pytest.fixture(autouse=True)
def rope_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models compute it in float32, whatever else they compute in, which would hide differences."""

    def rotate(rope: Rope, x: Tensor) -> Tensor:
        swapped = x.roll(x.shape[-1] // 2, dims=-1)
        return x * rope.cos_TH[:, None].to(x) + swapped * rope._signed_sin_TH[:, None].to(x)

    monkeypatch.setattr(Rope, "rotate", rotate)


def mirage(features: list[list[float]], k: int) -> list[list[float]]:
    """Mirage, section 3: drop the n mod k features at the end, cut the others into k runs in raster order, average each."""
    kept = features[: len(features) - len(features) % k]
    run = len(kept) // k
    return [[sum(column) / run for column in zip(*kept[i * run : (i + 1) * run], strict=True)] for i in range(k)]


@pytest.mark.parametrize(("rows", "columns", "k"), [(4, 4, 4), (5, 3, 4), (2, 7, 3), (1, 1, 1), (3, 3, 9)])
def test_raster_runs_are_those_of_mirage(rows: int, columns: int, k: int) -> None:
    features = torch.randn(rows * columns, 5, dtype=torch.float64)
    expected = torch.tensor(mirage(features.tolist(), k), dtype=torch.float64)
    torch.testing.assert_close(pooled(features, (rows, columns), k, "raster"), expected)


def test_a_grid_averages_over_squares() -> None:
    features = torch.arange(24, dtype=torch.float64)[:, None]
    found = pooled(features, (4, 6), 4, "grid")
    picture = features.reshape(4, 6)
    assert found.flatten().tolist() == [picture[r : r + 2, c : c + 3].mean().item() for r in (0, 2) for c in (0, 3)]


@pytest.mark.parametrize(
    ("grid", "k", "pool", "message"),
    [
        ((2, 2), 5, "raster", "a picture of 2 x 2 tokens cannot fill 5 slots: choose fewer"),
        ((4, 4), 3, "grid", "a grid of 3 slots does not divide a picture of 4 x 4 tokens: choose a square number"),
        ((4, 3), 4, "grid", "does not divide a picture of 4 x 3 tokens"),
    ],
)
def test_a_number_of_slots_that_does_not_fit_is_named(grid: tuple[int, int], k: int, pool: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pooled(torch.zeros(math.prod(grid), 2), grid, k, pool)


def samples(make: Maker, content: bool = False, loss: Loss = Loss.NONE) -> list[list[Segment]]:
    """Two samples with slots and one without; free slots unless they hold the vectors of an image."""
    slots = [make.slots(K, make.vit(2, 3) if content else None, loss=loss) for _ in range(2)]
    answer = {"role": Role.ANSWER, "loss": Loss.CE}
    return [
        [make.vit(2, 2), make.text(4), make.text(2, loss=Loss.CE), slots[0], make.text(3, **answer)],
        [make.text(3), make.text(3, **answer)],
        [make.text(5), make.vae(1, 2), slots[1], make.text(4, **answer)],
    ]


def packed(segments: list[list[Segment]]) -> PackedBatch:
    return lay_out(segments, TOKENS, CONFIG.geometry)


def exact(phi: str = "none") -> UnifiedModel:
    return random_model(config=replace(CONFIG, phi=phi)).double()


def one_after_the_other(model: UnifiedModel, batch: PackedBatch) -> ModelOutput:
    """Slot t of every sample is set to the state before it, then slot t + 1."""
    spans = batch.spans
    vectors = torch.zeros(len(spans.slot_positions), CONFIG.decoder.hidden, dtype=torch.float64)
    place = torch.from_numpy(spans.offset[spans.slot_positions])
    for step in range(int(place.max()) + 1):
        output = model(replace(batch, vectors_ZD=vectors))
        vectors = torch.where((place == step)[:, None], output.before_slots_ZD, vectors)
    return model(replace(batch, vectors_ZD=vectors))


def with_gradients(model: UnifiedModel, logits: Tensor) -> list[Tensor]:
    model.zero_grad()
    torch.log_softmax(logits, -1)[:, 7].sum().backward()
    return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]


@pytest.mark.parametrize("phi", ["none", "rms", "linear"])
def test_k_rounds_are_exactly_one_slot_after_the_other(phi: str) -> None:
    """Values and gradients, in a pack of several samples; one round less is not enough."""
    model, batch = exact(phi), packed(samples(Maker(0)))
    expected = one_after_the_other(model, batch)
    assert expected.logits_CV is not None
    wanted = with_gradients(model, expected.logits_CV)
    found = model(batch, rounds=(K, K))
    torch.testing.assert_close(found.logits_CV, expected.logits_CV, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.vectors_ZD, expected.vectors_ZD, atol=1e-12, rtol=0)
    torch.testing.assert_close(with_gradients(model, found.logits_CV), wanted, **ROUNDED)
    short = model(batch, rounds=(K - 1, K - 1))
    assert (short.logits_CV - expected.logits_CV).abs().max() > 1e-6


def test_fewer_rounds_with_gradients_cut_the_gradient_and_not_the_values() -> None:
    model, batch = exact(), packed(samples(Maker(1)))
    whole, cut = model(batch, rounds=(K, K)), model(batch, rounds=(K, 1))
    torch.testing.assert_close(cut.logits_CV, whole.logits_CV, atol=1e-12, rtol=0)
    full, short = with_gradients(model, whole.logits_CV), with_gradients(model, cut.logits_CV)
    before = model(batch, rounds=(K - 1, 0)).vectors_ZD.detach()
    states = model(replace(batch, vectors_ZD=before)).before_slots_ZD
    expected = with_gradients(model, model(replace(batch, vectors_ZD=states)).logits_CV)
    torch.testing.assert_close(short, expected, **ROUNDED)
    assert any((a - b).abs().max() > 1e-6 for a, b in zip(full, short, strict=True))


def test_free_slots_cannot_go_unfilled() -> None:
    with pytest.raises(ValueError, match="free latent slots: it takes rounds to fill them"):
        random_model()(packed(samples(Maker(0))))
    mixed = [[Maker(0).text(), Maker(0).slots(2)], [Maker(0).text(), Maker(0).slots(2, torch.zeros(2, 32))]]
    with pytest.raises(ValueError, match="all given as vectors, all made of images, or all free"):
        packed(mixed)


def test_slots_take_their_own_rope_ids_and_attend_as_texts_do() -> None:
    make = Maker(2)
    segments = [make.vit(2, 2), make.text(2), make.slots(K), make.text(1)]
    table, as_text = packed([segments]).spans, packed([[*segments[:2], make.text(K - 2), segments[3]]]).spans
    assert table.slot_positions.tolist() == [10, 11, 12]
    np.testing.assert_array_equal(table.position_ids, as_text.position_ids)
    np.testing.assert_array_equal(table.order, as_text.order)
    np.testing.assert_array_equal(dense_mask(table), dense_mask(as_text))
    assert table.next_positions.tolist() == as_text.next_positions.tolist()
    assert not table.is_generation[table.slot_positions].any()


def test_a_pack_with_slots_is_its_samples_alone() -> None:
    model, made = exact(), samples(Maker(3), content=True)
    together = model(packed(made)).logits_CV
    alone = torch.cat([model(packed([sample])).logits_CV for sample in made])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


def test_slots_made_of_an_image_hold_its_pooled_features() -> None:
    """Those that the connector hands to the decoder, without positions; of the codec's latents those of ``latent_in``."""
    model, make = exact(), Maker(4)
    image, latent = make.vit(2, 3), make.vae(2, 3)
    batch = packed([[make.text(), make.slots(K, image)]])
    seen = packed([[image]])
    features = model.connector(model.vision(seen.patches_VD, seen.patch_grids, "sdpa"))
    expected = torch.tensor(mirage(features.tolist(), K), dtype=torch.float64)
    torch.testing.assert_close(model(batch).vectors_ZD, expected)
    features = model.latent_in(packed([[latent]]).latents_GD.double())
    found = model(packed([[make.text(), make.slots(K, latent)]])).vectors_ZD
    torch.testing.assert_close(found, torch.tensor(mirage(features.tolist(), K), dtype=torch.float64))


def test_the_cosine_loss_is_that_of_the_state_before_each_slot_and_spares_the_targets() -> None:
    make = Maker(5)
    model, batch = exact(), packed(samples(make, content=True, loss=Loss.COSINE))
    config = LossConfig(ce_weight=0.1)
    losses = Objective(model, config)(batch, *noised(batch, 0, 1.0))
    counts = token_counts(batch, config)
    assert counts.tolist() == [len(batch.labels_C), 0, 2 * K]
    ce, flow, cosine = mean_losses(losses, batch, counts, config)
    output = model(batch)
    expected = []
    for position, vector in zip(batch.spans.slot_positions, output.vectors_ZD.tolist(), strict=True):
        state = output.hidden_SD[position - 1].tolist()
        product = sum(a * b for a, b in zip(state, vector, strict=True))
        expected.append(1 - product / math.hypot(*state) / math.hypot(*vector))
    assert cosine.item() == pytest.approx(sum(expected) / len(expected), abs=1e-6)
    assert config.total([ce, flow, cosine]).item() == pytest.approx(0.1 * ce.item() + cosine.item())
    only = packed([[make.text(4), make.slots(K, make.vit(2, 3), loss=Loss.COSINE)]])
    model.zero_grad()
    Objective(model, config)(only, *noised(only, 0, 1.0))["cosine"].sum().backward()
    assert model.connector.fc1.weight.grad is not None and not model.connector.fc1.weight.grad.any()
    assert model.decoder.embed_tokens.weight.grad is not None and model.decoder.embed_tokens.weight.grad.any()


def reference_stack(model: UnifiedModel) -> Qwen3Model:
    """The understanding expert as a model of transformers: Qwen2.5's biases, with BAGEL's QK-norm, is Qwen3 with biases."""
    shape = model.config.decoder
    reference = Qwen3Model(
        Qwen3Config(
            vocab_size=shape.vocab,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            rms_norm_eps=shape.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            attention_bias=True,
            attn_implementation="eager",
        )
    ).double()
    weights = {}
    for name, weight in model.state_dict().items():
        their_name = bagel_name(name) if name.startswith("decoder.") else ""
        if their_name and "_moe_gen" not in their_name:
            weights[their_name.removeprefix("language_model.model.")] = weight
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert not unexpected and [name for name in missing if not name.endswith("o_proj.bias")] == []
    for layer in reference.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.bias)
    return reference


def test_the_loss_of_stage_ground_is_mirage_s_on_a_stack_of_transformers() -> None:
    """Targets are fed where the slots are; 1 - cos of the state before each slot, and 0.1 of the text loss over everything that
    the assistant says, the tokens around the slots included."""
    model, make = random_model(3, AS_BAGEL).double(), Maker(9)
    image = make.vit(5, 3)  # 15 features in 4 runs: three are dropped
    prompt, announced, answer = make.text(6), make.text(2, loss=Loss.CE), make.text(4, loss=Loss.CE)
    batch = packed([[prompt, announced, make.slots(4, image, loss=Loss.COSINE), answer]])
    config = LossConfig(ce_weight=0.1)
    found = config.total(
        mean_losses(Objective(model, config)(batch, *noised(batch, 0, 1.0)), batch, token_counts(batch, config), config)
    )

    with torch.no_grad():
        seen = packed([[image]])
        features = model.connector(model.vision(seen.patches_VD, seen.patch_grids, "sdpa"))
    targets = torch.tensor(mirage(features.tolist(), 4), dtype=torch.float64)
    said = [[TOKENS.bos, *text.payload.ids.tolist(), TOKENS.eos] for text in (prompt, announced, answer)]  # type: ignore[union-attr]
    reference = reference_stack(model)
    embedded = [reference.embed_tokens(torch.tensor(ids)) for ids in said]
    states = reference(inputs_embeds=torch.cat([*embedded[:2], targets, embedded[2]])[None]).last_hidden_state[0]
    first = len(said[0]) + len(said[1])
    cosine = 1 - F.cosine_similarity(states[first - 1 : first + 3], targets, dim=-1).mean()
    speaking = {len(said[0]): said[1], first + 4: said[2]}
    logits = torch.cat([states[at : at + len(ids) - 1] for at, ids in speaking.items()]) @ model.lm_head.weight.T
    labels = torch.tensor([token for ids in speaking.values() for token in ids[1:]])
    assert found.item() == pytest.approx((cosine + 0.1 * F.cross_entropy(logits, labels)).item(), abs=1e-6)


def test_logits_after_free_slots_know_nothing_of_a_target_and_after_filled_ones_they_do() -> None:
    model = exact()
    free = [model(packed(samples(Maker(6))), rounds=(K, K)).logits_CV for _ in range(2)]
    assert torch.equal(*free)
    make = Maker(6)
    prompt, answer = make.text(3), make.text(3, role=Role.ANSWER, loss=Loss.CE)
    filled = [model(packed([[prompt, make.slots(K, make.vit(2, 3)), answer]])).logits_CV for _ in range(2)]
    assert (filled[0] - filled[1]).abs().max() > 1e-6
    blind = replace(answer, blocked=frozenset({Role.IMAGINATION}))
    hidden = [model(packed([[prompt, make.slots(K, make.vit(2, 3)), blind]])).logits_CV for _ in range(2)]
    torch.testing.assert_close(*hidden, atol=1e-12, rtol=0)


@pytest.mark.parametrize("phi", ["none", "rms", "linear"])
def test_slots_fed_one_by_one_against_the_cache_are_those_of_the_pack(phi: str) -> None:
    model, make = exact(phi).requires_grad_(False), Maker(7)
    prompt, answer = [make.vit(2, 2), make.text(4)], make.text(3, loss=Loss.CE)
    whole = model(packed([[*prompt, make.slots(K), answer]]), rounds=(K, K))
    cache = KVCache(CONFIG.decoder, model.decoder.embed_tokens.weight[:0])
    output, context = extend(model, packed([prompt]), cache, cache.empty(1), logits=False)
    state = output.hidden_SD[-1:]
    for vector in whole.vectors_ZD:
        torch.testing.assert_close(state[0], vector, atol=1e-12, rtol=0)
        output, context = extend(model, slot_tokens(state, context.positions, CONFIG.geometry), cache, context)
        state = output.grouped_TD
    output, _ = extend(model, lay_out([[answer]], TOKENS, CONFIG.geometry, context.positions), cache, context)
    torch.testing.assert_close(output.logits_CV, whole.logits_CV, atol=1e-12, rtol=0)


def test_an_end_label_is_predicted_by_the_last_slot() -> None:
    make = Maker(8)
    batch = packed(
        [[make.text(2), make.slots(K, make.vit(2, 2), loss=Loss.COSINE_WITH_END, end_label=9), make.text(2)]]
    )
    assert batch.spans.ce_positions.tolist() == [int(batch.spans.slot_positions[-1])] and batch.labels_C.tolist() == [9]
    assert batch.spans.mode.tolist() == [Mode.CAUSAL, Mode.SLOTS, Mode.CAUSAL]


def test_phi_starts_as_it_says() -> None:
    vectors = torch.randn(4, 8)
    linear = SlotInput(8, "linear")
    linear.reset_parameters()
    torch.testing.assert_close(linear(vectors), vectors)
    torch.testing.assert_close(SlotInput(8, "rms")(vectors).square().mean(-1), torch.ones(4))
    assert SlotInput(8, "none")(vectors) is vectors
    assert SlotInput(8, "rms")(torch.zeros(1, 8)).abs().max() == 0


def test_a_model_keeps_its_map_and_one_without_can_be_given_one(tmp_path: Path) -> None:
    linear = random_model(config=replace(CONFIG, phi="linear"))
    save_pretrained(linear, tmp_path / "linear")
    loaded = from_pretrained(tmp_path / "linear")
    assert loaded.config.phi == "linear" and torch.equal(loaded.slot_in.map.weight, linear.slot_in.map.weight)
    with pytest.raises(UserError, match="BAGEL's layout has no latent slots with phi=rms"):
        plain = replace(CONFIG, decoder=replace(CONFIG.decoder, grid_rope=False), phi="rms")
        save_pretrained(random_model(config=plain), tmp_path / "bagel", layout="bagel")
    save_pretrained(random_model(), tmp_path / "none")
    linear.slot_in.reset_parameters()
    StoredModel.in_folder(tmp_path / "none").copy_into(linear)
    assert torch.equal(linear.slot_in.map.weight, torch.eye(32))
    assert torch.equal(linear.lm_head.weight, random_model().lm_head.weight)
