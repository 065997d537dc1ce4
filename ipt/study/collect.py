"""``python -m ipt.study.collect study=outputs/small_scale output_dir=FOLDER``: a study's finished runs in a few archives.

`unpack` lays them out as they were; `ipt.study.report` reads both.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipt.common import cli
from ipt.common.files import atomic_writer, read_json

KEPT = ("result.json", "config.json", "log.txt")
MAX_BYTES = 14 * 2**20


@dataclass
class CollectConfig:
    """Pack what a study found: settings, results, predictions and imagined pictures of every run that is done."""

    study: str
    output_dir: str


def collect(config: CollectConfig) -> list[Path]:
    """Write ``answers.tar.xz`` and ``images-<k>.tar``, each of at most 14 MiB of pictures; their paths."""
    study, output = Path(config.study), Path(config.output_dir)
    runs = [name for name in read_json(study / "study.json")["runs"] if (study / name / "result.json").is_file()]
    texts = [study / "study.json"]
    pictures: list[Path] = []
    for name in runs:
        files = sorted(path for path in (study / name / "answers").rglob("*") if path.is_file())
        texts += [path for kept in KEPT if (path := study / name / kept).is_file()]
        texts += [path for path in files if path.suffix != ".png"]
        pictures += [path for path in files if path.suffix == ".png"]
    made = [_archive(output / "answers.tar.xz", study, texts)]
    for number, group in enumerate(_groups(pictures)):
        made.append(_archive(output / f"images-{number}.tar", study, group))
    return made


def unpack(archives: Path, folder: Path) -> None:
    """Lay the runs of all archives in a folder out in another one."""
    for path in sorted(archives.glob("*.tar*")):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")


def _groups(pictures: list[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for path in pictures:
        length = 1024 + path.stat().st_size  # with the header and the padding of the archive
        if group and size + length > MAX_BYTES:
            yield group
            group, size = [], 0
        group.append(path)
        size += length
    if group:
        yield group


def _archive(path: Path, root: Path, files: list[Path]) -> Path:
    with atomic_writer(path) as stream:
        mode: dict[str, Any] = {"mode": "w:xz", "preset": 2} if path.suffix == ".xz" else {"mode": "w"}
        with tarfile.open(fileobj=stream, **mode) as archive:
            for file in files:
                data = file.read_bytes()
                entry = tarfile.TarInfo(str(file.relative_to(root)))
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


if __name__ == "__main__":
    cli.run(CollectConfig, lambda config: print("\n".join(map(str, collect(config)))))
