"""Equivalences of the packed forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from ipt.model.attention import packed_attention
from ipt.model.config import presets
from ipt.model.mot import Rope
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import NoisedImages, PackedBatch, lay_out
from ipt.sequence.segments import Latents, Segment
from ipt.sequence.spans import Loss, Role
from tests.model.toy import CONFIG, TOKENS, Inputs, Maker, model, random_model

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def samples(make: Maker) -> list[list[Segment]]:
    trained = {"role": Role.ANSWER, "loss": Loss.CE}
    return [
        make.imagining(),
        [make.text(4), make.text(2, **trained)],
        [make.vit(1, 1), make.vit(3, 2), make.text(1, role=Role.ANSWER, loss=Loss.CE_WITH_END, end_label=9)],
        [make.text(3), make.noised(1, 3)],
        [make.vae(4, 4), make.text(5, **trained), make.noised(1, 1), make.vae(1, 1), make.text(2, **trained)],
    ]


@torch.no_grad()
def test_samples_packed_equal_each_alone() -> None:
    make = Maker(1)
    packed = make.batch(samples(make))
    output = model()(*packed)
    parts: dict[str, list[Tensor]] = {"hidden": [], "logits": [], "velocities": []}
    images = noised_tokens = 0
    make = Maker(1)
    for sample in samples(make):
        alone = make.batch([sample])
        count = len(alone.spans.noised_images)
        if count:
            rows = int(alone.spans.is_noised.sum())
            x_t = packed.noised.x_t_FD[noised_tokens : noised_tokens + rows]
            alone = Inputs(alone.batch, NoisedImages(x_t, packed.noised.timesteps_J[images : images + count]))
            images, noised_tokens = images + count, noised_tokens + rows
        single = model()(*alone)
        parts["hidden"].append(single.hidden_SD)
        parts["logits"].append(single.logits_CV)
        parts["velocities"].append(single.velocities_FD)
    torch.testing.assert_close(output.hidden_SD, torch.cat(parts["hidden"]), **CLOSE)
    torch.testing.assert_close(output.logits_CV, torch.cat(parts["logits"]), **CLOSE)
    torch.testing.assert_close(output.velocities_FD, torch.cat(parts["velocities"]), **CLOSE)


@torch.no_grad()
def test_logits_do_not_depend_on_the_payload_of_noised_tokens() -> None:
    make = Maker(2)
    batch = make.batch(samples(make))
    changed = NoisedImages(
        100 * make.random(*batch.noised_latents().shape), make.random(len(batch.spans.noised_images))
    )
    before, after = model()(*batch), model()(batch.batch, changed)
    assert torch.equal(before.logits_CV, after.logits_CV)
    assert not torch.equal(before.velocities_FD, after.velocities_FD)


def routed_by_index(unified: UnifiedModel, batch: PackedBatch) -> Tensor:
    """The decoder written naively: packed order, and an index per expert around every operation."""
    spans = batch.spans
    generation = torch.from_numpy(spans.is_generation)
    x = torch.cat(unified.embed(*batch)[:2])[torch.from_numpy(spans.rank)]
    positions, cells = torch.from_numpy(spans.position_ids), torch.from_numpy(batch.cells)
    rope = Rope.at(positions, CONFIG.decoder.head_dim, CONFIG.decoder.rope_theta, cells)
    attend = packed_attention("sdpa", spans, x)
    order, rank = torch.from_numpy(spans.order), torch.from_numpy(spans.rank)
    for layer in unified.decoder.layers:
        experts = ((layer.understanding, ~generation), (layer.generation, generation))
        q = x.new_empty(len(x), CONFIG.decoder.heads, CONFIG.decoder.head_dim)
        k, v = (x.new_empty(len(x), CONFIG.decoder.kv_heads, CONFIG.decoder.head_dim) for _ in range(2))
        for expert, rows in experts:
            q[rows], k[rows], v[rows] = expert.project(x[rows])
        q, k = rope.rotate(q), rope.rotate(k)
        attended = attend(layer.index, q[order], k[order], v[order])[rank]
        out = torch.empty_like(x)
        for expert, rows in experts:
            out[rows] = expert.finish(x[rows], attended[rows])
        x = out
    norms = unified.decoder.norm
    return torch.where(generation[:, None], norms.generation(x), norms.understanding(x))


@torch.no_grad()
def test_routing_by_slices_equals_routing_by_index() -> None:
    make = Maker(3)
    batch = make.batch(samples(make))
    torch.testing.assert_close(model()(*batch).hidden_SD, routed_by_index(model(), batch), **CLOSE)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
@pytest.mark.parametrize("multiple", [1, 512])
def test_flex_forward_equals_sdpa(multiple: int) -> None:
    make = Maker(4)
    batch = make.batch(samples(make))
    flex = random_model()
    flex.attention, flex.pad_packs = "flex", multiple
    torch.testing.assert_close(flex(*batch).logits_CV, model()(*batch).logits_CV, **CLOSE)


def loss_of(output: object) -> Tensor:
    return output.logits_CV.square().sum() + output.velocities_FD.square().sum()


@pytest.mark.parametrize("kind", ["text", "vit", "vae", "noised", "without loss"])
def test_a_batch_without_a_modality_touches_every_parameter(kind: str) -> None:
    make, unified = Maker(5), random_model()
    trained = {"loss": Loss.CE}
    batch = {
        "text": lambda: [make.text(4, **trained)],
        "vit": lambda: [make.vit(), make.text(4, **trained)],
        "vae": lambda: [make.vae(), make.text(4, **trained)],
        "noised": lambda: [make.text(3), make.noised()],
        "without loss": lambda: [make.text(3), make.vit()],
    }[kind]()
    output = unified(*make.batch([batch]))
    loss_of(output).backward()
    untouched = [name for name, parameter in unified.named_parameters() if parameter.grad is None]
    assert not untouched
    norms = {name: float(parameter.grad.norm()) for name, parameter in unified.named_parameters()}
    absent = {"text": ("vision", "connector", "generation", "latent", "time"), "vit": ("generation", "latent", "time")}
    for name, norm in norms.items():
        if any(part in name for part in absent.get(kind, ())):
            assert norm == 0, f"{name} has a gradient in a batch without its tokens"
    assert kind == "without loss" or norms["decoder.embed_tokens.weight"] > 0


def answer_logits(batch: PackedBatch) -> Tensor:
    with torch.no_grad():
        return model()(*batch).logits_CV


@pytest.mark.parametrize("hidden", [Role.OBSERVATION, Role.IMAGINATION])
def test_an_answer_does_not_depend_on_a_role_it_may_not_see(hidden: Role) -> None:
    """Bottleneck and reveal: with the role blocked everywhere behind it, its payload does not matter; else it does."""
    make = Maker(6)
    image, thought = make.vae(2, 3, role=hidden), make.vit(role=Role.QUESTION)
    for blocked in (frozenset({hidden}), frozenset()):
        answer = make.text(4, role=Role.ANSWER, loss=Loss.CE, blocked=blocked)
        other = replace(image, payload=Latents(make.random(*image.payload.values.shape)))
        rest = [replace(thought, blocked=blocked), answer]
        first, second = (answer_logits(make.batch([[picture, *rest]])) for picture in (image, other))
        assert torch.equal(first, second) == bool(blocked)


@torch.no_grad()
def test_logits_can_be_computed_in_chunks() -> None:
    make = Maker(7)
    batch = make.batch(samples(make))
    output = model()(*batch, logits=False)
    assert output.logits_CV is None
    chunks = [model().logits(part) for part in output.ce_hidden_CD.split(3)]
    torch.testing.assert_close(torch.cat(chunks), model()(*batch).logits_CV, **CLOSE)


def test_recomputed_activations_give_the_same_gradients() -> None:
    make = Maker(8)
    batch = make.batch(samples(make))
    gradients, calls = [], []

    def recompute(layer: torch.nn.Module, *inputs: object) -> object:
        calls.append(layer)
        return checkpoint(layer, *inputs, use_reentrant=False)

    for runner in (None, recompute):
        unified = random_model()
        if runner is not None:
            unified.set_layer_runner(runner)
        loss_of(unified(*batch)).backward()
        gradients.append([parameter.grad for parameter in unified.parameters()])
    assert len(calls) == CONFIG.decoder.layers + CONFIG.vision.layers
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_noised_batch_without_noise_and_an_oversize_image_are_errors() -> None:
    make = Maker(9)
    with pytest.raises(ValueError, match="1 noised images need x_t"):
        model()(lay_out([[make.noised()]], TOKENS, CONFIG.geometry))
    for segment, message in [
        (make.vit(6, 2), r"image 0 has 6 x 2 tokens but the position table has 5 x 5"),
        (make.vae(2, 5), r"latent image 0 has 2 x 5 tokens but the position table has 4 x 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            model()(*make.batch([[segment]]))


@torch.no_grad()
def test_bfloat16_keeps_rope_and_time_in_float32() -> None:
    """Frequencies rounded to bfloat16 would turn position 10,000 by radians."""
    rope = Rope.at(torch.tensor([10_000]), 128, 1e6)
    cos, sin = rope.cos_TH, rope.sin_TH
    angles = 10_000 / 1e6 ** (torch.arange(64, dtype=torch.float64) * 2 / 128)
    assert (cos[0, :64] - angles.cos()).abs().max() < 1e-3 and (sin[0, :64] - angles.sin()).abs().max() < 1e-3
    q = torch.randn(1, 2, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert tree_leaves((rope,)) == [rope], "mixed precision would cast the angles"
    assert torch.equal(rope.rotate(q), rope.rotate(q.float()).bfloat16())
    make = Maker(10)
    batch, low = make.batch(samples(make)), random_model().bfloat16()
    seen = []
    low.decoder.run_layer = lambda layer, *inputs: seen.append(inputs[2].cos_TH.dtype) or layer(*inputs)
    low.time_embedder.mlp[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    output = low(*batch)
    assert output.velocities_FD.dtype == torch.float32 and output.ce_hidden_CD.dtype == torch.bfloat16
    assert set(seen[1:]) == {torch.float32}
    reference = model()(*batch)
    assert F.cosine_similarity(output.ce_hidden_CD.float(), reference.ce_hidden_CD).min() > 0.99


def test_initialisation_is_reproducible_and_predicts_no_velocity() -> None:
    models = []
    for _ in range(2):
        fresh = UnifiedModel(CONFIG)
        fresh.initialise(torch.Generator().manual_seed(3))
        models.append(fresh)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    make = Maker(11)
    output = models[0](*make.batch(samples(make)))
    assert not output.velocities_FD.any() and output.logits_CV.std() > 0.05


@pytest.mark.parametrize("preset", ["micro", "tiny"])
def test_fresh_weights_deviate_as_their_layers_are_wide(preset: str) -> None:
    """Variance 1 / (3 fan-in) as in torch's own layers; embeddings .3; biases 0, norms 1, no velocity."""
    fresh = UnifiedModel(presets[preset])
    fresh.initialise(torch.Generator().manual_seed(0))
    for name, weight in fresh.named_parameters():
        if weight.dim() == 1:
            assert len(set(weight.tolist())) == 1 and weight[0] == (0 if name.endswith("bias") else 1), name
        elif not name.startswith("latent_out."):
            table = name.endswith(("embed_tokens.weight", "position_embedding.weight"))
            expected = 0.3 if table else (3 * weight.shape[1]) ** -0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.06), name


