"""Small commands without Hydra: ``python -m some.tool key=value``, checked against a typed dataclass.

Every command has the same words: ``data`` is what it reads, ``output_dir`` where it writes, and lists stand in brackets
(``data=[A,B]``). Unknown keys and values of a wrong type end with one line that says what is valid; ``--help`` lists keys and
defaults.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ipt.common.errors import UserError
from ipt.common.registry import unknown_name
from ipt.common.settings import as_written, text_fields, typed

T = TypeVar("T")
#: Words of earlier versions, and the one that every command has for it now.
FORMER = {
    "source": "data",
    "dataset": "data",
    "folders": "data",
    "output": "output_dir",
    "out": "output_dir",
    "mode": "imagination",
}


def parse(config: type[T], arguments: Sequence[str]) -> T:
    """``key=value`` arguments as an instance of the dataclass ``config``; ``ValueError`` says what is wrong."""
    known = {entry.name: entry for entry in fields(config)}  # type: ignore[arg-type]
    for argument in arguments:
        key = argument.partition("=")[0]
        if "=" not in argument:
            raise UserError(f"'{argument}' is not an argument; write key=value, with keys: {', '.join(known)}")
        if key.partition(".")[0] not in known:
            now = FORMER.get(key)
            raise UserError(f"'{key}' is called '{now}'" if now in known else unknown_name("key", key, list(known)))
    required = [name for name, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    given = {argument.partition("=")[0] for argument in arguments}
    if missing := [name for name in required if name not in given]:
        raise UserError(f"missing: {', '.join(f'{name}=...' for name in missing)}")
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_cli(written(config, arguments)), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    return typed(config, values)


def quoted(text: str) -> str:
    """A text in YAML's quotes."""
    return json.dumps(text, ensure_ascii=False)


def written(config: type[Any], arguments: Sequence[str]) -> list[str]:
    """The arguments, where texts are quoted for YAML, so that they are read as they are, and a list of one may stand without
    brackets. ``UserError`` for several that do."""
    hints, texts, found = get_type_hints(config), text_fields(config), list[str]()
    for argument in arguments:
        key, _, value = argument.partition("=")
        if get_origin(hints.get(key)) in (list, tuple) and not value.startswith("["):
            if "," in value:
                raise UserError(f"a list stands in brackets: {key}=[{value}]")
            value = f"[{value}]"
        found.append(f"{key}={as_written(value, texts[key], quoted) if key in texts else value}")
    return found


def run(config: type[T], main: Callable[[T], object], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, print help or call ``main``; a user's mistake ends with one line and exit code 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if any(argument in ("-h", "--help", "help") for argument in given):
        print((config.__doc__ or "").strip(), "\n\nArguments (key=value):")
        for entry in fields(config):  # type: ignore[arg-type]
            made = entry.default if entry.default_factory is MISSING else entry.default_factory()
            default = "required" if made is MISSING else f"default {made}"
            print(f"  {entry.name:16} {default}")
        return
    try:
        main(parse(config, given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
