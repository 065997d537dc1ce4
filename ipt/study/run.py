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

from ipt.common.files import write_json
from ipt.common.locking import held
from ipt.common.progress import Meter
from ipt.common.revision import code_revision
from ipt.imagination.modes.ipt import SelfMade
from ipt.inference.checkpoint import load_checkpoint
from ipt.inference.engine import Engine
from ipt.inference.run import answer_dataset
from ipt.inference.settings import DrawSettings, InferConfig, ModeSettings, TextSettings
from ipt.samples.views import in_memory
from ipt.study.jobs import Jobs
from ipt.study.settings import PLAN, RESULT, TRANSFER, Run, Study, make_study, runs
from ipt.training.build import run as train
from ipt.training.config import train_config
from ipt.training.records import read_records
from ipt.training.settings import LOSS_TERMS

WINDOW = 50
WORDS = TextSettings(max_tokens=320)
Compose = Callable[[Sequence[str]], Mapping[str, Any]]


def run_study(plan: Mapping[str, Any], folder: Path, common: Sequence[str], compose: Compose) -> bool:
    """Do what is missing of the study; whether all of it is done.

    ``compose`` makes the values of train.py from overrides; ``common`` are those of the study's own command line.
    """
    with held(folder):
        return _run_study(make_study(plan), plan, folder, common, compose)


def _run_study(study: Study, plan: Mapping[str, Any], folder: Path, common: Sequence[str], compose: Compose) -> bool:
    make_data(study)
    listed = runs(study, folder, tuple(common))
    missing = [run for run in listed if not (run.folder / RESULT).is_file()]
    write_json(folder / PLAN, {"plan": plan, "runs": [run.name for run in listed], "revision": code_revision()})
    print(f"{len(listed)} runs in {folder}, {len(missing)} of them to do, {study.workers} at a time", file=sys.stderr)
    for task in {run.task for run in missing}:
        in_memory(study.dataset(task, "train"))  # read before forking: all runs share it
    import matplotlib.figure  # noqa: F401  (likewise)

    meter = Meter("runs:", len(listed), len(listed) - len(missing))
    jobs = Jobs[Run](
        work=lambda run: do(study, run, compose),
        log=lambda run: run.folder / "log.txt",
        ready=lambda run: run.is_ready,
        workers=study.workers,
    )
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
    """The datasets that are missing, for training and for what is to be answered, by ``python -m datagen``."""
    for name, task in study.tasks.items():
        for wanted in ("train", *study.answered(name)):
            folder, other = study.dataset(name, wanted), wanted == TRANSFER
            split, more = (study.split, task.transfer) if other else (wanted, ())
            rows = task.rows.get(wanted, task.rows[split])
            if not (folder / "manifest.json").is_file():
                settings = [f"task={name}", f"split={split}", f"num_samples={rows}", f"output_dir={folder}"]
                command = [sys.executable, "-m", "datagen", *task.datagen, *more, *settings, f"workers={study.workers}"]
                print(" ".join(command), file=sys.stderr)
                subprocess.run(command, check=True, stdout=sys.stderr)


def do(study: Study, run: Run, compose: Compose) -> None:
    """One run in a process of its own: train, answer in every mode, and write the result."""
    device = "cuda" if run.arm in study.cuda else "cpu"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    started, started_cpu = time.time(), time.process_time()
    if run.steps and not trained(study, run, device, compose):
        sys.exit(3)
    between, between_cpu = time.time(), time.process_time()
    answered = {
        of: {mode: answer(study, run, mode, device, of) for mode in study.arms[run.arm].modes}
        for of in study.answered(run.task)
    }
    validated = read_records(run.folder / "validation.jsonl")
    result = {
        "task": run.task,
        "arm": run.arm,
        "seed": run.seed,
        **training(read_records(run.folder / "metrics.jsonl")),
        "validation": validated[-1] if validated else None,
        "seconds": {"training": between - started, "answering": time.time() - between},
        "cpu_seconds": {"training": between_cpu - started_cpu, "answering": time.process_time() - between_cpu},
        "device": torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "modes": answered.pop(study.split),
        **answered,
    }
    write_json(run.folder / RESULT, result)
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def trained(study: Study, run: Run, device: str, compose: Compose) -> bool:
    """Train to the end; False where a signal stopped it."""
    overrides = [*run.overrides, *run.start]
    if run.after is not None:
        for mode, settings in compose(overrides)["imagination"].items():
            if settings.get("source", {}).get("self"):
                overrides.append(f"imagination.{mode}.self_made={imagine(study, run, device)}")
    values = dict(compose(overrides))
    values["trainer"] |= {"steps": run.steps_of(values["trainer"]["steps"])}
    return train(train_config(values)) is not None


def training(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What training consisted of. Steps that were skipped have no part in the curve."""
    windows = (records[start : start + WINDOW] for start in range(0, len(records), WINDOW))
    kept = [window for every in windows if (window := [record for record in every if not record["skipped"]])]
    return {
        "steps": len(records),
        "samples": sum(record["samples"] for record in records),
        "tokens": sum(record["tokens"]["all"] for record in records),
        "step_seconds": sum(record["seconds"] for record in records),
        "curve": [
            {
                "step": window[-1]["step"],
                **{n: sum(r[n] for r in window) / len(window) for n in LOSS_TERMS if n in window[0]},
            }
            for window in kept
        ],
    }


def imagine(study: Study, run: Run, device: str) -> Path:
    """The folder of what the model that ``run`` continues imagines for the training samples, once each."""
    assert run.after is not None
    kept, reader = SelfMade(run.after / "self_made"), in_memory(study.dataset(run.task, "train"))
    finished = {sample.id for sample in reader if kept.path(sample.id).is_file()}
    draw = drawing(study, run.task, study.arms[run.arm].after)
    mode = ModeSettings("imagination", answer="options", probabilities=False, text=WORDS, draw=draw)
    checkpoint = load_checkpoint(run.after, device=device)
    engine = Engine(checkpoint, mode, run.seed, study.batch_size)
    for answered in engine.answer(reader, finished):
        for image in answered.images:
            kept.write(answered.prediction.sample_id, image)
    return kept.folder


def drawing(study: Study, task: str, name: str) -> DrawSettings:
    """How the models of an arm draw; without guidance, for which they were not trained."""
    arm = study.arms[name]
    return DrawSettings(
        timesteps=arm.timesteps or study.timesteps,
        shift=arm.shift or study.tasks[task].shift or study.shift,
        text_scale=1.0,
    )


def answer(study: Study, run: Run, mode: str, device: str, of: str) -> dict[str, Any]:
    """The counts of one mode of inference about the questions ``of`` a split or `TRANSFER`."""
    arm = study.arms[run.arm]
    n = arm.votes if mode == "imagination" else 1
    settings = ModeSettings(
        mode, answer="options", n=n, combine="mean", text=WORDS, draw=drawing(study, run.task, run.arm)
    )
    folder = run.folder / "answers" / of / mode
    config = InferConfig(
        checkpoint=str(run.folder if run.steps else run.after),
        data=str(study.dataset(run.task, of)),
        output_dir=str(folder),
        mode=settings,
        limit=study.questions,
        batch_size=study.batch_size,
        seed=run.seed,
        device=device,
    )
    return answer_dataset(config)
