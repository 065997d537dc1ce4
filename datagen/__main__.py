"""``python -m datagen backend=embedded task=pet split=train num_samples=64 seed=7``: make a dataset, or finish it.

Settings are Hydra groups: ``conf/datagen.yaml`` lists them, with the presets of ``conf/datagen``; ``--help`` lists every key with
its default. Running the same command again resumes. ``--multirun`` sweeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from datagen.backends.registry import BACKENDS
from datagen.config import RunConfig, run_config
from datagen.tasks import TASK_CONFIGS
from ipt.common.errors import UserError
from ipt.common.hydra_command import CONF, Command, stop
from ipt.common.settings import text_fields

COMMAND = Command("datagen", CONF / "datagen")
NOT_KEYS = ("task", "backend", "backend_config", "output_dir")


def register() -> None:
    """File the defaults of every dataclass, tasks and simulators as groups: the code is the one place where they are written."""
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
    COMMAND.register("datagen_defaults", keys)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    parts: list[tuple[str, type[Any]]] = [("task.", entry) for entry in TASK_CONFIGS.values()]
    parts += [("backend.", backend.config_class()) for backend in BACKENDS.values()]
    texts = {key: several for prefix, entry in parts for key, several in text_fields(entry, prefix).items()}
    COMMAND.run(work, arguments, texts | text_fields(RunConfig))


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that ``overrides`` give."""
    return COMMAND.compose(overrides)


def work(composed: DictConfig) -> None:
    """Generate, print where it went and what was turned away."""
    from datagen.run import generate  # joblib and parquet take a second to import

    values: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        config = run_config(values)
        manifest = generate(config)
    except (UserError, OSError) as error:
        stop(str(error))
    state = "complete" if manifest["complete"] else f"part {config.shard} is done, others are not"
    print(f"{config.output_dir}: {manifest['samples']} samples, {state}")
    for name, entry in sorted(manifest["yields"].items(), key=lambda item: -item[1]["rejected_share"]):
        print(f"  {name:32} rejected {entry['rejected']:>8} of {entry['tested']:>8} ({entry['rejected_share']:.1%})")
    for message, times in manifest.get("scene_errors", {}).items():
        print(f"  not loaded, {times} times: {message}")
    for licence in filter(None, manifest.get("licences", ())):
        print(f"  scenes under: {licence}")


if __name__ == "__main__":
    main()
