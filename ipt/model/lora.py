"""Low-rank adapters (peft) on chosen experts and module groups, and the merged weights for export."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ipt.model.divided import fill_normal
from ipt.model.keys import is_adapter, plain_name
from ipt.model.lora_settings import LoraSettings
from ipt.model.unified import UnifiedModel


def add_lora(model: UnifiedModel, settings: LoraSettings, generator: torch.Generator) -> UnifiedModel:
    """Put adapters into ``model``, in place; only they require gradients. The output does not change yet (B = 0)."""
    inject_adapters(model, settings)
    initialise_adapters(model, generator)
    return model


def inject_adapters(model: UnifiedModel, settings: LoraSettings) -> None:
    """`add_lora` without the adapters' weights, for a model that has no memory yet."""
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
    """Random A, and B = 0, in all adapters of ``model``."""
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
