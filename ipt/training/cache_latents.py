"""Encode the images of a dataset once: ``python -m ipt.training.cache_latents dataset=DIR model=DIR output=DIR``.

Training then reads latents (`ipt.sequence.latent_cache`) and never runs the codec. The settings of sizes are those of the
training run; the same command continues an interrupted run, and adds what is new.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ipt.common.cli import run
from ipt.common.errors import UserError
from ipt.common.progress import tracked
from ipt.imagination.base import Imagination
from ipt.imagination.mixture import make_mode
from ipt.imagination.profiles import load_profile
from ipt.imagination.settings import ImaginationConfig
from ipt.model.checkpoint import read_config
from ipt.model.codec import LatentCodec, codec_digest, load_codec
from ipt.samples.sample import TASKS
from ipt.samples.store import SampleReader
from ipt.sequence.latent_cache import LatentWriter, codec_pictures
from ipt.sequence.render import Renderer
from ipt.sequence.segments import RejectedSample
from ipt.sequence.settings import Resolution, SequenceConfig
from ipt.sequence.tokenizer import load_tokenizer


@dataclass
class CacheConfig:
    """Encode the images of a dataset once per codec and size, for training without the codec.

    ``model``: the folder with the codec, the tokenizer and the model's configuration. ``modes``: imagination modes to be trained.
    The sizes are those of ``ipt.sequence.render.Resolution``; ``dtype``: float32, float16 or bfloat16.
    """

    dataset: str
    model: str
    output: str
    modes: list[str] = field(default_factory=lambda: ["ipt", "label_only"])
    input_side: int = Resolution.input_side
    input_min_side: int = Resolution.input_min_side
    vit_side: int = Resolution.vit_side
    vit_min_side: int = Resolution.vit_min_side
    imagination: int = Resolution.imagination
    observe: list[str] = field(default_factory=lambda: ["vae", "vit"])
    oversize: str = "shrink"
    max_prompt_tokens: int = 16384
    profile: str = "default"
    prompts: str | None = None
    dtype: str = "float32"
    device: str = "cpu"

    def command(self) -> str:
        """The command line that runs this."""
        given = []
        for entry in fields(self):
            value, default = getattr(self, entry.name), entry.default_factory
            if value != (default() if callable(default) else entry.default):
                given.append(f"{entry.name}={'[' + ','.join(value) + ']' if isinstance(value, list) else value}")
        return shlex.join(["python", "-m", "ipt.training.cache_latents", *given])


def make_renderer(config: CacheConfig) -> Renderer:
    """The renderer of the training run that the cache is for."""
    sizes = Resolution(**{entry.name: getattr(config, entry.name) for entry in fields(Resolution)})
    sequence = SequenceConfig(
        resolutions=dict.fromkeys(TASKS, sizes),
        observe=tuple(config.observe),
        oversize=config.oversize,
        max_prompt_tokens=config.max_prompt_tokens,
    )
    profile = load_profile(config.profile, None if config.prompts is None else Path(config.prompts))
    model = Path(config.model)
    return Renderer(load_tokenizer(model), read_config(model)[0].geometry, profile, sequence)


def write_cache(
    reader: SampleReader, modes: Sequence[Imagination], codec: LatentCodec, writer: LatentWriter
) -> tuple[int, list[str]]:
    """Encode what ``modes`` show of all samples. Returns the number of new latents and why samples were left out."""
    encoded, rejected = 0, []
    try:
        for row, sample in enumerate(tracked(reader, "encoding samples", len(reader))):
            try:
                pictures = [picture for mode in modes for picture in codec_pictures(mode.segments(sample, 0))]
                encoded += writer.add(pictures, codec.encode)
            except RejectedSample as rejection:
                rejected.append(f"{reader.where(row)}: {rejection}")
            except UserError as error:
                raise UserError(f"{reader.where(row)}: {error}") from error
    finally:
        writer.flush()
    writer.close()
    return encoded, rejected


def main(config: CacheConfig) -> None:
    codec = load_codec(config.model).to(config.device)
    writer = LatentWriter(Path(config.output), codec_digest(codec), config.command(), config.dtype)  # type: ignore[arg-type]
    renderer = make_renderer(config)
    reader = SampleReader(config.dataset)
    modes = [make_mode(name, renderer, ImaginationConfig({name: 1.0}), reader) for name in config.modes]
    encoded, rejected = write_cache(reader, modes, codec, writer)
    for reason in rejected:
        print(f"left out: {reason}", file=sys.stderr)
    print(f"{encoded} images encoded, {len(rejected)} samples left out, into {config.output}")


if __name__ == "__main__":
    run(CacheConfig, main)
