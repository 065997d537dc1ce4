"""Units by workers: joblib with its local processes, a Dask cluster or a Ray cluster, in unit order.

The same function runs everywhere; workers and this process share a folder. A few units more than are needed may be
made: they are ignored.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import joblib

from datagen.config import RunConfig
from datagen.units import run_unit
from ipt.common.errors import UserError


def make_units(config: RunConfig, folder: Path) -> Generator[int]:
    """Numbers of complete units from 0 on, without end; close the generator to stop the workers."""
    if config.engine == "local" and config.workers == 1:
        for number in itertools.count():
            yield run_unit(config, folder, number)
    with engine(config), warnings.catch_warnings():
        # Units beyond the last one needed are cancelled on purpose.
        warnings.filterwarnings("ignore", message=".*tasks which were still being processed", category=UserWarning)
        for start in itertools.count(0, config.recycle * config.workers):
            numbers = range(start, start + config.recycle * config.workers)
            # Ray's joblib backend returns lists only, so it gets short batches.
            step = 4 * config.workers if config.engine == "ray" else len(numbers)
            for first in range(0, len(numbers), step):
                yield from in_order(config, folder, numbers[first : first + step])
            recycle(config)


def in_order(config: RunConfig, folder: Path, numbers: range) -> Iterator[int]:
    """One batch of units by the workers of the active engine."""
    kind = "list" if config.engine == "ray" else "generator"
    parallel = joblib.Parallel(n_jobs=config.workers, return_as=kind, batch_size=1, pre_dispatch="2*n_jobs")
    parent = os.getpid() if config.engine == "local" else None
    yield from parallel(joblib.delayed(unit)(parent, config, folder, number) for number in numbers)


def unit(parent: int | None, config: RunConfig, folder: Path, number: int) -> int:
    """`run_unit` in a worker; one of this machine ends with the process ``parent`` that it works for."""
    if parent is not None:
        end_with(parent)
    return run_unit(config, folder, number)


@cache
def end_with(parent: int) -> None:
    """End this process within a second of its parent, however that ends. (loky's workers would finish their units, and wait for
    others.)"""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def engine(config: RunConfig) -> Iterator[None]:
    """Point joblib at the workers that ``config`` names; starts a cluster here if no address is given."""
    if config.engine == "local":
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield
    elif config.engine == "dask":
        distributed = optional("distributed", "dask")
        local: dict[str, Any] = {"n_workers": config.workers, "threads_per_worker": 1, "dashboard_address": None}
        with (
            distributed.Client(config.cluster, **({} if config.cluster else local)),
            joblib.parallel_config(backend="dask"),
        ):
            yield
    else:
        ray = optional("ray", "ray")
        optional("ray.util.joblib", "ray").register_ray()
        ray.init(config.cluster, **({} if config.cluster else {"num_cpus": config.workers}), ignore_reinit_error=True)
        with joblib.parallel_config(backend="ray"):
            yield


def recycle(config: RunConfig) -> None:
    """Replace the worker processes: OpenGL drivers leak."""
    if config.engine == "local":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def optional(module: str, extra: str) -> Any:
    """An optional package, or the instruction that gets it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            f"engine={extra} needs a package: pip install 'imaginative-perception-tokens[{extra}]'"
        ) from None
