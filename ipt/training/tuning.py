"""Which parameters a run trains."""

from __future__ import annotations

import torch

from ipt.model.lora import add_lora
from ipt.model.unified import UnifiedModel
from ipt.training.config import FREEZABLE, TuningSettings


def apply_tuning(model: UnifiedModel, settings: TuningSettings, generator: torch.Generator) -> UnifiedModel:
    """Freeze what ``settings`` leave alone, and add adapters where they ask for them; in place."""
    if settings.kind == "lora":
        return add_lora(model, settings.lora, generator)
    frozen = [mark for part in settings.freeze for mark in FREEZABLE[part]]
    for name, parameter in model.named_parameters():
        if settings.kind == "generation_expert":
            parameter.requires_grad_(marked(name, FREEZABLE["generation"]))
        else:
            parameter.requires_grad_(not marked(name, frozen))
    return model


def marked(name: str, marks: tuple[str, ...] | list[str]) -> bool:
    """Whether a parameter belongs to a part: a mark that opens with a dot may stand anywhere, another one only in front."""
    return any(mark in name if mark.startswith(".") else name.startswith(mark) for mark in marks)
