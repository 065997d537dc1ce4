"""Plain nested values as typed settings: what Hydra, a command line or a JSON file says, checked against a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ipt.common.errors import UserError
from ipt.common.registry import UnknownName, unknown_name

T = TypeVar("T")


def typed(config: type[T], values: Mapping[str, Any], what: str) -> T:
    """``values`` as an instance of dataclass ``config``; ``ValueError`` names an unknown key or a wrong type."""
    check_keys(config, values, what)
    plain, tables = without_tables(config, values, what)
    try:
        result: Any = OmegaConf.to_object(OmegaConf.merge(writable(OmegaConf.structured(config)), plain))
    except OmegaConfBaseException as error:
        raise UserError(f"{what}: {str(error).splitlines()[0]}") from error
    return with_tables(result, tables)


def without_tables(config: type[Any], values: Mapping[str, Any], what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``values`` without the entries of fields like ``dict[str, Resolution]``, and these as dataclasses: OmegaConf cannot fill a
    frozen one that it makes itself."""
    hints, plain, tables = get_type_hints(config), {}, {}
    for key, value in values.items():
        element: Any = (get_args(hints[key]) or (None,))[-1]
        if (
            get_origin(hints[key]) is dict
            and isinstance(element, type)
            and is_dataclass(element)
            and isinstance(value, Mapping)
        ):
            tables[key] = {name: typed(element, entry, f"{what}.{key}.{name}") for name, entry in value.items()}
        elif is_dataclass(hints[key]) and isinstance(value, Mapping):
            plain[key], inner = without_tables(hints[key], value, f"{what}.{key}")
            tables |= {key: inner} if inner else {}
        else:
            plain[key] = value
    return plain, tables


def with_tables(made: Any, tables: Mapping[str, Any]) -> Any:
    """``made`` with the entries that `without_tables` took out."""
    fields_of = {key: getattr(made, key) for key in tables}
    return replace(
        made,
        **{key: with_tables(old, tables[key]) if is_dataclass(old) else tables[key] for key, old in fields_of.items()},
    )


def check_keys(config: type[Any], values: Mapping[str, Any], what: str) -> None:
    """Raise ``UnknownName`` for a key that dataclass ``config``, or one nested in it, does not have."""
    hints = get_type_hints(config)
    valid = [entry.name for entry in fields(config)]
    if not isinstance(values, Mapping):
        raise UserError(f"{what} takes {{{', '.join(f'{name}: ...' for name in valid)}}}, got {values!r}")
    for key, value in values.items():
        if key not in valid:
            raise UnknownName(unknown_name(f"{what} setting", str(key), valid))
        if isinstance(value, Mapping) and is_dataclass(hints[key]):
            check_keys(hints[key], value, f"{what}.{key}")


def writable(node: DictConfig) -> DictConfig:
    """The node with its frozen dataclasses opened for merging, in place."""
    OmegaConf.set_readonly(node, False)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            writable(child)
    return node
