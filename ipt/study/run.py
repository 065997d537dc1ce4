"""Train and ask every model of a study: what `python train.py -m study=small_scale` does. The same command continues it.

A finished run is a folder with ``result.json``; its predictions lie under ``answers/<split>/<mode>`` as those of infer.py.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ipt.common.files import read_json, write_json
from ipt.common.progress import Meter
from ipt.common.revision import code_revision
from ipt.inference.config import InferConfig
from ipt.inference.run import answer_dataset
from ipt.inference.settings import DrawSettings, ModeSettings, TextSettings
from ipt.samples.memory import in_memory
from ipt.study.jobs import Jobs
from ipt.study.settings import Run, Study, make_study, runs
from ipt.training.build import run as train
from ipt.training.config import train_config
from ipt.training.records import read_records

RESULT, PLAN = "result.json", "study.json"
WINDOW = 50
MAX_WORDS = 320
Compose = Callable[[Sequence[str]], Mapping[str, Any]]


def run_study(plan: Mapping[str, Any], folder: Path, common: Sequence[str], compose: Compose) -> bool:
    """Do what is missing of the study; whether all of it is done.

    ``compose`` makes the values of train.py from overrides; ``common`` are those of the study's own command line.
    """
    study = make_study(plan)
    make_data(study)
    listed = runs(study, folder, tuple(common))
    missing = [run for run in listed if not (run.folder / RESULT).is_file()]
    write_json(folder / PLAN, {"plan": plan, "runs": [run.name for run in listed], "revision": code_revision()})
    print(f"{len(listed)} runs in {folder}, {len(missing)} of them to do, {study.workers} at a time", file=sys.stderr)
    for task in {run.task for run in missing}:
        in_memory(study.dataset(task, "train"))  # read before forking: all runs share it
    import matplotlib.figure  # noqa: F401  (likewise)

    meter = Meter("runs:", len(listed), len(listed) - len(missing))
    jobs = Jobs(lambda run, slot: do(study, run, slot, compose), lambda run: run.folder / "log.txt", study.workers)
    ended = []

    def done(run: Run, well: bool) -> None:
        ended.append(run)
        meter.update(len(listed) - len(missing) + len(ended), run.name + ("" if well else " FAILED or stopped"))

    complete = jobs.run(missing, study.minutes, done)
    meter.close()
    for run in jobs.failed:
        print(f"{run.name} did not end well, see {run.folder / 'log.txt'}", file=sys.stderr)
    return complete


def make_data(study: Study) -> None:
    """The datasets that are missing, for training and for the split to be answered, by ``python -m datagen``."""
    for name, task in study.tasks.items():
        for split in ("train", study.split):
            folder, rows = study.dataset(name, split), task.rows[split]
            if not (folder / "manifest.json").is_file():
                settings = [f"task={name}", f"split={split}", f"num_samples={rows}", f"output_dir={folder}"]
                command = [sys.executable, "-m", "datagen", *task.datagen, *settings, f"workers={study.workers}"]
                print(" ".join(command), file=sys.stderr)
                subprocess.run(command, check=True, stdout=sys.stderr)


def do(study: Study, run: Run, slot: int, compose: Compose) -> None:
    """One run in a process of its own: train, answer in every mode, and write the result."""
    device = study.devices[slot % len(study.devices)]
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    started, started_cpu = time.time(), time.process_time()
    values = dict(compose(run.overrides))
    values["trainer"] |= {"steps": round(values["trainer"]["steps"] * study.arms[run.arm].steps)}
    if train(train_config(values)) is None:
        sys.exit(3)
    trained, trained_cpu = time.time(), time.process_time()
    answered = {mode: answer(study, run, mode, device) for mode in study.arms[run.arm].modes}
    records = read_records(run.folder / "metrics.jsonl")
    result = {
        "task": run.task,
        "arm": run.arm,
        "seed": run.seed,
        "steps": len(records),
        "samples": sum(record["samples"] for record in records),
        "tokens": {kind: sum(record["tokens"][kind] for record in records) for kind in records[0]["tokens"]},
        "step_seconds": sum(record["seconds"] for record in records),
        "curve": curve(records),
        "seconds": {"training": trained - started, "answering": time.time() - trained},
        "cpu_seconds": {"training": trained_cpu - started_cpu, "answering": time.process_time() - trained_cpu},
        "device": torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "modes": answered,
    }
    write_json(run.folder / RESULT, result)
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def curve(records: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Losses over training, as means of `WINDOW` steps; steps that were skipped are left out."""
    windows = (records[start : start + WINDOW] for start in range(0, len(records), WINDOW))
    kept = ([record for record in window if not record["skipped"]] for window in windows)
    return [
        {"step": window[-1]["step"], **{n: sum(r[n] for r in window) / len(window) for n in ("ce", "flow")}}
        for window in kept
        if window
    ]


def answer(study: Study, run: Run, mode: str, device: str) -> dict[str, Any]:
    """The counts of one mode of inference."""
    settings = ModeSettings(
        mode,
        answer="options",
        text=TextSettings(max_tokens=MAX_WORDS),
        draw=DrawSettings(timesteps=study.timesteps, shift=1.0, text_scale=1.0),
    )
    folder = run.folder / "answers" / study.split / mode
    config = InferConfig(
        checkpoint=str(run.folder),
        data=str(study.dataset(run.task, study.split)),
        output_dir=str(folder),
        mode=settings,
        limit=study.questions,
        batch_size=study.batch_size,
        seed=run.seed,
        device=device,
    )
    return answer_dataset(config)


def results(folder: Path) -> list[dict[str, Any]]:
    """The results of the runs that are done, in the order of the plan."""
    names = read_json(folder / PLAN)["runs"]
    return [read_json(folder / name / RESULT) for name in names if (folder / name / RESULT).is_file()]
