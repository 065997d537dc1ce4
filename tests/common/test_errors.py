"""A user's mistake is one line and exit code 2; a fault of the program keeps its traceback and exit code 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipt.common.errors import MissingFile, UnwritableFile, UserError
from ipt.common.files import read_manifest, write_bytes

PROGRAM = """
from dataclasses import dataclass
from ipt.common import cli
from ipt.common.errors import UserError

@dataclass
class Config:
    \"\"\"Fail.\"\"\"

def main(config):
    raise {error}

cli.run(Config, main, [])
"""


@pytest.mark.parametrize(
    ("error", "code"),
    [("UserError('row 3 is wrong')", 2), ("ValueError('a shape')", 1), ("RuntimeError('a shape')", 1)],
)
def test_a_command_ends_with_a_line_or_a_traceback(error: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(error=error)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    if code == 2:
        assert done.stderr == "error: row 3 is wrong\n"
    else:
        assert done.stderr.startswith("Traceback") and "a shape" in done.stderr


def test_files_that_are_missing_or_cannot_be_written_are_users_mistakes_too(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="not a finished folder") as missing:
        read_manifest(tmp_path)
    assert isinstance(missing.value, UserError) and isinstance(missing.value, FileNotFoundError)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFile, match="/file") as unwritable:
        write_bytes(tmp_path / "file" / "inside", b"")
    assert isinstance(unwritable.value, UserError) and unwritable.value.errno is not None
