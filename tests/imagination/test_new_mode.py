"""A mode is added by its file and its YAML, as docs/extend.md says, and by nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from ipt.samples.store import seal, write_shard
from tests.imagination.examples import example

ROOT = Path(__file__).parents[2]


def test_a_file_and_a_yaml_make_a_mode(tmp_path: Path) -> None:
    """In a copy of the tree: it is trained, asked in and previewed by name."""
    for name in ("ipt", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "infer.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (code,) = re.findall(r"```python\n(.*?@modes\.register.*?)```", (ROOT / "docs/extend.md").read_text(), re.DOTALL)
    (tmp_path / "ipt/imagination/modes/repeat.py").write_text(code)
    (tmp_path / "conf/imagination/repeat.yaml").write_text("modes: {repeat: 1}\n")
    data = tmp_path / "data"
    write_shard(data / "train-00000.parquet", [example(id=f"pet-{number}") for number in range(4)])
    seal(data, {})

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    common = ("model=micro", "resolution=micro", "imagination=repeat", f"data.train={data}", "output_dir=run")
    run("train.py", *common, "trainer.steps=2", "loader.budget=2048", "sequence.max_sample_tokens=2048")
    run(
        "infer.py", "checkpoint=run", f"data={data}", "mode=imagination", "mode.text.max_tokens=4", "output_dir=answers"
    )
    assert len((tmp_path / "answers/predictions.jsonl").read_text().splitlines()) == 4
    assert "imagination repeat" in run("-m", "ipt.training.preview", *common)
