"""Records of a run as JSON lines, without torch: they are read where nothing is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.files import MANIFEST, read_json_lines

METRICS, VALIDATION, STARTS, SETTINGS = "metrics.jsonl", "validation.jsonl", "starts.jsonl", "config.json"


@dataclass(frozen=True)
class StepRecord:
    """One optimisation step, over all ranks. ``losses``: means over the step's tokens by term, each a column of its own in
    what is written, as ``figures`` are, of what was found out beside; ``tokens`` counts by kind; ``data``
    identifies the samples in their order; ``hardest`` are ids and losses of the samples with the largest ones; seconds of
    ``data_wait`` are part of ``seconds``; ``peak_memory`` in bytes, of the rank that needs most."""

    step: int
    loss: float
    losses: dict[str, float]
    learning_rate: float
    gradient_norm: float
    skipped: bool
    samples: int
    data: str
    tokens: dict[str, int]
    seconds: float
    data_wait: float
    tokens_per_second: float
    mfu: float | None
    mfu_bagel: float | None
    peak_memory: int
    hardest: list[tuple[str, float]]
    figures: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """The record as it is written: one value per name."""
        columns: dict[str, Any] = {}
        for name, value in asdict(self).items():
            columns |= value if name in ("losses", "figures") else {name: value}
        return columns

    def note(self) -> str:
        """The record in a line."""
        waited = self.data_wait / max(self.seconds, 1e-9)
        told = {name: value for name, value in self.figures.items() if name == "reward"}
        terms = ", ".join(f"{name} {value:.4f}" for name, value in {**told, **self.losses}.items())
        mfu = "" if self.mfu is None else f", MFU {self.mfu:.1%}"
        return (
            f"loss {self.loss:.4f} ({terms}), {self.tokens_per_second:,.0f} tokens/s{mfu}, "
            f"waiting for data {waited:.0%}{', SKIPPED' if self.skipped else ''}"
        )


def scalars(record: StepRecord) -> dict[str, float]:
    """The finite numbers of a record, tokens as ``tokens/kind``."""
    values = {name: value for name, value in record.columns().items() if isinstance(value, int | float)}
    values |= {f"tokens/{kind}": count for kind, count in record.tokens.items()}
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def line(record: Mapping[str, Any]) -> str:
    """A record as a JSON line; what is not finite becomes null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    if "hardest" in record:
        finite["hardest"] = [(n, v if v is not None and math.isfinite(v) else None) for n, v in record["hardest"]]
    return json.dumps(finite, allow_nan=False) + "\n"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``, without a last line that a killed process left unfinished."""
    return read_json_lines(path)


def newest_checkpoint(folder: Path) -> int:
    """The step of the newest complete checkpoint of the run in ``folder``; 0 where there is none."""
    steps = (path.parent.name.removeprefix("step_") for path in folder.glob(f"checkpoints/step_*/{MANIFEST}"))
    return max((int(step) for step in steps if step.isdigit()), default=0)


def check_length(folder: Path, steps: int) -> None:
    """Raise ``UserError`` where the run in ``folder`` is beyond ``steps``: what it has become cannot be taken back."""
    if (reached := newest_checkpoint(folder)) > steps:
        raise UserError(
            f"{folder} holds a run of {reached} steps, beyond trainer.steps={steps}; set trainer.steps={reached} or another "
            "output_dir"
        )


def score(figures: Mapping[str, float], best: str) -> float:
    """The figure ``best`` of a validation such that less is better."""
    return -figures[best] if best.startswith("accuracy/") else figures[best]


def last_record(path: Path) -> dict[str, Any] | None:
    """The newest record, where there is one."""
    return next(reversed(read_records(path)), None)


def outcome(folder: Path, best: str) -> float | None:
    """What a sweep minimises over runs: the `score` that the newest weights have in validation, else their training loss; None
    before the first step."""
    trained, scored = last_record(folder / METRICS), last_record(folder / VALIDATION)
    if trained is None or scored is None or scored["step"] != trained["step"] + 1:
        return None if trained is None else trained["loss"]
    return math.nan if scored[best] is None else score(scored, best)
