"""Names to objects: configuration chooses by name, and a wrong name is answered with the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from ipt.common.errors import UserError

T = TypeVar("T")


class UnknownName(UserError):
    """A name that no one registered; the message lists the valid ones."""


class Registry(Mapping[str, T], Generic[T]):
    """A mapping filled by decorators: ``@tasks.register("pet")``. ``kind`` is the noun used in errors."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files its object under ``name``; a second object of that name is an error."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise UnknownName(unknown_name(self.kind, name, self._items))
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def unknown_name(kind: str, name: str, valid: Mapping[str, object] | set[str] | list[str] | tuple[str, ...]) -> str:
    """Error text for a name that is not among ``valid``, with the nearest guess first."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"unknown {kind} '{name}'{hint}; valid: {', '.join(names) or 'none'}"
