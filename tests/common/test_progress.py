"""Progress: items pass through unchanged, and a log gets its lines."""

from __future__ import annotations

import pytest

from ipt.common import progress
from ipt.common.progress import tracked


def test_items_pass_and_a_log_gets_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", -1.0)
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines[:3]] == ["reading: 0/3", "reading: 1/3", "reading: 2/3"]
    assert lines[3].startswith("reading: 3/3 in ")
