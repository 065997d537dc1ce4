"""Plain nested values read into dataclasses: what Hydra, a command line or a JSON file says, with every key and value checked;
and what differs between two such nests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name

T = TypeVar("T")
QUOTES = ("'", '"')
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
#: Processes that this machine can be asked to start.
MAX_PROCESSES = max(64, 4 * (os.cpu_count() or 1))
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def typed(config: type[T], values: Mapping[str, Any], what: str = "") -> T:
    """``values`` as an instance of dataclass ``config``. ``UserError`` names a key that it does not have, one that it lacks, or a
    value of a wrong type; ``what`` is the name of the whole in errors."""
    entries: dict[str, Any] = {entry.name: entry for entry in fields(config) if entry.init}  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UserError(f"{what} takes {{{', '.join(f'{name}: ...' for name in entries)}}}, got {values!r}")
    for key in values:
        if key not in entries:
            raise UnknownName(unknown_name(f"{what} setting".strip(), str(key), list(entries)))
    required = (n for n, entry in entries.items() if entry.default is MISSING and entry.default_factory is MISSING)
    if missing := [name for name in required if name not in values]:
        raise UserError(f"{what or config.__name__} lacks {', '.join(missing)}")
    hints = type_hints(config)  # type: ignore[arg-type]  # a class can be hashed
    return config(**{key: _read(hints[key], value, f"{what}.{key}".lstrip(".")) for key, value in values.items()})


def text_fields(config: type[Any], prefix: str = "") -> dict[str, bool]:
    """The fields of a dataclass, and of those in it, that hold a text or a path: dotted names, and whether they hold several."""
    found: dict[str, bool] = {}
    for name, hint in type_hints(config).items():  # type: ignore[arg-type]  # as in `typed`
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for option in options:
            origin = get_origin(option)
            several = isinstance(origin, type) and issubclass(origin, Sequence)
            if is_dataclass(option) and isinstance(option, type):
                found |= text_fields(option, f"{prefix}{name}.")
            elif option in (str, Path) or (several and {*get_args(option)} & {str, Path}):
                found[prefix + name] = several
    return found


def as_written(value: str, several: bool, quote: Callable[[str], str]) -> str:
    """A text of a command line (with ``several`` perhaps a list of them, in brackets), quoted for what parses it, so that it is
    read exactly as written. What is quoted already, and null, stays."""
    if several and value.startswith("[") and value.endswith("]"):
        parts = _elements(value[1:-1])
        return f"[{','.join(part if _is_quoted(part) else quote(part) for part in parts)}]" if parts else value
    return value if value in ("", "null") or _is_quoted(value) else quote(value)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES


def _elements(inside: str) -> list[str]:
    """The elements of a list; commas in quotes, and in brackets that close, divide none. Empty where that is no single list."""
    closing = all(inside.count(a) == inside.count(b) for a, b in ("()", "[]", "{}"))
    parts, depth, quote = [""], 0, ""
    for character in inside:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES and not parts[-1].strip():
            quote = character
        elif closing and character in "([{)]}":
            depth += 1 if character in "([{" else -1
            if depth < 0:
                return []
        elif character == "," and not depth:
            parts.append("")
            continue
        parts[-1] += character
    parts = [part.strip() for part in parts]
    return parts if all(parts) else []


@lru_cache(maxsize=256)
def type_hints(config: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(config)


def _read(hint: Any, value: Any, what: str) -> Any:
    """``value`` as what a field of type ``hint`` holds."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inside:
            return None
        (hint,) = (each for each in inside if each is not NoneType)  # settings have no other unions
        return _read(hint, value, what)
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else typed(hint, value, what)
    if origin is Literal:
        if value not in inside:
            raise UnknownName(unknown_name(what, str(value), [str(each) for each in inside]))
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(f"{what} takes {{name: value}}, got {value!r}")
        return {_read(inside[0], key, what): _read(inside[1], each, f"{what}.{key}") for key, each in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _listed(origin, inside, value, what)
    return _scalar(hint, value, what)


def _listed(kind: type[Sequence[Any]], inside: tuple[Any, ...], value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UserError(f"{what} takes a list, got {value!r}")
    fixed = kind is tuple and inside[-1] is not Ellipsis
    if fixed and len(value) != len(inside):
        raise UserError(f"{what} takes {len(inside)} values, got {list(value)}")
    read = [
        _read(hint, each, what) for hint, each in zip(inside if fixed else [inside[0]] * len(value), value, strict=True)
    ]
    return tuple(read) if kind is tuple else read


def _scalar(hint: Any, value: Any, what: str) -> Any:
    """A value as it is, or as the text or whole number that means it."""
    if isinstance(value, bool) and hint in (int, float):
        raise UserError(f"{what} takes a number, got {value}")
    if isinstance(value, hint):
        return value
    plain = isinstance(value, str | int | float)
    text = str(value).lower()
    if hint is bool and plain and text in (*TRUE, *FALSE):
        return text in TRUE
    if hint is str and plain:
        return str(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, float) and isinstance(value, (str, int) if hint is int else (str, int, float)):
        try:
            return hint(value)
        except ValueError:
            pass
    raise UserError(f"{what} takes {NAMES.get(hint, hint.__name__)}, got {value!r}")


def within(config: Any, **most: int) -> None:
    """Raise ``UserError`` where a field of ``config`` is not between 1 and what ``most`` says."""
    for name, largest in most.items():
        if not 1 <= (value := getattr(config, name)) <= largest:
            raise UserError(f"{name} must lie between 1 and {largest}, got {value}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names; tuples as lists."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any], free: Iterable[str] = ()) -> str:
    """What differs between two nests of values, in words, but for the names in ``free`` and what lies below these; empty where
    nothing does. Of a run that is continued, ``before`` is what its folder says."""
    there, here = flat(before), flat(now)
    below = tuple(f"{name}." for name in free)
    return "; ".join(
        f"{name}: {there.get(name)} there, {here.get(name)} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name) and not f"{name}.".startswith(below)
    )