def test_cells_are_shares_of_the_image_whatever_its_encoder() -> None:
    """Rows and columns of a grid of 2 x 3, of patches and of latents; text and markers stand at 0."""
    make = Maker(0)
    cells = make.batch([[make.text(2), make.vit(2, 3), make.noised(2, 3)], [make.vae(1, 1)]]).cells
    rows, columns = [0.25] * 3 + [0.75] * 3, [1 / 6, 1 / 2, 5 / 6] * 2
    image = [[0, 0], *map(list, zip(rows, columns, strict=True)), [0, 0]]
    expected = [[0, 0]] * 4 + image * 2 + [[0, 0], [0.5, 0.5], [0, 0]]
    assert cells.dtype == np.float32 and np.allclose(cells, expected)


@torch.no_grad()
@pytest.mark.parametrize("grid_rope", [True, False])
def test_only_grid_rope_tells_the_tokens_of_an_image_apart_where_tables_do_not(grid_rope: bool) -> None:
    """With empty position tables an image turned round is the same set of tokens, unless rope knows rows and columns."""
    blind = UnifiedModel(replace(CONFIG, decoder=replace(CONFIG.decoder, grid_rope=grid_rope)))
    blind.load_state_dict(model().state_dict())
    for table in (blind.latent_positions.table, blind.vision_positions.table, blind.vision.position_embedding.weight):
        table.zero_()
    text = Maker(1).text(3, role=Role.ANSWER, loss=Loss.CE)
    for axis in (1, 2):
        answers = []
        for flip in (False, True):
            make = Maker(0)
            vae = make.vae(2, 2)
            whole = vae.payload.values.reshape(3, 2, 2, 2, 2)  # channels, row, in it, column, in it
            turned = whole.flip(axis if axis == 1 else 3) if flip else whole
            image = replace(vae, payload=Latents(turned.reshape(3, 4, 4)))
            answers.append(blind(*make.batch([[image, text]])).logits_CV)
        assert torch.allclose(*answers, atol=1e-5) is not grid_rope
