"""Processes for tests, forked from a server that has imported everything once: each begins at once, and can be killed."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist

from tests.waiting import HANGS

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.training.ranks", "ipt.training.build", "peft"])


def start(target: Callable[..., object], *arguments: Any, **environment: str) -> BaseProcess:
    """``target(*arguments)`` in a process of its own, on one thread."""
    process = SERVER.Process(target=_run, args=(target, arguments, environment))
    process.start()
    return process


def _run(target: Callable[..., object], arguments: tuple[Any, ...], environment: dict[str, str]) -> None:
    faulthandler.enable(all_threads=True)
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)


def together(size: int, target: Callable[..., object], *arguments: Any) -> None:
    """The same call in ``size`` processes that find each other as under torchrun, whose store it is that has the port: no other
    program can take it before they meet. All must succeed."""
    place, ranks = {}, range(size) if size > 1 else ()
    if size > 1:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        place["WORLD_SIZE"] = str(size)
    processes = [start(target, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in ranks]
    processes = processes or [start(target, *arguments)]
    limit = time.monotonic() + HANGS
    while any(process.exitcode is None for process in processes):
        if time.monotonic() > limit or any(process.exitcode for process in processes):
            for process in processes:
                process.kill()
        processes[0].join(0.05)
    assert [process.exitcode for process in processes] == [0] * len(processes), "see the error above"
