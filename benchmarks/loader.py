"""How fast does the loader fill packs at the paper's sizes, with and without the latent cache?

    python -m benchmarks.loader rows=48 packs=6 output_dir=outputs/benchmark_loader

Makes one dataset per task of 1024 x 1024 pictures (JPEG inputs, PNG imagination), whose content does not matter, and loads packs
of 32,768 tokens of the mode ipt: PET with one input at 1024 and a 64 x 64 latent imagination, PT with three inputs at 512 and
MVC with four at 512, both with 32 x 32. Without the cache a batch carries the pictures that the codec would have to encode on the
training device; with it, latents. The codec is the patch PCA with FLUX's shape (16 channels, 8 pixels), whose speed does not
enter: the cache is written beforehand.
"""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from ipt.common.cli import run
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.imagination.mixture import ImaginationConfig, make_segmenter
from ipt.imagination.recipe import load_profile
from ipt.model.config import presets
from ipt.samples.sample import Provenance, SampleImage, SpatialSample, Task
from ipt.samples.store import SampleReader, seal, write_shards
from ipt.sequence.settings import LoaderConfig, Resolution, SequenceConfig

if TYPE_CHECKING:
    from torch import Tensor

    from ipt.sequence.latent_cache import LatentCache
    from ipt.sequence.loader import Part
    from ipt.sequence.pictures import Picture
    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segmenter

INPUTS: dict[Task, tuple[str, ...]] = {
    "pet": ("observation",),
    "pt": ("map", "ego_1", "ego_2"),
    "mvc": ("frame_0", "frame_1", "frame_2", "frame_3"),
}
SIZES: dict[Task, Resolution] = {
    "pet": Resolution(input_side=1024, input_min_side=512, imagination=64),
    "pt": Resolution(),
    "mvc": Resolution(),
}


@dataclass
class BenchmarkConfig:
    """Time the loader at the paper's sizes. ``rows``: samples per task; ``packs``: packs timed, after two that are not."""

    output_dir: str
    rows: int = 48
    packs: int = 6


def picture(seed: int, format_: str) -> bytes:
    """A 1024 x 1024 picture of soft shapes and some noise: about as many bytes as a rendered room."""
    rng = generator(seed, "benchmark picture")
    shapes = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        (1024, 1024), Image.Resampling.NEAREST
    )
    soft = np.asarray(shapes.filter(ImageFilter.GaussianBlur(2)), dtype=np.int16)
    noisy = np.clip(soft + rng.integers(-2, 3, soft.shape), 0, 255).astype(np.uint8)
    return encode_image(noisy, "png" if format_ == "png" else "jpeg")


def dataset(folder: Path, task: Task, rows: int) -> SampleReader:
    """``rows`` samples of a task, as many pictures as samples: fewer would be found decoded."""
    inputs, targets = ([picture(seed, format_) for seed in range(rows)] for format_ in ("jpeg", "png"))
    kind = {"pet": "view", "pt": "side_view", "mvc": "bev"}[task]
    samples = (
        SpatialSample(
            id=f"{task}-{number}",
            task=task,
            split="train",
            question="You move to the red 'X' and turn left by 90 degrees. Is the wooden chair closer to you there than here? "
            * 2,
            question_type="benchmark",
            choices=("closer", "further"),
            answer="A",
            images=tuple(SampleImage(inputs[(number + place) % rows], role) for place, role in enumerate(INPUTS[task])),
            imagination=SampleImage(targets[number], kind),
            rationale="",
            caption="",
            provenance=Provenance("benchmark", "1", str(number), number),
        )
        for number in range(rows)
    )
    if not (folder / "manifest.json").exists():
        write_shards(folder, task, samples)
        seal(folder, {})
    return SampleReader(folder)


def write_cache(folder: Path, reader: SampleReader, segmenter: Segmenter, latent_channels: int) -> LatentCache:
    """All latents of a dataset."""
    import torch  # takes seconds to import

    from ipt.model.codec import PatchPca, codec_digest
    from ipt.sequence.latent_cache import LatentCache, LatentWriter, codec_pictures

    basis = torch.linalg.qr(torch.randn(3 * 64, latent_channels, generator=torch.Generator().manual_seed(0)))[0]
    codec = PatchPca(torch.zeros(3 * 64), basis, 1.0, 8)
    writer = LatentWriter(folder, codec_digest(codec), "python -m benchmarks.loader")
    for row, sample in enumerate(reader):
        writer.add(codec_pictures(segmenter(sample, 0, row)), codec.encode)
    writer.close()
    return LatentCache(folder, codec_digest(codec))


@dataclass
class Figures:
    """Of the packs that were timed: samples and tokens per second of wall time, and the processor time that the training process
    itself spent per pack (everything, without workers)."""

    samples_per_s: float
    tokens_per_s: float
    own_core_s: float
    tokens_per_pack: float


def time_packs(
    part: Part, renderer: Renderer, latents: Callable[[Picture], Tensor] | None, workers: int, packs: int
) -> Figures:
    """Time ``packs`` packs after two that are not timed."""
    from ipt.sequence.loader import Loader

    loader = iter(Loader([part], renderer.tokenizer.special, renderer.geometry, LoaderConfig(workers=workers), latents))
    for _ in range(2):
        next(loader)
    started, own = time.perf_counter(), time.process_time()
    samples = tokens = 0
    for batch in itertools.islice(loader, packs):
        samples, tokens = samples + len(batch.origins), tokens + batch.spans.num_tokens
    seconds, own = time.perf_counter() - started, time.process_time() - own
    loader.close()
    return Figures(samples / seconds, tokens / seconds, own / packs, tokens / packs)


def main(config: BenchmarkConfig) -> None:
    import torch

    from ipt.sequence.loader import Part
    from ipt.sequence.render import Renderer
    from ipt.sequence.tokenizer import dataset_texts, train_tokenizer

    torch.set_num_threads(1)
    output, geometry = Path(config.output_dir), presets["bagel_7b_mot"].geometry
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print("| task | latents | workers | samples/s | tokens/s | core-s per pack in the training process | tokens/pack |")
    print("|---|---|---|---|---|---|---|")
    for task in INPUTS:
        reader = dataset(output / task, task, config.rows)
        tokenizer = train_tokenizer(dataset_texts(reader, load_profile()), 400)
        sequence = SequenceConfig(resolutions=SIZES)
        renderer = Renderer(tokenizer, geometry, load_profile(), sequence)
        segmenter = make_segmenter(ImaginationConfig({"ipt": 1.0}), renderer, reader)
        cache = write_cache(output / f"{task}_latents", reader, segmenter, geometry.latent_channels)
        for latents, name in ((None, "pictures for the codec"), (cache, "from the cache")):
            for workers in (0, 1, 2):
                figures = time_packs(Part(task, reader, segmenter), renderer, latents, workers, config.packs)
                speed = f"{figures.samples_per_s:.2f} | {figures.tokens_per_s:,.0f}"
                cost = f"{figures.own_core_s:.2f} | {figures.tokens_per_pack:,.0f}"
                print(f"| {task} | {name} | {workers} | {speed} | {cost} |", flush=True)


if __name__ == "__main__":
    run(BenchmarkConfig, main)
