"""Processes side by side: all work is done once, failures stay with their run, and what waits for others comes after them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from ipt.study.jobs import Jobs
from tests.waiting import HANGS, until


def jobs(folder: Path, work, ready=lambda item: True, workers: int = 2) -> Jobs[str]:
    return Jobs[str](work, lambda item: folder / f"{item}.log", ready, workers)


def test_all_items_are_worked_on_once_in_processes_of_their_own_which_write_to_their_logs(tmp_path: Path) -> None:
    def work(item: str) -> None:
        print(f"{item} {os.getpid()}", flush=True)

    ended: list[tuple[str, bool]] = []
    assert jobs(tmp_path, work).run("abcde", None, lambda item, well: ended.append((item, well)))
    assert sorted(ended) == [(item, True) for item in "abcde"]
    told = [(tmp_path / f"{item}.log").read_text().split() for item in "abcde"]
    assert [name for name, _ in told] == list("abcde")
    assert len({pid for _, pid in told} | {str(os.getpid())}) == 6


def test_a_failure_is_told_and_ends_nothing_else_but_what_waits_for_it(tmp_path: Path) -> None:
    def work(item: str) -> None:
        if item == "b":
            raise ValueError("no such thing")
        if item == "c":
            os.kill(os.getpid(), signal.SIGKILL)
        (tmp_path / item).touch()

    after = {"d": "a", "e": "b"}

    def ready(item: str) -> bool:
        return item not in after or (tmp_path / after[item]).exists()

    pool = jobs(tmp_path, work, ready, workers=1)
    assert not pool.run("edabc", None, lambda item, well: None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".log") == ["a", "d"]
    assert pool.failed == ["b", "c"]
    assert "no such thing" in (tmp_path / "b.log").read_text()


def wait_for_ever(item: str) -> None:
    while True:
        signal.pause()


def test_a_signal_or_the_end_of_the_time_stops_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(item: str) -> None:
        signal.signal(signal.SIGTERM, lambda *_: ((tmp_path / item).write_text("saved"), sys.exit(3)))
        (tmp_path / f"{item}.started").touch()
        wait_for_ever(item)

    def kill_once_started() -> None:
        until(lambda: len(list(tmp_path.glob("*.started"))) == 2, "the start of two processes")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ipt.study.jobs.GRACE", HANGS)
    killer = threading.Thread(target=kill_once_started)
    killer.start()
    assert not jobs(tmp_path, work).run("abc", None, lambda item, well: None)
    killer.join()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == "") == ["a", "b"]
    assert not jobs(tmp_path, wait_for_ever).run("d", 0.002, lambda item, well: None)
