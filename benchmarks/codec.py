"""Which codec for the tiny model? Reconstruction of held-out renders: patch PCA against a small KL autoencoder.

    python -m benchmarks.codec size=64 images=600 seconds=120

Both keep 48 numbers per 8 x 8 pixels. The autoencoder is trained on the CPU for the given time (reconstruction loss with a
small KL term), the PCA is fitted once. Prints PSNR in dB on images of other scenes and the seconds used.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from ipt.common.seeding import derived_seed, generator
from ipt.model.codec import AutoencoderCodec, LatentCodec, PatchPca, build_autoencoder
from ipt.samples.camera import Camera, CameraPose

PATCH, CHANNELS, VIEWS, BATCH = 8, 48, 4, 16


def renders(preset: str, split: str, count: int, size: int) -> list[Tensor]:
    """Images [3, size, size] in [-1, 1]: four random level views per scene."""
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
    torch.manual_seed(derived_seed(0, "codec autoencoder"))
    vae = build_autoencoder((width, width, 2 * width, 2 * width), 1, CHANNELS, scale=1.0, shift=0.0)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=0.0)
    draws, data = torch.Generator().manual_seed(1), torch.stack(images)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = data[torch.randint(len(data), (BATCH,), generator=draws)]
        posterior = vae.encode(batch).latent_dist
        loss = F.mse_loss(vae.decode(posterior.sample(draws)).sample, batch) + 1e-6 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return AutoencoderCodec(vae)


def psnr(codec: LatentCodec, images: list[Tensor]) -> float:
    """Mean PSNR in dB over images, peak 2 (pixels span [-1, 1])."""
    decoded = codec.decode(codec.encode(images))
    errors = torch.stack([(d.clamp(-1, 1) - image).square().mean() for d, image in zip(decoded, images, strict=True)])
    return float((10 * torch.log10(4 / errors)).mean())


def main(size: int = 64, images: int = 600, seconds: float = 120.0) -> None:
    torch.set_num_threads(1)
    for preset in ("blocks", "home"):
        train, test = renders(preset, "train", images, size), renders(preset, "val", 100, size)
        start = time.perf_counter()
        pca = PatchPca.fit(train, PATCH, CHANNELS)
        fitted = time.perf_counter() - start
        print(f"{preset:8} patch PCA       {psnr(pca, test):6.2f} dB  fitted in {fitted:.2f} s")
        autoencoder = train_autoencoder(train, seconds)
        print(f"{preset:8} KL autoencoder  {psnr(autoencoder, test):6.2f} dB  trained for {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(**OmegaConf.to_container(OmegaConf.from_cli(sys.argv[1:])))
