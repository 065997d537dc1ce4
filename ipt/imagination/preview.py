"""``python -m ipt.imagination.preview data=FOLDER``: what one sample looks like to the model, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipt.common import cli
from ipt.imagination.ipt import IptSettings
from ipt.imagination.mixture import ImaginationConfig, by_name, make_segmenter
from ipt.samples.prompts import load_profile
from ipt.samples.sample import TASKS
from ipt.samples.store import SampleReader
from ipt.sequence.describe import describe, draw_mask
from ipt.sequence.render import GuidanceDropout, Renderer, Resolution, SequenceConfig
from ipt.sequence.segments import Geometry
from ipt.sequence.tokenizer import dataset_texts, load_tokenizer, train_tokenizer


@dataclass
class PreviewConfig:
    """Print the packed sequence of one training sample, segment by segment, and draw its attention mask.

    data: folder of samples, or one shard. mode: label_only, text_cot, caption, ipt or mixed. prompts: prompts.json of a converted
    dataset, for profile=release. tokenizer: a folder with one; by default one is trained on the data. Sizes: input_side and
    vit_side in pixels, imagination in latent tokens per side; the geometry is BAGEL's.
    """

    data: str
    row: int = 0
    epoch: int = 0
    mode: str = "ipt"
    reveal: float = 1.0
    bottleneck: float = 0.0
    text_dropout: float = 0.0
    profile: str = "default"
    prompts: str | None = None
    tokenizer: str | None = None
    vocabulary: int = 2048
    input_side: int = 512
    vit_side: int = 518
    imagination: int = 32
    vit_patch: int = 14
    latent_patch: int = 2
    latent_channels: int = 16
    latent_downsample: int = 8
    seed: int = 0
    output: str = "outputs/preview.png"


def preview(config: PreviewConfig) -> str:
    """Write the PNG and return the text. ``ValueError`` for a sample that cannot be rendered."""
    reader = SampleReader(Path(config.data))
    sample = reader[config.row]
    profile = load_profile(config.profile, None if config.prompts is None else Path(config.prompts))
    if config.tokenizer is None:
        tokenizer = train_tokenizer(dataset_texts(reader, profile), config.vocabulary)
    else:
        tokenizer = load_tokenizer(Path(config.tokenizer))
    resolution = Resolution(input_side=config.input_side, vit_side=config.vit_side, imagination=config.imagination)
    settings = SequenceConfig(
        resolutions=dict.fromkeys(TASKS, resolution),
        dropout=GuidanceDropout(text=config.text_dropout),
        seed=config.seed,
    )
    geometry = Geometry(config.vit_patch, config.latent_patch, config.latent_channels, config.latent_downsample)
    imagination = ImaginationConfig(
        by_name(config.mode), IptSettings(reveal=config.reveal, bottleneck=config.bottleneck)
    )
    segmenter = make_segmenter(imagination, Renderer(tokenizer, geometry, profile, settings), reader)
    segments = segmenter(sample, config.epoch, config.row % len(reader))
    output = Path(config.output)
    draw_mask(segments, tokenizer, geometry, output)
    name = segmenter.mode(config.epoch, config.row % len(reader)).name
    head = f"sample '{sample.id}' ({sample.task}), mode {name}, profile {profile.name}, epoch {config.epoch}"
    return f"{head}\n{describe(segments, tokenizer, geometry)}\nattention mask: {output}"


if __name__ == "__main__":
    cli.run(PreviewConfig, lambda config: print(preview(config)))
