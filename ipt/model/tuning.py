"""Which parameters a run trains: parts of the model, or low-rank adapters (peft), and the merged weights of these for export."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ipt.model.keys import is_adapter, plain_name
from ipt.model.parts import FREEZABLE, OWN_PARTS, PARTS, LoraSettings, TuningSettings, part_of
from ipt.model.unified import UnifiedModel
from ipt.model.weights import fill_normal


def apply_tuning(model: UnifiedModel, settings: TuningSettings) -> UnifiedModel:
    """Freeze what ``settings`` leave alone, and add adapters where they ask for them (`initialise_adapters` gives them weights;
    parts that a mode adds to a model are trained whole beside them); in place. The model may be on the meta device."""
    if settings.kind == "lora":
        inject_adapters(model, settings.lora)
        for name, parameter in model.named_parameters():
            if part_of(name) in OWN_PARTS:
                parameter.requires_grad_(True)
        return model
    frozen = {part for group in settings.freeze for part in FREEZABLE[group]}
    if settings.kind == "generation_expert":
        frozen = {*PARTS} - {*FREEZABLE["generation"]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in frozen)
    return model


def inject_adapters(model: UnifiedModel, settings: LoraSettings) -> None:
    """Put adapters into ``model``, in place; only they require gradients. It may have no memory yet."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a float is as good as an int
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        init_lora_weights=False,
    )
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, model)


@torch.no_grad()
def initialise_adapters(model: UnifiedModel, generator: torch.Generator) -> None:
    """Random A, and B = 0, in all adapters of ``model``: its output does not change yet."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            fill_normal(parameter, parameter.shape[1] ** -0.5, generator)
        elif ".lora_B." in name:
            parameter.zero_()


def merged_state(model: UnifiedModel) -> dict[str, Tensor]:
    """The weights with all adapters added in, under the names of a model without adapters, for `save_pretrained`."""
    from peft.tuners.lora import LoraLayer

    state = {plain_name(name): t for name, t in model.state_dict().items() if not is_adapter(name)}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            weight, layer = state[f"{name}.weight"], cast(Any, module)
            delta = sum(layer.get_delta_weight(adapter).detach().float() for adapter in layer.active_adapters)
            state[f"{name}.weight"] = (weight.float() + delta).to(weight.dtype)
    return state
