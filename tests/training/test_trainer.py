"""The loop: bit-exact to resume, indifferent to accumulation, and clear about what goes wrong."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter

from ipt.common.files import read_json
from ipt.imagination.mixture import ImaginationConfig
from ipt.model.parts import TuningSettings
from ipt.model.tuning import apply_tuning
from ipt.sequence.batch import PackedBatch
from ipt.sequence.loader import Loader
from ipt.sequence.settings import SequenceConfig
from ipt.training.config import TrainConfig
from ipt.training.evaluation import Validation
from ipt.training.losses import noised
from ipt.training.records import read_records
from ipt.training.settings import CheckpointConfig
from ipt.training.source import Material, Supervised
from ipt.training.trainer import Trainer
from tests.sequence.loading import Words, make_loader, stored
from tests.training.runs import CONFIG, Run, assert_same_state, state, toy_codec, toy_model

VARYING = ("seconds", "data_wait", "tokens_per_second", "peak_memory", "mfu", "mfu_bagel")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data", tmp_path / "run")


def lasting(folder: Path) -> list[dict[str, object]]:
    """The records of a run without what depends on the machine."""
    return [{k: v for k, v in r.items() if k not in VARYING} for r in read_records(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = Run(folder / "data", folder / "run").trainer()
    assert trainer.run()
    return trainer


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "bfloat16"}, {"checkpoint_activations": True}, {"draws": 3}], ids=str
)
def test_a_resumed_run_is_the_uninterrupted_one(
    run: Run, tmp_path: Path, changes: dict[str, Any], whole: Trainer
) -> None:
    changed = replace(run, **changes) if "draws" in changes else run.with_(**changes)
    if changes:
        whole = changed.trainer()
        assert whole.run()
    divided = replace(changed, folder=tmp_path / "divided")
    first = divided.trainer()
    steps = first.steps()
    for _ in range(4):
        first.train_step(steps)
        if first.step == 2:
            first._save()
    first.checkpoints.wait()
    second = divided.trainer()
    assert second.step == 2
    assert second.run()
    assert_same_state(whole, second)
    assert lasting(divided.folder) == lasting(whole.folder)[2:]


def test_bfloat16_is_close_to_float32(run: Run, tmp_path: Path) -> None:
    exact, rounded = run.trainer(), replace(run, folder=tmp_path / "rounded").with_(dtype="bfloat16").trainer()
    expected, found = (trainer.train_step(trainer.steps()) for trainer in (exact, rounded))
    assert found.loss == pytest.approx(expected.loss, rel=2e-2) and found.loss != expected.loss
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=5e-2)
    assert all(tensor.dtype == torch.float32 for tensor in state(rounded).values())


def test_a_signal_saves_and_the_same_command_continues(run: Run, whole: Trainer) -> None:
    trainer = run.trainer()
    accumulate = trainer._accumulate
    calls = iter(range(100))

    def terminated(*arguments: object) -> object:
        if next(calls) == 2:  # the first of two packs of the second step
            os.kill(os.getpid(), signal.SIGTERM)
        return accumulate(*arguments)  # type: ignore[arg-type]

    trainer._accumulate = terminated  # type: ignore[method-assign,assignment]
    assert not trainer.run()
    assert trainer.step == 2
    again = run.trainer()
    assert again.step == 2 and again.run()
    assert_same_state(whole, again)
    assert lasting(run.folder) == lasting(whole.folder)
    assert (run.folder / "curves.png").stat().st_size > 1000


def test_records_of_steps_that_are_trained_again_are_dropped(run: Run) -> None:
    run.with_(steps=3).trainer().run()
    path = run.folder / "metrics.jsonl"
    with path.open("a") as stream:
        stream.write(json.dumps({"step": 3, "loss": 0.0}) + '\n{"step": 4, "lo')
    again = run.trainer()
    again.run()
    assert [record["step"] for record in read_records(path)] == list(range(6))
    assert read_records(path)[3]["loss"] > 0


def test_accumulation_changes_neither_losses_nor_weights(run: Run, tmp_path: Path) -> None:
    """Four packs of a step, one after the other, against their samples in one pack."""
    divided = replace(run, loader=(("packs_per_step", 4), ("budget", 60), ("open_packs", 1))).trainer()
    loader = divided.source.loader  # type: ignore[attr-defined]
    packs = list(itertools.islice(loader, 4))
    record = divided.train_step(iter([Material(packs)]))
    whole = replace(run, folder=tmp_path / "whole", loader=(("packs_per_step", 1),)).trainer()
    together = whole.train_step(iter([Material([joined(loader, packs)])]))
    assert together.loss == pytest.approx(record.loss, rel=1e-6)
    assert together.gradient_norm == pytest.approx(record.gradient_norm, rel=1e-5)
    expected, found = state(divided), state(whole)
    for name in expected:
        if name.startswith(
            "exp_avg"
        ):  # not the weights: Adam turns the rounding errors of gradients that are 0 into full steps
            torch.testing.assert_close(found[name], expected[name], atol=1e-7, rtol=1e-4, msg=name)


def test_a_step_waits_for_the_device_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many packs it has: whatever takes a value from the device is counted."""
    trainer = replace(run, loader=(("packs_per_step", 3), ("budget", 60), ("open_packs", 1))).trainer()
    packs = list(itertools.islice(trainer.source.loader, 3))  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)  # counts its steps on the CPU
    waits: list[str] = []

    def counting(name: str) -> Callable[..., object]:
        original = getattr(torch.Tensor, name)
        return lambda *arguments, **more: waits.append(name) or original(*arguments, **more)

    for name in ("item", "cpu", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, counting(name))
    record = trainer.train_step(iter([Material(packs)]))
    monkeypatch.undo()
    assert waits == ["cpu", "numpy"] and record.hardest and record.gradient_norm > 0


