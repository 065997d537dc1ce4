"""A small stored dataset and a segmenter without a tokenizer, for tests of the loader."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ipt.common.seeding import generator
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader, write_shards
from ipt.sequence.batch import PackedBatch
from ipt.sequence.loader import Loader, Part
from ipt.sequence.pictures import Picture
from ipt.sequence.segments import Kind, RejectedSample, Segment, SpecialTokens, TokenIds, with_draws
from ipt.sequence.settings import Geometry, LoaderConfig
from ipt.sequence.spans import Loss, Role
from tests.synthetic import make_sample

TOKENS = SpecialTokens(bos=1, eos=2, image_start=3, image_end=4)
GEOMETRY = Geometry(vit_patch=8, latent_patch=1, latent_channels=48, latent_downsample=8)
SAMPLES = [make_sample(number) for number in range(30)]


@dataclass(frozen=True)
class Words:
    """A ViT image, a trained text of 1 to 40 tokens that depends on id and epoch, and with ``latents`` an image noised ``draws``
    times, with its clean copy.

    Samples whose number is ``rejected`` are left out; the one that is ``deadly`` ends the process; ``length`` fixes the texts.
    """

    latents: bool = False
    rejected: int = -1
    deadly: int = -1
    length: int | None = None
    draws: int = 1

    def __call__(self, sample: SpatialSample, epoch: int, row: int) -> list[Segment]:
        number = int(sample.id.split("-")[1])
        if number == self.deadly:
            os._exit(1)
        if number == self.rejected:
            raise RejectedSample(sample.id, "too long")
        drawn = generator(number, "words", epoch).integers(5, 30, 40)
        length = int(drawn[0]) if self.length is None else self.length
        image, imagined = sample.images[0], sample.imagination
        segments = [
            Segment(Kind.VIT, Picture(image.data, ((16, 16),), f"images.{image.role}")),
            Segment(Kind.TEXT, TokenIds(torch.from_numpy(drawn[:length])), Role.ANSWER, Loss.CE),
        ]
        if self.latents:
            picture = Picture(imagined.data, ((16, 16),), "imagination")
            segments.insert(1, Segment(Kind.VAE_NOISED, picture, Role.IMAGINATION, Loss.FLOW))
            segments.insert(2, Segment(Kind.VAE, picture, Role.IMAGINATION))
        return with_draws(segments, self.draws)


def stored(folder: Path, samples: list[SpatialSample] | None = None) -> SampleReader:
    """Samples (default: `SAMPLES`) as one shard."""
    (path,) = write_shards(folder, "train", SAMPLES if samples is None else samples)
    return SampleReader(path)


def with_broken_image(sample: SpatialSample) -> SpatialSample:
    """The sample, its first image cut off in the middle."""
    image = sample.images[0]
    return replace(sample, images=(SampleImage(image.data[: len(image.data) // 2], image.role), *sample.images[1:]))


def make_loader(
    reader: SampleReader, segmenter: Words | None = None, rank: int = 0, world: int = 1, **settings: object
) -> Loader:
    config = LoaderConfig(**{"budget": 120, "packs_per_step": 4, "open_packs": 2, "start_method": "fork", **settings})  # type: ignore[arg-type]
    return Loader([Part("words", reader, segmenter or Words())], TOKENS, GEOMETRY, config, rank=rank, world=world)


def contents(batch: PackedBatch) -> tuple[object, ...]:
    """Everything a batch holds, comparable by ``==``."""
    spans = [getattr(batch.spans, name).tolist() for name in batch.spans.__dataclass_fields__]
    tensors = (batch.token_ids_X, batch.patches_VD, batch.latents_GD, batch.labels_C)
    values = [tensor.tolist() for tensor in tensors], [picture.tolist() for picture in batch.pictures]
    return spans, values, batch.patch_grids, batch.latent_grids, batch.picture_of, batch.origins
