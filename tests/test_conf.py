"""The YAML files: primary ones that are read at a glance, and groups whose files open with the command that uses them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[1] / "conf"
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
PRIMARIES = [path for path in FILES if len(path.parts) == 1]
GROUPS = [path for path in FILES if len(path.parts) > 1]
#: What other studies begin with; it is chosen through them.
SHARED = {"study=blocks": "study=small_scale", "study=blocks_from_base": "study=from_base"}


def head(path: Path) -> list[str]:
    """The comments at the beginning of a file, without the line that is Hydra's."""
    lines = (CONF / path).read_text().splitlines()
    comments = lines[: next(place for place, line in enumerate(lines) if not line.startswith("#"))]
    return [line.removeprefix("# ") for line in comments if not line.startswith("# @package")]


def test_the_primary_configurations_are_short_and_open_with_their_command() -> None:
    assert {path.stem for path in PRIMARIES} >= {"train", "infer", "datagen"}
    for path in PRIMARIES:
        assert len((CONF / path).read_text().splitlines()) <= 40
        assert re.match(rf"python (-m )?([\w.]+\.)?{path.stem}(\.py)? ", head(path)[0]), path


@pytest.mark.parametrize("path", GROUPS, ids=str)
def test_a_group_file_opens_with_the_command_that_uses_it(path: Path) -> None:
    choice = f"{'/'.join(path.parts[:-1]).removeprefix('datagen/')}={path.stem}"
    command = head(path)[0]
    assert command.startswith(("python ", "torchrun ")), path
    assert re.search(rf"[ ,]{re.escape(SHARED.get(choice, choice))}[ :,]", f"{command} "), (path, choice)


def test_experiments_are_no_copies_per_task_and_imagination() -> None:
    assert [path.name for path in GROUPS if path.parts[0] == "experiment"] == [
        "bagel.yaml",
        "base.yaml",
        "grpo.yaml",
        "mirage.yaml",
    ]
