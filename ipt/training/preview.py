"""``python -m ipt.training.preview task=pet imagination=ipt data.train=FOLDER``: what one sample looks like to the model, before
anything is trained. The settings are those of ``train.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ipt.common.errors import UserError
from ipt.imagination.mixture import make_segmenter
from ipt.training.command import run
from ipt.training.config import TrainConfig

PICTURE = "preview.png"


@dataclass(frozen=True)
class PreviewSettings:
    """``row`` of the (first) dataset, as it is shown in ``epoch``."""

    row: int = 0
    epoch: int = 0


def preview(config: TrainConfig, chosen: PreviewSettings) -> str:
    """Draw the attention mask into the run's folder and return the sequence as text, segment by segment.

    Raises ``UserError`` for a row that there is not, or a sample that cannot be rendered.
    """
    from ipt.sequence.describe import describe, draw_mask  # torch takes seconds to import
    from ipt.sequence.render import Renderer
    from ipt.training.build import ASSETS, make_assets, readers

    datasets, folder = readers(config), Path(config.output_dir)
    if not datasets:
        raise UserError("there is no dataset: set data.train=FOLDER (python -m datagen makes one)")
    reader, row = next(iter(datasets.values())), chosen.row
    if not 0 <= row < len(reader):
        raise UserError(f"row={row} is not in {reader.source}, which has the rows 0 to {len(reader) - 1}")
    sample, where = reader[row], reader.where(row)
    trained = folder / ASSETS if (folder / ASSETS / "tokenizer.json").is_file() else None
    alone = replace(config, model=replace(config.model, codec="none"))  # nothing is encoded
    assets = make_assets(alone, list(datasets.values()), trained)
    geometry = assets.shape.geometry
    renderer = Renderer(assets.tokenizer, geometry, assets.profile, config.full_sequence)
    segmenter = make_segmenter(config.imagination, renderer, reader)
    try:
        segments = segmenter(sample, chosen.epoch, row)
        table = describe(segments, assets.tokenizer, geometry)
        draw_mask(segments, assets.tokenizer, geometry, folder / PICTURE)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    name = segmenter.mode(chosen.epoch, row).name
    head = (
        f"sample '{sample.id}' ({sample.task}), imagination {name}, profile {assets.profile.name}, epoch {chosen.epoch}"
    )
    return f"{head}\n{table}\nattention mask: {folder / PICTURE}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run("preview", PreviewSettings, preview, arguments)


if __name__ == "__main__":
    main()
