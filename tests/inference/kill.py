"""An inference run that is killed again and again: ``python -m tests.inference.kill CHECKPOINT DATA OUTPUT KILLS``.

Every attempt is a fork of this process, which has computed nothing, and ends itself with SIGKILL between two random moments of
writing; then the tail of the predictions is cut, as a crash of the machine may do. A last attempt runs to the end.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL  # noqa: F401 - imported here once, instead of in every fork

from ipt.common.seeding import generator
from ipt.inference.prediction import PREDICTIONS
from ipt.inference.run import answer_dataset
from ipt.inference.settings import DrawSettings, InferConfig, ModeSettings
from tests.deadly import forked

MODE = ModeSettings("imagination", draw=DrawSettings(timesteps=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    checkpoint, data, folder = sys.argv[1:4]
    config = InferConfig(checkpoint, data, folder, MODE, batch_size=2, device="cpu")
    moments, predictions = generator(0, "kill"), Path(folder) / PREDICTIONS
    for _ in range(int(sys.argv[4])):
        status = forked(lambda: answer_dataset(config), int(moments.integers(1, 9)))
        assert status == -signal.SIGKILL, f"an attempt was not killed but ended with {status}"
        if predictions.is_file():
            whole = predictions.read_bytes()
            predictions.write_bytes(whole[: len(whole) - int(moments.integers(0, 30))])
    assert forked(lambda: answer_dataset(config)) == 0
