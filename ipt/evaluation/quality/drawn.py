"""``python -m ipt.evaluation.quality.drawn checkpoint=RUN data=FOLDER``: draw what a dataset asks for and measure it.

For each kind of picture (`SpatialSample.question_type`): PSNR against the truth beside that of the mean of the other scenes' true
pictures, the share of pictures nearer to their own truth than to another one, and the share whose own truth is the nearest of 20.
Writes ``scores.json``, a sheet of inputs, truths and drawings (``sheet.png``) and the pictures. No answers are read or given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import write_bytes, write_json
from ipt.common.images import encode_image
from ipt.common.progress import tracked
from ipt.common.seeding import generator
from ipt.evaluation.quality.pictures import mean_of_other_scenes, resized
from ipt.evaluation.quality.similarity import PictureScores, scored, sheet
from ipt.evaluation.tables import aligned
from ipt.inference.settings import DrawSettings
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader

ROWS = 6  # of each kind on the sheet
Drawn = Sequence[tuple[SpatialSample, SampleImage]]


@dataclass(frozen=True)
class DrawnConfig:
    """Draw what a dataset asks for and say how near it comes to the truth.

    checkpoint: a run of train.py, a model folder, or base. data: folder of samples (python -m datagen task=drawing makes some).
    limit: only so many of each kind. draw.timesteps=13 draw.shift=4 and the like: as in infer.py.
    """

    checkpoint: str
    data: str
    output_dir: str = "outputs/drawn"
    limit: int | None = None
    draw: DrawSettings = field(default_factory=lambda: DrawSettings(timesteps=13, shift=4.0))
    batch_size: int = 128
    seed: int = 0


def measure(config: DrawnConfig) -> dict[str, PictureScores]:
    """Draw, write the pictures, the sheet and the scores, and return the scores by kind."""
    from ipt.inference.checkpoint import load_checkpoint  # torch takes seconds to import
    from ipt.inference.drawing import draw_pictures

    checkpoint = load_checkpoint(Path(config.checkpoint))
    samples = chosen(SampleReader(Path(config.data)), config.limit)
    made = draw_pictures(checkpoint, samples, config.draw, config.seed, config.batch_size)
    by_kind: dict[str, list[tuple[SpatialSample, SampleImage]]] = {}
    folder = Path(config.output_dir)
    for sample, image in tracked(made, "drawing", len(samples)):
        write_bytes(folder / "pictures" / f"{sample.id}.png", image.data)
        by_kind.setdefault(sample.question_type, []).append((sample, image))
    found = {kind: scores(kind, by_kind[kind], config.seed) for kind in sorted(by_kind)}
    settings = asdict(config)
    write_json(folder / "scores.json", {"settings": settings, "kinds": {k: asdict(s) for k, s in found.items()}})
    write_bytes(folder / "sheet.png", encode_image(np.asarray(sheet(columns(by_kind)))))
    return found


def chosen(reader: SampleReader, limit: int | None) -> list[SpatialSample]:
    """The first ``limit`` samples of each kind."""
    counts: dict[str, int] = {}
    rows = []
    for row, kind in enumerate(reader.column("question_type")):
        counts[kind] = counts.get(kind, 0) + 1
        if limit is None or counts[kind] <= limit:
            rows.append(row)
    return [reader[row] for row in rows]


def scores(kind: str, drawn: Drawn, seed: int) -> PictureScores:
    """The scores of one kind. ``UserError`` where there are too few scenes to compare with."""
    pictures, scenes = [image.pixels() for _, image in drawn], [sample.provenance.scene_id for sample, _ in drawn]
    size = pictures[0].shape[1], pictures[0].shape[0]
    truths = [resized(sample.imagination.pixels(), size) for sample, _ in drawn]
    if len({*scenes}) < 2:
        raise UserError(f"pictures of '{kind}' are judged against those of other scenes; all {len(drawn)} are of one")
    means = mean_of_other_scenes(truths, scenes)
    drawing, truth, mean = (np.stack(listed).astype(np.float64) for listed in (pictures, truths, means))
    return scored(drawing, truth, mean, scenes, generator(seed, "drawn", kind))


def columns(by_kind: Mapping[str, Drawn]) -> list[list[bytes]]:
    """Rows of the sheet: inputs (blank where there are fewer), truth, drawing."""
    blank = encode_image(np.full((8, 8, 3), 255, np.uint8))
    shown = [pair for kind in sorted(by_kind) for pair in by_kind[kind][:ROWS]]
    inputs = max(len(sample.images) for sample, _ in shown)
    rows = [
        [
            *[blank] * (inputs - len(sample.images)),
            *(image.data for image in sample.images),
            sample.imagination.data,
            image.data,
        ]
        for sample, image in shown
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def main(config: DrawnConfig) -> None:
    """Print the scores as a table."""
    found = measure(config)
    print(aligned([["kind", *PictureScores.header()], *([kind, *found[kind].cells()] for kind in found)]))
    print(f"{config.output_dir}/sheet.png: inputs, truth, drawing")


if __name__ == "__main__":
    cli.run(DrawnConfig, main)
