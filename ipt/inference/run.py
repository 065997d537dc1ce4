"""A dataset answered into a run folder (`ipt.inference.prediction`), which the same command continues."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ipt.common.errors import UnwritableFile, UserError
from ipt.common.files import sha256_file, write_bytes
from ipt.common.progress import Meter
from ipt.common.revision import code_revision
from ipt.inference.checkpoint import Checkpoint, digest, load_checkpoint
from ipt.inference.engine import Engine
from ipt.inference.prediction import PredictionWriter, RunManifest
from ipt.inference.settings import InferConfig
from ipt.model.devices import chosen_device
from ipt.samples.store import SampleReader
from ipt.samples.views import First, Samples

LIBRARIES = ("torch", "tokenizers", "pillow", "numpy")


def load(config: InferConfig) -> Checkpoint:
    """The checkpoint of a run, on its device."""
    device = chosen_device(config.device)
    recipe = None if config.recipe is None else Path(config.recipe)
    folder = Path(str(config.checkpoint))
    return load_checkpoint(folder, recipe, config.weights, device, config.dtype, config.latent_side, config.graphs)


def answer_dataset(config: InferConfig, loaded: Checkpoint | None = None) -> dict[str, Any]:
    """Answer ``config.data`` into ``config.output_dir``; the counts of ``done.json``. ``loaded``: the checkpoint, where it has
    been loaded for other datasets already.

    Raises ``ValueError`` for an empty dataset and for a folder that holds another run, ``OSError`` that says what is kept
    where the disk is full.
    """
    reader, folder = SampleReader(Path(str(config.data))), Path(config.output_dir)
    data: Samples = reader if config.limit is None else First(reader, config.limit)
    if not len(data):
        raise UserError(f"{config.data} holds no samples")
    if doubles := [name for name, count in Counter(data.column("id")).items() if count > 1]:
        raise UserError(f"{config.data} holds {len(doubles)} ids more than once, for example '{doubles[0]}'")
    engine = Engine(loaded or load(config), config.mode, config.seed, config.batch_size)
    about = manifest(config, reader)
    try:
        with PredictionWriter(folder, about) as writer:
            return _answer(engine, data, writer)
    except OSError as error:
        raise UnwritableFile(
            f"{folder} cannot be written ({error}); what was answered is kept: make room and run the same command again"
        ) from error


def _answer(engine: Engine, data: Samples, writer: PredictionWriter) -> dict[str, Any]:
    started, done = time.monotonic(), {prediction.sample_id for prediction in writer.finished}
    right = sum(prediction.correct for prediction in writer.finished)
    meter = Meter(f"{engine.mode.name}:", len(data), len(done))
    count = len(done)
    try:
        for batch in engine.batches(data, done):
            for answered in batch:
                for name, image in zip(answered.prediction.images, answered.images, strict=True):
                    write_bytes(writer.folder / name, image.data)
            writer.write(answered.prediction for answered in batch)
            count += len(batch)
            right += sum(answered.prediction.correct for answered in batch)
            meter.update(count, f"{right / count:.1%} right")
    finally:
        meter.close()
    return writer.finish(time.monotonic() - started)


def manifest(config: InferConfig, reader: SampleReader) -> RunManifest:
    """What the run depends on."""
    mode = {name: value for name, value in asdict(config.mode).items() if name != "fit"}
    if config.mode.name != "selective":
        del mode["threshold"]
    settings = {"limit": config.limit, "dtype": config.dtype, "mode": mode}
    if config.graphs:
        settings["graphs"] = True
    if config.latent_side is not None:
        settings["latent_side"] = config.latent_side
    if config.recipe is not None:
        settings["recipe_sha256"] = sha256_file(Path(config.recipe))
    return RunManifest(
        checkpoint=str(config.checkpoint),
        checkpoint_sha256=digest(Path(str(config.checkpoint))),
        data=str(config.data),
        data_sha256=reader.digest(),
        mode=config.mode.name,
        settings=json.loads(json.dumps(settings)),
        seed=config.seed,
        code_revision=code_revision(),
        versions={name: version(name) for name in LIBRARIES},
    )
