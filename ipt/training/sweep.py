"""What became of the jobs of a sweep: a file per job, which it writes itself wherever a launcher runs it, and a table of all.

A job whose file still says `running` when the sweep is over was killed from outside, by a scheduler or for its memory.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.files import read_json, write_bytes, write_json
from ipt.common.settings import typed
from ipt.training.records import METRICS, VALIDATION, last_record
from ipt.training.settings import LOSS_TERMS

SUMMARY = "summary.md"
RUNNING, DONE, PLANNED, STOPPED, FAILED = "running", "done", "planned", "stopped", "failed"


@dataclass(frozen=True)
class Job:
    """Job ``number`` of a sweep: its ``overrides``, the ``folder`` of its run, and how far it came."""

    number: int
    overrides: tuple[str, ...]
    folder: str
    status: str = RUNNING
    error: str | None = None
    seconds: float = 0.0
    steps: int = 0
    losses: dict[str, float | None] = field(default_factory=dict)
    validation: dict[str, float | None] = field(default_factory=dict)

    def write(self, sweep: Path) -> None:
        """Keep the job with the sweep."""
        write_json(sweep / "jobs" / f"{self.number:05d}.json", asdict(self))

    def ended(self, status: str, started: float, error: str | None = None) -> Job:
        """The job at its end, with what its run has recorded."""
        trained = last_record(Path(self.folder) / METRICS) or {}
        scored = last_record(Path(self.folder) / VALIDATION) or {}
        return replace(
            self,
            status=status,
            error=error,
            seconds=time.time() - started,
            steps=trained.get("step", -1) + 1,
            losses={name: trained[name] for name in ("loss", *LOSS_TERMS) if name in trained},
            validation={name: value for name, value in scored.items() if name != "step"},
        )


def run_job(job: Job, sweep: Path, work: Callable[[], tuple[str, float | None]]) -> tuple[str, float]:
    """Do ``work``, which returns status and outcome, and record it. No error ends the sweep: a failed job's outcome is NaN."""
    started = time.time()
    job.write(sweep)
    try:
        status, loss = work()
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        print(f"error: job {job.number}: {error}", file=sys.stderr)
        job.ended(FAILED, started, str(error) or type(error).__name__).write(sweep)
        return FAILED, math.nan
    except BaseException:
        job.ended(STOPPED, started).write(sweep)
        raise
    job.ended(status, started).write(sweep)
    return status, math.nan if loss is None else loss


def summarise(sweep: Path) -> tuple[str, int]:
    """A table of the sweep's jobs, which is kept beside them, and how many of them failed or died."""
    files = sorted((sweep / "jobs").glob("*.json"))
    jobs = [typed(Job, read_json(file), str(file)) for file in files]
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    metrics = list(dict.fromkeys(name for job in jobs for name in job.validation))
    header = [
        "job",
        "settings",
        "folder",
        "status",
        "steps",
        "loss",
        *LOSS_TERMS,
        *(f"val. {m}" for m in metrics),
        "s",
    ]
    rows = []
    for job in jobs:
        settings = " ".join(override for override in job.overrides if override not in common)
        status = "died" if job.status == RUNNING else job.status
        figures = [job.losses.get(n) for n in ("loss", *LOSS_TERMS)] + [job.validation.get(m) for m in metrics]
        status += f": {job.error}" if job.error else ""
        shown = ["" if value is None else f"{value:.4f}" for value in figures]
        rows.append([str(job.number), settings, job.folder, status, str(job.steps), *shown, f"{job.seconds:.0f}"])
    text = table(header, rows) if jobs else ""
    if text:
        write_bytes(sweep / SUMMARY, text.encode())
    return text, sum(job.status in (RUNNING, FAILED) for job in jobs)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned Markdown."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines: list[Any] = [header, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )
