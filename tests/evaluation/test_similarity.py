"""Likeness of pictures: against the formulas written out, and by their properties."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ipt.common.seeding import generator
from ipt.evaluation.quality.lpips import BACKBONE, LAYERS, LINEAR, Lpips
from ipt.evaluation.quality.similarity import MOST_PSNR, psnr, ssim

FIRST = generator(0, "first").integers(0, 256, (20, 17, 3), dtype=np.uint8)
SECOND = (FIRST * 0.7 + generator(0, "second").integers(0, 70, FIRST.shape)).astype(np.uint8)


def test_similarity_is_the_formula_window_by_window() -> None:
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    x, y = FIRST.astype(float), SECOND.astype(float)
    found = []
    for row in range(20 - 10):
        for column in range(17 - 10):
            a, b = (each[row : row + 11, column : column + 11] for each in (x, y))
            (mean_a, mean_b) = ((window[..., None] * each).sum((0, 1)) for each in (a, b))
            (var_a, var_b) = ((window[..., None] * e * e).sum((0, 1)) - m**2 for e, m in ((a, mean_a), (b, mean_b)))
            both = (window[..., None] * a * b).sum((0, 1)) - mean_a * mean_b
            c1, c2 = 6.5025, 58.5225
            found.append(
                (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    assert ssim(FIRST, SECOND) == pytest.approx(np.mean(found), abs=1e-9)
    error = np.mean((x - y) ** 2)
    assert psnr(FIRST, SECOND) == pytest.approx(20 * math.log10(255 / math.sqrt(error)))


def test_equal_pictures_are_most_alike_and_likeness_is_mutual() -> None:
    assert ssim(FIRST, FIRST) == pytest.approx(1.0) and psnr(FIRST, FIRST) == MOST_PSNR
    assert ssim(FIRST, SECOND) == pytest.approx(ssim(SECOND, FIRST))
    with pytest.raises(ValueError, match="at one size"):
        psnr(FIRST, SECOND[1:])
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(FIRST[:10], SECOND[:10])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the published names and shapes, with random content."""
    folder, rng = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    backbone: dict[str, Tensor] = {}
    for (name, *_), shape in zip(LAYERS, shapes, strict=True):
        backbone[f"features.{name}.weight"] = torch.randn(shape, generator=rng) / math.sqrt(math.prod(shape[1:]))
        backbone[f"features.{name}.bias"] = torch.randn(shape[0], generator=rng) / 10
    torch.save(backbone, folder / BACKBONE)
    linear = {f"lin{n}.model.1.weight": torch.rand(1, shape[0], 1, 1, generator=rng) for n, shape in enumerate(shapes)}
    torch.save(linear, folder / LINEAR)
    return folder


def test_the_perceptual_distance_is_a_weighted_sum_over_the_layers_of_alexnet(weights: Path) -> None:
    lpips = Lpips(weights)
    pair = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    names, linear = torch.load(weights / BACKBONE), torch.load(weights / LINEAR)
    alexnet = torch.nn.Sequential(
        *(
            torch.nn.Sequential(torch.nn.MaxPool2d(3, 2) if n in (1, 2) else torch.nn.Identity(), layer)
            for n, layer in enumerate(
                torch.nn.Conv2d(*names[f"features.{name}.weight"].shape[1::-1], size, stride, padding)
                for (name, stride, padding, _), size in zip(LAYERS, (11, 5, 3, 3, 3), strict=True)
            )
        )
    )
    x = (pair - torch.tensor([-0.03, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.45]).view(3, 1, 1)
    expected = 0.0
    with torch.no_grad():
        for n, (block, (name, *_)) in enumerate(zip(alexnet, LAYERS, strict=True)):
            block[1].weight.copy_(names[f"features.{name}.weight"])
            block[1].bias.copy_(names[f"features.{name}.bias"])
            x = torch.relu(block(x))
            gap = F.normalize(x[0], dim=0) - F.normalize(x[1], dim=0)
            expected += float((gap.square() * linear[f"lin{n}.model.1.weight"][0]).sum(0).mean())
    assert float(lpips(pair[:1], pair[1:])) == pytest.approx(expected, rel=1e-4) and expected > 0
    assert float(lpips(pair[:1], pair[:1])) == 0
    small = F.avg_pool2d(pair, 4)
    assert float(lpips(small[:1], small[1:])) > 0


def test_weights_that_are_not_there_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{BACKBONE} is not there"):
        Lpips(tmp_path)
    (tmp_path / BACKBONE).write_bytes((weights / BACKBONE).read_bytes())
    with pytest.raises(ValueError, match=f"{LINEAR} is not there"):
        Lpips(tmp_path)
    (tmp_path / LINEAR).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{LINEAR} cannot be read"):
        Lpips(tmp_path)
    torch.save({}, tmp_path / LINEAR)
    with pytest.raises(ValueError, match=r"lacks alex\.pth: lin0"):
        Lpips(tmp_path)
