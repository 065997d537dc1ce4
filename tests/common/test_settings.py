"""Typed settings from plain values, frozen and nested ones too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.cli import parse
from ipt.common.errors import UserError
from ipt.common.hydra_command import quoted
from ipt.common.registry import UnknownName
from ipt.common.settings import as_written, differences, text_fields, typed


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
        assert (made.inner.names, made.inner.size, made.rate) == (("b", "c"), 2, 1.0)
        assert made.inner.weights == {"x": 1.0}


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown outer setting 'rat' \(did you mean 'rate'\?\)"):
        typed(Outer, {"rat": 1}, "outer")
    with pytest.raises(ValueError, match=r"outer\.inner\.size takes a whole number, got 'many'"):
        typed(Outer, {"inner": {"size": "many"}}, "outer")
    with pytest.raises(ValueError, match="unknown inner setting 'sizes'"):
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
        ({"side": "x"}, r"run\.sizes\.by_task\.pet\.side takes a whole number, got 'x'"),
        ({"side": 0}, "side must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            typed(Table, {"sizes": {"by_task": {"pet": entry}}}, "run")


@dataclass(frozen=True)
class Kinds:
    flag: bool
    name: str
    path: Path
    pair: tuple[float, float]
    among: Literal["a", "b"] = "a"
    rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    maybe: int | None = None
    anything: Any = None


PLAIN = {"flag": "yes", "name": 1, "path": "x", "pair": [1, "2.5"]}


def test_values_become_what_they_mean_and_nothing_else() -> None:
    made = typed(Kinds, {**PLAIN, "rows": {"r": [1, "2"]}, "maybe": "3", "anything": [None]})
    assert made == Kinds(True, "1", Path("x"), (1.0, 2.5), "a", {"r": (1, 2)}, 3, [None])
    for key, value, message in (
        ("flag", "perhaps", "flag takes true or false"),
        ("name", None, "name takes a text, got None"),
        ("pair", [1.0], "pair takes 2 values"),
        ("pair", "12", "pair takes a list"),
        ("pair", [True, 1], r"pair takes a number"),
        ("among", "c", "unknown among 'c'.*valid: a, b"),
        ("rows", [1], "rows takes"),
        ("maybe", 1.5, "maybe takes a whole number, got 1.5"),
    ):
        with pytest.raises(UserError, match=message):
            typed(Kinds, {**PLAIN, key: value})
    with pytest.raises(UserError, match="kinds lacks name, path"):
        typed(Kinds, {"flag": True, "pair": [1, 2]}, "kinds")


def test_differences_name_both_sides_and_leave_out_what_may_change() -> None:
    before, now = {"a": {"b": 1, "c": [1]}, "d": 0}, {"a": {"b": 2, "c": (1,)}, "d": 1}
    assert differences(before, now) == "a.b: 1 there, 2 here; d: 0 there, 1 here"
    assert differences(before, now, ["d"]) == "a.b: 1 there, 2 here" and not differences(before, now, ["a", "d"])


@dataclass(frozen=True)
class Texts:
    data: Path | None = None
    choices: tuple[str, ...] = ()
    size: int = 1
    outer: Outer = field(default_factory=Outer)


#: What people name folders, and options; OmegaConf's own grammar (``${...}``) is left to it.
AWKWARD = (
    *("runs/a=b", "a b", "(x", "[x]", "{y", "it's", "#1", "~home", "größe/图", "a, b", "007", "1e3", "2.50", "true"),
    *("C:\\new\\", "a\\'b", "x: y", "- z", "'", '"', "?", "*a", "&b", "!c", "%d", "@e", "a #b"),
)


def read_by_hydra(value: str) -> Any:
    return OverridesParser.create().parse_override(f"key={value}").value()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1) | st.sampled_from(AWKWARD))
def test_a_text_reaches_a_command_as_it_was_written(text: str) -> None:
    if not (text == "null" or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\"")):
        assert read_by_hydra(as_written(text, False, quoted)) == text
        assert "${" in text or parse(Texts, [f"data={text}"]).data == Path(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[1.0,2.50]", ["1.0", "2.50"]),
        ("[1e3,2]", ["1e3", "2"]),
        ("[0.10,0.1]", ["0.10", "0.1"]),
        ("[true,false, null]", ["true", "false", "null"]),
        ("[don't know, 'a, b',\"c\"]", ["don't know", "a, b", "c"]),
        ("[(1, 2),(3, 4)]", ["(1, 2)", "(3, 4)"]),
        ("[1) red,2) blue]", ["1) red", "2) blue"]),
        ("[a=b,c#d]", ["a=b", "c#d"]),
        ("[]", []),
    ],
)
def test_options_are_texts_exactly_as_written(written: str, read: list[str]) -> None:
    assert read_by_hydra(as_written(written, True, quoted)) == read
    assert parse(Texts, [f"choices={written}"]).choices == tuple(read)


def test_texts_are_found_in_nested_settings() -> None:
    assert text_fields(Texts) == {"data": False, "choices": True, "outer.inner.names": True}
