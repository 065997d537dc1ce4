"""The images of a training through its codecs, into a latent cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ipt.common.errors import UserError
from ipt.common.progress import tracked
from ipt.imagination.base import Imagination
from ipt.imagination.mixture import make_segmenter
from ipt.model.codec import LatentCodec, codec_digest
from ipt.model.codes import CodeCodec
from ipt.samples.store import SampleReader
from ipt.sequence.latent_cache import CODES, LatentWriter, code_pictures, codec_pictures
from ipt.sequence.pictures import Picture
from ipt.sequence.render import Renderer
from ipt.sequence.segments import RejectedSample, Segment
from ipt.training.build import ASSETS, make_assets, readers
from ipt.training.config import TrainConfig

#: A codec, where its latents or codes go, and which pictures it sees of a sample.
Job = tuple[LatentCodec | CodeCodec, LatentWriter, Callable[[Iterable[Segment]], list[Picture]]]


def write_cache(
    reader: SampleReader,
    modes: Sequence[Imagination],
    codec: LatentCodec | CodeCodec,
    writer: LatentWriter,
    pictures_of: Callable[[Iterable[Segment]], list[Picture]] = codec_pictures,
) -> tuple[int, list[str]]:
    """Encode what ``modes`` show of all samples to this codec. Returns the number of new ones and why samples were left out."""
    encoded, rejected = 0, []
    for row, sample in enumerate(tracked(reader, "encoding samples", len(reader))):
        try:
            pictures = [picture for mode in modes for picture in pictures_of(mode.segments(sample, 0))]
            encoded += writer.add(pictures, codec.encode)
        except RejectedSample as rejection:
            rejected.append(f"{reader.where(row)}: {rejection}")
        except UserError as error:
            raise UserError(f"{reader.where(row)}: {error}") from error
    return encoded, rejected


def encode_datasets(config: TrainConfig, folder: Path, command: str, dtype: str, device: str) -> tuple[int, int]:
    """Encode all images of a run into ``folder``, whose manifest says which ``command`` made it, latents as ``dtype``. Returns
    how many are new and how many samples were left out, each of which is printed."""
    datasets = readers(config)
    assets = make_assets(config, list(datasets.values()), Path(config.output_dir) / ASSETS)
    renderer = Renderer(assets.tokenizer, assets.shape.geometry, assets.profile, config.full_sequence)
    jobs = list[Job]()
    if assets.codec is not None and (assets.codes is None or config.encodes):
        writer = LatentWriter(folder, codec_digest(assets.codec), command, dtype)  # type: ignore[arg-type]
        jobs.append((assets.codec.to(device), writer, codec_pictures))
    if assets.codes is not None and config.imagination.coded is not None:
        writer = LatentWriter(folder / CODES, assets.codes.digest, command, "int32")
        jobs.append((assets.codes.to(device), writer, code_pictures))
    extra = [] if config.data.validation is None else [SampleReader(config.data.validation)]
    encoded, rejected = 0, list[str]()
    for codec, writer, pictures_of in jobs:
        rejected = []  # each codec leaves out the same samples
        try:
            for reader in (*datasets.values(), *extra):
                modes = make_segmenter(config.imagination, renderer, reader).members
                new, left_out = write_cache(reader, modes, codec, writer, pictures_of)
                encoded, rejected = encoded + new, rejected + left_out
        finally:
            writer.flush()
        writer.close()
    for reason in rejected:
        print(f"left out: {reason}", file=sys.stderr)
    return encoded, len(rejected)