def joined(loader: Loader, packs: list[PackedBatch]) -> PackedBatch:
    """All samples of ``packs`` in one."""
    return loader.batch([loader.rows[origin.position] for pack in packs for origin in pack.origins])


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(run: Run) -> None:
    trainer = run.with_(max_skipped=2).trainer()
    before = {name: weight.detach().clone() for name, weight in trainer.weights.named.items()}
    trainer.encode = lambda images: [torch.full((48, 2, 2), torch.nan) for _ in images]
    steps = trainer.steps()
    record = trainer.train_step(steps)
    assert record.skipped and trainer.skipped == 1 and trainer.step == 1
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.weights.named.items())
    with pytest.raises(FloatingPointError, match=r"2 steps in a row.*sample-"):
        trainer.train_step(steps)


def test_a_step_uses_a_gradient_no_longer_than_the_setting(run: Run) -> None:
    """Adam hides the length of a gradient in its first steps, so the gradient itself is looked at where it is used."""
    lengths = []
    for number, clip in enumerate((1e-3, 1e3)):
        optim = replace(run.config.optim, clip=clip)
        trainer = replace(run, folder=run.folder / str(number)).with_(optim=optim).trainer()
        update = trainer.optimizer.step

        def measured(update: Any = update, trainer: Trainer = trainer) -> None:
            gradients = [w.grad for w in trainer.weights.named.values() if w.grad is not None]
            lengths.append(
                float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
            )
            update()

        trainer.optimizer.step = measured  # type: ignore[method-assign]
        record = trainer.train_step(trainer.steps())
        assert record.gradient_norm > 1e-2, "the record says what it was before"
    assert lengths[0] == pytest.approx(1e-3, rel=1e-3) and 1e-2 < lengths[1] < 1e3


def test_without_pictures_that_are_drawn_or_encoded_a_frozen_generation_expert_changes_nothing(
    tmp_path: Path,
) -> None:
    """So runs without them freeze it (`TrainConfig.full_tuning`) and save its gradients and moments."""
    ended = []
    for freeze in ((), ("generation",)):
        model = apply_tuning(toy_model(), TuningSettings(freeze=freeze))
        loader = make_loader(stored(tmp_path / "data"), Words(), packs_per_step=2)
        trainer = Trainer(model, Supervised(loader, CONFIG.loss), CONFIG, tmp_path / f"run{len(freeze)}")
        assert trainer.run()
        ended.append((lasting(trainer.folder), {name: weight.detach() for name, weight in model.named_parameters()}))
    (records, weights), (others, same) = ended
    for key in ("loss", "gradient_norm"):  # whose zeros are summed or not
        assert [r[key] for r in records] == pytest.approx([r[key] for r in others], rel=1e-6)
    torch.testing.assert_close(weights, same, atol=1e-6, rtol=1e-5)
    frozen = [
        replace(
            TrainConfig(), imagination=ImaginationConfig({mode: 1.0}), sequence=SequenceConfig(observe=observe)
        ).full_tuning.freeze
        for mode, observe in (("label_only", ("vit",)), ("label_only", ("vae", "vit")), ("ipt", ("vit",)))
    ]
    assert frozen == [("generation",), (), ()]


def test_samples_without_a_codec_are_an_error(run: Run) -> None:
    trainer = run.trainer()
    trainer.encode = None
    with pytest.raises(ValueError, match="neither a codec nor a latent cache"):
        trainer.run()


def test_a_folder_with_a_run_is_not_overwritten(run: Run) -> None:
    run.with_(steps=2).trainer().run()
    with pytest.raises(ValueError, match="resume=auto"):
        run.with_(resume="never").trainer()


