"""The parts of a model: what a summary counts, what a run trains or leaves alone, and where adapters sit. Without torch, so that
a run is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name

#: By marks of their parameters' names; every parameter belongs to exactly one.
PARTS: Mapping[str, tuple[str, ...]] = {
    "token embedding": ("decoder.embed_tokens.",),
    "understanding expert": (".understanding.",),
    "generation expert": (".generation.",),
    "language head": ("lm_head.",),
    "vision tower": ("vision.",),
    "connector": ("connector.",),
    "latents and time": ("latent_in.", "latent_out.", "time_embedder."),
    "latent slots": ("slot_in.",),
}
#: Those that a mode adds to a model, whose weights may have been made without them.
OWN_PARTS = ("latent slots",)
#: What can be frozen, and of which parts it consists.
FREEZABLE: Mapping[str, tuple[str, ...]] = {
    "vision": ("vision tower",),
    "connector": ("connector",),
    "embeddings": ("token embedding", "language head"),
    "understanding": ("understanding expert", "latent slots"),
    "generation": ("generation expert", "latents and time"),
}
#: The linear layers that can have adapters.
GROUPS = {
    "attention": r"decoder\.layers\.\d+\.({experts})\.[qkvo]_proj",
    "mlp": r"decoder\.layers\.\d+\.({experts})\.mlp\.(gate|up|down)_proj",
    "vision": r"vision\.layers\.\d+\.(self_attn\.\w+_proj|mlp\.fc\d)",
    "connector": r"connector\.fc\d",
    "latents": r"(latent_in|latent_out|time_embedder\.mlp\.[02])",
}
EXPERTS = ("understanding", "generation")
TUNINGS = ("full", "lora", "generation_expert")


def part_of(name: str) -> str:
    """The part that a parameter belongs to. A mark that opens with a dot may stand anywhere, another one only in front."""
    (part,) = (
        part
        for part, marks in PARTS.items()
        if any(mark in name if mark.startswith(".") else name.startswith(mark) for mark in marks)
    )
    return part


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
                    raise UserError(unknown_name(f"LoRA {kind}", name, valid))
        if not self.experts or not self.groups or self.rank < 1:
            raise UserError(f"LoRA needs a rank of at least 1, an expert and a module group, got {self}")

    @property
    def targets(self) -> str:
        """Regular expression of the adapted modules' names."""
        return "|".join(GROUPS[group].format(experts="|".join(self.experts)) for group in self.groups)


@dataclass(frozen=True)
class TuningSettings:
    """What is trained: ``full`` (everything), ``lora`` (adapters), or ``generation_expert`` (it, latents and time). ``freeze``:
    parts of a full tuning to leave alone: vision, connector, embeddings, understanding, generation."""

    kind: str = "full"
    freeze: tuple[str, ...] = ()
    lora: LoraSettings = field(default_factory=LoraSettings)

    def __post_init__(self) -> None:
        if self.kind not in TUNINGS:
            raise UnknownName(unknown_name("tuning", self.kind, TUNINGS))
        for part in self.freeze:
            if part not in FREEZABLE:
                raise UnknownName(unknown_name("part to freeze", part, list(FREEZABLE)))
