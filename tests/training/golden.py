"""Ten steps of `tiny` on made-up samples: ``python -m tests.training.golden`` prints the file that tests compare with, and to
standard error the kernels that computed it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from ipt.samples.store import seal, write_shards
from ipt.training.build import make_trainer
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from tests.sequence.loading import SAMPLES

FILE = Path(__file__).parents[1] / "golden" / "training" / "tiny.txt"
HEADER = "step loss ce flow gradient_norm data"
#: Relative, of losses and gradient norms that other kernels or another number of threads compute.
TOLERANCE = 1e-4


def tiny(samples: Path, folder: Path, **changes: object) -> TrainConfig:
    """A run of `tiny` in two modes, on samples of 16 pixels."""
    values = {
        "output_dir": str(folder),
        "model": {"preset": "tiny"},
        "task": {"names": ["mvc"]},
        "data": {"train": str(samples)},
        "imagination": {"modes": {"ipt": 1.0, "label_only": 1.0}},
        "resolution": {"input_side": 16, "input_min_side": 8, "vit_side": 16, "vit_min_side": 8, "imagination": 2},
        "loader": {"budget": 1024, "packs_per_step": 2},
        "sequence": {"max_sample_tokens": 1024},
        "trainer": {"steps": 10},
        "optim": {"lr": 1e-3, "warmup_steps": 3},
        "ema": {"decay": 0.0},
    }
    return train_config({**values, **changes})


def losses() -> str:
    """A line per step."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        write_shards(data, "train", SAMPLES)
        seal(data, {})
        trainer, _ = make_trainer(tiny(data, Path(name) / "run"), World())
        steps, lines = trainer.steps(), [HEADER]
        for _ in range(10):
            r = trainer.train_step(steps)
            values = (r.loss, r.losses["ce"], r.losses["flow"], r.gradient_norm)
            lines.append(" ".join([str(r.step), *(f"{value:.6f}" for value in values), r.data]))
    return "\n".join(lines) + "\n"


def differences(found: str) -> list[str]:
    """The lines of ``found`` that are not the file's: steps and data to the letter, numbers within `TOLERANCE`."""
    ours, theirs = (text.splitlines() for text in (found, FILE.read_text()))
    if len(ours) != len(theirs):
        return [f"{len(ours)} lines (golden: {len(theirs)})"]
    return [f"{line} (golden: {other})" for line, other in zip(ours, theirs, strict=True) if not same(line, other)]


def same(line: str, other: str) -> bool:
    """Whether two lines of a table say the same."""
    if line == other or HEADER in (line, other):
        return line == other
    (step, *numbers, data), (other_step, *others, other_data) = line.split(), other.split()
    close = list(map(float, numbers)) == pytest.approx(list(map(float, others)), rel=TOLERANCE)
    return close and (step, data) == (other_step, other_data)


if __name__ == "__main__":
    blas = sorted(f"{library['internal_api']} {library.get('architecture')}" for library in threadpool_info())
    print(f"torch {torch.backends.cpu.get_cpu_capability()}", *blas, sep="; ", file=sys.stderr)
    print(losses(), end="")
