"""What a power cut leaves: a file is on the disk before it gets its name, and its name before the writer goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipt.common.files import MANIFEST, CorruptFile, read_manifest, write_bytes, write_json


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def record_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(
            ("sync", "folder" if path == tmp_path.resolve() else "partial" if path.suffix == ".partial" else "?")
        )
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        steps.append(("rename", target.name))
        assert Path(source).read_bytes() == b"content", "all of it is written by then"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_bytes(tmp_path / "a.bin", b"content")
    assert steps == [("sync", "partial"), ("rename", "a.bin"), ("sync", "folder")]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "expected a JSON object"),
        ("text", "expected a JSON object"),
        ({}, "field 'files': expected file names"),
        ({"files": ["a"]}, "field 'files': expected file names"),
        ({"files": {"a": 3}}, "field 'files.a': expected bytes"),
        ({"files": {"a": {"bytes": "3", "sha256": "x"}}}, "field 'files.a': expected bytes"),
        ({"files": {"a": {"bytes": 3}}}, "field 'files.a': expected bytes"),
        ({"files": {"../a": {"bytes": 3, "sha256": "x"}}}, "'../a' lies outside the folder"),
        ({"files": {"a": {"bytes": 3, "sha256": "x"}}}, "is listed in .* but missing"),
    ],
)
def test_a_manifest_that_is_none_is_named_with_its_field(tmp_path: Path, manifest: object, message: str) -> None:
    write_json(tmp_path / MANIFEST, manifest)
    with pytest.raises(CorruptFile, match=f"{tmp_path / MANIFEST}.*{message}|{message}"):
        read_manifest(tmp_path)
