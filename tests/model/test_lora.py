"""Adapters: where they sit, what they train, and that merging them changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ipt.model.checkpoint import from_pretrained, save_pretrained
from ipt.model.config import ModelConfig
from ipt.model.costs import lora_parameters
from ipt.model.parts import LoraSettings, TuningSettings
from ipt.model.tuning import apply_tuning, initialise_adapters, merged_state
from ipt.model.unified import UnifiedModel
from tests.model.toy import AS_BAGEL, CONFIG, Maker, random_model


def add_lora(model: UnifiedModel, settings: LoraSettings, generator: torch.Generator) -> UnifiedModel:
    initialise_adapters(apply_tuning(model, TuningSettings("lora", lora=settings)), generator)
    return model


def adapted(settings: LoraSettings, seed: int = 0, config: ModelConfig = CONFIG) -> torch.nn.Module:
    return add_lora(random_model(config=config), settings, torch.Generator().manual_seed(seed))


def test_a_fresh_adapter_changes_nothing_and_merging_a_trained_one_neither(tmp_path: Path) -> None:
    make = Maker(0)
    batch = make.batch([make.imagining(), [make.text(3), make.noised()]])
    everywhere = LoraSettings(groups=("attention", "mlp", "vision", "latents"))
    plain, model = random_model(config=AS_BAGEL).eval(), adapted(everywhere, config=AS_BAGEL).eval()
    with torch.no_grad():
        assert torch.equal(model(*batch).logits_CV, plain(*batch).logits_CV)
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.1, generator=make.generator)
        trained = model(*batch)
        assert not torch.allclose(trained.logits_CV, plain(*batch).logits_CV, atol=1e-2)
    for layout in ("native", "bagel"):
        save_pretrained(model, tmp_path / layout, layout=layout, state=merged_state(model))
        with torch.no_grad():
            merged = from_pretrained(tmp_path / layout)(*batch)
        torch.testing.assert_close(merged.logits_CV, trained.logits_CV, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(merged.velocities_FD, trained.velocities_FD, atol=1e-4, rtol=1e-4)


def test_what_a_mode_adds_to_a_model_is_trained_whole_beside_adapters() -> None:
    model = adapted(LoraSettings(), config=replace(CONFIG, phi="linear"))
    whole = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert whole == {"slot_in.map.weight"} <= {*merged_state(model)}


@pytest.mark.parametrize("experts", [("understanding",), ("generation",), ("understanding", "generation")])
@pytest.mark.parametrize("groups", [("attention",), ("mlp",), ("vision",), ("attention", "mlp", "connector")])
def test_only_the_chosen_adapters_train(experts: tuple[str, ...], groups: tuple[str, ...]) -> None:
    model = adapted(LoraSettings(rank=2, experts=experts, groups=groups))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    layers = {"attention": 4 * 2 * len(experts), "mlp": 3 * 2 * len(experts), "vision": 6 * 2, "connector": 2}
    assert len(trained) == 2 * sum(layers[group] for group in groups)
    for name in trained:
        expert = {"understanding", "generation"} & set(name.split("."))
        assert expert <= set(experts)


def test_adapters_are_reproducible_and_leave_the_global_generator_alone() -> None:
    models = [random_model() for _ in range(3)]
    before = torch.get_rng_state()
    first, second, other = (
        add_lora(model, LoraSettings(), torch.Generator().manual_seed(seed)).state_dict()
        for model, seed in zip(models, (1, 1, 2), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before)
    name = "decoder.layers.0.generation.q_proj.lora_A.default.weight"
    assert torch.equal(first[name], second[name]) and not torch.equal(first[name], other[name])


def test_the_summary_counts_the_adapters() -> None:
    model = adapted(LoraSettings(rank=3))
    assert lora_parameters(CONFIG, 3) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown LoRA expert 'generaton'"):
        LoraSettings(experts=("generaton",))
    with pytest.raises(ValueError, match=r"unknown LoRA module group 'all'.*valid: attention"):
        LoraSettings(groups=("all",))
    with pytest.raises(ValueError, match="an expert and a module group"):
        LoraSettings(groups=())
