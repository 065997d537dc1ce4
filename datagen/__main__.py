"""``python -m datagen backend=embedded task=pet split=train num_samples=64 seed=7``: make a dataset, or finish it.

Settings are Hydra groups: ``task`` (pet, pt, mvc) and ``backend``, with the presets of ``conf/datagen``; ``--help`` lists
every key with its default. Running the same command again resumes. ``--multirun`` sweeps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datagen.backends.base import BackendUnavailable, SimulatorDied
from datagen.backends.registry import BACKENDS
from datagen.config import RunConfig, run_config
from datagen.run import generate
from datagen.tasks import TASK_CONFIGS

PRESETS = Path(__file__).resolve().parents[1] / "conf" / "datagen"
NOT_KEYS = ("task", "backend", "backend_config", "output_dir")


def register() -> None:
    """File the defaults of every dataclass as Hydra groups: the code is the one place where they are written."""
    store = ConfigStore.instance()
    for name, entry in TASK_CONFIGS.items():
        store.store(group="task", name=name, node=asdict(entry()))  # type: ignore[call-arg]
    for name, backend in BACKENDS.items():
        store.store(group="backend", name=name, node={"name": name, **asdict(backend.config_class()())})
    keys = {
        entry.name: entry.default
        for entry in fields(RunConfig)
        if entry.default is not MISSING and entry.name not in NOT_KEYS
    }
    quiet = {"run": {"dir": "."}, "sweep": {"dir": ".", "subdir": "."}, "output_subdir": None}
    logging = [{"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
    defaults = [{"task": "pet"}, {"backend": "embedded"}, "_self_", *logging]
    store.store(name="datagen", node={"defaults": defaults, **keys, "output_dir": None, "hydra": quiet})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.argv = [sys.argv[0], *given]
    if not any(argument.startswith("-") for argument in given):
        try:
            compose(given)
        except (HydraException, OmegaConfBaseException) as error:
            stop(explain(error, given))
    hydra.main(version_base="1.3", config_path=presets(), config_name="datagen")(work)()


def presets() -> str | None:
    """The folder of presets, absent from an installed package."""
    return str(PRESETS) if PRESETS.is_dir() else None


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that ``overrides`` give."""
    folder = presets()
    context = (
        hydra.initialize_config_dir(folder, version_base="1.3") if folder else hydra.initialize(version_base="1.3")
    )
    with context:
        return hydra.compose("datagen", list(overrides))


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's complaint, and the valid keys where an unknown one was given."""
    groups = [item for item in overrides if item.partition("=")[0] in ("task", "backend")]
    try:
        config = compose(groups)
    except (HydraException, OmegaConfBaseException):
        return " ".join(str(error).split())
    for item in overrides:
        key = item.partition("=")[0].lstrip("+~")
        if OmegaConf.select(config, key, default=MISSING) is MISSING:
            parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
            if isinstance(parent, DictConfig):
                return f"unknown key '{key}'; valid: {', '.join(sorted(str(name) for name in parent))}"
    return " ".join(str(error).split())


def work(composed: DictConfig) -> None:
    """Generate, print where it went and what was turned away."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        config = run_config(values)
        manifest = generate(config)
    except (ValueError, OSError, BackendUnavailable, SimulatorDied) as error:
        stop(str(error))
    state = "complete" if manifest["complete"] else f"part {config.shard} is done, others are not"
    print(f"{config.output_dir}: {manifest['samples']} samples, {state}")
    for name, entry in sorted(manifest["yields"].items(), key=lambda item: -item[1]["rejected_share"]):
        print(f"  {name:32} rejected {entry['rejected']:>8} of {entry['tested']:>8} ({entry['rejected_share']:.1%})")


def stop(message: str) -> None:
    """End with exit code 2 and one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
