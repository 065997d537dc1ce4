"""``--help`` of every command answers at once: it says what there is, and imports nothing that takes seconds."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: A script for the environment of another program, without anything of this project.
NOT_OURS = ROOT / "datagen/backends/habitat/worker.py"
#: What --help has no use for.
HEAVY = ("torch", "transformers", "diffusers", "sklearn", "pandas", "trimesh", "gradio", "openai", "matplotlib.figure")

#: Asks all commands in one process, so that what they share is imported once.
ASK_ALL = """
import contextlib, io, runpy, sys
heavy, commands = set(sys.argv[1].split(",")), sys.argv[2:]
for command in commands:
    sys.argv, said, code = [command, "--help"], io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(said):
            if command.endswith(".py"):
                runpy.run_path(command, run_name="__main__")
            else:
                runpy.run_module(command, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    if code or len(said.getvalue().split()) < 10:
        sys.exit(f"{command} --help: exit code {code}, {said.getvalue()!r}")
    if found := heavy & set(sys.modules):
        sys.exit(f"{command} --help imports {', '.join(sorted(found))}")
"""


def commands() -> list[str]:
    """Scripts and modules that are run by their name."""
    files = [path for folder in ("benchmarks", "datagen", "ipt") for path in (ROOT / folder).rglob("*.py")]
    run = sorted(path for path in files if '\nif __name__ == "__main__":' in path.read_text() and path != NOT_OURS)
    return [
        "train.py",
        "infer.py",
        *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in run),
    ]


def test_help_is_quick() -> None:
    given = [command.removesuffix(".__main__") for command in commands()]
    assert {"ipt.app", "datagen.audit", "benchmarks.gpu", "benchmarks.model"} <= set(given)
    answer = subprocess.run(
        [sys.executable, "-c", ASK_ALL, ",".join(HEAVY), *given], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr.splitlines()[-1]
