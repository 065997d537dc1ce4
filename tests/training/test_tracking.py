"""Records that survive a kill, and the figures in them."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipt.common.files import write_json
from ipt.model.costs import sample
from ipt.model.flops import forward_flops, peak_flops, step_flops, token_kinds
from ipt.training.records import StepRecord, read_records, scalars
from ipt.training.stopping import Watchdog
from ipt.training.tracking import JsonLines, draw_curves, trackers
from tests.training.runs import TOY, largest_file
from tests.waiting import until

LAYOUT = "vit:2x2 text:6 noised:2x3 vae:2x3 vit:2x2 answer:4"
RECORD = StepRecord(
    step=0,
    loss=1.5,
    losses={"ce": 1.0, "flow": 0.5},
    learning_rate=1e-3,
    gradient_norm=2.0,
    skipped=False,
    samples=3,
    data="abc",
    tokens={"all": 10, "text": 4},
    seconds=2.0,
    data_wait=0.5,
    tokens_per_second=5.0,
    mfu=None,
    mfu_bagel=None,
    peak_memory=100,
    hardest=[("sample-1", 3.0)],
)


def test_records_continue_after_a_kill_and_before_a_checkpoint(tmp_path: Path) -> None:
    first = JsonLines(tmp_path)
    for step in range(4):
        first.log(replace(RECORD, step=step))
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    again = JsonLines(tmp_path, step=2)
    again.log(replace(RECORD, step=2, loss=9.0))
    again.close()
    assert [(r["step"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")] == [(0, 1.5), (1, 1.5), (2, 9.0)]


def test_a_disk_that_is_full_is_named_and_the_records_go_on(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path)
    tracker.log(RECORD)
    written = tracker.path.stat().st_size
    with largest_file(written + 100), pytest.raises(OSError, match=r"File too large: '.*metrics\.jsonl'"):
        tracker.log(replace(RECORD, step=1))
    again = JsonLines(tmp_path, step=1)
    again.log(replace(RECORD, step=1))
    again.close()
    assert [record["step"] for record in read_records(tracker.path)] == [0, 1]


def test_what_is_not_finite_is_null_in_json_and_absent_from_scalars(tmp_path: Path) -> None:
    record = replace(RECORD, loss=float("nan"), gradient_norm=float("inf"), hardest=[("sample-1", float("nan"))])
    tracker = JsonLines(tmp_path)
    tracker.log(record)
    tracker.close()
    (read,) = read_records(tmp_path / "metrics.jsonl")
    assert (read["loss"], read["gradient_norm"], read["hardest"]) == (None, None, [["sample-1", None]])
    json.dumps(read, allow_nan=False)
    found = scalars(record)
    assert not {"loss", "gradient_norm", "mfu"} & found.keys() and found["tokens/text"] == 4


def test_tokens_are_counted_by_kind() -> None:
    kinds = token_kinds(sample(TOY, LAYOUT).spans)
    assert kinds["vit"] == 8 and kinds["latent"] == 6 and kinds["noised"] == 6
    assert kinds["text"] == 6 + 2 + 4 + 2 + 4 * 2  # texts with their markers, and the markers of four images
    assert kinds["all"] == kinds["text"] + kinds["vit"] + kinds["latent"] + kinds["noised"]
    assert kinds["trained_text"] == 5


def test_operations_are_those_of_the_two_formulas() -> None:
    batch, d = sample(TOY, LAYOUT), TOY.decoder
    necessary, counted = step_flops(TOY, [batch, batch])
    assert necessary == 2 * forward_flops(TOY, batch.spans, batch.patch_grids).training
    plain = forward_flops(TOY, batch.spans, batch.patch_grids)
    decoder = plain.understanding + plain.generation + plain.attention
    assert step_flops(TOY, [batch], (3, 1))[0] == plain.training + (3 * 1 + 2 * 1) * decoder  # two rounds forward alone
    attention = d.hidden * (2 * d.heads + 2 * d.kv_heads) * d.head_dim
    per_token = d.layers * (attention + 3 * d.hidden * d.intermediate) + 2 * d.vocab * d.hidden
    tokens = batch.spans.num_tokens
    assert counted == 2 * (6 * per_token * tokens + 12 * d.layers * d.hidden * tokens**2)


def test_the_peak_is_given_or_known_or_unknown() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", None) == 989e12
    assert peak_flops("NVIDIA H100 80GB HBM3", 400.0) == 400e12
    assert peak_flops("a CPU", None) is None


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(module: str, *arguments: Any, **options: Any) -> Any:
        if module.startswith(("torch.utils.tensorboard", "wandb")):
            raise ImportError(f"no module {module}")
        return original(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=rf"pip install '\.\[{name}\]'"):
        trackers[name](tmp_path)


def test_validations_and_starts_are_recorded_and_continue_with_the_steps(tmp_path: Path) -> None:
    first = JsonLines(tmp_path)
    for step in (2, 4):
        first.validated(step, {"loss": float(step), "accuracy/answer_only": 0.5})
    first.close()
    JsonLines(tmp_path, step=2).close()
    assert [record["step"] for record in read_records(tmp_path / "validation.jsonl")] == [2]
    starts = read_records(tmp_path / "starts.jsonl")
    assert [start["step"] for start in starts] == [0, 2]
    assert all(start["revision"] and start["torch"] and start["processes"] == 1 for start in starts)


def test_trackers_get_configuration_steps_and_validations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            given.append((step, values))

        def finish(self) -> None:
            given.append(("end",))

    def init(**settings: Any) -> Run:
        given.append(("start", settings["config"]["optim"], settings["config"]["start"]["revision"]))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    write_json(tmp_path / "config.json", {"optim": {"lr": 1.0}})
    tracker = trackers["wandb"](tmp_path)
    tracker.log(RECORD)
    tracker.validated(1, {"accuracy/imagination": 0.25})
    tracker.close()
    start, step, validation, end = given
    assert start[1] == {"lr": 1.0} and start[2]
    assert step[0] == 0 and step[1]["loss"] == 1.5 and step[1]["tokens/text"] == 4
    assert validation == (1, {"validation/accuracy/imagination": 0.25}) and end == ("end",)


def test_runs_in_folders_of_one_name_are_two_runs_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **settings: given.append(settings)))
    folders = [tmp_path / sweep / "seed0" for sweep in "ab"]
    for folder in (*folders, folders[0]):
        folder.mkdir(parents=True, exist_ok=True)
        trackers["wandb"](folder)
    first, second, again = given
    assert first["name"] == second["name"] == "seed0"
    assert first["id"] != second["id"] and first["id"] == again["id"]


def test_no_validation_of_steps_that_are_trained_again_stays(tmp_path: Path) -> None:
    first = JsonLines(tmp_path)
    first.validated(4, {"loss": 1.0})
    first.close()
    again = JsonLines(tmp_path, step=2)
    again.validated(4, {"loss": 2.0})
    again.close()
    assert read_records(tmp_path / "validation.jsonl") == [{"step": 4, "loss": 2.0}]


def test_curves_show_steps_and_validations(tmp_path: Path) -> None:
    draw_curves(tmp_path)
    assert not list(tmp_path.iterdir())
    tracker = JsonLines(tmp_path)
    for step in range(3):
        tracker.log(replace(RECORD, step=step))
    tracker.validated(3, {"loss": 1.0, "ce": 0.5, "flow": 0.5, "accuracy/answer_only": 0.5})
    tracker.close()
    draw_curves(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "validation accuracy/answer_only" in (tmp_path / "curves.svg").read_text()


def test_a_run_that_hangs_leaves_the_stacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stuck() -> None:
        until(lambda: "in stuck" in (tmp_path / "hang.txt").read_text(), "a look at the stacks in here")

    with Watchdog(tmp_path / "hang.txt", minutes=0.05 / 60) as watchdog:
        watchdog.alive()
        stuck()
    assert "stood still" in caplog.text
    with Watchdog(tmp_path / "none.txt", minutes=30) as watchdog:
        watchdog.alive()
    assert not (tmp_path / "none.txt").exists()
