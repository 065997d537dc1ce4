"""Timing on a device, and results that survive whatever ends the process: a JSON line each, written at once."""

from __future__ import annotations

import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


def synchronise(device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: str, repeats: int = 5, warm_up: int = 2) -> float:
    """Median seconds of ``run``, the device's work included."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """Most device memory allocated during ``run`` beyond what was there before it; 0 on CPU, where nobody counts."""
    if device == "cpu":
        return 0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    synchronise(device)
    return torch.cuda.max_memory_allocated() - before


@dataclass(frozen=True)
class Results:
    """Results of one section, appended to ``path`` and printed as they come."""

    path: Path
    section: str
    device: str

    def add(self, name: str, **values: Any) -> None:
        """One result."""
        record = {"section": self.section, "name": name, **{key: _short(value) for key, value in values.items()}}
        with self.path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        print(f"[{self.section}] {name}: " + ", ".join(f"{k} {v}" for k, v in list(record.items())[2:]), flush=True)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """A part that may fail without ending the others: the error becomes its result, and its memory is given back."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
            self.add(name, error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300])
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()


def _short(value: Any) -> Any:
    """Four significant digits, everywhere inside."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list | tuple):
        return [_short(entry) for entry in value]
    return {key: _short(entry) for key, entry in value.items()} if isinstance(value, dict) else value
