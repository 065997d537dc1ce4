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
