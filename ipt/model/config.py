"""Shapes of a model as frozen dataclasses, and the presets.

A configuration is data: it is written to ``config.json`` and read back from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipt.common.errors import UserError
from ipt.common.registry import Registry
from ipt.common.settings import within
from ipt.sequence.settings import Geometry


@dataclass(frozen=True)
class DecoderConfig:
    """Qwen2.5 with QK-norm; both experts have these sizes.

    ``grid_rope``: image tokens differ in rope by row and column, too (as in Qwen2-VL). In BAGEL the tokens of an image share one
    rope id and only the position tables tell them apart, from which small models do not learn to draw (docs/painter.md).
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    grid_rope: bool = False

    def __post_init__(self) -> None:
        within(self, hidden=2**16, intermediate=2**20, layers=256, heads=1024, kv_heads=1024, vocab=2**22)
        if self.hidden % self.heads or self.heads % self.kv_heads or self.head_dim % 2:
            raise UserError(
                f"heads must divide hidden with an even head size, and kv_heads must divide heads: hidden {self.hidden}, "
                f"heads {self.heads}, kv_heads {self.kv_heads}"
            )
        if self.hidden % 4:
            raise UserError(f"the 2-D position tables need a hidden size divisible by 4, got {self.hidden}")

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


@dataclass(frozen=True)
class VisionConfig:
    """SigLIP2 tower over linear patches. ``layers``: those that run (BAGEL's ``vit_config.json`` counts one more).

    ``side``: patches per side of both position tables. ``interpolate_positions``: stretch a smaller image's grid over the
    table instead of using its top left corner.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    patch: int
    side: int
    norm_eps: float = 1e-6
    interpolate_positions: bool = False

    def __post_init__(self) -> None:
        within(self, hidden=2**16, intermediate=2**20, layers=256, heads=1024, patch=256, side=1024)
        if self.hidden % self.heads:
            raise UserError(f"vision heads ({self.heads}) must divide the vision hidden size ({self.hidden})")


@dataclass(frozen=True)
class LatentConfig:
    """Latents of the codec as tokens: ``patch`` x ``patch`` cells of ``channels`` numbers, ``side`` tokens at most per side,
    one cell per ``downsample`` x ``downsample`` pixels."""

    channels: int
    patch: int
    side: int
    downsample: int

    def __post_init__(self) -> None:
        within(self, channels=2**14, patch=64, side=1024, downsample=1024)


@dataclass(frozen=True)
class CodesConfig:
    """``count`` codes of pictures, by which the vocabulary grows, each of ``stride`` x ``stride`` pixels (0: none)."""

    count: int = 0
    stride: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """One unified model. ``phi``: what is fed to its latent slots for a vector (`ipt.model.slots.SlotInput`). ``codes`` follow
    the tokens of ``decoder.vocab``."""

    name: str
    decoder: DecoderConfig
    vision: VisionConfig
    latents: LatentConfig
    phi: str = "none"
    codes: CodesConfig = CodesConfig()

    @property
    def geometry(self) -> Geometry:
        """How images become tokens of this model."""
        latents = self.latents
        first = self.decoder.vocab if self.codes.count else 0
        return Geometry(
            self.vision.patch, latents.patch, latents.channels, latents.downsample, self.codes.stride, first
        )


presets: Registry[ModelConfig] = Registry("model preset")
for _preset in (
    ModelConfig(
        "bagel_7b_mot",
        DecoderConfig(hidden=3584, intermediate=18944, layers=28, heads=28, kv_heads=4, vocab=152064),
        VisionConfig(hidden=1152, intermediate=4304, layers=26, heads=16, patch=14, side=70),
        LatentConfig(channels=16, patch=2, side=64, downsample=8),
    ),
    ModelConfig(
        "small",
        DecoderConfig(hidden=512, intermediate=1408, layers=12, heads=8, kv_heads=4, vocab=16384, grid_rope=True),
        VisionConfig(hidden=384, intermediate=1024, layers=8, heads=6, patch=14, side=37),
        LatentConfig(channels=16, patch=2, side=32, downsample=8),
    ),
    ModelConfig(
        "tiny",
        DecoderConfig(hidden=96, intermediate=192, layers=4, heads=4, kv_heads=2, vocab=2048, grid_rope=True),
        VisionConfig(hidden=64, intermediate=128, layers=2, heads=4, patch=8, side=16),
        LatentConfig(channels=48, patch=1, side=16, downsample=8),
    ),
    ModelConfig(
        "base",
        DecoderConfig(hidden=128, intermediate=256, layers=5, heads=4, kv_heads=4, vocab=1024, grid_rope=True),
        VisionConfig(hidden=128, intermediate=256, layers=1, heads=4, patch=8, side=8),
        LatentConfig(channels=32, patch=1, side=8, downsample=8),
    ),
    ModelConfig(
        "micro",
        DecoderConfig(hidden=64, intermediate=128, layers=4, heads=4, kv_heads=4, vocab=512, grid_rope=True),
        VisionConfig(hidden=64, intermediate=128, layers=1, heads=4, patch=8, side=4),
        LatentConfig(channels=48, patch=1, side=4, downsample=8),
    ),
):
    presets.register(_preset.name)(_preset)


#: The small base that ships with the package, by its name.
BASE, BASE_FOLDER = "base", Path(__file__).parents[1] / "base"


#: Where a run of ``train.py`` leaves its model.
EXPORT = "model"


def model_path(name: str | Path) -> Path:
    """The folder that a setting names: ``base`` is the one that ships (write ``./base`` for a folder of that name), anything
    else a path; of a run of ``train.py`` it is what that exported."""
    if str(name) == BASE:
        return BASE_FOLDER
    return Path(name) / EXPORT if (Path(name) / EXPORT).is_dir() else Path(name)
