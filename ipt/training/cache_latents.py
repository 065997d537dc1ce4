"""Encode the images of a training once: ``python -m ipt.training.cache_latents task=pet imagination=ipt data.train=FOLDER
data.cache=FOLDER``.

The settings are those of ``train.py``, which with the same ones reads the latents (`ipt.sequence.latent_cache`) and never runs
the codec. The same command continues an interrupted run, and adds what is new.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ipt.common.errors import UserError
from ipt.common.locking import held
from ipt.common.progress import tracked
from ipt.common.registry import UnknownName, unknown_name
from ipt.imagination.base import Imagination
from ipt.imagination.mixture import make_segmenter
from ipt.model.codec import LatentCodec, codec_digest
from ipt.model.devices import chosen_device
from ipt.samples.store import SampleReader
from ipt.sequence.latent_cache import DTYPES, LatentWriter, codec_pictures
from ipt.sequence.render import Renderer
from ipt.sequence.segments import RejectedSample
from ipt.training.build import ASSETS, make_assets, readers
from ipt.training.command import run
from ipt.training.config import TrainConfig, missing_weights


@dataclass(frozen=True)
class CacheSettings:
    """``dtype`` of what is stored, and the ``device`` that encodes (auto: a GPU where there is one)."""

    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownName(unknown_name("dtype", self.dtype, DTYPES))


def write_cache(
    reader: SampleReader, modes: Sequence[Imagination], codec: LatentCodec, writer: LatentWriter
) -> tuple[int, list[str]]:
    """Encode what ``modes`` show of all samples. Returns the number of new latents and why samples were left out."""
    encoded, rejected = 0, []
    for row, sample in enumerate(tracked(reader, "encoding samples", len(reader))):
        try:
            pictures = [picture for mode in modes for picture in codec_pictures(mode.segments(sample, 0))]
            encoded += writer.add(pictures, codec.encode)
        except RejectedSample as rejection:
            rejected.append(f"{reader.where(row)}: {rejection}")
        except UserError as error:
            raise UserError(f"{reader.where(row)}: {error}") from error
    return encoded, rejected


def cache_latents(config: TrainConfig, chosen: CacheSettings) -> str:
    """Encode all datasets of the run, the validation's included; returns what was done."""
    if config.data.cache is None:
        raise UserError("set data.cache=FOLDER: where the latents are kept")
    if not config.data.weights:
        raise UserError("there is no dataset: set data.train=FOLDER (python -m datagen makes one)")
    if missing := missing_weights(config):
        raise UserError("; ".join(missing))
    device = chosen_device(chosen.device)
    with held(Path(config.data.cache)), held(Path(config.output_dir)):
        return _cache_latents(config, chosen, device, config.data.cache)


def _cache_latents(config: TrainConfig, chosen: CacheSettings, device: str, cache: str) -> str:
    datasets = readers(config)
    assets = make_assets(config, list(datasets.values()), Path(config.output_dir) / ASSETS)
    assert assets.codec is not None  # data.cache without a codec is refused with the settings
    codec = assets.codec.to(device)
    renderer = Renderer(assets.tokenizer, assets.shape.geometry, assets.profile, config.full_sequence)
    command = shlex.join(["python", "-m", "ipt.training.cache_latents", *HydraConfig.get().overrides.task])
    writer = LatentWriter(Path(cache), codec_digest(codec), command, chosen.dtype)  # type: ignore[arg-type]
    extra = [] if config.data.validation is None else [SampleReader(config.data.validation)]
    encoded, rejected = 0, list[str]()
    try:
        for reader in (*datasets.values(), *extra):
            modes = make_segmenter(config.imagination, renderer, reader).members
            new, left_out = write_cache(reader, modes, codec, writer)
            encoded, rejected = encoded + new, rejected + left_out
    finally:
        writer.flush()
    writer.close()
    for reason in rejected:
        print(f"left out: {reason}", file=sys.stderr)
    return f"{encoded} images encoded, {len(rejected)} samples left out, into {cache}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run("cache_latents", CacheSettings, cache_latents, arguments)


if __name__ == "__main__":
    main()
