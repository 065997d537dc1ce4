"""Encode the images of a training once: ``python -m ipt.training.cache_latents task=pet imagination=ipt data.train=FOLDER
data.cache=FOLDER``.

The settings are those of ``train.py``, which with the same ones reads the latents (`ipt.sequence.latent_cache`) and never runs
the codec. The same command continues an interrupted run, and adds what is new.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ipt.common.errors import UserError
from ipt.common.locking import held
from ipt.common.registry import UnknownName, unknown_name
from ipt.training.command import run
from ipt.training.config import TrainConfig, missing_weights


@dataclass(frozen=True)
class CacheSettings:
    """``dtype`` of what is stored, and the ``device`` that encodes (auto: a GPU where there is one)."""

    dtype: str = "float32"
    device: str = "auto"


def cache_latents(config: TrainConfig, chosen: CacheSettings) -> str:
    """Encode all datasets of the run, the validation's included; returns what was done."""
    from ipt.model.devices import chosen_device  # torch takes seconds to import
    from ipt.sequence.latent_cache import DTYPES
    from ipt.training.encoding import encode_datasets

    if chosen.dtype not in DTYPES:
        raise UnknownName(unknown_name("dtype", chosen.dtype, DTYPES))
    if config.data.cache is None:
        raise UserError("set data.cache=FOLDER: where the latents are kept")
    if not config.data.weights:
        raise UserError("there is no dataset: set data.train=FOLDER (python -m datagen makes one)")
    if missing := missing_weights(config):
        raise UserError("; ".join(missing))
    device, cache = chosen_device(chosen.device), Path(config.data.cache)
    command = shlex.join(["python", "-m", "ipt.training.cache_latents", *HydraConfig.get().overrides.task])
    with held(cache), held(Path(config.output_dir)):
        encoded, rejected = encode_datasets(config, cache, command, chosen.dtype, device)
    return f"{encoded} images encoded, {rejected} samples left out, into {cache}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run("cache_latents", CacheSettings, cache_latents, arguments)


if __name__ == "__main__":
    main()
