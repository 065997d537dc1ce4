"""The published code of BAGEL against ours: ``python -m benchmarks.reference reference=FOLDER``, a checkout of
ByteDance-Seed/Bagel.

Nothing of that code is in this repository: it is imported from where you have it, and needs what it needs (transformers
4.49 is what it was written for). Outside of its files, in this process alone, flash-attn is replaced by dense attention,
bfloat16 by float32 and its choice of a CUDA kernel by none, so that it runs on a CPU. Both have the same random weights,
through our export.

step: forward and backward of imagining samples, and of eight that learn to answer alone. mask: what attention needs to know of a
long sample before the first layer. answer: 32 tokens after a prompt of 775. image: 10 guided steps of 16 x 16 tokens, the three
contexts included (`benchmarks.reference_inference`). loader: a sample of 1024 x 1024 pixels, from parquet to the tensors of its
pack (`benchmarks.reference_loader`).
loading: a folder of weights, by the published trainer's way, by its app's way (accelerate), and ours; each in a process of
its own. CPU-seconds, medians, in turn; losses and gradient norms are compared, too.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from ipt.common import cli
from ipt.common.registry import UnknownName, unknown_name

PARTS = ("step", "mask", "answer", "image", "loader", "loading")


@dataclass(frozen=True)
class ReferenceConfig:
    """The published code of BAGEL against ours, on a CPU.

    reference: a checkout of it; only: step, mask, answer, image, loader or loading (default: all); samples: imagining samples
    in a pack, for each pack; side: latent tokens per side of images; batches: of answers, and of images up to 8; threads;
    repeats. loading: the folder and way of one loading, for a process of its own.
    """

    reference: str = "."
    only: str = ""
    samples: list[int] = field(default_factory=lambda: [1, 4])
    side: int = 16
    batches: list[int] = field(default_factory=lambda: [1, 8, 32])
    threads: int = 2
    repeats: int = 3
    loading: list[str] = field(default_factory=list)


def main(config: ReferenceConfig) -> None:
    import torch  # takes seconds to import

    from benchmarks.published import Pair, Published, loaded

    torch.set_num_threads(config.threads)
    if config.only and config.only not in PARTS:
        raise UnknownName(unknown_name("only", config.only, PARTS))
    if config.loading:
        print(loaded(config))
        return
    published = Published(Path(config.reference).absolute())
    print(f"| {config.threads} threads, torch {torch.__version__} | ours, CPU-s | theirs (times ours) |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(replace(config, reference=str(Path(config.reference).absolute())), published, Path(folder))
        for part in PARTS:
            if config.only in ("", part):
                getattr(pair, part)()


if __name__ == "__main__":
    cli.run(ReferenceConfig, main)
