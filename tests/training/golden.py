"""Ten steps of `tiny` on made-up samples: ``python -m tests.training.golden`` prints the file that a test compares with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ipt.samples.store import seal, write_shards
from ipt.training.build import make_trainer
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from tests.sequence.loading import SAMPLES

FILE = Path(__file__).parents[1] / "golden" / "training" / "tiny.txt"
HEADER = "step loss ce flow gradient_norm data"


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
    """A line per step, to four decimals: what other processors round differently lies below."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        write_shards(data, "train", SAMPLES)
        seal(data, {})
        trainer, _ = make_trainer(tiny(data, Path(name) / "run"), World())
        batches, lines = iter(trainer.loader), [HEADER]
        for _ in range(10):
            r = trainer.train_step(batches)
            lines.append(
                f"{r.step} {r.loss:.4f} {r.losses['ce']:.4f} {r.losses['flow']:.4f} {r.gradient_norm:.3f} {r.data}"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(losses(), end="")
