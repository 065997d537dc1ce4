"""A training run in a process of its own, to be killed: ``python -m tests.training.kill DATA FOLDER STEPS``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.training.runs import Run

if __name__ == "__main__":
    torch.set_num_threads(1)
    data, folder, steps = sys.argv[1:]
    trainer = Run(Path(data), Path(folder)).with_(steps=int(steps)).trainer()
    print("ready", flush=True)
    trainer.run()
