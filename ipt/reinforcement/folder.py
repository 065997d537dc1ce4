"""Rollouts on disk: run folders as inference writes them, which report pages open, and what was trained on in them.

rollouts/step_00000040/   run.json  predictions.jsonl  images/  done.json    (`ipt.inference.prediction`)
                          rollouts.jsonl    one line per choice: its tokens or steps, log-probabilities, rewards, advantage
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ipt.common.errors import UnwritableFile
from ipt.common.files import write_bytes
from ipt.common.revision import code_revision
from ipt.inference.prediction import PredictionWriter, RunManifest
from ipt.inference.run import LIBRARIES
from ipt.reinforcement.rollouts import Rollout
from ipt.reinforcement.settings import GrpoSettings

ROLLOUTS, LINES = "rollouts", "rollouts.jsonl"


def write_rollout(
    folder: Path, step: int, rollout: Rollout, settings: GrpoSettings, data: str, data_sha256: str, seed: int
) -> Path:
    """Write the rollout before step ``step`` anew, in a folder of its own in ``folder``. Of a question that occurs in it
    twice, the first answers stand among the predictions. Raises ``UnwritableFile`` where the disk is full."""
    target = folder / f"step_{step:08d}"
    answers = {answered.prediction.sample_id: answered for answered in reversed(rollout.answers)}
    mode = next((answered.prediction.mode for answered in rollout.answers), "imagination")
    manifest = RunManifest(
        checkpoint=str(folder.parent),
        checkpoint_sha256=f"the weights before step {step}",
        data=data,
        data_sha256=data_sha256,
        mode=mode,
        settings=json.loads(json.dumps({"grpo": asdict(settings)})),
        seed=seed,
        code_revision=code_revision(),
        versions={name: version(name) for name in LIBRARIES},
    )
    try:
        shutil.rmtree(target, ignore_errors=True)
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in rollout.lines)
        write_bytes(target / LINES, lines.encode())
        with PredictionWriter(target, manifest) as writer:
            for answered in reversed(answers.values()):
                for name, image in zip(answered.prediction.images, answered.images, strict=True):
                    write_bytes(target / name, image.data)
                writer.write([answered.prediction])
            writer.finish(0.0)
    except OSError as error:
        raise UnwritableFile(
            f"the rollout {target} cannot be written ({error}); make room, or set grpo.write_every=0"
        ) from error
    return target
