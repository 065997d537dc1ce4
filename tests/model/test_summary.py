"""The summary command and its operation counts, against counted operations and published figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ipt.common import cli
from ipt.model.checkpoint import build_on_meta
from ipt.model.config import presets
from ipt.model.costs import parameters, sample, state_bytes
from ipt.model.flops import forward_flops
from ipt.model.summary import Options, main, report
from tests.model.toy import CONFIG, Maker, model


@torch.no_grad()
def test_linear_operations_equal_those_counted_by_torch() -> None:
    make = Maker(0)
    batch = make.batch([make.imagining()])
    with FlopCounterMode(display=False) as counter:
        model()(*batch)
    by_operator = counter.get_flop_counts()["Global"]
    linear = sum(count for operator, count in by_operator.items() if "mm" in str(operator))
    flops = forward_flops(CONFIG, batch.spans, batch.patch_grids)
    tower_attention = (
        4
        * CONFIG.vision.layers
        * CONFIG.vision.hidden
        * sum((rows * columns) ** 2 for rows, columns in batch.patch_grids)
    )
    assert flops.forward - flops.attention - tower_attention == linear


def test_the_seven_billion_figures() -> None:
    """engineering.md 3.2: 0.75 PFLOP for an imagining sample at 1024 pixels; 3.3: bytes of the optimizer state."""
    config = presets["bagel_7b_mot"]
    batch = sample(config, "imagination")
    flops = forward_flops(config, batch.spans, batch.patch_grids)
    assert batch.spans.num_tokens == pytest.approx(15_276, abs=10)
    assert flops.training / 1e15 == pytest.approx(0.75, abs=0.01)
    counts = parameters(build_on_meta(config))
    tables = (64**2 + 70**2) * 3584
    assert sum(counts.values()) + tables == 14_607_260_128
    state = state_bytes(config, counts, lora_rank=16)
    assert state["full"] / 1e9 == pytest.approx(234, abs=1) and state["generation expert"] / 1e9 == pytest.approx(
        121, abs=1
    )


def test_the_command() -> None:
    command = [sys.executable, "-m", "ipt.model.summary", "model=tiny", "layout=vit:2x2 text:4 noised:1x2 answer:3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "generation expert" in done.stdout and "(21 tokens)" in done.stdout


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(Options, main, ["modle=tiny"])
    assert "error: unknown key 'modle' (did you mean 'model'?); valid: layout" in capsys.readouterr().err
    with pytest.raises(ValueError, match="cannot read 'vit:3' of the layout"):
        report(Options(model="tiny", layout="vit:3"))
    with pytest.raises(ValueError, match="unknown model preset"):
        report(Options(model="huge"))
