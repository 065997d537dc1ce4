"""A sample as data: an ordered list of typed segments, before anything is tokenised into one sequence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from ipt.sequence.spans import Expert, Loss, Mode, Role


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the four marker tokens, taken from the tokenizer (``<|im_start|>``, ``<|im_end|>``, ``<|vision_start|>``,
    ``<|vision_end|>`` in Qwen2.5)."""

    bos: int
    eos: int
    image_start: int
    image_end: int


@dataclass(frozen=True)
class Geometry:
    """How images become tokens: ViT patches of ``vit_patch`` pixels, latent patches of ``latent_patch`` cells of
    ``latent_channels`` numbers."""

    vit_patch: int
    latent_patch: int
    latent_channels: int

    @property
    def patch_size(self) -> int:
        """Numbers per ViT patch."""
        return 3 * self.vit_patch**2

    @property
    def latent_size(self) -> int:
        """Numbers per latent token."""
        return self.latent_channels * self.latent_patch**2


class Kind(Enum):
    """What a segment holds: (attention mode, expert)."""

    TEXT = (Mode.CAUSAL, Expert.UNDERSTANDING)
    VIT = (Mode.FULL, Expert.UNDERSTANDING)
    VAE = (Mode.FULL, Expert.GENERATION)
    VAE_NOISED = (Mode.NOISED, Expert.GENERATION)

    @property
    def mode(self) -> Mode:
        return self.value[0]

    @property
    def expert(self) -> Expert:
        return self.value[1]


@dataclass(frozen=True)
class Segment:
    """One part of a sample.

    ``payload``: TEXT int64 ids [n] without markers; VIT normalised float32 pixels [3, H, W]; VAE and VAE_NOISED float32
    clean latents [C, h, w]. ``end_label``: what the closing marker of a trained text predicts. ``blocked``: roles that this
    segment may not attend to. ``dropped``: removed by guidance dropout; a dropped image still advances the rope id.
    Raises ``ValueError`` for a loss that the kind cannot carry.
    """

    kind: Kind
    payload: Tensor
    role: Role = Role.OBSERVATION
    loss: Loss = Loss.NONE
    end_label: int | None = None
    blocked: frozenset[Role] = frozenset()
    dropped: bool = False

    def __post_init__(self) -> None:
        dims = 1 if self.kind is Kind.TEXT else 3
        if self.payload.dim() != dims:
            raise ValueError(f"a {self.kind.name} payload has {dims} dimensions, got {tuple(self.payload.shape)}")
        allowed = {Kind.TEXT: (Loss.CE, Loss.CE_WITH_END), Kind.VAE_NOISED: (Loss.FLOW,)}.get(self.kind, ())
        if self.loss is not Loss.NONE and self.loss not in allowed:
            raise ValueError(f"a {self.kind.name} segment cannot carry the loss {self.loss.name}")
        if (self.loss is Loss.CE_WITH_END) != (self.end_label is not None):
            raise ValueError("end_label is for the loss CE_WITH_END and only for it")
        if self.dropped and self.loss is not Loss.NONE:
            raise ValueError(f"a {self.kind.name} segment with the loss {self.loss.name} cannot be dropped")
