"""Seeds, files, registry and command line."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ipt.common import cli, files
from ipt.common.registry import Registry, UnknownName
from ipt.common.revision import source_digest
from ipt.common.seeding import derived_seed, generator


def test_streams_are_the_same_in_every_process_and_differ_by_name() -> None:
    program = "from ipt.common.seeding import generator; print(generator(7, 'layout', 3).integers(2**62))"
    values = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for environment in ({**os.environ, "PYTHONHASHSEED": "1"}, {**os.environ, "PYTHONHASHSEED": "2"})
    }
    assert values == {f"{generator(7, 'layout', 3).integers(2**62)}\n"}
    names = [("a",), ("b",), ("a", "b"), ("ab",), (1,), ("1",), ("a", 1), ()]
    assert len({derived_seed(7, *name) for name in names}) == len(names)
    assert derived_seed(7, "a") != derived_seed(8, "a")
    with pytest.raises(ValueError, match="non-negative"):
        generator(-1)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), files.atomic_writer(target) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert files.read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]
    with pytest.raises(ValueError):
        files.write_json(target, {"a": float("nan")})


def test_a_write_killed_midway_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "value.bin"
    target.write_bytes(b"old")
    program = textwrap.dedent(f"""
        import os, signal; from pathlib import Path; from ipt.common.files import atomic_writer
        with atomic_writer(Path({str(target)!r})) as stream:
            stream.write(b"new"); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_manifest_detects_missing_truncated_and_altered_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a finished folder"):
        files.read_manifest(tmp_path)
    files.write_bytes(tmp_path / "a.bin", b"12345")
    files.write_manifest(tmp_path, ["a.bin"], {"kind": "test"})
    assert files.read_manifest(tmp_path, verify=True)["kind"] == "test"
    (tmp_path / "a.bin").write_bytes(b"12346")
    assert files.read_manifest(tmp_path)["kind"] == "test"
    with pytest.raises(files.CorruptFile, match=r"a\.bin does not match"):
        files.read_manifest(tmp_path, verify=True)
    (tmp_path / "a.bin").write_bytes(b"123")
    with pytest.raises(files.CorruptFile, match="3 bytes"):
        files.read_manifest(tmp_path)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(files.CorruptFile, match="missing"):
        files.read_manifest(tmp_path)
    (tmp_path / files.MANIFEST).write_text("{")
    with pytest.raises(files.CorruptFile, match="not valid JSON"):
        files.read_manifest(tmp_path)


def test_registry_names_what_is_valid() -> None:
    shapes: Registry[type] = Registry("shape")
    shapes.register("square")(int)
    assert shapes["square"] is int and list(shapes) == ["square"] and "circle" not in shapes
    with pytest.raises(UnknownName, match=r"unknown shape 'sqare' \(did you mean 'square'\?\); valid: square"):
        shapes["sqare"]
    with pytest.raises(ValueError, match="twice"):
        shapes.register("square")(str)


@dataclass(frozen=True)
class Options:
    """Do a thing."""

    seed: int
    size: int = 3
    name: str | None = None


def test_command_line_is_typed_and_names_the_valid_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.parse(Options, ["seed=4", "name=x"]) == Options(4, 3, "x")
    for arguments, message in {
        ("seed=4", "sise=5"): "did you mean 'size'",
        ("seed=four",): "four",
        ("4",): "write key=value",
        ("size=1",): "missing: seed=",
    }.items():
        with pytest.raises(ValueError, match=message):
            cli.parse(Options, arguments)
    with pytest.raises(SystemExit) as stopped:
        cli.run(Options, print, [])
    assert stopped.value.code == 2 and "error: missing: seed" in capsys.readouterr().err
    cli.run(Options, print, ["--help"])
    assert "Do a thing." in capsys.readouterr().out


def test_json_files_are_readable_and_sorted(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"b": 1, "a": [np.float64(0.5).item()]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [0.5], "b": 1}
    assert (tmp_path / "x.json").read_text().index('"a"') < (tmp_path / "x.json").read_text().index('"b"')


def test_a_digest_of_sources_changes_with_any_python_file_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_package_of_a_test" / "inner"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    (package.parent / "__init__.py").touch()
    (package / "code.py").write_text("a = 1\n")

    def digest() -> str:
        return source_digest("some_package_of_a_test")

    first = digest()
    (package / "code.pyc").touch()
    assert digest() == first
    (package / "code.py").write_text("a = 2\n")
    changed = digest()
    (package / "code.py").rename(package / "core.py")
    assert len({first, changed, digest()}) == 3
    (package / "core.py").write_text("a = 1\n")
    (package / "core.py").rename(package / "code.py")
    assert digest() == first
    with pytest.raises(ValueError, match="no package 'no_such_package'"):
        source_digest("no_such_package")
