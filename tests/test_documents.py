"""Every command and program that README and docs print runs, in their order, in one folder, and ends well."""

from __future__ import annotations

import runpy
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from ipt.common.images import encode_image
from ipt.imagination.modes import modes
from ipt.model.config import presets
from tests.datagen.embedded.test_import_scene import MJCF
from tests.documents import PAGES, ROOT, RULES, Block, arguments, blocks, program, rule
from tests.samples.test_official import pet_row, write
from tests.synthetic import picture

#: Programs that start several processes, as modules of this Python.
LAUNCHERS = {"torchrun": ["torch.distributed.run"], "accelerate": ["accelerate.commands.accelerate_cli"]}
BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader types: what one command makes, the next ones find."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "house.xml").write_text(MJCF)
    (folder / "room.jpg").write_bytes(encode_image(picture(1, 64), "jpeg"))
    write(folder, [pet_row(number) for number in range(4)], "PET_ROWS.parquet")
    return folder


@pytest.fixture
def typing(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At the desk; what a command files for the whole process, in Hydra's store or in a registry, is taken out again."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for commands that start others
    Plugins.instance()  # they file their settings when first asked for
    monkeypatch.setattr(ConfigStore.instance(), "repo", deepcopy(ConfigStore.instance().repo))
    for registry in (modes, presets):
        monkeypatch.setattr(registry, "_items", dict(registry))
    yield


def run(block: Block) -> None:
    """Run a block in this process, as `python` would in its own."""
    if block.language == "python":
        exec(compile(program(block), str(block), "exec"), {"__name__": "__main__"})
        return
    words = arguments(block)
    if words[0] in LAUNCHERS:
        command = [sys.executable, "-m", *LAUNCHERS[words[0]], *words[1:]]
        subprocess.run([str(ROOT / word) if word == "train.py" else word for word in command], check=True)
        return
    assert words[0] == "python", f"{block}: a rule must say how to run '{block.text}'"
    try:
        if words[1] == "-m":
            sys.argv = words[2:]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:]
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    except SystemExit as end:
        assert (end.code or 0) in rule(block).ends, f"{block}: '{' '.join(words)}' ended with {end.code}"


@pytest.mark.long
@pytest.mark.usefixtures("typing")
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_printed_commands_run(block: Block) -> None:
    if reason := rule(block).skipped:
        pytest.skip(reason)
    run(block)


def test_printed_commands_make_a_dataset_only_one_way() -> None:
    """Who types all of them meets no folder that holds another dataset: the cuts of `RULES` would hide that."""
    made: dict[str, dict[frozenset[str], Block]] = defaultdict(dict)
    for block in BLOCKS:
        words = shlex.split(block.text, comments=True) if block.language == "shell" else []
        given = dict(word.partition("=")[::2] for word in words if "=" in word)
        if words[:3] == ["python", "-m", "datagen"] and "output_dir" in given:
            what = {f"{key}={value}" for key, value in given.items() if key not in ("workers", "shard")}
            made[given["output_dir"]][frozenset(what - {"split=train"})] = block
    assert len(made) > 10
    assert {folder: [*map(str, ways.values())] for folder, ways in made.items() if len(ways) > 1} == {}


def test_every_rule_is_about_a_printed_command() -> None:
    matched = {rule(block).pattern for block in BLOCKS}
    assert [known.pattern for known in RULES if known.pattern not in matched] == []


def test_every_page_is_read() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(PAGES)
