"""Settings of sequences and of the loader, without torch: a run is checked before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import generator
from ipt.common.settings import MAX_PROCESSES
from ipt.samples.sample import SpatialSample

ENCODERS = ("vae", "vit")
DROPOUT_ROWS = ("drawing", "all")


@dataclass(frozen=True)
class Geometry:
    """How images become tokens: ViT patches of ``vit_patch`` pixels, latent patches of ``latent_patch`` cells of
    ``latent_channels`` numbers, one cell per ``latent_downsample`` pixels squared; codes of ``code_stride`` pixels squared, whose
    ids begin at ``first_code`` (0: the model has none)."""

    vit_patch: int
    latent_patch: int
    latent_channels: int
    latent_downsample: int = 8
    code_stride: int = 0
    first_code: int = 0

    @property
    def patch_size(self) -> int:
        """Numbers per ViT patch."""
        return 3 * self.vit_patch**2

    @property
    def latent_size(self) -> int:
        """Numbers per latent token."""
        return self.latent_channels * self.latent_patch**2

    @property
    def latent_stride(self) -> int:
        """Pixels per latent token and side."""
        return self.latent_downsample * self.latent_patch


@dataclass(frozen=True)
class Resolution:
    """Sizes of one task. ``input_side``, ``vit_side``: longest side in pixels of what the codec and the vision tower see of
    an input image; the shortest is at least ``..._min_side`` where both can be had. ``imagination``: latent tokens per side
    of an imagination, which is square (the paper: 4, 16, 32 or 64). ``several_side``: where a sample has several input images,
    the longest side to which each is shrunk first, with Lanczos, before both encoders (the published IPT training: 512)."""

    input_side: int = 512
    input_min_side: int = 256
    vit_side: int = 518
    vit_min_side: int = 224
    imagination: int = 32
    several_side: int | None = None

    def __post_init__(self) -> None:
        if self.several_side is not None and self.several_side < 1:
            raise UserError(f"resolution.several_side must be positive, got {self.several_side}")


@dataclass(frozen=True)
class GuidanceDropout:
    """Probabilities with which a sample loses a group, so that guidance has its branches: ``text`` is system prompt and question,
    ``observation`` all input images, the others one clean copy of the imagination.

    ``rows``: ``drawing`` drops in samples that draw an image, which then train no text (nothing could tell them the answer);
    ``all``, as the published IPT training, in every sample, and the text's loss stays.
    """

    text: float = 0.1
    observation: float = 0.0
    imagination_vae: float = 0.0
    imagination_vit: float = 0.0
    rows: str = "drawing"

    def __post_init__(self) -> None:
        if self.rows not in DROPOUT_ROWS:
            raise UnknownName(unknown_name("sequence.dropout.rows", self.rows, DROPOUT_ROWS))

    @property
    def rates(self) -> dict[str, float]:
        """The probabilities by group."""
        return {group: value for group, value in vars(self).items() if group != "rows"}


@dataclass(frozen=True)
class SequenceConfig:
    """Settings of the sequence that do not depend on the mode.

    ``resolutions``: by task, else the default one. ``observe``: the encoders that see input images. A prompt longer than
    ``max_prompt_tokens`` has the sides of its images limited further, all by one factor, in steps of `SHRINK_STEP`
    (``oversize="shrink"``), or its sample rejected; since the rule knows only the prompt, training and inference see the same
    images. A sample longer than ``max_sample_tokens`` is rejected.
    """

    resolutions: dict[str, Resolution] = field(default_factory=dict)
    observe: tuple[str, ...] = ("vae", "vit")
    oversize: str = "shrink"
    max_prompt_tokens: int = 16384
    max_sample_tokens: int = 24576
    dropout: GuidanceDropout = field(default_factory=GuidanceDropout)
    seed: int = 0

    def __post_init__(self) -> None:
        check_encoders("observe", self.observe)
        if self.oversize not in ("shrink", "reject"):
            raise UserError(f"oversize must be shrink or reject, got '{self.oversize}'")

    def resolution(self, task: str) -> Resolution:
        return self.resolutions.get(task, Resolution())

    def stream(self, purpose: str, sample: SpatialSample, epoch: int) -> np.random.Generator:
        """The random stream of one decision about one sample in one epoch."""
        return generator(self.seed, "sequence", purpose, epoch, sample.id)

    def happens(self, purpose: str, probability: float, sample: SpatialSample, epoch: int) -> bool:
        """Whether something of a probability happens to one sample in one epoch, by the stream of ``purpose``."""
        return probability > 0 and bool(self.stream(purpose, sample, epoch).random() < probability)


def check_pool(grid: tuple[int, int], count: int, pool: str) -> None:
    """Raise ``UserError`` unless a picture of ``grid`` (rows, columns) can be pooled into ``count`` vectors."""
    rows, columns = grid
    if pool == "raster" and count > rows * columns:
        raise UserError(
            f"a picture of {rows} x {columns} tokens cannot fill {count} slots: choose fewer, or a larger picture"
        )
    side = math.isqrt(count)
    if pool == "grid" and (side**2 != count or rows % side or columns % side):
        raise UserError(
            f"a grid of {count} slots does not divide a picture of {rows} x {columns} tokens: choose a square number whose root "
            "divides both sides, or pool=raster"
        )


def check_encoders(name: str, encoders: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``encoders`` are different ones of vae and vit."""
    if len(set(encoders)) != len(encoders) or not set(encoders) <= set(ENCODERS):
        raise UserError(f"{name} takes vae and vit, each at most once, got {list(encoders)}")


@dataclass(frozen=True)
class LoaderConfig:
    """``packs_per_step`` packs of at most ``budget`` tokens make a step, over all ranks. ``target``: a pack of so many tokens is
    full, though there may be room (BAGEL's ``expected_num_tokens``). ``max_samples``: also at most so many
    samples in a pack, so that modes with longer and shorter samples take steps of the same size.

    ``open_packs``: packs that a lane fills at a time. ``epoch_rows``: rows of an epoch (default: all parts' rows together).
    ``epochs``: stop after so many. ``workers``: processes that prepare batches (0: this one).
    """

    seed: int = 0
    packs_per_step: int = 1
    budget: int = 32768
    target: int | None = None
    max_samples: int | None = None
    open_packs: int = 4
    epoch_rows: int | None = None
    epochs: int | None = None
    workers: int = 0
    start_method: str = "forkserver"

    def __post_init__(self) -> None:
        for name in ("packs_per_step", "budget", "target", "open_packs", "max_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.workers <= MAX_PROCESSES:
            raise UserError(
                f"loader.workers must lie between 0 and {MAX_PROCESSES} on this machine, got {self.workers}"
            )
        if self.target is not None and self.target > self.budget:
            raise UserError(f"loader.target={self.target} must be at most loader.budget={self.budget}")
        if self.start_method not in ("forkserver", "fork", "spawn"):
            raise UserError(f"start_method must be forkserver, fork or spawn, got '{self.start_method}'")
