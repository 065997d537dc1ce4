"""Discrete visual tokens: the picture as codes of a VQ codec, written like words (the discrete probe of arXiv 2606.03988).

The vocabulary grows by the codes, and the text loss trains them. At inference a picture has as many codes as in training, and
nothing else can be written in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ipt.common.errors import UserError
from ipt.common.images import BadImage, decode_image, encode_image
from ipt.imagination.base import Codebook, Context, Imagination, ImaginationSettings, Imagined, Mediator, modes
from ipt.samples.prompts import IMAGE_END, IMAGE_START, Profile, answer_text
from ipt.samples.sample import SampleImage, SpatialSample, picture_path
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segment

TARGETS = ("rgb", "grey", "depth")
KMEANS = "kmeans"


@dataclass(frozen=True)
class DiscreteSettings(ImaginationSettings):
    """``target``: what is written of the picture, its colours (``rgb``), its ``grey`` levels, or its ``depth``, from PNGs in the
    folder ``depth_maps`` that are named by the samples' ids.

    ``codec``: ``kmeans``, of ``codes`` mean patches of ``patch`` x ``patch`` pixels (default: those of a latent token), which is
    fitted to the dataset; or the folder of a VQGAN (diffusers' ``VQModel``, on images in [-1, 1]). A model that starts from one
    with codes keeps these.
    """

    target: str = "rgb"
    codec: str = KMEANS
    codes: int = 256
    patch: int | None = None
    depth_maps: Path | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UserError(f"imagination.discrete.target is {' or '.join(TARGETS)}, not '{self.target}'")
        if (self.depth_maps is not None) != (self.target == "depth"):
            raise UserError("imagination.discrete.target=depth and imagination.discrete.depth_maps=FOLDER go together")
        if self.codes < 2 or (self.patch is not None and self.patch < 1):
            raise UserError(
                f"imagination.discrete needs 2 codes and patch=1 at least, got {self.codes} and {self.patch}"
            )

    @property
    def codebook(self) -> Codebook:
        return Codebook(None if self.codec == KMEANS else Path(self.codec), self.codes, self.patch)

    @property
    def at_inference(self) -> DiscreteSettings:
        return self

    @property
    def true_only(self) -> bool:
        return self.target == "depth"

    def picture(self, sample: SpatialSample) -> SampleImage:
        """What is written as codes. Raises ``BadImage`` naming a sample whose depth is missing."""
        if self.target == "rgb":
            return sample.imagination
        if self.depth_maps is None:
            return replace(
                sample.imagination, data=_grey(sample.imagination.data, f"sample '{sample.id}', imagination")
            )
        path = picture_path(self.depth_maps, sample.id)
        if not path.is_file():
            raise BadImage(
                f"sample '{sample.id}': no depth map at {path}, which imagination.discrete.depth_maps should hold "
                "(python -m datagen.depth)"
            )
        return replace(sample.imagination, data=path.read_bytes())


@modes.register("discrete")
class Discrete(Imagination):
    """``<image_start>``, the picture's codes, ``<image_end><answer>B</answer>``."""

    name, kind = "discrete", "code"
    words = (IMAGE_START, IMAGE_END)
    Settings = DiscreteSettings
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. First write the view that is not shown in "
        "picture codes between <image_start> and <image_end>, then give the letter of the right option between <answer> and "
        "</answer>.",
        "brief": "Codes, answer.",
    }
    settings: DiscreteSettings

    def __init__(self, renderer: Renderer, settings: DiscreteSettings | None = None) -> None:
        super().__init__(renderer, settings)
        stride = renderer.geometry.code_stride
        for task in renderer.config.resolutions if stride else ():
            width, height = renderer.imagination_size(task)
            if width % stride or height % stride:
                raise UserError(
                    f"codes of {stride} x {stride} pixels do not divide the imaginations of {width} x {height} pixels of task "
                    f"{task}: choose another resolution, imagination.discrete.patch or codec"
                )

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [IMAGE_START, sample.imagination, IMAGE_END + answer_text(sample)]

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        what = f"sample '{sample.id}', field 'imagination'"
        return [
            *self.prompt(sample),
            self.renderer.text(IMAGE_START, Role.IMAGINATION, trained=True),
            self.renderer.codes(sample.task, self.settings.picture(sample), what, trained=True),
            self.renderer.text(IMAGE_END + answer_text(sample), Role.ANSWER, trained=True),
        ]

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.IMAGINATION, seed)
        return self.announced(rows, texts, seed)

    def announces(self, text: str) -> bool:
        return IMAGE_START in text

    def announced(self, rows: Context, texts: Sequence[str], seed: int) -> Imagined:
        sizes = {
            row: self.renderer.imagination_size(rows.tasks[row]) for row, t in enumerate(texts) if self.announces(t)
        }
        images: list[SampleImage | None] = [None] * len(rows)
        for size in sorted(set(sizes.values())):
            writing = [row for row in sizes if sizes[row] == size]
            rows, written = rows.generate_codes(writing, size, Role.IMAGINATION, seed)
            for row, image in zip(writing, written, strict=True):
                images[row] = image
        return Imagined.of(rows, texts, images, leads=["" if image is None else IMAGE_END for image in images])

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]] = ()
    ) -> Mediator | None:
        return Mediator(texts[0], next(iter(images), None), numbers[0]) if numbers else None

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        return Mediator(IMAGE_START, self.settings.picture(sample))

    def looked_at(self, task: str, mediator: Mediator) -> list[Segment]:
        said = [self.renderer.text(mediator.text, Role.IMAGINATION)]
        if mediator.numbers is not None:
            return [*said, self.renderer.codes_of(mediator.numbers)]
        return said if mediator.image is None else [*said, self.renderer.codes(task, mediator.image)]

    def placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        seen = [self.looked_at(task, mediator) for task, mediator in zip(context.tasks, mediators, strict=True)]
        texts, images = [mediator.text for mediator in mediators], [mediator.image for mediator in mediators]
        return Imagined.of(context.append(seen), texts, images, leads=[IMAGE_END] * len(texts))


@lru_cache(maxsize=4096)
def _grey(data: bytes, what: str) -> bytes:
    """The picture's luma (ITU-R BT.601) in all three channels."""
    luma = decode_image(data, what) @ np.array([0.299, 0.587, 0.114])
    return encode_image(np.repeat(luma.round().astype(np.uint8)[..., None], 3, axis=-1))