def test_validation_changes_nothing_and_chooses_the_best_checkpoint(run: Run, whole: Trainer) -> None:
    trainer = run.with_(checkpoints=CheckpointConfig(1, keep_last=1, keep_best=1)).trainer()
    loader = run.make_loader()
    validation = Validation(list(itertools.islice(loader, len(loader.lanes))))
    scores = iter([5.0, 4.0, 1.0, 2.0, 3.0, 4.0])
    losses = []

    def validate(trainer: Trainer) -> dict[str, float]:
        losses.append((validation(trainer)["loss"], validation(trainer)["loss"]))
        return {"loss": next(scores)}

    trainer._validate = validate
    trainer.run()
    assert_same_state(whole, trainer)
    assert all(first == second for first, second in losses) and len({first for first, _ in losses}) == 6
    assert [path.name for path in trainer.checkpoints.complete()] == ["step_00000003", "step_00000006"]
    assert [record["step"] for record in read_records(run.folder / "validation.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_signal_saves_at_once_and_a_failing_validation_loses_no_step(run: Run) -> None:
    trainer = run.trainer()

    def terminated(trainer: Trainer) -> dict[str, float]:
        trainer.checkpoints.wait()
        assert trainer.checkpoints.latest() is not None, "steps are saved before they are judged"
        if trainer.step == 4:
            raise RuntimeError("the validation fails")
        os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0}

    trainer._validate = terminated
    assert not trainer.run() and trainer.step == 2
    again = run.trainer()
    again._validate = terminated
    with pytest.raises(RuntimeError, match="validation fails"):
        again.run()
    assert run.trainer().step == 4
    stopped = run.trainer()
    stopped._validate, step = terminated, stopped.train_step
    stopped.train_step = lambda batches: (os.kill(os.getpid(), signal.SIGTERM), step(batches))[1]  # type: ignore[method-assign]
    assert not stopped.run()
    assert run.trainer().step == 5
    assert [record["step"] for record in read_records(run.folder / "validation.jsonl")] == [2]


def test_a_score_that_is_not_a_number_is_null_and_never_the_best(run: Run) -> None:
    trainer = run.with_(checkpoints=CheckpointConfig(2, keep_last=1, keep_best=1)).trainer()
    scores = iter([float("nan"), 3.0, float("inf")])
    trainer._validate = lambda trainer: {"loss": next(scores)}
    assert trainer.run()
    assert [record["loss"] for record in read_records(run.folder / "validation.jsonl")] == [None, 3.0, None]
    kept = {path.name: read_json(path / "manifest.json")["score"] for path in trainer.checkpoints.complete()}
    assert kept == {"step_00000004": 3.0, "step_00000006": None}


def test_training_goes_on_while_a_checkpoint_is_written(run: Run, whole: Trainer) -> None:
    """The writing waits for two further steps; what it writes is the state before them."""
    trainer, written = run.trainer(), threading.Event()
    write = FileSystemWriter.write_data

    def late(*arguments: object) -> object:
        assert written.wait(60)
        return write(*arguments)  # type: ignore[arg-type]

    steps = trainer.steps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileSystemWriter, "write_data", late)
        for _ in range(4):
            trainer.train_step(steps)
            if trainer.step == 2:
                trainer._save()
        assert trainer.checkpoints.latest() is None
        trainer.checkpoints.check()
        written.set()
        trainer.checkpoints.wait()
    again = run.trainer()
    assert again.step == 2 and again.run()
    assert_same_state(whole, again)


def test_training_learns(run: Run) -> None:
    trainer = run.trainer()
    steps = trainer.steps()
    losses = [trainer.train_step(steps).loss for _ in range(30)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_memory_does_not_grow_with_the_steps(run: Run) -> None:
    """Bytes of all living tensors after 4 and after 14 steps; packs that wait in the loader are not equally large."""
    trainer = run.with_(steps=20).trainer()
    steps = trainer.steps()

    def living(count: int) -> int:
        for _ in range(count):
            trainer.train_step(steps)
        gc.collect()
        return sum(
            o.numel() * o.element_size() for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)
        )

    first = living(4)
    assert first > 0 and living(10) <= 1.05 * first


def test_noise_is_new_in_every_epoch_or_always_the_same(run: Run) -> None:
    packs = iter(run.make_loader())
    seen: dict[str, list[torch.Tensor]] = {}
    for _ in range(24):
        pack = next(packs).encoded(toy_codec().encode)
        for fresh in (True, False):
            targets = noised(pack, 0, 1.0, fresh)[1].split(4)  # an image of 2 x 2 tokens per sample
            for origin, target in zip(pack.origins, targets, strict=True):
                seen.setdefault(f"{origin.sample_id} {fresh}", []).append(target)
    again = {name: targets for name, targets in seen.items() if len(targets) > 1}
    assert any(name.endswith("True") for name in again)
    for name, (first, second, *_) in again.items():
        assert torch.equal(first, second) == name.endswith("False")
