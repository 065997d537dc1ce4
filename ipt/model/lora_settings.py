"""Where adapters sit, and how large they are; without torch, so that a run is checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from ipt.common.errors import UserError
from ipt.common.registry import unknown_name

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
                    raise UserError(unknown_name(f"LoRA {kind}", name, valid))
        if not self.experts or not self.groups or self.rank < 1:
            raise UserError(f"LoRA needs a rank of at least 1, an expert and a module group, got {self}")

    @property
    def targets(self) -> str:
        """Regular expression of the adapted modules' names."""
        return "|".join(GROUPS[group].format(experts="|".join(self.experts)) for group in self.groups)
