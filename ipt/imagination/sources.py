"""Where the imagination of a training sample comes from: its ground truth, the model itself, or another sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.images import BadImage
from ipt.common.seeding import generator
from ipt.samples.sample import SampleImage, SpatialSample


class Samples(Protocol):
    """A dataset that can be read by row and by column: ``ipt.samples.store.SampleReader``, or a list of samples in columns."""

    def __getitem__(self, index: int) -> SpatialSample: ...

    def column(self, name: str) -> list[Any]: ...


ImageSource = Callable[[SpatialSample], SampleImage]


def ground_truth(sample: SpatialSample) -> SampleImage:
    """The rendered imagination of the sample."""
    return sample.imagination


@dataclass(frozen=True)
class SelfMade:
    """Imaginations that a model drew for the samples, one PNG per sample in ``folder``; written by `write`."""

    folder: Path

    def path(self, sample_id: str) -> Path:
        return self.folder / f"{quote(sample_id, safe='')}.png"

    def write(self, sample_id: str, image: SampleImage) -> None:
        """Keep an imagination for training, atomically."""
        write_bytes(self.path(sample_id), image.data)

    def __call__(self, sample: SpatialSample) -> SampleImage:
        """The cached imagination; ``BadImage`` names the sample that has none."""
        path = self.path(sample.id)
        if not path.is_file():
            raise BadImage(f"sample '{sample.id}': no self-made imagination at {path}; let the model imagine it first")
        return SampleImage(path.read_bytes(), sample.imagination.role)


class Permuted:
    """A control: every sample has the imagination of another one of its task, by one fixed permutation without fixed points; of
    another scene, unless one scene has more than half of the samples.

    Raises ``ValueError`` for a task with a single sample.
    """

    def __init__(self, samples: Samples, seed: int) -> None:
        self.samples = samples
        self.partner = dict(zip(samples.column("id"), partners(samples, seed), strict=True))

    def sample(self, sample: SpatialSample) -> SpatialSample:
        """The sample whose imagination ``sample`` gets; ``ValueError`` for one that is not of the dataset."""
        if sample.id not in self.partner:
            raise UserError(f"sample '{sample.id}' is not in the dataset from which imaginations are permuted")
        return self.samples[self.partner[sample.id]]

    def __call__(self, sample: SpatialSample) -> SampleImage:
        return self.sample(sample).imagination


def partners(samples: Samples, seed: int) -> list[int]:
    """For each sample the number of its partner: samples in random order, those of a scene together, turned by the size of the
    largest scene."""
    tasks, scenes = samples.column("task"), [origin["scene_id"] for origin in samples.column("provenance")]
    partner = [-1] * len(tasks)
    for task in sorted(set(tasks)):
        rows = [row for row, name in enumerate(tasks) if name == task]
        shuffled = generator(seed, "permuted", task).permutation(rows).tolist()
        first = {scenes[row]: place for place, row in reversed(list(enumerate(shuffled)))}
        grouped = sorted(shuffled, key=lambda row: first[scenes[row]])
        if len(rows) < 2:
            raise UserError(f"there is one sample of task '{task}': its imagination cannot be permuted")
        largest = Counter(scenes[row] for row in rows).most_common(1)[0][1]
        shift = min(largest, len(rows) // 2)
        for place, row in enumerate(grouped):
            partner[row] = grouped[(place + shift) % len(grouped)]
    return partner
