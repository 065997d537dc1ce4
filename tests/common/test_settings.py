"""Typed settings from plain values, frozen and nested ones too."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ipt.common.cli import parse
from ipt.common.registry import UnknownName
from ipt.common.settings import typed


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...] = ("a",)
    weights: dict[str, float] = field(default_factory=lambda: {"x": 1.0})
    size: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.5


def test_values_reach_frozen_dataclasses_at_any_depth() -> None:
    for made in (
        typed(Outer, {"inner": {"names": ["b", "c"], "size": 2}, "rate": 1}, "outer"),
        parse(Outer, ["inner.names=[b,c]", "inner.size=2", "rate=1"]),
    ):
        assert isinstance(made, Outer) and isinstance(made.inner, Inner)
        assert (list(made.inner.names), made.inner.size, made.rate) == (["b", "c"], 2, 1.0)
        assert made.inner.weights == {"x": 1.0}


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown outer setting 'rat' \(did you mean 'rate'\?\)"):
        typed(Outer, {"rat": 1}, "outer")
    with pytest.raises(ValueError, match="outer: Value 'many' of type 'str' could not be converted to Integer"):
        typed(Outer, {"inner": {"size": "many"}}, "outer")
    with pytest.raises(ValueError, match="Key 'sizes' not in 'Inner'"):
        parse(Outer, ["inner.sizes=2"])


@dataclass(frozen=True)
class Sized:
    side: int = 4

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError("side must be positive")


@dataclass(frozen=True)
class Sizes:
    by_task: dict[str, Sized] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Table:
    sizes: Sizes = field(default_factory=Sizes)
    name: str = ""


def test_tables_of_frozen_settings_are_filled_and_checked() -> None:
    values = {"sizes": {"by_task": {"pet": {"side": 2}, "mvc": {}}, "seed": 3}, "name": "a"}
    assert typed(Table, values, "run") == Table(Sizes({"pet": Sized(2), "mvc": Sized()}, 3), "a")
    for entry, message in (
        ({"sid": 2}, r"unknown run\.sizes\.by_task\.pet setting 'sid' \(did you mean 'side'"),
        ({"side": "x"}, r"run\.sizes\.by_task\.pet: Value 'x'"),
        ({"side": 0}, "side must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            typed(Table, {"sizes": {"by_task": {"pet": entry}}}, "run")
