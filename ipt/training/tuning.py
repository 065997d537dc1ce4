"""Which parameters a run trains."""

from __future__ import annotations

from ipt.model.lora import inject_adapters
from ipt.model.unified import UnifiedModel
from ipt.training.config import FREEZABLE, TuningSettings


def apply_tuning(model: UnifiedModel, settings: TuningSettings) -> UnifiedModel:
    """Freeze what ``settings`` leave alone, and add adapters where they ask for them (`initialise_adapters` gives them weights);
    in place. The model may be on the meta device."""
    if settings.kind == "lora":
        inject_adapters(model, settings.lora)
        return model
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
