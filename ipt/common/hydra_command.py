"""Commands configured by Hydra: composed once, mistakes answered with one line that lists what is valid, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

#: Hydra settings of a command that keeps its own folders and prints its own progress.
QUIET = {"run": {"dir": "."}, "sweep": {"dir": ".", "subdir": "."}, "output_subdir": None}
SILENT: tuple[dict[str, str], ...] = ({"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"})


@dataclass(frozen=True)
class Command:
    """A primary configuration ``name``, its group files in ``folder`` (absent from an installed package), and the groups that
    decide which keys there are."""

    name: str
    folder: Path
    groups: tuple[str, ...]

    def register(self, node: dict[str, Any]) -> None:
        """File the primary configuration: defaults and keys."""
        ConfigStore.instance().store(name=self.name, node={**node, "hydra": QUIET})

    @property
    def path(self) -> str | None:
        return str(self.folder) if self.folder.is_dir() else None

    def compose(self, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
        """The configuration that ``overrides`` give; ``with_hydra``: and Hydra's own under ``hydra``."""
        path = self.path
        context = (
            hydra.initialize_config_dir(path, version_base="1.3") if path else hydra.initialize(version_base="1.3")
        )
        with context:
            return hydra.compose(self.name, list(overrides), return_hydra_config=with_hydra)

    def explain(self, error: Exception, overrides: Sequence[str]) -> str:
        """Hydra's complaint, and the valid keys where an unknown one was given."""
        groups = [item for item in overrides if item.partition("=")[0] in self.groups]
        try:
            config = self.compose(groups)
        except (HydraException, OmegaConfBaseException):
            return " ".join(str(error).split())
        for item in overrides:
            key = item.partition("=")[0].lstrip("+~")
            if key not in self.groups and OmegaConf.select(config, key, default=MISSING) is MISSING:
                parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
                if isinstance(parent, DictConfig):
                    return f"unknown key '{key}'; valid: {', '.join(sorted(str(name) for name in parent))}"
        return " ".join(str(error).split())

    def run(self, work: Callable[[DictConfig], Any], arguments: Sequence[str] | None = None) -> None:
        """Run the command line. Hydra is left to do it where it is asked for something of its own, such as ``--help`` or
        ``--multirun``: it would compose a single run three times."""
        given = list(sys.argv[1:] if arguments is None else arguments)
        sys.argv = [sys.argv[0], *given]
        if any(argument.lstrip("+~").startswith(("-", "hydra")) for argument in given):
            hydra.main(version_base="1.3", config_path=self.path, config_name=self.name)(work)()
            return
        try:
            config = self.compose(given, with_hydra=True)
        except (HydraException, OmegaConfBaseException) as error:
            stop(self.explain(error, given))
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        work(config)


def plain(value: Any) -> Any:
    """Tuples as lists and paths as texts, which Hydra can hold."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def stop(message: str) -> NoReturn:
    """End with exit code 2 and one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
