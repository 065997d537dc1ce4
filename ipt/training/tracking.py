"""What a run reports: one JSON line per step, the same to other trackers, and curves."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import torch

from ipt.common.errors import UserError
from ipt.common.files import atomic_writer, naming, read_json, write_bytes
from ipt.common.registry import Registry
from ipt.common.revision import code_revision
from ipt.training.records import METRICS, SETTINGS, STARTS, VALIDATION, StepRecord, line, read_records, scalars
from ipt.training.settings import LOSS_TERMS

WANDB_ID = "wandb_id.txt"
REINFORCED = ("reward", "permuted", "kl", "velocity", "entropy", "same_answer", "diversity")
CURVES = ("loss", *LOSS_TERMS, *REINFORCED, "gradient_norm", "learning_rate", "tokens_per_second")


class Tracker(Protocol):
    """Where records of steps go, and the figures of validations. Made with the run's folder, whose ``config.json`` it may read,
    and the step that the run goes on from."""

    def log(self, record: StepRecord) -> None: ...

    def validated(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


trackers: Registry[type] = Registry("tracker")


@trackers.register("jsonl")
class JsonLines:
    """A line per step in ``metrics.jsonl``, per validation in ``validation.jsonl``, and per start or continuation of the run in
    ``starts.jsonl``. Lines of steps that are trained again are dropped."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path, self.validation = folder / METRICS, folder / VALIDATION
        for path, first in ((self.path, step), (self.validation, step + 1)):
            kept = [record for record in read_records(path) if record["step"] < first]
            if path == self.path or path.is_file():
                write_bytes(path, "".join(line(record) for record in kept).encode())
        self._append(folder / STARTS, {"step": step, **about_start()})
        self._stream = self.path.open("a")

    def log(self, record: StepRecord) -> None:
        with naming(self.path):
            self._stream.write(line(record.columns()))
            self._stream.flush()

    def validated(self, step: int, figures: Mapping[str, float]) -> None:
        self._append(self.validation, {"step": step, **figures})

    @staticmethod
    def _append(path: Path, record: Mapping[str, Any]) -> None:
        with naming(path), path.open("a") as stream:
            stream.write(line(record))

    def close(self) -> None:
        with naming(self.path):
            self._stream.close()


def about_start() -> dict[str, Any]:
    """When a run was started, by which code, with which libraries, and on how many processes."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "revision": code_revision(),
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


@trackers.register("tensorboard")
class TensorBoard:
    """Scalars in ``tensorboard/``, and the configuration; needs the extra ``tensorboard``."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(f"tracker=tensorboard needs tensorboard: pip install '.[tensorboard]' ({error})") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        for name, value in (("config", config_of(folder)), ("start", about_start())):
            self._writer.add_text(name, f"```\n{json.dumps(value, indent=2)}\n```", step)

    def log(self, record: StepRecord) -> None:
        self._add(record.step, scalars(record))

    def validated(self, step: int, figures: Mapping[str, float]) -> None:
        self._add(step, {f"validation/{name}": value for name, value in figures.items()})

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@trackers.register("wandb")
class WeightsAndBiases:
    """A wandb run that continues: it has the name of the run's folder, and an id that the folder keeps. Needs the extra
    ``wandb``."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(f"tracker=wandb needs wandb: pip install '.[wandb]' ({error})") from error
        path, config = folder / WANDB_ID, {**config_of(folder), "start": about_start()}
        if not path.is_file():
            write_bytes(path, uuid4().hex.encode())
        self._run = wandb.init(dir=str(folder), name=folder.name, id=path.read_text(), resume="allow", config=config)

    def log(self, record: StepRecord) -> None:
        self._run.log(scalars(record), step=record.step)

    def validated(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({f"validation/{name}": value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


def config_of(folder: Path) -> dict[str, Any]:
    """The settings that a run keeps in its folder."""
    path = folder / SETTINGS
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def draw_curves(folder: Path) -> None:
    """Losses, gradient norm, learning rate, speed, and what validations found, over the steps: ``curves.png`` and ``.svg``."""
    records, validations = read_records(folder / METRICS), read_records(folder / VALIDATION)
    if not records:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shares = sorted({name for record in validations for name in record if "/" in name})
    known = {name for record in records for name in record}
    curves = [name for name in CURVES if name in known]
    rows = math.ceil((len(curves) + bool(shares)) / 3)
    figure = Figure(figsize=(12, 3 * rows))
    # matplotlib's own layouts take longer than the drawing
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.24 / rows, top=1 - 0.12 / rows, wspace=0.25, hspace=0.4)
    for number, name in enumerate((*curves, "shares") if shares else curves, start=1):
        axes = figure.add_subplot(rows, 3, number)
        if name != "shares":
            axes.plot(*_series(records, name), linewidth=1)
        for each in shares if name == "shares" else [name] if validations and name in validations[0] else []:
            axes.plot(*_series(validations, each), marker="o", markersize=3, label=f"validation {each}")
            axes.legend(fontsize=6)
        axes.set(title=name.replace("_", " "), xlabel="step")
        axes.locator_params(nbins=5)
        axes.grid(alpha=0.3)
    for ending, canvas in (("png", FigureCanvasAgg(figure)), ("svg", FigureCanvasSVG(figure))):
        with atomic_writer(folder / f"curves.{ending}") as stream:
            canvas.print_figure(stream, format=ending)


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    found = [(r["step"], math.nan if r[name] is None else r[name]) for r in records if name in r]
    return [step for step, _ in found], [value for _, value in found]
