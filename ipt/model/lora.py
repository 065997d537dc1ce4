"""Low-rank adapters (peft) on chosen experts and module groups, and the merged weights for export."""

from __future__ import annotations

import torch
from torch import Tensor

from ipt.model.lora_settings import LoraSettings
from ipt.model.unified import UnifiedModel


def add_lora(model: UnifiedModel, settings: LoraSettings, generator: torch.Generator) -> UnifiedModel:
    """Put adapters into ``model``, in place; only they require gradients. The output does not change yet (B = 0)."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        init_lora_weights=False,
    )
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
            elif ".lora_B." in name:
                parameter.zero_()
    return model


def merged_state(model: UnifiedModel) -> dict[str, Tensor]:
    """The weights with all adapters added in, under the names of a model without adapters, for `save_pretrained`."""
    from peft.tuners.lora import LoraLayer

    state = {name.replace(".base_layer.", "."): t for name, t in model.state_dict().items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            weight = state[f"{name}.weight"]
            delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
            state[f"{name}.weight"] = (weight.float() + delta.detach().float()).to(weight.dtype)
    return state
