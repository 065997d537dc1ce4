"""Where the imagination of a training sample comes from: its ground truth, the model itself, or another sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ipt.common.files import write_bytes
from ipt.common.images import BadImage
from ipt.common.seeding import generator
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader

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
    """A control: every sample has the imagination of another one of its task, by one fixed permutation without fixed points.

    Raises ``ValueError`` for a task with a single sample.
    """

    def __init__(self, reader: SampleReader, seed: int) -> None:
        self.reader = reader
        ids, tasks = reader.ids(), reader.column("task")
        self.partner: dict[str, int] = {}
        for task in sorted(set(tasks)):
            rows = [row for row, name in enumerate(tasks) if name == task]
            if len(rows) < 2:
                raise ValueError(f"{reader.source} has one sample of task '{task}': its imagination cannot be permuted")
            order = generator(seed, "permuted", task).permutation(rows).tolist()
            self.partner |= {ids[row]: other for row, other in zip(order, order[1:] + order[:1], strict=True)}

    def __call__(self, sample: SpatialSample) -> SampleImage:
        if sample.id not in self.partner:
            raise ValueError(
                f"sample '{sample.id}' is not in {self.reader.source}, from which imaginations are permuted"
            )
        return self.reader[self.partner[sample.id]].imagination
