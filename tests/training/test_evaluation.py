"""Questions answered during training: what is counted, that training does not notice, and what divided weights answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ipt.common.files import read_json
from ipt.common.images import decode_image
from ipt.inference.engine import Answered
from ipt.inference.prediction import Prediction
from ipt.samples.store import seal, write_shards
from ipt.training.build import make_trainer
from ipt.training.config import TrainConfig
from ipt.training.distributed import World, start_world
from ipt.training.evaluation import GRID_HEADER, GRID_MARGIN, GRID_SIDE, tally
from ipt.training.settings import CheckpointConfig
from tests.sequence.loading import SAMPLES
from tests.training import golden
from tests.training.processes import together
from tests.training.runs import Run

QUESTIONS = 4
DRAW = {"timesteps": 3, "text_scale": 1.0}


def config(data: Path, folder: Path, **changes: object) -> TrainConfig:
    evaluation = {"questions": QUESTIONS, "text": {"max_tokens": 6}, "draw": DRAW}
    validation = {"train": str(data), "validation": str(data), "validation_packs": 2}
    return golden.tiny(data, folder, **{"data": validation, "evaluation": evaluation, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder, "train", SAMPLES[:8])
    seal(folder, {})
    return folder


def figures(config: TrainConfig, result: Path) -> None:
    """What a validation finds before the first step, as one process of a run."""
    world = start_world(config.distributed)
    trainer, _ = make_trainer(config, world)
    assert trainer._validate is not None
    found = trainer._validate(trainer)
    if world.is_main:
        result.write_text(json.dumps(found))
    world.barrier()


def test_questions_are_answered_in_the_modes_that_are_trained(data: Path, tmp_path: Path) -> None:
    trainer, _ = make_trainer(config(data, tmp_path), World())
    before = {name: weight.detach().clone() for name, weight in trainer.weights.named.items()}
    random = torch.get_rng_state()
    assert trainer._validate is not None
    found = trainer._validate(trainer)
    shares = {name: value for name, value in found.items() if "/" in name}
    assert set(shares) == {
        f"{what}/{mode}"
        for what in ("accuracy", "unparseable", "opened_image")
        for mode in ("answer_only", "imagination")
    }
    assert all(value * QUESTIONS == int(value * QUESTIONS) <= QUESTIONS for value in shares.values())
    assert trainer.model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.weights.named.items())
    pictures = list((tmp_path / "evaluation").glob("step_*.png"))
    if pictures:  # an untrained model rarely opens an image, and has nothing to show where it does not
        rows, rest = divmod(decode_image(pictures[0]).shape[0] - GRID_HEADER, GRID_SIDE + GRID_MARGIN)
        assert rest == 0 and 1 <= rows <= QUESTIONS


def answered(**changes: object) -> Answered:
    made = Prediction("s", "mvc", "", "", "val", "answer_only", "?", ("1", "2"), 0)
    return Answered(replace(made, **changes))  # type: ignore[arg-type]


def test_the_monitor_counts_wrong_unparseable_and_opened() -> None:
    answers = [
        answered(answer=0, text="<answer>A"),
        answered(answer=1, text="<answer>B"),
        answered(text="<think>Let me look.</think><image_start>"),
        answered(error="RuntimeError: out of memory"),
    ]
    shares = tally(answers).shares("answer_only")
    assert shares == {"accuracy/answer_only": 0.25, "unparseable/answer_only": 0.5, "opened_image/answer_only": 0.25}
    assert tally([]).shares("x")["accuracy/x"] == 0


@pytest.mark.parametrize("best, score", [("loss", 3.0), ("flow", 2.0), ("accuracy/answer_only", -0.75)])
def test_the_best_checkpoint_is_chosen_by_what_the_settings_say(best: str, score: float, tmp_path: Path) -> None:
    trainer = Run(tmp_path / "data", tmp_path / "run").with_(steps=1, checkpoints=CheckpointConfig(best=best)).trainer()
    trainer._validate = lambda trainer: {"loss": 3.0, "ce": 1.0, "flow": 2.0, "accuracy/answer_only": 0.75}
    trainer.run()
    (path,) = trainer.checkpoints.complete()
    assert read_json(path / "manifest.json")["score"] == score
    with pytest.raises(ValueError, match=r"unknown figure for checkpoints.best 'accuracy'.*accuracy/answer_only"):
        CheckpointConfig(best="accuracy")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_find_what_one_finds(kind: str, data: Path, tmp_path: Path) -> None:
    found = {}
    for size, name in ((1, "single"), (2, kind)):
        made = config(data, tmp_path / name, distributed={"kind": name})
        together(size, figures, made, tmp_path / f"{name}.json")
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert found[kind] == pytest.approx(found["single"], rel=1e-5)
