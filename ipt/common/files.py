"""Files that are whole or absent: atomic writes, and folders whose manifest is written last.

A reader trusts a folder only if its manifest is there; the manifest lists every file with its size and SHA-256.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from ipt.common.errors import MissingFile, UnwritableFile, UserError
from ipt.common.settings import typed

MANIFEST = "manifest.json"
T = TypeVar("T")


class CorruptFile(UserError):
    """A file is missing, truncated or altered; the message names it and says what to do."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an ``OSError`` of writing ``path`` an ``UnwritableFile`` that names the file, which that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, UserError):
            raise
        raise UnwritableFile(error.errno, error.strerror, str(error.filename or path)) from error


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file beside ``path`` and move it there, synced to disk, only if the block succeeds.

    On any failure the target is untouched and the partial file is removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_writer(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as readable JSON with sorted keys, atomically; NaN and infinity are errors.

    ``indent=None``: on one line, ten times faster, for what only programs read.
    """
    write_bytes(path, (json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n").encode())


class Fields(dict[str, Any]):
    """The JSON object of a file. A field that it lacks is a ``CorruptFile`` that names both."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise CorruptFile(f"{self.path} lacks the field '{key}'")


def read_json(path: Path, kind: type[dict[str, Any] | list[Any]] = dict) -> Any:
    """Parse a JSON file that holds an object (or a list). ``CorruptFile`` names it if that fails, later also a field that the
    object lacks."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is not valid JSON ({error}); delete it and run the command again") from error
    if not isinstance(value, kind):
        raise CorruptFile(f"{path}: expected a JSON {'object' if kind is dict else kind.__name__}, got {value!r:.80}")
    return Fields(path, value) if isinstance(value, dict) else value


def read_typed(kind: type[T], path: Path) -> T:
    """The fields of dataclass ``kind`` in a JSON file that others have written; what else it holds is passed over."""
    names = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    return typed(kind, {name: value for name, value in read_json(path).items() if name in names}, str(path))


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """A text or a table for ``csv`` that others have written, opened. ``CorruptFile`` where it turns out to be no such thing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(f"{path} is no text in UTF-8 ({error})") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make a ``UserError`` about what ``path`` says a ``CorruptFile`` that names it."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise CorruptFile(f"{path}: {error}") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Records written line by line, without a last line that a killed process left unfinished; none where there is no file.
    ``CorruptFile`` names file and line."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    records = []
    for number, text in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            records.append(json.loads(text))
        except ValueError as error:
            raise CorruptFile(f"{path}, line {number} is not valid JSON ({error})") from error
        if not isinstance(records[-1], dict):
            raise CorruptFile(f"{path}, line {number}: expected a JSON object, got {records[-1]!r:.80}")
    return records


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(path: Path) -> dict[str, Any]:
    """What a manifest says about a file: its size and SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def write_manifest(
    folder: Path, files: Sequence[str], content: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> None:
    """Seal ``folder``: list ``files`` (relative names) with size and SHA-256, together with ``content``. ``known``: entries of
    further files."""
    entries = {**(known or {}), **{name: file_entry(folder / name) for name in files}}
    write_json(folder / MANIFEST, {**content, "files": entries})


def read_manifest(folder: Path, verify: bool | Sequence[str] = False) -> dict[str, Any]:
    """The manifest of a sealed folder. Sizes are always checked, digests only if ``verify``, or of the files that it names.

    Raises ``FileNotFoundError`` where there is no manifest (the folder was never finished) and ``CorruptFile`` where a
    listed file is missing or differs.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingFile(
            f"{folder} has no {MANIFEST}: it is not a finished folder; run the command that writes it again"
        )
    manifest: dict[str, Any] = read_json(path)
    check_entries(path, manifest)
    for name, entry in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise CorruptFile(f"{file} is listed in {path} but missing; write the folder again")
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise CorruptFile(f"{file} has {size} bytes, {path} says {entry['bytes']}; write the folder again")
        if (verify if isinstance(verify, bool) else name in verify) and sha256_file(file) != entry["sha256"]:
            raise CorruptFile(f"{file} does not match its SHA-256 in {path}; write the folder again")
    return manifest


def check_entries(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ``CorruptFile`` that names the field in which the JSON of ``path`` is no manifest."""
    if not isinstance(manifest.get("files"), dict):
        raise CorruptFile(
            f"{path}, field 'files': expected file names with size and digest, got {manifest.get('files')!r:.80}"
        )
    for name, entry in manifest["files"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CorruptFile(f"{path}, field 'files': '{name:.80}' lies outside the folder")
        given = entry if isinstance(entry, dict) else {}
        size, digest = given.get("bytes"), given.get("sha256")
        if not isinstance(size, int) or isinstance(size, bool) or not isinstance(digest, str):
            raise CorruptFile(
                f"{path}, field 'files.{name:.80}': expected bytes (a number) and sha256, got {entry!r:.80}"
            )


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable; a no-op where folders cannot be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
