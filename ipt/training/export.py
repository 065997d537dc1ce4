"""``python -m ipt.training.export checkpoint=RUN output_dir=FOLDER``: a trained model in BAGEL's layout, for its tools."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from ipt.common import cli
from ipt.common.errors import MissingFile, UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.imagination.recipe import RECIPE

if TYPE_CHECKING:
    from ipt.model.codec import LatentCodec


@dataclass(frozen=True)
class ExportConfig:
    """Write the model of a run (or of a folder of weights, in either layout) to output_dir.

    layout: bagel (llm_config.json, vit_config.json, ema.safetensors and, where the codec is an autoencoder, ae.safetensors) or
    ipt. latent_side: latent tokens per side of the largest image, where not the model's. dtype: float32 or bfloat16, where not
    the stored one. weights: the file to read where there are several.
    """

    checkpoint: str
    output_dir: str
    layout: str = "bagel"
    latent_side: int | None = None
    dtype: str | None = None
    weights: str | None = None


def export(config: ExportConfig) -> None:
    """Write the folder; say what BAGEL's tools would miss."""
    from ipt.inference.checkpoint import DTYPES, model_folder  # torch takes seconds to import
    from ipt.model.checkpoint import Layout, from_pretrained, save_pretrained
    from ipt.model.codec import AutoencoderCodec, load_codec
    from ipt.model.codes import load_codes

    for what, value, valid in (("layout", config.layout, get_args(Layout)), ("dtype", config.dtype, tuple(DTYPES))):
        if value is not None and value not in valid:
            raise UnknownName(unknown_name(what, value, valid))
    if config.latent_side is not None and config.latent_side < 1:
        raise UserError(f"latent_side must be positive, got {config.latent_side}")
    folder, output = model_folder(Path(config.checkpoint)), Path(config.output_dir)
    if output.resolve() == folder.resolve():
        raise UserError(f"output_dir={output} is where the model lies; choose another folder")
    dtype = None if config.dtype is None else DTYPES[config.dtype]
    model = from_pretrained(folder, weights=config.weights, latent_side=config.latent_side, dtype=dtype)
    try:
        codec: LatentCodec | None = load_codec(folder)
    except MissingFile:
        codec = None
    save_pretrained(
        model, output, layout=cast(Layout, config.layout), codec=codec, codes=load_codes(folder), tokenizer=folder
    )
    if (folder / RECIPE).is_file():
        shutil.copy2(folder / RECIPE, output / RECIPE)
    if config.layout == "bagel" and not isinstance(codec, AutoencoderCodec):
        print(
            "note: the codec is no autoencoder of the FLUX kind, so BAGEL's own tools cannot draw with it",
            file=sys.stderr,
        )
    print(f"{folder} in layout {config.layout}: {output}")


if __name__ == "__main__":
    cli.run(ExportConfig, export)
