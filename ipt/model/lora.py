"""Low-rank adapters (peft) on chosen experts and module groups, and the merged weights for export."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ipt.common.registry import unknown_name
from ipt.model.unified import UnifiedModel

GROUPS = {
    "attention": r"decoder\.layers\.\d+\.({experts})\.[qkvo]_proj",
    "mlp": r"decoder\.layers\.\d+\.({experts})\.mlp\.(gate|up|down)_proj",
    "vision": r"vision\.layers\.\d+\.(self_attn\.\w+_proj|mlp\.fc\d)",
    "connector": r"connector\.fc\d",
    "latents": r"(latent_in|latent_out|time_embedder\.mlp\.[02])",
}
EXPERTS = ("understanding", "generation")


@dataclass(frozen=True)
class LoraSettings:
    """Adapters of ``rank`` scaled by ``alpha`` / ``rank`` on the linear layers of ``groups``; ``experts`` says which experts
    ``attention`` and ``mlp`` mean. Raises ``ValueError`` for unknown names."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    experts: tuple[str, ...] = EXPERTS
    groups: tuple[str, ...] = ("attention", "mlp")

    def __post_init__(self) -> None:
        for kind, names, valid in (("expert", self.experts, EXPERTS), ("module group", self.groups, tuple(GROUPS))):
            for name in names:
                if name not in valid:
                    raise ValueError(unknown_name(f"LoRA {kind}", name, valid))
        if not self.experts or not self.groups or self.rank < 1:
            raise ValueError(f"LoRA needs a rank of at least 1, an expert and a module group, got {self}")

    @property
    def targets(self) -> str:
        """Regular expression of the adapted modules' names."""
        return "|".join(GROUPS[group].format(experts="|".join(self.experts)) for group in self.groups)


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
