"""Losses: equal to their plain definitions, the same however samples are packed, with noise that belongs to the sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import Origin, PackedBatch, lay_out
from ipt.sequence.segments import Segment, with_draws
from ipt.sequence.spans import Loss
from ipt.training.losses import TERMS, Objective, mean_losses, noised, sample_losses, token_counts
from ipt.training.settings import LOSS_TERMS, LossConfig
from tests.model.toy import CONFIG, TOKENS, Maker, random_model


def laid_out(samples: dict[int, list[Segment]]) -> PackedBatch:
    """Samples by position in the data order, not yet noised."""
    batch = lay_out(list(samples.values()), TOKENS, CONFIG.geometry)
    return replace(batch, origins=tuple(Origin("part", f"sample-{number}", number) for number in samples))


def mixed_samples(make: Maker) -> dict[int, list[Segment]]:
    answer = {"loss": Loss.CE}
    return {
        3: make.imagining(),
        4: [make.vit(), make.text(4, **answer)],
        9: with_draws(make.imagining(), 3),
        12: [make.text(3), make.noised(2, 2)],
        20: [make.text(2), make.text(7, **answer)],
    }


def gradients(model: UnifiedModel, packs: list[PackedBatch], config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one step over ``packs``."""
    model.zero_grad()
    objective = Objective(model, config)
    counts = np.sum([token_counts(pack, config) for pack in packs], axis=0)
    total = torch.zeros(())
    for pack in packs:
        loss = config.total(mean_losses(objective(pack, *noised(pack, 5, config.timestep_shift)), pack, counts, config))
        loss.backward()
        total += loss.detach()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert set(found) == {name for name, _ in model.named_parameters()}, "every parameter gets a gradient"
    return total, found


def test_losses_are_those_of_full_logits_and_plain_means() -> None:
    batch = laid_out(mixed_samples(Maker(0)))
    images, target = noised(batch, 0, 1.0)
    config, model = LossConfig(ce_weight=2.0, chunk=3), random_model()
    losses = Objective(model, config)(batch, images, target)
    output = model(batch, images)
    counts = token_counts(batch, config)
    ce, flow, cosine = mean_losses(losses, batch, counts, config)
    assert list(losses) == list(TERMS) == list(LOSS_TERMS)
    torch.testing.assert_close(ce, F.cross_entropy(output.logits_CV, batch.labels_C))
    trained = torch.from_numpy(batch.spans.is_flow_trained)
    torch.testing.assert_close(flow, F.mse_loss(output.velocities_FD[trained], target[trained]))
    assert counts.tolist() == [len(batch.labels_C), int(trained.sum()), 0] and cosine == 0
    torch.testing.assert_close(config.total([ce, flow, cosine]), 2 * ce + flow)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_chunks_change_neither_loss_nor_gradients(chunk: int) -> None:
    pack, model = laid_out(mixed_samples(Maker(1))), random_model()
    expected = gradients(model, [pack], LossConfig(chunk=64))
    found = gradients(model, [pack], LossConfig(chunk=chunk))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("reweight", [False, True])
def test_a_step_is_the_same_in_one_pack_and_in_one_pack_per_sample(reweight: bool) -> None:
    samples, model = mixed_samples(Maker(2)), random_model()
    config = LossConfig(reweight_text=reweight)
    loss, expected = gradients(model, [laid_out(samples)], config)
    parts = [laid_out({number: sample}) for number, sample in samples.items()]
    divided, found = gradients(model, parts, config)
    torch.testing.assert_close(divided, loss)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-4)


def test_noise_belongs_to_the_sample_and_its_image() -> None:
    make = Maker(3)
    image = make.noised(1, 2)
    two = [make.text(2), image, image]
    together = noised(laid_out({7: [make.text(1)], 8: two, 9: two}), 0, 1.0)[1]
    assert torch.equal(together[:4], noised(laid_out({8: two}), 0, 1.0)[1])
    assert len({target.numpy().tobytes() for target in together.split(2)}) == 4
    assert not torch.equal(together[:4], noised(laid_out({8: two}), 1, 1.0)[1])


