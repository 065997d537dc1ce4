"""``python -m ipt.imagination.preview data=FOLDER``: what one sample looks like to the model, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.imagination.mixture import by_name, make_segmenter
from ipt.imagination.modes.ipt import IptSettings
from ipt.imagination.profiles import load_profile
from ipt.imagination.settings import ImaginationConfig
from ipt.samples.sample import TASKS
from ipt.samples.store import SampleReader
from ipt.sequence.describe import describe, draw_mask
from ipt.sequence.render import Renderer
from ipt.sequence.settings import Geometry, GuidanceDropout, Resolution, SequenceConfig
from ipt.sequence.tokenizer import dataset_texts, load_tokenizer, train_tokenizer


@dataclass
class PreviewConfig:
    """Print the packed sequence of one training sample, segment by segment, and draw its attention mask.

    data: folder of samples, or one shard. mode: label_only, text_cot, caption, ipt or mixed. prompts: prompts.json of a converted
    dataset, for profile=release. tokenizer: a folder with one; by default one is trained on the data. resolution.imagination=16,
    ipt.bottleneck=1, dropout.text=1 and the like set single values; the geometry is BAGEL's unless it is given.
    """

    data: str
    row: int = 0
    epoch: int = 0
    mode: str = "ipt"
    ipt: IptSettings = field(default_factory=IptSettings)
    profile: str = "default"
    prompts: str | None = None
    tokenizer: str | None = None
    vocabulary: int = 2048
    resolution: Resolution = field(default_factory=Resolution)
    geometry: Geometry = field(default_factory=lambda: Geometry(vit_patch=14, latent_patch=2, latent_channels=16))
    dropout: GuidanceDropout = field(default_factory=lambda: GuidanceDropout(text=0.0))
    seed: int = 0
    output: str = "outputs/preview.png"


def preview(config: PreviewConfig) -> str:
    """Write the PNG and return the text. ``ValueError`` for a sample that cannot be rendered."""
    reader = SampleReader(Path(config.data))
    sample, where = reader[config.row], reader.where(config.row)
    profile = load_profile(config.profile, None if config.prompts is None else Path(config.prompts))
    if config.tokenizer is None:
        tokenizer = train_tokenizer(dataset_texts(reader, profile), config.vocabulary)
    else:
        tokenizer = load_tokenizer(Path(config.tokenizer))
    settings = SequenceConfig(dict.fromkeys(TASKS, config.resolution), dropout=config.dropout, seed=config.seed)
    geometry, imagination = config.geometry, ImaginationConfig(modes=by_name(config.mode), ipt=config.ipt)  # type: ignore[call-arg]
    segmenter = make_segmenter(imagination, Renderer(tokenizer, geometry, profile, settings), reader)
    row, output = config.row % len(reader), Path(config.output)
    try:
        segments = segmenter(sample, config.epoch, row)
        table = describe(segments, tokenizer, geometry)
        draw_mask(segments, tokenizer, geometry, output)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    name = segmenter.mode(config.epoch, row).name
    head = f"sample '{sample.id}' ({sample.task}), mode {name}, profile {profile.name}, epoch {config.epoch}"
    return f"{head}\n{table}\nattention mask: {output}"


if __name__ == "__main__":
    cli.run(PreviewConfig, lambda config: print(preview(config)))
