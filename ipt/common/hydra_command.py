"""Commands configured by Hydra: composed once, mistakes answered with one line that says what is valid, exit code 2."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.settings import as_written

#: The YAML files: beside the packages in the repository, inside of ipt where that is installed.
REPOSITORY, INSTALLED = (Path(__file__).resolve().parents[up] / "conf" for up in (2, 1))
CONF = INSTALLED if INSTALLED.is_dir() else REPOSITORY


@dataclass(frozen=True)
class Command:
    """The primary configuration ``conf/NAME.yaml`` with the group files in ``folder``. ``former``: patterns of arguments of
    earlier versions, and what is written instead."""

    name: str
    folder: Path = CONF
    former: tuple[tuple[str, str], ...] = ()

    def register(self, settings: str, defaults: dict[str, Any]) -> None:
        """File ``defaults``, the one place where they are written, under ``settings``, a name in the file's list of defaults."""
        store = ConfigStore.instance()
        store.store(name=settings, node=plain(defaults))
        if self.folder != CONF:  # Hydra looks there for the file, too
            store.store(name=self.name, node=OmegaConf.load(CONF / f"{self.name}.yaml"))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, which decide what keys there are."""
        return tuple(_groups(self.name))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration that ``overrides`` give; Hydra's own goes to ``HydraConfig``."""
        with hydra.initialize_config_dir(str(self.folder), version_base="1.3"):
            config = hydra.compose(self.name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config

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

    def check_groups(self, arguments: Sequence[str]) -> None:
        """``UserError`` for a group without a name, or with one that it does not have: of the former Hydra does not say which
        it is, and it passes over the latter where the group is optional. Where files may lie elsewhere, names are left to it."""
        flags, groups = ("-m", "--multirun", "-h", "--help"), self.groups
        elsewhere = any(item.startswith(("-", "hydra.searchpath")) and item not in flags for item in arguments)
        for argument in arguments:
            name, _, value = argument.lstrip("+").partition("=")
            if name not in groups:
                continue
            if value in ("", "null"):
                raise UserError(
                    f"{argument}: the group {name} needs a name; leave it out, or choose one that --help lists"
                )
            for option in () if elsewhere else re.findall(r"[\w-]+(?=,|$)", value):
                if option not in (options := self.options(name)):
                    raise UnknownName(unknown_name(name, option, options))

    def quoted(self, arguments: Sequence[str], texts: Mapping[str, bool]) -> list[str]:
        """The arguments, where texts are read exactly as written: Hydra takes much in them for its own grammar. Those of a sweep
        may be several, divided by commas, or a function that gives several."""
        sweeps, groups, found = bool({"-m", "--multirun"} & {*arguments}), self.groups, list[str]()
        for argument in arguments:
            key, _, value = argument.partition("=")
            several = texts.get(name := key.lstrip("+"))
            swept = sweeps and ("," in value or value.endswith(")")) and not (several and value.startswith("["))
            if several is None or name in groups or swept or "=" not in argument:
                found.append(argument)
            else:
                found.append(f"{key}={as_written(value, several, quoted)}")
        return found

    def options(self, group: str) -> list[str]:
        """The names that a group can have: its files, and what the code has filed."""
        files = {path.stem for path in (self.folder / group).glob("*.yaml")}
        filed = (name.removesuffix(".yaml") for name in ConfigStore.instance().repo.get(group, {}))
        return sorted(files.union(filed))

    def help(self, overrides: Sequence[str]) -> str:
        """What the head of the file says, the groups with their names, and every key with its value after ``overrides``."""
        lines = (CONF / f"{self.name}.yaml").read_text().splitlines()
        head = [line[2:] for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
        groups = [f"{group}: {', '.join(self.options(group))}" for group in dict.fromkeys(self.groups)]
        titled = ["", "Groups (group=name):", *groups] if groups else []
        return "\n".join([*head, *titled, "", "Keys (key=value):", OmegaConf.to_yaml(self.compose(overrides)).rstrip()])

    def run(
        self,
        work: Callable[[DictConfig], Any],
        arguments: Sequence[str] | None = None,
        texts: Mapping[str, bool] | None = None,
    ) -> None:
        """Run the command line. Hydra is left to do it where it is asked for something of its own, such as ``--multirun``: it
        would compose a single run three times, and copies every setting hundreds of times for its ``--help``. ``texts``: the keys
        of texts and paths (`text_fields`)."""
        given = list(sys.argv[1:] if arguments is None else arguments)
        given = self.quoted(given, texts or {})
        sys.argv = [sys.argv[0], *given]
        for argument in given:
            for pattern, now in self.former:
                if found := re.match(pattern, argument):
                    stop(f"'{argument}' is not valid any more; write {found.expand(now) + argument[found.end() :]}")
        try:
            self.check_groups(given)
        except UserError as error:
            stop(str(error))
        asked = bool({"-h", "--help"} & {*given})
        if not asked and any(argument.lstrip("+~").startswith(("-", "hydra")) for argument in given):
            hydra.main(version_base="1.3", config_path=str(self.folder), config_name=self.name)(work)()
            return
        try:
            if asked:
                print(self.help([argument for argument in given if not argument.startswith("-")]))
                return
            config = self.compose(given)
        except (HydraException, OmegaConfBaseException) as error:
            stop(self.explain(error, given))
        work(config)


def _groups(name: str) -> Iterator[str]:
    """The groups of ``conf/NAME.yaml`` and of the primary configurations that it begins with."""
    path = CONF / f"{name}.yaml"
    loaded: Any = OmegaConf.load(path) if path.is_file() else {}
    for entry in loaded.get("defaults", []):
        if isinstance(entry, str):
            yield from _groups(entry)
        else:
            yield from (str(key).removeprefix("optional ") for key in entry if not str(key).startswith("override "))


#: Texts that Hydra reads as they are.
PLAIN, WORDS = re.compile(r"([A-Za-z_]|\.{0,2}/)[A-Za-z0-9_./-]*"), ("true", "false", "null", "nan", "inf")


def quoted(text: str) -> str:
    """A text in Hydra's quotes, in which a backslash counts only before a quote."""
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)
    return f"'{escaped}'"


def plain(value: Any) -> Any:
    """Tuples as lists, which Hydra can hold."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def stop(message: str) -> NoReturn:
    """End with exit code 2 and one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
