"""A small convolutional network that reads objects, their side, distance and number from a picture.

It draws one map per noun, how many instances have their place there (softplus of a linear function of local features; nouns share
the weights of their words, so that a purple cylinder is learned from all purple things and all cylinders). Everything is read
from these maps: their sum is the count, 1 - exp(-sum) the probability of presence, the share of the right half is the side, and
the distance is the mean, weighted by the map, of a distance that is predicted at every place. It learns from ground-truth
pictures only, in the same number of steps however many there are (64 pixels: about 30 s on one core), half of them mirrored.

Shape suffixes: B pictures, N nouns, W words, C channels, H / W height and width of a map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ipt.common.errors import UserError
from ipt.common.seeding import derived_seed, generator
from ipt.common.statistics import Floats
from ipt.evaluation.quality.labels import Labels

CHANNELS = ((24, 2), (48, 2), (64, 2), (64, 1))
GROUPS = 4
STEPS, BATCH, LEARNING_RATE = 400, 64, 4e-3
#: A noun needs this many pictures to be learned.
LEAST_PICTURES = 8
#: Objects nearer to the middle than this share of the width are on no side.
MIDDLE = 0.1
EMPTY = -5.0
SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Readings:
    """What a probe read from pictures, each (B, N): expected number, share of it in the right half, distance in metres."""

    count: Floats
    right: Floats
    distance_m: Floats


class Maps(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] to maps per noun [B, N, H, W] and a map of log distances [B, 1, H, W]."""

    def __init__(self, words_NW: Tensor) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for channels, stride in CHANNELS:
            layers += [nn.Conv2d(width, channels, 3, stride, 1), nn.GroupNorm(GROUPS, channels), nn.ReLU()]
            width = channels
        self.trunk = nn.Sequential(*layers)
        self.words = nn.Conv2d(width, words_NW.shape[1], 1)
        self.distance = nn.Conv2d(width, 1, 1)
        self.offsets = nn.Parameter(torch.full((len(words_NW), 1, 1), EMPTY))
        self.register_buffer("words_NW", words_NW)

    def forward(self, pixels_BCSS: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(pixels_BCSS)
        evidence = torch.einsum("bwyx,nw->bnyx", self.words(features), self.words_NW)
        return F.softplus(evidence + self.offsets) + SMALLEST, self.distance(features)


class Probe:
    """A fitted probe. ``nouns``: what it can read, by column of its readings."""

    def __init__(self, nouns: tuple[str, ...], maps: Maps) -> None:
        self.nouns, self.maps = nouns, maps

    @torch.no_grad()
    def read(self, pictures: NDArray[np.uint8], batch: int = 256) -> Readings:
        """Readings of pictures (B, S, S, 3)."""
        parts = [summed(*self.maps(pixels(pictures[row : row + batch]))) for row in range(0, len(pictures), batch)]
        count, right, log_distance = (torch.cat(each).double().numpy() for each in zip(*parts, strict=True))
        return Readings(count, right, np.exp(log_distance))


def pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 to [B, 3, S, S] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def summed(maps_BNHW: Tensor, log_distance_B1HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, shares of the right half and log distances, each [B, N]."""
    count = maps_BNHW.sum((2, 3))
    right = maps_BNHW[..., maps_BNHW.shape[-1] // 2 :].sum((2, 3)) / count
    return count, right, (maps_BNHW * log_distance_B1HW).sum((2, 3)) / count


@dataclass(frozen=True)
class Targets:
    """Labels as arrays for B pictures: counts [B, N], whether an entry is known [B, N], the asked noun's column [B] (-1: it is no
    noun of the probe), its place [B] and log distance [B] (NaN where there is none)."""

    counts: Tensor
    known: Tensor
    asked: Tensor
    place: Tensor
    log_distance: Tensor
    counted: bool


def targets(labels: Sequence[Labels], nouns: Sequence[str]) -> Targets:
    columns = {noun: number for number, noun in enumerate(nouns)}
    counts, known = torch.zeros(len(labels), len(nouns)), torch.zeros(len(labels), len(nouns))
    for row, label in enumerate(labels):
        known[row] = float(label.complete)
        for noun, number in label.counts.items():
            if noun in columns:
                counts[row, columns[noun]], known[row, columns[noun]] = number, 1.0
    return Targets(
        counts,
        known,
        torch.tensor([columns.get(label.asked, -1) for label in labels]),
        torch.tensor([np.nan if label.place is None else label.place for label in labels], dtype=torch.float32),
        torch.tensor([np.nan if d is None else np.log(d) for d in (label.distance_m for label in labels)]).float(),
        any(label.counted for label in labels),
    )


def fit_probe(pictures: NDArray[np.uint8], labels: Sequence[Labels], seed: int, steps: int = STEPS) -> Probe:
    """Learn to read ground-truth pictures (B, S, S, 3), S a multiple of 8. ``ValueError`` where no noun is frequent enough."""
    shown = Counter(noun for label in labels for noun in label.counts)
    nouns = tuple(sorted(noun for noun, times in shown.items() if times >= LEAST_PICTURES))
    if not nouns:
        raise UserError(f"a probe needs a noun that {LEAST_PICTURES} pictures show; {len(labels)} pictures have none")
    aims = targets(labels, nouns)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "probe", "weights"))
        maps = Maps(word_matrix(nouns))
    draws = generator(seed, "probe", "pictures")
    optimizer = torch.optim.AdamW(maps.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        rows = draws.integers(0, len(labels), min(BATCH, len(labels)))
        mirrored = bool(draws.integers(2))
        images = pixels(pictures[rows])
        images = images.flip(-1) if mirrored else images
        loss = probe_loss(*summed(*maps(images)), aims, torch.from_numpy(rows), mirrored)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Probe(nouns, maps.eval())


def word_matrix(nouns: Sequence[str]) -> Tensor:
    """[N, W]: a word that all nouns share, those of each noun, and a weaker one of its own."""
    words = sorted({word for noun in nouns for word in noun.split()})
    shared = torch.tensor([[float(word in noun.split()) for word in words] for noun in nouns])
    return torch.cat([torch.ones(len(nouns), 1), shared, 0.3 * torch.eye(len(nouns))], dim=1)


def probe_loss(
    count: Tensor, right: Tensor, log_distance: Tensor, aims: Targets, rows: Tensor, mirrored: bool
) -> Tensor:
    """Poisson likelihood of counts or Bernoulli likelihood of presence, of the side, and squared error of the log distance."""
    wanted, known = aims.counts[rows], aims.known[rows]
    present = torch.where(wanted > 0, -torch.log(-torch.expm1(-count)), count)
    missed = count - wanted * count.log() if aims.counted else present
    loss = (missed * known).sum() / known.sum().clamp_min(1) * (5.0 if aims.counted else 8.0)
    asked, place = aims.asked[rows], aims.place[rows]
    place = 1 - place if mirrored else place
    sided = (asked >= 0) & ((place - 0.5).abs() >= MIDDLE)
    if sided.any():
        share = right[sided, asked[sided]].clamp(SMALLEST, 1 - SMALLEST)
        loss = loss + F.binary_cross_entropy(share, (place[sided] > 0.5).float())
    far = (asked >= 0) & aims.log_distance[rows].isfinite()
    if far.any():
        loss = loss + 4 * F.mse_loss(log_distance[far, asked[far]], aims.log_distance[rows][far])
    return loss
