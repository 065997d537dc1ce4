"""``python -m benchmarks.codec``: which codec for the tiny model? Patch PCA against a small KL autoencoder.

Reconstruction of renders of other homes. Both keep 48 numbers per 8 x 8 pixels. The autoencoder is trained for the given CPU
time (reconstruction loss with a small KL term), the PCA is fitted once. Prints PSNR in dB and CPU seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common import cli
from ipt.common.seeding import derived_seed, generator
from ipt.samples.camera import Camera, CameraPose

if TYPE_CHECKING:
    from torch import Tensor

    from ipt.model.codec import AutoencoderCodec, LatentCodec

PATCH, CHANNELS, VIEWS, BATCH = 8, 48, 4, 16


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare codecs for the tiny model on renders of the embedded simulator.

    size: pixels per side; images: training renders; seconds: CPU time for training the autoencoder.
    """

    size: int = 64
    images: int = 400
    seconds: float = 75.0


def renders(preset: str, split: str, count: int, size: int) -> list[Tensor]:
    """Images [3, size, size] in [-1, 1]: four random level views per scene."""
    import torch  # takes seconds to import

    backend = EmbeddedBackend(EmbeddedConfig(preset=preset))
    images: list[Tensor] = []
    for scene_id in backend.scenes(split)[: -(-count // VIEWS)]:
        backend.load(scene_id)
        rng = generator(0, "codec views", scene_id)
        places = backend.sample_navigable(VIEWS, rng)
        cameras = [
            Camera(CameraPose((float(x), float(y), 1.4), float(rng.uniform(-np.pi, np.pi)), -0.15), size, size)
            for x, y in places[:, :2]
        ]
        for frame in backend.render(cameras, ("rgb",)):
            images.append(torch.from_numpy(frame.rgb.copy()).permute(2, 0, 1).float() / 127.5 - 1)
    backend.close()
    return images[:count]


def train_autoencoder(images: list[Tensor], seconds: float, width: int = 32) -> AutoencoderCodec:
    """A KL autoencoder of three downsamplings, trained for ``seconds``."""
    import torch

    from ipt.model.codec import AutoencoderCodec, build_autoencoder

    torch.manual_seed(derived_seed(0, "codec autoencoder"))
    vae = build_autoencoder((width, width, 2 * width, 2 * width), 1, CHANNELS, scale=1.0, shift=0.0)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=0.0)
    draws, data = torch.Generator().manual_seed(1), torch.stack(images)
    start = time.process_time()
    while time.process_time() - start < seconds:
        batch = data[torch.randint(len(data), (BATCH,), generator=draws)]
        posterior = vae.encode(batch).latent_dist
        loss = (
            torch.nn.functional.mse_loss(vae.decode(posterior.sample(draws)).sample, batch)
            + 1e-6 * posterior.kl().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return AutoencoderCodec(vae)


def psnr(codec: LatentCodec, images: list[Tensor]) -> float:
    """Mean PSNR in dB over images, peak 2 (pixels span [-1, 1])."""
    import torch

    decoded = codec.decode(codec.encode(images))
    errors = torch.stack([(d.clamp(-1, 1) - image).square().mean() for d, image in zip(decoded, images, strict=True)])
    return float((10 * torch.log10(4 / errors)).mean())


def main(config: BenchmarkConfig) -> None:
    import torch

    from ipt.model.codec import PatchPca

    torch.set_num_threads(1)
    for preset in ("blocks", "home"):
        train = renders(preset, "train", config.images, config.size)
        test = renders(preset, "val", 100, config.size)
        start = time.process_time()
        pca = PatchPca.fit(train, PATCH, CHANNELS)
        print(f"| {preset} | patch PCA | {psnr(pca, test):.1f} | {time.process_time() - start:.1f} |")
        autoencoder = train_autoencoder(train, config.seconds)
        print(f"| {preset} | KL autoencoder | {psnr(autoencoder, test):.1f} | {config.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