@pytest.mark.parametrize("attention", ["sdpa", "flex"])
def test_draws_of_an_image_are_the_mean_of_samples_with_one_draw_each(attention: str) -> None:
    """Flow loss, with gradients where the back-end has them, of 3 draws in one context and of 3 samples with those draws."""
    make, model, draws, config = Maker(7), random_model(), 3, LossConfig()
    model.attention = attention
    sample = [replace(s, loss=Loss.NONE) if s.loss is Loss.CE else s for s in make.imagining()]
    many = laid_out({5: [make.text(2)], 8: with_draws(sample, draws)})
    images, target = noised(many, 0, 1.0)
    assert len(set(images.timesteps_J.tolist())) == draws
    objective, found = Objective(model, config), []
    for batch in (many, laid_out(dict.fromkeys(range(draws), sample))):
        model.zero_grad()
        with torch.set_grad_enabled(attention == "sdpa"):
            losses = objective(batch, images, target)
            loss = mean_losses(losses, batch, token_counts(batch, config), config)[LOSS_TERMS.index("flow")]
        if attention == "sdpa":
            loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss.detach(), losses["flow"].detach(), gradients))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-4)


def test_draws_change_nothing_for_texts_and_clean_copies() -> None:
    sample, model = Maker(8).imagining(), random_model()
    once, many = (laid_out({8: with_draws(sample, draws)}) for draws in (1, 4))
    assert (many.spans.position[-3:] == once.spans.position[-3:]).all()
    logits = [model(batch, noised(batch, 0, 1.0)[0]).logits_CV for batch in (once, many)]
    torch.testing.assert_close(logits[1], logits[0])
    assert with_draws(sample, 1) == sample


def test_times_follow_the_shift() -> None:
    make = Maker(4)
    samples = {number: [make.text(1), make.noised(1, 1)] for number in range(200)}
    plain, late = (noised(laid_out(samples), 0, shift)[0].timesteps_J for shift in (1.0, 3.0))
    torch.testing.assert_close(late, 3 * plain / (1 + 2 * plain))
    assert 0.45 < plain.mean() < 0.55


def test_an_image_without_loss_counts_for_nothing() -> None:
    make, config = Maker(5), LossConfig()
    sample = make.imagining()
    untrained = [replace(s, loss=Loss.NONE) if s.loss is Loss.FLOW else s for s in sample]
    batch = laid_out({0: untrained})
    losses = Objective(random_model(), config)(batch, *noised(batch, 0, 1.0))
    counts = dict(zip(TERMS, token_counts(batch, config), strict=True))
    shares = dict(zip(TERMS, mean_losses(losses, batch, list(counts.values()), config), strict=True))
    assert losses["flow"].any() and counts["flow"] == 0 == shares["flow"] and shares["ce"] > 0


def test_the_loss_of_a_sample_is_the_mean_over_its_tokens() -> None:
    samples, config = mixed_samples(Maker(6)), LossConfig(flow_weight=0.5)
    batch, model = laid_out(samples), random_model()
    tokens = Objective(model, config)(batch, *noised(batch, 0, 1.0))
    values = {name: each.detach().double().numpy() for name, each in tokens.items()}
    found = sample_losses(values, batch, config, config.weights)
    for number, (position, sample) in enumerate(samples.items()):
        single = laid_out({position: sample})
        losses = Objective(model, config)(single, *noised(single, 0, 1.0))
        ce, flow, _ = mean_losses(losses, single, token_counts(single, config), config)
        assert found[number] == pytest.approx((ce + 0.5 * flow).item(), rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ce_weight": -1.0},
        {"ce_weight": 0.0, "flow_weight": 0.0, "cosine_weight": 0.0},
        {"chunk": 0},
        {"noise_draws": 0},
    ],
)
def test_impossible_weights_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossConfig(**wrong)  # type: ignore[arg-type]
