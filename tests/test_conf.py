"""The YAML files: primary ones that are read at a glance, and groups whose files open with the command that uses them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import infer
import train
from datagen import __main__ as datagen
from ipt.common.hydra_command import Command
from ipt.faithfulness import __main__ as faithfulness
from ipt.training import cache_latents, preview

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


@pytest.mark.parametrize("given", [[], ["-m"]], ids=["once", "sweep"])
@pytest.mark.parametrize(
    "main", [train.main, infer.main, datagen.main, faithfulness.main, cache_latents.main, preview.main]
)
def test_every_command_reads_paths_as_they_are_written(
    main: Callable[[list[str]], None], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def composed(*arguments: Any, **settings: Any) -> None:
        sys.exit("composed")

    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setattr(Command, "compose", composed)
    monkeypatch.setattr("hydra.main", composed)
    with pytest.raises(SystemExit, match="composed"):
        main([*given, "output_dir=runs/a=(b"])
    assert "output_dir='runs/a=(b'" in sys.argv
