"""LPIPS, the learned perceptual distance (Zhang et al. 2018, v0.1 on AlexNet), from published weights that are at hand.

That of torchmetrics needs torchvision, which must be of torch's own build, and downloads the network that it measures with.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ipt.common.errors import UserError

#: torchvision's AlexNet and the linear weights of the authors' repository, by their published names.
BACKBONE, LINEAR = "alexnet-owt-7be5be79.pth", "alex.pth"
#: Convolutions of AlexNet: name, stride, padding, and whether a max-pool of 3 x 3, stride 2, comes before.
LAYERS = (("0", 4, 2, False), ("3", 1, 2, True), ("6", 1, 1, True), ("8", 1, 1, False), ("10", 1, 1, False))
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LEAST_SIDE = 64


class Lpips:
    """The distance, with weights from ``folder``, which holds both files. ``ValueError`` names what is missing or unreadable."""

    def __init__(self, folder: Path) -> None:
        for name in (BACKBONE, LINEAR):
            if not (folder / name).is_file():
                raise UserError(
                    f"LPIPS needs {BACKBONE} (torchvision's AlexNet) and {LINEAR} (the authors' v0.1 weights) in "
                    f"{folder}: {name} is not there"
                )
        self.backbone, self.linear = weights(folder / BACKBONE), weights(folder / LINEAR)
        names = [f"features.{name}.{part}" for name, *_ in LAYERS for part in ("weight", "bias")]
        lacking = [f"{BACKBONE}: {name}" for name in names if name not in self.backbone]
        lacking += [f"{LINEAR}: {name}" for name in map(linear_name, range(len(LAYERS))) if name not in self.linear]
        if lacking:
            raise UserError(f"these are not the weights of LPIPS; {folder} lacks {', '.join(lacking)}")

    @torch.no_grad()
    def __call__(self, picture_BCHW: Tensor, truth_BCHW: Tensor) -> Tensor:
        """Distances [B] of pictures in [-1, 1]; those smaller than 64 pixels are enlarged to that."""
        pairs = zip(self.features(picture_BCHW), self.features(truth_BCHW), strict=True)
        total = torch.zeros(len(picture_BCHW))
        for layer, (one, other) in enumerate(pairs):
            gap = (unit(one) - unit(other)).square()
            total += F.conv2d(gap, self.linear[linear_name(layer)]).mean((1, 2, 3))
        return total

    def features(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Activations after each of the five convolutions."""
        side = min(pixels_BCHW.shape[-2:])
        if side < LEAST_SIDE:
            pixels_BCHW = F.interpolate(pixels_BCHW, scale_factor=LEAST_SIDE / side, mode="bilinear")
        x = (pixels_BCHW - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        found = []
        for name, stride, padding, pooled in LAYERS:
            x = F.max_pool2d(x, 3, 2) if pooled else x
            weight, bias = (self.backbone[f"features.{name}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            found.append(x)
        return found


def linear_name(layer: int) -> str:
    return f"lin{layer}.model.1.weight"


def unit(features_BCHW: Tensor) -> Tensor:
    """Features of unit length at each place."""
    return features_BCHW / (features_BCHW.square().sum(1, keepdim=True).sqrt() + 1e-10)


def weights(path: Path) -> Mapping[str, Tensor]:
    """A state dict; nothing else is unpickled."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} cannot be read as weights: {error}") from error
